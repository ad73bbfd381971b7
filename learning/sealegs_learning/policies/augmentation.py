"""Other images of the same scene, to train on: moved (DrQ, arXiv 2004.13649), brighter or darker, of other contrast."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sealegs_learning.policies.settings import InputSettings

FULL_SCALE = 255.0


def shifted(images: Tensor, offset: Tensor) -> Tensor:
    """Images (B, H, W, C) moved by `offset` (B, 2) pixels down and right, edges repeated."""
    batch, height, width, _ = images.shape
    rows = (torch.arange(height) - offset[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width) - offset[:, 1:]).clamp(0, width - 1)
    return images[torch.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :]]


def jittered(images: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
    """Images (B, H, W, C) uint8 -> mean + (1 + contrast) (x - mean) + 255 brightness, both (B,), mean of each image.

    Rounded, and cut to [0, 255].
    """
    x = images.to(torch.float32)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    offset, factor = (each.view(-1, 1, 1, 1) for each in (FULL_SCALE * brightness, 1.0 + contrast))
    return (mean + factor * (x - mean) + offset).round().clamp(0.0, FULL_SCALE).to(torch.uint8)


class Augmentation(NamedTuple):
    """How far training images may be changed; zeros leave them as they are, and draw nothing."""

    shift: int = 0
    """Pixels each way."""
    brightness: float = 0.0
    """Share of full scale, each way."""
    contrast: float = 0.0
    """Share of the image's own contrast, each way."""

    @classmethod
    def of(cls, inputs: InputSettings) -> Augmentation:
        """As the settings say."""
        return cls(inputs.shift, inputs.brightness, inputs.contrast)

    def draw(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Each image (B, H, W, C) changed on its own, uniformly within the ranges."""
        count = len(images)
        if self.shift:
            offset = torch.randint(-self.shift, self.shift + 1, (count, 2), generator=generator)
            images = shifted(images, offset)
        if self.brightness or self.contrast:
            unit = 2.0 * torch.rand(2, count, generator=generator) - 1.0
            images = jittered(images, self.brightness * unit[0], self.contrast * unit[1])
        return images


UNCHANGED = Augmentation()
