"""Which observation and action a dataset has, from its robot, tasks and bags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from sealegs_contract.errors import BagError, ObservationError
from sealegs_contract.pixels import open_image
from sealegs_contract.robot import RobotProfile
from sealegs_contract.sample import ImageSample
from sealegs_contract.spec import ActionSpec, ObservationSpec, delta_action_spec, observation_spec
from sealegs_learning.data.bag import Bag
from sealegs_learning.data.messages import stream_of_topic


class _Wishes(Protocol):
    @property
    def objects(self) -> tuple[str, ...] | None: ...
    @property
    def cameras(self) -> tuple[str, ...] | None: ...
    @property
    def remap(self) -> Mapping[str, str]: ...


def choose_specs(
    robot: RobotProfile, tasks: Sequence[str], bags: Sequence[Bag], wishes: _Wishes
) -> tuple[ObservationSpec, ActionSpec]:
    """Specs for a dataset of these bags.

    Objects: as asked; else those of the simulated task of that name; else the robot's objects that every bag carries.
    Cameras: as asked; else the robot's cameras that every bag carries.
    """
    asked = wishes.objects is not None and wishes.cameras is not None
    present = frozenset[str]() if asked else _streams_everywhere(bags, wishes.remap)
    cameras = wishes.cameras
    if cameras is None:
        cameras = tuple(c.name for c in robot.cameras if f"camera/{c.name}" in present)
    known = simulated_objects(tuple(dict.fromkeys(tasks))) if wishes.objects is None else None
    if wishes.objects is not None:
        objects = wishes.objects
    elif known is not None:
        objects = tuple(name for name in robot.objects if name in known) if len(set(tasks)) > 1 else known
    else:
        objects = tuple(name for name in robot.objects if f"objects/{name}/pose" in present)
    return observation_spec(robot, objects, cameras), delta_action_spec(robot)


def simulated_objects(tasks: tuple[str, ...]) -> tuple[str, ...] | None:
    """Objects that the simulator's tasks of these names observe, each once; None when one is not simulated."""
    try:
        from sealegs_sim.tasks import TASKS
    except ImportError:  # the simulator is an extra
        return None
    if any(task not in TASKS for task in tasks):
        return None
    return tuple(dict.fromkeys(name for task in tasks for name in TASKS[task].objects))


def _streams_everywhere(bags: Sequence[Bag], remap: Mapping[str, str]) -> frozenset[str]:
    """Streams with at least one message in every bag."""
    common: frozenset[str] | None = None
    for bag in bags:
        found = {topic: stream_of_topic(topic) for topic in bag.topics()}
        renamed = {remap.get(topic) or remap.get(topic.lstrip("/"), "") for topic in found}
        streams = frozenset({entry[1] for entry in found.values() if entry is not None} | renamed)
        common = streams if common is None else common & streams
    return common or frozenset()


def image_size(camera: str, bags: Sequence[Bag], remap: Mapping[str, str]) -> tuple[int, int] | None:
    """(height, width) of the first image of `camera`; None when there is none."""
    for bag in bags:
        for message in bag.messages({f"camera/{camera}"}, None, remap):
            if isinstance(message.sample, ImageSample):
                try:
                    width, height = open_image(message.sample.data).size
                except ObservationError as error:
                    reason = f"delivers no readable JPEG or PNG image: {error}"
                    raise BagError(f"{bag.path}: camera {camera} {reason}") from error
                return height, width
    return None
