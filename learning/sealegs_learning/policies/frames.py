"""Transitions with the camera images of their rows, for cloning policies that see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sealegs_contract.errors import DatasetError, LearningError, MachineError, ObservationError
from sealegs_contract.pixels import decode_image
from sealegs_contract.spec import ImageField
from sealegs_learning.networks import Normalizer
from sealegs_learning.policies.augmentation import UNCHANGED, Augmentation
from sealegs_learning.transitions import Transitions

MAXIMUM_BYTES = 8 << 30
ROWS_AT_ONCE = 4096


class HasImages(Protocol):
    """A dataset with camera images: JPEG or PNG files of the given rows."""

    def images(self, camera: str, indices: Any) -> list[bytes]:
        """One whole image file for each row."""
        ...


class ImageBatch(NamedTuple):
    """Observations (B, D) normalised, actions (B, J) in [-1, 1], and pixels (B, height, width, 3) uint8 by camera."""

    observation: Tensor
    action: Tensor
    images: tuple[Tensor, ...]


@dataclass(frozen=True)
class SeeingTransitions:
    """`transitions`, and for each of them the image of every camera: frames (F, height, width, 3) by frame_of (M,)."""

    transitions: Transitions
    frames: tuple[Tensor, ...]
    frame_of: tuple[Tensor, ...]
    augmentation: Augmentation = UNCHANGED

    def __len__(self) -> int:
        return len(self.transitions)

    @property
    def packed(self) -> Tensor:
        """Of the transitions."""
        return self.transitions.packed

    @property
    def normalizer(self) -> Normalizer:
        """Of the vectors."""
        return self.transitions.normalizer

    def to(self, device: str | torch.device) -> SeeingTransitions:
        """Itself: images stay on the CPU. MachineError for another device."""
        if torch.device(device).type != "cpu":
            raise MachineError(f"policies that see cameras train on the cpu, not on {device}")
        return self

    def sample(self, generator: torch.Generator, size: int) -> ImageBatch:
        """`size` transitions drawn uniformly with replacement, their images augmented, all by `generator`."""
        index = self.transitions.draw(generator, size)[0]
        batch = self.transitions.rows(index)
        images = tuple(
            self.augmentation.draw(frames[frame_of[index]], generator)
            for frames, frame_of in zip(self.frames, self.frame_of, strict=True)
        )
        return ImageBatch(batch.observation, batch.action, images)


def with_images(
    transitions: Transitions,
    data: HasImages,
    episodes: Sequence[slice],
    images: Sequence[ImageField],
    delay: int,
    augmentation: Augmentation = UNCHANGED,
) -> SeeingTransitions:
    """Add the images that were to be seen at each transition's first row: those of `delay` rows before it.

    `episodes` are those that the transitions were made from. LearningError when images are missing or unreadable.
    """
    rows = np.concatenate([np.arange(e.start, e.stop - 1) for e in episodes])
    starts = np.concatenate([np.full(e.stop - e.start - 1, e.start) for e in episodes])
    seen = np.maximum(rows - delay, starts)
    loaded = [_load(data, field, seen) for field in images]
    return SeeingTransitions(transitions, tuple(f for f, _ in loaded), tuple(i for _, i in loaded), augmentation)


def _load(data: HasImages, field: ImageField, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Distinct frames (F, height, width, 3), and the frame of each row; a camera is slower than the control loop."""
    frames: list[NDArray[np.uint8]] = []
    number: dict[bytes, int] = {}
    frame_of = np.empty(len(rows), dtype=np.int64)
    try:
        for start in range(0, len(rows), ROWS_AT_ONCE):
            files = data.images(field.camera, rows[start : start + ROWS_AT_ONCE])
            number = {file: n for file, n in number.items() if n == len(frames) - 1}  # it may go on in this piece
            for row, file in enumerate(files, start=start):
                if file not in number:
                    number[file] = len(frames)
                    frames.append(decode_image(file, field.height, field.width))
                frame_of[row] = number[file]
            if len(frames) * field.height * field.width * 3 > MAXIMUM_BYTES:
                raise LearningError(
                    f"the images of camera {field.camera} need more than {MAXIMUM_BYTES >> 30} GiB; "
                    "use a smaller inputs.image_size"
                )
    except (ObservationError, DatasetError) as error:
        raise LearningError(f"camera {field.camera}: {error}") from error
    return torch.from_numpy(np.stack(frames)), torch.from_numpy(frame_of)
