"""What bench `support` does to a robot: other dynamics, objects elsewhere, sensors at fault; and runs under it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.robot import RobotProfile, load_robot
from sealegs_sim.starts import DEFAULT_RANGES, StartRanges

FloatArray = NDArray[np.float32]
CLEAN = "clean"
ONSET = 20
"""Control period at which a sensor begins to fail; other robots and places are so from the start."""
JOINTS, ARM_JOINTS = 6, 5
"""Of the SO-101: its positions come first in the observation, then its velocities; the gripper's jaw is left alone."""


@dataclass(frozen=True)
class Case:
    """One way in which a run differs from the logs. `group`: dynamics, objects or sensors."""

    group: str = CLEAN
    factors: Mapping[str, float] = field(default_factory=dict)
    """By knob of `sealegs_sim.randomize`."""
    starts: StartRanges = DEFAULT_RANGES
    fault: str = ""
    size: float = 0.0

    @property
    def onset(self) -> int:
        """First period of the difference."""
        return ONSET if self.fault else 0


def cases(task: str) -> dict[str, Case]:
    """All cases of a task by name, the clean one first."""
    return {CLEAN: Case()} | _dynamics() | _objects(task) | _sensors()


def _dynamics() -> dict[str, Case]:
    knobs = {
        "joint friction": ("joint_friction", (3.0, 10.0)),
        "mass": ("body_mass", (2.0, 4.0)),
        "gains": ("pd_gains", (0.6, 0.3)),
        "torque": ("effort_limits", (0.3, 0.15)),
    }
    return {
        f"{name} x {factor:g}": Case("dynamics", factors={knob: factor})
        for name, (knob, factors) in knobs.items()
        for factor in factors
    }


def _objects(task: str) -> dict[str, Case]:
    """Places just outside, and well outside, of where the logs have them."""
    ranges = {
        "reach": {
            "target 3 cm too far": StartRanges(reach_radius_m=(0.28, 0.30)),
            "target aside": StartRanges(reach_azimuth_rad=(1.0, 1.1)),
            "target far aside": StartRanges(reach_azimuth_rad=(1.2, 1.4)),
            "target 5 cm too high": StartRanges(reach_height_m=(0.22, 0.24)),
        },
        "push": {
            "cube 2 cm too far": StartRanges(cube_radius_m=(0.20, 0.21)),
            "cube aside": StartRanges(cube_azimuth_rad=(0.6, 0.7)),
            "cube far aside": StartRanges(cube_azimuth_rad=(0.8, 0.9)),
            "zone turned": StartRanges(push_turn_rad=(0.6, 0.9)),
        },
        "drawer": {
            "cabinet 2 cm too near": StartRanges(handle_radius_m=(0.18, 0.19)),
            "cabinet aside": StartRanges(handle_azimuth_rad=(0.6, 0.7)),
            "cabinet far aside": StartRanges(handle_azimuth_rad=(0.8, 0.9)),
        },
    }
    return {name: Case("objects", starts=starts) for name, starts in ranges[task].items()}


def _sensors() -> dict[str, Case]:
    sizes: dict[str, tuple[float, ...]] = {
        "offset": (0.05, 0.1, 0.2),
        "scale": (1.1, 1.3),
        "noise": (0.01, 0.03, 0.1),
        "frozen": (0.0,),
        "swapped": (0.0,),
    }
    units = {"offset": " rad", "noise": " rad"}
    return {
        f"{fault} {size:g}{units.get(fault, '')}"
        if size
        else f"{fault} joint{'s' if fault == 'swapped' else ''}": Case("sensors", fault=fault, size=size)
        for fault, found in sizes.items()
        for size in found
    }


class Faults:
    """Breaks one arm joint of each episode (all of them under `noise`), drawn by the seed, from ONSET on."""

    def __init__(self, case: Case, episodes: int, seed: int) -> None:
        self.case, self._rng, self._rows = case, np.random.default_rng((seed, 0xFA)), np.arange(episodes)
        self._joint = self._rng.integers(0, ARM_JOINTS, episodes)
        self._sign = self._rng.choice([-1.0, 1.0], episodes)
        self._frozen: Any = None

    def __call__(self, period: int, observation: FloatArray) -> FloatArray:
        """What the sensors say (B, D) of what is so."""
        if not self.case.fault or period < ONSET:
            return observation
        seen, rows, position = observation.copy(), self._rows, self._joint
        velocity = JOINTS + position
        match self.case.fault:
            case "offset":
                seen[rows, position] += self._sign * self.case.size
            case "scale":
                seen[rows, position] *= self.case.size
                seen[rows, velocity] *= self.case.size
            case "noise":
                seen[:, :JOINTS] += self.case.size * self._rng.standard_normal((len(rows), JOINTS))
            case "frozen":
                self._frozen = seen[rows, position] if self._frozen is None else self._frozen
                seen[rows, position], seen[rows, velocity] = self._frozen, 0.0
            case _:
                other = (position + 1) % ARM_JOINTS
                for part in (0, JOINTS):
                    a, b = part + position, part + other
                    seen[rows, a], seen[rows, b] = observation[rows, b], observation[rows, a]
        return seen


class Runs(NamedTuple):
    """Observations as the policy saw them (B, T, D), and whether each episode succeeded (B,)."""

    seen: FloatArray
    success: NDArray[np.bool_]


def robot_of(case: Case) -> RobotProfile:
    """The SO-101 with the case's dynamics in every episode."""
    robot = load_robot("so101")
    ranges = {knob: [factor, factor] for knob, factor in case.factors.items()}
    parameters = {**robot.backend.parameters, "randomization": ranges}
    return robot.model_copy(update={"backend": robot.backend.model_copy(update={"parameters": parameters})})


def run_case(
    policy: Any, task: str, case: Case, episodes: int, seed: int, guard: Callable[[FloatArray], Any] | None = None
) -> Runs:
    """Episodes from seed, seed + 1, ... `guard` gives the share (B,) of each action that is taken, 0 to hold."""
    from sealegs_learning.policies.acting import PolicyActor
    from sealegs_sim.vector import BatchEnv

    shifted = bool(case.factors)
    robot = robot_of(case) if shifted else load_robot("so101")
    env = BatchEnv(task, num_envs=episodes, robot=robot, randomise=shifted, starts=case.starts)
    actor, faults = PolicyActor(policy, env), Faults(case, episodes, seed)
    seen: list[FloatArray] = []
    try:
        observation, info = env.reset(seed=seed)
        for period in range(env.horizon_steps):
            seen.append(faults(period, observation).astype(np.float32))
            action = actor.act(seen[-1])
            # joint_delta: the target moves by the action from the last command, so a share of one is of the other.
            share = np.ones(episodes) if guard is None else guard(seen[-1])
            observation, _, _, _, info = env.step(action * share[:, None])
    finally:
        actor.close()
        env.close()
    return Runs(np.stack(seen, axis=1), np.array(info["success"]))
