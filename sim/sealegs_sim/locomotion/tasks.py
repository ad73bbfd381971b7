"""The three planar walkers of gymnasium, as data and pure functions of a batch of states.

reward = (x' - x) / dt + healthy_reward 1(healthy) - ctrl_cost_weight |a|^2     (gymnasium's v5 definitions)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import SimulationError, available

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def forward_velocity(x_before: FloatArray, x_after: FloatArray, period_s: float) -> FloatArray:
    """Mean forward speed (N,) over one control period, m/s."""
    return (x_after - x_before) / period_s


def control_cost(action: NDArray[np.floating], weight: float) -> NDArray[np.floating]:
    """weight |a|^2 for actions (N, J): (N,), in the action's precision as in gymnasium."""
    cost: NDArray[np.floating] = weight * np.square(action).sum(axis=-1)
    return cost


def always_healthy(qpos: FloatArray, qvel: FloatArray) -> BoolArray:
    """HalfCheetah cannot fall: True (N,)."""
    return np.ones(len(qpos), dtype=bool)


def hopper_healthy(qpos: FloatArray, qvel: FloatArray) -> BoolArray:
    """Torso above 0.7 m, tilt within 0.2 rad, and every other coordinate and speed within 100; (N,)."""
    bounded = (np.abs(qpos[:, 2:]) < 100.0).all(axis=1) & (np.abs(qvel) < 100.0).all(axis=1)
    return np.asarray((qpos[:, 1] > 0.7) & (np.abs(qpos[:, 2]) < 0.2) & bounded)


def walker_healthy(qpos: FloatArray, qvel: FloatArray) -> BoolArray:
    """Torso between 0.8 and 2 m, tilt within 1 rad; (N,)."""
    return np.asarray((qpos[:, 1] > 0.8) & (qpos[:, 1] < 2.0) & (np.abs(qpos[:, 2]) < 1.0))


@dataclass(frozen=True)
class LocomotionTask:
    """One walker. Velocities in the observation are clipped to +-`velocity_clip`; starts are noisy by `reset_noise`."""

    name: str
    xml: str
    frame_skip: int
    reset_noise: float
    normal_velocity_noise: bool
    ctrl_cost_weight: float
    healthy_reward: float
    healthy: Callable[[FloatArray, FloatArray], BoolArray]
    velocity_clip: float
    horizon_steps: int = 1000

    @property
    def path(self) -> Path:
        """The model's file, from the installed gymnasium."""
        return Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / self.xml

    def start(self, qpos: FloatArray, qvel: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Noisy start around (nq,), (nv,); the draws of gymnasium's reset_model, in its order."""
        noise = self.reset_noise
        position = qpos + rng.uniform(-noise, noise, len(qpos))
        if self.normal_velocity_noise:
            return position, qvel + noise * rng.standard_normal(len(qvel))
        return position, qvel + rng.uniform(-noise, noise, len(qvel))


HALF_CHEETAH = LocomotionTask(
    name="HalfCheetah-v5",
    xml="half_cheetah.xml",
    frame_skip=5,
    reset_noise=0.1,
    normal_velocity_noise=True,
    ctrl_cost_weight=0.1,
    healthy_reward=0.0,
    healthy=always_healthy,
    velocity_clip=np.inf,
)
HOPPER = LocomotionTask(
    name="Hopper-v5",
    xml="hopper.xml",
    frame_skip=4,
    reset_noise=5e-3,
    normal_velocity_noise=False,
    ctrl_cost_weight=1e-3,
    healthy_reward=1.0,
    healthy=hopper_healthy,
    velocity_clip=10.0,
)
WALKER2D = LocomotionTask(
    name="Walker2d-v5",
    xml="walker2d_v5.xml",
    frame_skip=4,
    reset_noise=5e-3,
    normal_velocity_noise=False,
    ctrl_cost_weight=1e-3,
    healthy_reward=1.0,
    healthy=walker_healthy,
    velocity_clip=10.0,
)

LOCOMOTION: dict[str, LocomotionTask] = {task.name: task for task in (HALF_CHEETAH, HOPPER, WALKER2D)}


def get_locomotion(name: str | LocomotionTask) -> LocomotionTask:
    """A walker by gymnasium's id (a LocomotionTask passes through); SimulationError names the available ones."""
    if isinstance(name, LocomotionTask):
        return name
    if name not in LOCOMOTION:
        raise SimulationError(f"unknown locomotion task {name!r}; {available(LOCOMOTION)}")
    return LOCOMOTION[name]
