"""Running a policy in simulation: all episodes in parallel, episode i from seed + i, success with its interval.

Equal seeds mean equal starts, so two policies' evaluations are paired by episode (`statistics.paired_comparison`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from sealegs_contract.errors import LearningError, SimulationError, SpecError, available
from sealegs_contract.selection import columns_of
from sealegs_learning.policies.acting import PolicyActor
from sealegs_learning.statistics import Interval, bootstrap_mean_interval, wilson_interval

FILM_SIZE = (240, 180)

Progress = Callable[[int, int], None]
"""Called as progress(step, steps)."""


@dataclass(frozen=True)
class Evaluation:
    """Outcomes by episode, in the order of the seeds. `returns` are undiscounted sums of the task's own reward.

    Benchmarks of locomotion know no success and no progress: those are empty there.
    """

    task: str
    episodes: int
    seed: int
    successes: tuple[bool, ...]
    final_progress: tuple[float, ...]
    returns: tuple[float, ...]
    seconds: float

    @property
    def success_rate(self) -> float:
        """Share of the episodes in which the task was achieved and held."""
        return sum(self.successes) / self.episodes

    @property
    def success_interval(self) -> Interval:
        """Wilson, 95%."""
        return wilson_interval(sum(self.successes), self.episodes)

    @property
    def mean_final_progress(self) -> float:
        """Mean progress of the last frames."""
        return float(np.mean(self.final_progress))

    @property
    def mean_return(self) -> float:
        """Mean of the returns."""
        return float(np.mean(self.returns))

    def outcomes(self) -> dict[str, tuple[float, ...]]:
        """What is known of every episode: `return`, and for a robot's task `success` and `final_progress`."""
        known = {"success": tuple(map(float, self.successes)), "final_progress": self.final_progress}
        return {name: values for name, values in (*known.items(), ("return", self.returns)) if values}

    def figures(self) -> dict[str, float]:
        """The means, as a learning curve has them."""
        names = {"return": "evaluation_return"}
        return {names.get(name, name): float(np.mean(values)) for name, values in self.outcomes().items()}

    def spread_out(self) -> dict[str, int]:
        """Indices of the episodes with the best, the median and the worst return; of equal ones, the first."""
        order = sorted(range(self.episodes), key=lambda i: (-self.returns[i], i))
        return {"best": order[0], "median": order[(self.episodes - 1) // 2], "worst": order[-1]}

    def to_json(self) -> dict[str, Any]:
        """Every figure, and the episodes behind it."""
        content: dict[str, Any] = {"task": self.task, "episodes": self.episodes, "seed": self.seed}
        if self.successes:
            content |= {
                "success_rate": self.success_rate,
                "success_interval": list(self.success_interval),
                "mean_final_progress": self.mean_final_progress,
                "final_progress_interval": list(bootstrap_mean_interval(self.final_progress)),
            }
        return content | {
            "mean_return": self.mean_return,
            "return_interval": list(bootstrap_mean_interval(self.returns)),
            "seconds": round(self.seconds, 3),
            "per_episode": {name: list(values) for name, values in self.outcomes().items()}
            | ({"success": list(self.successes)} if self.successes else {}),
        }


def evaluate(
    policy: nn.Module,
    task: str,
    episodes: int = 100,
    seed: int = 1000,
    robot: Any = None,
    progress: Progress | None = None,
    delays: Any = None,
) -> Evaluation:
    """Run `episodes` episodes of `task`. The policy maps raw observations to actions in [-1, 1].

    One that has history, chunks or cameras is fed as the controller feeds it; rendering takes some 8 ms an image.
    `robot` is a profile or a name; the policy's own by default. `delays` (sealegs_sim.delays.Delays) let it see and act
    late. Raises LearningError if the policy observes what the task does not give.
    """
    if episodes < 1:
        raise LearningError(f"an evaluation needs at least 1 episode, got {episodes}")
    started = time.perf_counter()
    env, horizon = _batch_env(policy, task, episodes, robot, delays)
    actor = PolicyActor(policy, env)
    try:
        observation, info = env.reset(seed=[seed + i for i in range(episodes)])
        returns, alive = np.zeros(episodes), np.ones(episodes, dtype=bool)
        for step in range(horizon):
            observation, reward, terminated, truncated, info = env.step(actor.act(observation))
            returns[alive] += reward[alive]
            alive &= ~(terminated | truncated)
            if progress is not None:
                progress(step + 1, horizon)
            if not alive.any():
                break
    finally:
        actor.close()
        env.close()
    successes = tuple(bool(value) for value in info.get("success", ()))
    progresses, totals = (tuple(map(float, values)) for values in (info.get("progress", ()), returns))
    return Evaluation(task, episodes, seed, successes, progresses, totals, time.perf_counter() - started)


def _batch_env(policy: nn.Module, task: str, episodes: int, robot: Any, delays: Any = None) -> tuple[Any, int]:
    """All episodes of a robot's task or of a locomotion benchmark as one env, and the most steps they take."""
    from sealegs_sim.locomotion import LOCOMOTION, LocomotionEnv
    from sealegs_sim.tasks import TASKS, get_task
    from sealegs_sim.vector import BatchEnv

    sees: Any = getattr(policy, "observation_spec", None)
    if delays is not None and (task in LOCOMOTION or (sees is not None and sees.images)):
        raise LearningError("delays are for a robot's tasks and for policies without cameras")
    if task in LOCOMOTION:
        own: Any = getattr(policy, "robot", None)
        if own is not None:
            raise LearningError(f"the policy is for robot {own.name}, not for {task}")
        env = LocomotionEnv(task, episodes)
        _check_sizes(policy, task, env.single_observation_space.shape[0], env.single_action_space.shape[0])
        return env, env.horizon_steps
    if isinstance(task, str) and task not in TASKS:
        known = [*TASKS] if hasattr(policy, "robot") else [*TASKS, *LOCOMOTION]
        raise SimulationError(f"unknown task {task!r}; {available(known)}")
    described = get_task(task)
    profile = robot if robot is not None else getattr(policy, "robot", "so101")
    check_fits(policy, described, profile)
    return BatchEnv(described.name, num_envs=episodes, robot=profile, delays=delays), described.horizon_steps


def check_task(policy: nn.Module, task: str, robot: Any = None) -> None:
    """The errors of `evaluate` on a task that there is not, or that does not fit the policy."""
    _batch_env(policy, task, 1, robot)[0].close()


def _check_sizes(policy: nn.Module, where: str, observations: int, actions: int) -> None:
    """LearningError where the policy says that it has other sizes than `where` gives."""
    sizes = getattr(policy, "observations", observations), getattr(policy, "actions", actions)
    if sizes != (observations, actions):
        own = f" of {policy.task}" if getattr(policy, "task", "") else ""
        raise LearningError(
            f"the policy{own} has {sizes[0]} observations and {sizes[1]} actions, "
            f"but {where} has {observations} and {actions}"
        )


def check_fits(policy: nn.Module, task: Any, profile: Any) -> None:
    """LearningError where the policy was trained on other observations or actions than the task gives."""
    from sealegs_contract.robot import load_robot

    robot = load_robot(profile) if isinstance(profile, (str, Path)) else profile
    wanted = task.observation_spec(robot)
    spec = getattr(policy, "observation_spec", None)
    if spec is not None:
        try:
            columns_of(spec, wanted)
        except SpecError as error:
            raise LearningError(
                f"the policy observes {', '.join(f.name for f in spec.fields)}, but task {task.name!r} on "
                f"{robot.name} gives {', '.join(f.name for f in wanted.fields)}: train it on data of this task"
            ) from error
    else:
        _check_sizes(policy, f"task {task.name!r} on {robot.name}", wanted.size, task.action_spec(robot).size)
    action = getattr(policy, "action_spec", None)
    if action is not None and action != task.action_spec(robot):
        raise LearningError(
            f"the policy's actions ({action.kind}) are scaled otherwise than task {task.name!r} has them"
        )


def film(
    policy: nn.Module, task: str, seed: int, out: Path, robot: Any = None, camera: str = "front", every: int = 3
) -> float:
    """Write the episode of this seed as an animated GIF, one frame per `every` control steps; its return."""
    from PIL import Image

    from sealegs_learning.files import replaced_file

    env, rate_hz = _film_env(policy, task, robot, camera)
    actor = PolicyActor(policy, env)
    frames: list[Image.Image] = []
    total, ended, step = 0.0, False, 0
    try:
        observation, _ = env.reset(seed=seed)
        while not ended:
            if step % every == 0:
                frames.append(Image.fromarray(env.render()))
            observation, reward, terminated, truncated, _ = env.step(actor.act(observation[None])[0])
            total, ended, step = total + float(reward), bool(terminated or truncated), step + 1
        frames.append(Image.fromarray(env.render()))
    finally:
        actor.close()
        env.close()
    with replaced_file(out) as temporary:
        frames[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=round(1000 * every / rate_hz),
            loop=0,
        )
    return total


def _film_env(policy: nn.Module, task: str, robot: Any, camera: str) -> tuple[Any, float]:
    """One env that renders, with the episodes of `_batch_env`, and its control rate in Hz."""
    from sealegs_sim.locomotion import LOCOMOTION

    if task in LOCOMOTION:
        import gymnasium

        walker = gymnasium.make(task, render_mode="rgb_array", width=FILM_SIZE[0], height=FILM_SIZE[1])
        return walker, 1.0 / walker.unwrapped.dt
    from sealegs_sim.env import SealegsEnv

    profile = robot if robot is not None else getattr(policy, "robot", "so101")
    env = SealegsEnv(task, profile, render_mode="rgb_array", camera=camera)
    return env, env.robot.control_rate_hz


def film_extremes(
    policy: nn.Module,
    evaluation: Evaluation,
    folder: Path,
    robot: Any = None,
    camera: str = "front",
    progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """Films FOLDER/best.gif, median.gif and worst.gif of an evaluation's episodes by return; what each one shows."""
    shown: dict[str, dict[str, Any]] = {}
    for done, (name, index) in enumerate(evaluation.spread_out().items()):
        file, seed = folder / f"{name}.gif", evaluation.seed + index
        again = film(policy, evaluation.task, seed, file, robot, camera)
        shown[name] = {
            "file": file.name,
            "seed": seed,
            "return_in_the_film": again,
            **{name: values[index] for name, values in evaluation.outcomes().items()},
        }
        if progress is not None:
            progress(done + 1, 3)
    return shown
