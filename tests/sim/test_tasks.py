"""Progress and success against hand arithmetic."""

import math

import numpy as np
import pytest

from sealegs_contract.robot import RobotProfile
from sealegs_sim.tasks import TASKS, closeness, drawer_progress, push_contact_point, push_progress, reach_progress


def at(*point: float) -> np.ndarray:
    return np.array(point)


def test_closeness() -> None:
    assert closeness(np.array([0.0, 0.02, 0.12]), 0.02, 0.1) == pytest.approx([1.0, 1.0, math.exp(-1.0)])


def test_reach_by_hand() -> None:
    fields = {"gripper.object_position": at(0.2, 0.0, 0.1), "target.object_position": at(0.2, 0.14, 0.1)}
    assert reach_progress(fields) == pytest.approx(math.exp(-1.0))
    near = fields | {"gripper.object_position": at(0.2, 0.121, 0.1)}
    assert reach_progress(near) == 1.0
    assert TASKS["reach"].achieved(near)
    assert not TASKS["reach"].achieved(fields)


def test_push_by_hand() -> None:
    cube, target = at(0.2, 0.0, 0.018), at(0.28, 0.0, 0.018)
    behind = push_contact_point(cube, target)
    assert behind == pytest.approx([0.168, 0.0, 0.018])
    fields = {"cube.object_position": cube, "target.object_position": target, "gripper.object_position": behind}
    # Full approach; 8 cm remain, of which 7 cm lie beyond the middle's 1 cm, in a span of 12 cm.
    assert push_progress(fields) == pytest.approx(0.3 + 0.7 * 5 / 12)
    assert push_progress(fields | {"gripper.object_position": behind + at(0.0, 0.0, 0.12)}) == pytest.approx(
        0.3 * math.exp(-1.0) + 0.7 * 5 / 12
    )
    away = fields | {"gripper.object_position": at(0.0, 0.0, 0.3)}
    done = away | {"cube.object_position": at(0.275, 0.006, 0.018)}
    assert push_progress(done) == 1.0
    assert TASKS["push"].achieved(done)
    edge = away | {"cube.object_position": at(0.26, 0.015, 0.018)}  # 2.5 cm off: achieved, with some way to go
    assert 0.6 < push_progress(edge) < 1.0
    assert TASKS["push"].achieved(edge)
    assert not TASKS["push"].achieved(away | {"cube.object_position": at(0.24, 0.015, 0.018)})


def test_drawer_by_hand() -> None:
    closed = at(0.28, 0.0, 0.055)
    fields = {
        "drawer.object_position": closed,
        "handle.object_position": closed,
        "gripper.object_position": closed + at(-0.13, 0.0, 0.0),
    }
    assert drawer_progress(fields) == pytest.approx(0.3 * math.exp(-1.0))
    half = fields | {"handle.object_position": closed - at(0.04, 0.0, 0.0), "gripper.object_position": closed}
    assert drawer_progress(half) == pytest.approx(0.3 * math.exp(-0.1) + 0.35)
    opened = fields | {"handle.object_position": closed - at(0.0801, 0.0, 0.0)}
    assert drawer_progress(opened) == 1.0
    assert TASKS["drawer"].achieved(opened)
    assert not TASKS["drawer"].achieved(half)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_progress_is_batched_and_bounded(name: str, robot: RobotProfile) -> None:
    task = TASKS[name]
    spec = task.observation_spec(robot)
    vectors = np.random.default_rng(0).uniform(-0.4, 0.4, (3, 50, spec.size)).astype(np.float32)
    progress, achieved = task.progress(spec.split(vectors)), task.achieved(spec.split(vectors))
    assert progress.shape == achieved.shape == (3, 50)
    assert ((progress >= 0.0) & (progress <= 1.0)).all()
    assert (progress[achieved] == 1.0).all()
    assert progress[1, 7] == task.progress(spec.split(vectors[1, 7]))


@pytest.mark.parametrize("name", sorted(TASKS))
def test_sentences(name: str) -> None:
    task = TASKS[name]
    assert len(task.paraphrases) >= 8
    assert len({task.text, *task.paraphrases}) == len(task.paraphrases) + 1
