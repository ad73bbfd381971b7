"""Fixtures of the simulator's tests."""

import os

os.environ.setdefault("MUJOCO_GL", "osmesa")

import pytest

from sealegs_contract.robot import RobotProfile, load_robot
from sealegs_sim.scene import Scene, build_scene
from sealegs_sim.tasks import TASKS


@pytest.fixture(scope="session")
def robot() -> RobotProfile:
    return load_robot("so101")


@pytest.fixture(scope="session")
def scenes() -> dict[str, Scene]:
    return {name: build_scene(name) for name in TASKS}


@pytest.fixture(params=sorted(TASKS))
def scene(request: pytest.FixtureRequest, scenes: dict[str, Scene]) -> Scene:
    return scenes[request.param]
