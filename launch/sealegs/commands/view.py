"""Look at a task in the simulator: in MuJoCo's viewer where there is a display, or as a film without one."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sealegs_sim.env import SealegsEnv


@dataclass(frozen=True)
class Config:
    """Options of `sealegs view`."""

    task: Literal["reach", "push", "drawer"] = "drawer"
    """The task."""
    policy: str = "scripted"
    """scripted, noisy, random, still or mixed, or the folder of a checkpoint."""
    robot: str = "so101"
    """Robot profile: a shipped name or a YAML file."""
    seed: int = 0
    """Seed of the first episode; later ones count up."""
    episodes: int = 1
    """Episodes to show; in the viewer 0 means until its window is closed."""
    film: Path | None = None
    """Write the episodes into this animated .gif instead of opening a window; needs no display."""
    camera: str = "front"
    """The film's camera."""
    width: int = 320
    """The film's width in pixels; the height keeps the camera's shape."""
    fps: int = 10
    """The film's images per second of simulated time."""


def run(config: Config) -> int:
    """Show or film the episodes; prints each one's outcome."""
    from sealegs.os_errors import require_folder
    from sealegs_contract.errors import SimulationError
    from sealegs_sim.env import SealegsEnv
    from sealegs_sim.opengl import require_display

    if config.film is None:
        require_display("the viewer")
    elif config.film.suffix.lower() != ".gif":
        raise SimulationError(f"--film writes an animated .gif, got {config.film.name!r}")
    else:
        require_folder(config.film.parent)
        if config.film.is_dir():
            raise SimulationError(f"--film: {config.film} is a folder; name a file")
    if (
        config.episodes < (0 if config.film is None else 1)
        or not 1 <= config.fps <= 50
        or not 16 <= config.width <= 1920
    ):
        raise SimulationError("--episodes must be at least 1 (0 only in the viewer), --fps 1 to 50, --width 16 to 1920")
    env = SealegsEnv(config.task, config.robot, render_mode="human" if config.film is None else None)
    with ExitStack() as stack:
        stack.callback(env.close)
        act, reset = _policy(config, env, stack)
        if config.film is None:
            _watch(config, env, act, reset)
        else:
            _film(config, env, act, reset, config.film)
    return 0


Act = Callable[["NDArray[np.float32]"], "NDArray[np.floating]"]


def _policy(config: Config, env: SealegsEnv, stack: ExitStack) -> tuple[Act, Callable[[int], None]]:
    """The policy's action for an observation, and what begins its episode; `stack` closes what it holds."""
    import numpy as np

    from sealegs_contract.errors import SimulationError, available
    from sealegs_sim.policies import POLICY_NAMES, make_policy

    if config.policy in POLICY_NAMES:
        policy = make_policy(config.policy, env.task, env.robot)
        return policy.act, lambda seed: policy.reset(np.random.default_rng((seed, 1)))
    if not Path(config.policy).is_dir():
        raise SimulationError(
            f"no policy {config.policy!r}: give a checkpoint's folder, or a name; {available(POLICY_NAMES)}"
        )
    from sealegs_learning.evaluation.evaluate import check_fits
    from sealegs_learning.policies.acting import PolicyActor
    from sealegs_learning.training.checkpoint import load_policy

    module = load_policy(Path(config.policy))
    check_fits(module, env.task, env.robot)
    actor = PolicyActor(module, env)
    stack.callback(actor.close)

    def act(observation: NDArray[np.float32]) -> NDArray[np.floating]:
        action: NDArray[np.floating] = actor.act(observation[None])[0]
        return action

    return act, lambda seed: actor.reset()


def _watch(config: Config, env: SealegsEnv, act: Act, reset: Callable[[int], None]) -> None:
    """Episodes in real time in the viewer, until they are over or the window is closed."""
    episode = 0
    while config.episodes == 0 or episode < config.episodes:
        seed = config.seed + episode
        observation, info = env.reset(seed=seed)
        reset(seed)
        truncated, begun = False, time.monotonic()
        while not truncated:
            observation, _, _, truncated, info = env.step(act(observation).astype("float32"))
            if not env.viewer_open:
                return
            time.sleep(max(0.0, begun + env.simulation.steps / env.robot.control_rate_hz - time.monotonic()))
        _tell(seed, info)
        episode += 1


def _film(config: Config, env: SealegsEnv, act: Act, reset: Callable[[int], None], path: Path) -> None:
    """Episodes as one animated GIF."""
    from PIL import Image
    from rich.progress import track

    from sealegs_sim.render import SceneRenderer

    profile = env.robot.camera(config.camera)
    size = (config.width, round(config.width * profile.height / profile.width))
    every = max(1, round(env.robot.control_rate_hz / config.fps))
    frames = []
    with SceneRenderer(env.scene) as renderer:
        for seed in track(range(config.seed, config.seed + config.episodes), description="filming", transient=True):
            observation, info = env.reset(seed=seed)
            reset(seed)
            truncated = False
            while not truncated:
                if env.simulation.steps % every == 0:
                    frames.append(Image.fromarray(renderer.render(env.simulation.data, config.camera, *size)))
                observation, _, _, truncated, info = env.step(act(observation).astype("float32"))
            _tell(seed, info)
    milliseconds = round(1000 * every / env.robot.control_rate_hz)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, optimize=True)
    print(f"wrote {path}: {len(frames)} images of {size[0]} x {size[1]}, {path.stat().st_size / 1024:.0f} KiB")


def _tell(seed: int, info: dict[str, object]) -> None:
    print(f"seed {seed}: {'success' if info['success'] else 'failure'}, final progress {info['progress']:.2f}")
