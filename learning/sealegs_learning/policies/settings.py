"""What a policy sees of a dataset's observation: a frozen dataclass, importable without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

Rule = tuple[str, bool, str]
"""Name of a setting, whether its value is in range, and the range in words."""


@dataclass(frozen=True)
class InputSettings:
    """What the policy sees."""

    fields: tuple[str, ...] = ()
    """Fields of the observation, in this order (joint_position, joint_velocity, cube.object_position, ...); all."""
    history: int = 1
    """Newest frames of these fields, one per control period."""
    cameras: tuple[str, ...] = ()
    """Cameras whose newest image the policy sees; behaviour cloning only."""
    image_size: tuple[int, int] = (60, 80)
    """Height and width to which images are scaled."""
    image_delay: int = 1
    """Control periods between an image's stamp and the first tick that acts on it: at least 1, since the robot node
    renders once a tick's command has come; more for a slower camera."""
    shift: int = 4
    """Pixels by which training images are shifted at random; 0 for none."""
    brightness: float = 0.1
    """Share of full scale by which training images are made brighter or darker at random; 0 for none."""
    contrast: float = 0.1
    """Share by which the contrast of training images is raised or lowered at random; 0 for none."""

    def rules(self) -> Iterator[Rule]:
        """What must hold of the values."""
        yield "history", 1 <= self.history <= 64, "from 1 to 64"
        yield "image_size", min(self.image_size) >= 16, "at least 16 x 16"
        yield "image_delay", 0 <= self.image_delay <= 64, "from 0 to 64"
        yield "shift", 0 <= self.shift < min(self.image_size) // 2, "less than half an image"
        yield "brightness", 0.0 <= self.brightness < 1.0, "in [0, 1)"
        yield "contrast", 0.0 <= self.contrast < 1.0, "in [0, 1)"
        yield "cameras", len(set(self.cameras)) == len(self.cameras), "named once each"
