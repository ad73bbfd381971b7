"""HalfCheetah-v5, Hopper-v5 and Walker2d-v5 on `mujoco.batch`, with gymnasium's models, rewards and terminations."""

from sealegs_sim.locomotion.tasks import LOCOMOTION, LocomotionTask, get_locomotion
from sealegs_sim.locomotion.vector import LocomotionEnv

__all__ = ["LOCOMOTION", "LocomotionEnv", "LocomotionTask", "get_locomotion"]
