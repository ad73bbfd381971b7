"""What a policy is here, and how to get one by name."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import SimulationError, available
from sealegs_contract.robot import RobotProfile, load_robot
from sealegs_sim.tasks import Task, get_task


class Policy(Protocol):
    """Acts on observations of one task."""

    def reset(self, rng: np.random.Generator) -> None:
        """A new episode begins; all of the policy's chance comes from `rng`."""
        ...

    def act(self, observation: NDArray[np.floating]) -> NDArray[np.float64]:
        """Action (J,) in [-1, 1] for an observation (D,)."""
        ...


POLICY_NAMES = ("scripted", "noisy", "random", "still", "mixed")


def make_policy(name: str, task: str | Task, robot: str | RobotProfile = "so101") -> Policy:
    """A policy by name (see POLICY_NAMES); SimulationError names the available ones."""
    from sealegs_sim.policies import behaviours
    from sealegs_sim.policies.scripted import ScriptedPolicy

    profile = robot if isinstance(robot, RobotProfile) else load_robot(robot)
    task = get_task(task)
    match name:
        case "scripted":
            return ScriptedPolicy(task, profile)
        case "noisy":
            return behaviours.NoisyPolicy(task, profile)
        case "random":
            return behaviours.RandomPolicy(task, profile)
        case "still":
            return behaviours.StillPolicy(task, profile)
        case "mixed":
            return behaviours.MixedPolicy(task, profile)
    raise SimulationError(f"unknown policy {name!r}; {available(POLICY_NAMES)}")
