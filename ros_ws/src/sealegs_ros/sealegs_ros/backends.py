"""Which backend drives a robot: the profile's `backend.kind`. Imported lazily, so a robot needs no simulator."""

from __future__ import annotations

from collections.abc import Callable

from sealegs_contract.backend import RobotBackend
from sealegs_contract.errors import BackendError, available
from sealegs_contract.robot import RobotProfile


def _mujoco(robot: RobotProfile, task: str, seed: int, render: bool, viewer: bool) -> tuple[RobotBackend, str]:
    try:
        from sealegs_sim.backend import MujocoBackend
        from sealegs_sim.tasks import get_task
    except ModuleNotFoundError as error:
        raise BackendError(
            f"the simulated robot needs {error.name}, which is not installed: pip install 'sealegs[sim]'"
        ) from error
    return MujocoBackend(robot, task, seed=seed, render=render, viewer=viewer), get_task(task).text


_KINDS: dict[str, Callable[[RobotProfile, str, int, bool, bool], tuple[RobotBackend, str]]] = {"mujoco": _mujoco}


def make_backend(
    robot: RobotProfile, task: str, seed: int, render: bool, viewer: bool = False
) -> tuple[RobotBackend, str]:
    """The robot's backend, not yet connected, and the sentence of `task`. Raises BackendError for an unknown kind."""
    kind = robot.backend.kind
    if kind not in _KINDS:
        raise BackendError(f"robot {robot.name} wants backend {kind!r}, which this version lacks; {available(_KINDS)}")
    return _KINDS[kind](robot, task, seed, render, viewer)
