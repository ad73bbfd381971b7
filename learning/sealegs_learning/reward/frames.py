"""Camera frames of dataset rows as small uint8 tensors for the reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Resampling
from torch import Tensor

from sealegs_contract.errors import LearningError, ObservationError
from sealegs_contract.pixels import decode_rgb


class HasImages(Protocol):
    """A dataset with camera images: JPEG or PNG files of the given rows."""

    def images(self, camera: str, indices: NDArray[np.int64]) -> list[bytes]:
        """One whole image file for each row."""
        ...


def decode_frame(data: bytes, size: int) -> NDArray[np.uint8]:
    """An image file as (3, size, size) uint8 RGB; the whole view is kept, squeezed to a square."""
    try:
        rgb = decode_rgb(data, (size, size))
    except ObservationError as error:
        raise LearningError(f"a frame of {len(data)} bytes is not a readable image: {error}") from error
    pixels = rgb.resize((size, size), Resampling.BILINEAR)
    return np.asarray(pixels, dtype=np.uint8).transpose(2, 0, 1)


def load_frames(dataset: HasImages, cameras: Sequence[str], indices: NDArray[np.int64], size: int) -> Tensor:
    """Frames (R, 3 * cameras, size, size) uint8 of rows `indices` (R,), cameras stacked as channels.

    A camera is slower than the control loop, so neighbouring rows often share a file: each is decoded once.
    """
    out = np.empty((len(indices), 3 * len(cameras), size, size), dtype=np.uint8)
    for c, camera in enumerate(cameras):
        decoded: dict[bytes, NDArray[np.uint8]] = {}
        for row, data in enumerate(dataset.images(camera, indices)):
            if data not in decoded:
                decoded[data] = decode_frame(data, size)
            out[row, 3 * c : 3 * c + 3] = decoded[data]
    return torch.from_numpy(out)
