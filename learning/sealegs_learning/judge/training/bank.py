"""Frames in memory, ready for training: pixels, progress and object positions of one task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sealegs_contract.pixels import decode_rgb
from sealegs_learning.judge.embedded.processing import PIXEL_MEAN, PIXEL_STD, resize
from sealegs_learning.judge.training.frames import FrameSet


@dataclass(frozen=True)
class Bank:
    """`pixels` (n, 3, H, W) uint8, `progress` (n,), `positions` (n, 9) standardised with NaN for absent objects,
    `members` (setups, frames): the rows of each setup.
    """

    task: str
    pixels: Tensor
    progress: Tensor
    positions: Tensor
    members: NDArray[np.int64]

    @classmethod
    def of(cls, frames: FrameSet, height: int, width: int) -> Bank:
        """Decode and resize every frame, as the judge will."""
        pixels = np.stack([resize(decode_rgb(data), height, width) for data in frames.jpeg])
        flat = frames.positions.reshape(len(frames), -1)
        with np.errstate(invalid="ignore"):
            spread = np.maximum(flat.std(axis=0), 0.01)
            standardised = (flat - flat.mean(axis=0)) / spread
        order = np.argsort(frames.setup, kind="stable")
        return cls(
            frames.task,
            torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))),
            torch.from_numpy(frames.progress),
            torch.from_numpy(standardised.astype(np.float32)),
            order.reshape(len(np.unique(frames.setup)), -1),
        )

    def draw(self, setups: int, rng: np.random.Generator) -> Tensor:
        """Rows of `setups` random setups, all frames of each."""
        chosen = rng.choice(len(self.members), size=min(setups, len(self.members)), replace=False)
        return torch.from_numpy(self.members[chosen].reshape(-1))


def to_float(pixels: Tensor) -> Tensor:
    """uint8 to normalised float32, as the processor does."""
    return (pixels.float() / 255.0 - PIXEL_MEAN) / PIXEL_STD


def augment(pixels: Tensor, rng: np.random.Generator, maximum_shift: int = 3) -> Tensor:
    """Normalised pixels (B, 3, H, W) with other exposure and tint per image, noise, and one small shift of all."""
    count = len(pixels)

    def uniform(low: float, high: float, channels: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (count, channels, 1, 1)).astype(np.float32))

    out = pixels * uniform(0.8, 1.2, 1) * uniform(0.93, 1.07, 3) + uniform(-0.25, 0.25, 1)
    out = out + 0.08 * torch.from_numpy(rng.standard_normal(out.shape, dtype=np.float32)) * uniform(0.0, 1.0, 1)
    dy, dx = rng.integers(-maximum_shift, maximum_shift + 1, 2)
    padded = torch.nn.functional.pad(out, (maximum_shift,) * 4, mode="replicate")
    height, width = pixels.shape[-2:]
    top, left = maximum_shift + dy, maximum_shift + dx
    return padded[..., top : top + height, left : left + width]
