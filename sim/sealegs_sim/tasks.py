"""The tasks: a sentence, the objects in the observation, true progress and success.

Progress is a pure function of the observation's fields, batched on their leading axes, so it can be computed for any
row of any dataset: bags and datasets carry neither reward nor progress.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import SimulationError, available
from sealegs_contract.robot import RobotProfile
from sealegs_contract.spec import ActionSpec, ObservationSpec, delta_action_spec, observation_spec

FloatArray = NDArray[np.floating]
BoolArray = NDArray[np.bool_]
Fields = Mapping[str, NDArray]

REACH_TOLERANCE_M = 0.02
PUSH_TOLERANCE_M = 0.04  # the radius of the zone in assets/push.xml
PUSH_CENTRED_M = 0.01
PUSH_SPAN_M = 0.12
PUSH_STANDOFF_M = 0.032
DRAWER_OPEN_M = 0.08
APPROACH_WEIGHT = 0.3


@dataclass(frozen=True)
class Task:
    """One task. `progress` and `achieved` take fields as `ObservationSpec.split` gives them, each (..., n)."""

    name: str
    text: str
    paraphrases: tuple[str, ...]
    objects: tuple[str, ...]
    progress: Callable[[Fields], FloatArray]
    achieved: Callable[[Fields], BoolArray]
    horizon_steps: int = 200
    hold_steps: int = 10

    def observation_spec(self, robot: RobotProfile, cameras: tuple[str, ...] = ()) -> ObservationSpec:
        """Joint positions and velocities, then the position of each of the task's objects, then cameras."""
        return observation_spec(robot, self.objects, cameras)

    def action_spec(self, robot: RobotProfile) -> ActionSpec:
        """Joint deltas, full scale 0.6 of the velocity limits."""
        return delta_action_spec(robot)


def distance(a: FloatArray, b: FloatArray) -> FloatArray:
    """Euclidean distance over the last axis, m."""
    return np.asarray(np.linalg.norm(a - b, axis=-1))


def closeness(distance_m: FloatArray, tolerance_m: float, scale_m: float) -> FloatArray:
    """1 within the tolerance, then falling as exp(-(d - tolerance) / scale); in (0, 1]."""
    return np.asarray(np.exp(-np.maximum(distance_m - tolerance_m, 0.0) / scale_m))


def reach_progress(fields: Fields) -> FloatArray:
    """Closeness of the gripper's tip to the target."""
    d = distance(fields["gripper.object_position"], fields["target.object_position"])
    return closeness(d, REACH_TOLERANCE_M, 0.12)


def reach_achieved(fields: Fields) -> BoolArray:
    """The gripper's tip is within 2 cm of the target."""
    d = distance(fields["gripper.object_position"], fields["target.object_position"])
    return np.asarray(d <= REACH_TOLERANCE_M)


def push_distance(fields: Fields) -> FloatArray:
    """Distance from the cube to the zone's centre on the table, m."""
    return distance(fields["cube.object_position"][..., :2], fields["target.object_position"][..., :2])


def push_contact_point(cube: FloatArray, target: FloatArray, standoff_m: float = PUSH_STANDOFF_M) -> FloatArray:
    """Point (..., 3) behind the cube as seen from the target, where the gripper pushes from."""
    away = cube[..., :2] - target[..., :2]
    away = away / np.maximum(np.linalg.norm(away, axis=-1, keepdims=True), 1e-6)
    point = np.array(cube, dtype=np.float64)
    point[..., :2] += standoff_m * away
    return point


def push_progress(fields: Fields) -> FloatArray:
    """0.3 approach to the point behind the cube + 0.7 of the way to the zone's middle; 1 within 1 cm of it.

    It rises on beyond the edge where the task counts as achieved, so that a learner has no reason to stop at the edge.
    """
    behind = push_contact_point(fields["cube.object_position"], fields["target.object_position"])
    approach = closeness(distance(fields["gripper.object_position"], behind), 0.02, 0.10)
    remaining = push_distance(fields)
    way = np.clip(1.0 - (remaining - PUSH_CENTRED_M) / PUSH_SPAN_M, 0.0, 1.0)
    moved = APPROACH_WEIGHT * approach + (1.0 - APPROACH_WEIGHT) * way
    return np.where(remaining <= PUSH_CENTRED_M, 1.0, moved)


def push_achieved(fields: Fields) -> BoolArray:
    """The cube's centre is within 4 cm of the zone's: it lies on the zone."""
    return np.asarray(push_distance(fields) <= PUSH_TOLERANCE_M)


def drawer_opening(fields: Fields) -> FloatArray:
    """How far the drawer is open, m: from the closed handle's place (object `drawer`) to the handle."""
    return distance(fields["handle.object_position"], fields["drawer.object_position"])


def drawer_progress(fields: Fields) -> FloatArray:
    """0.3 approach to the handle + 0.7 opening; 1 where the drawer is open."""
    approach = closeness(distance(fields["gripper.object_position"], fields["handle.object_position"]), 0.03, 0.10)
    opening = drawer_opening(fields)
    moved = APPROACH_WEIGHT * approach + (1.0 - APPROACH_WEIGHT) * np.clip(opening / DRAWER_OPEN_M, 0.0, 1.0)
    return np.where(opening >= DRAWER_OPEN_M, 1.0, moved)


def drawer_achieved(fields: Fields) -> BoolArray:
    """The drawer is open by at least 8 cm."""
    return np.asarray(drawer_opening(fields) >= DRAWER_OPEN_M)


REACH = Task(
    name="reach",
    text="move the gripper to the green ball",
    paraphrases=(
        "reach the green ball with the gripper",
        "bring the gripper tip to the green marker",
        "touch the green ball",
        "move the arm until the fingers are at the green point",
        "go to the marked point",
        "put the gripper on the green ball on the pole",
        "reach for the marked point",
        "guide the hand to the green sphere",
    ),
    objects=("gripper", "target"),
    progress=reach_progress,
    achieved=reach_achieved,
)

PUSH = Task(
    name="push",
    text="push the red cube onto the green zone",
    paraphrases=(
        "slide the red block onto the green circle",
        "push the cube to the green disc",
        "move the red cube onto the marked zone",
        "shove the red box until it lies on the green area",
        "get the cube onto the green spot",
        "push the red block into the target zone",
        "bring the red cube to the green circle by pushing it",
        "move the block so that it covers the green marker",
    ),
    objects=("gripper", "cube", "target"),
    progress=push_progress,
    achieved=push_achieved,
)

DRAWER = Task(
    name="drawer",
    text="open the drawer",
    paraphrases=(
        "pull the drawer open",
        "open the yellow drawer by its red handle",
        "slide the drawer out of the cabinet",
        "pull out the drawer",
        "grab the red handle and open the drawer",
        "get the drawer of the blue cabinet open",
        "draw the drawer towards the robot",
        "open up the small cabinet's drawer",
    ),
    objects=("gripper", "handle", "drawer"),
    progress=drawer_progress,
    achieved=drawer_achieved,
)

TASKS: dict[str, Task] = {task.name: task for task in (REACH, PUSH, DRAWER)}


def get_task(name: str | Task) -> Task:
    """A task by name (a Task passes through); SimulationError names the available ones."""
    if isinstance(name, Task):
        return name
    if name not in TASKS:
        raise SimulationError(f"unknown task {name!r}; {available(TASKS)}")
    return TASKS[name]
