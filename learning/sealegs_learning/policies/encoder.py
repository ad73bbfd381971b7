"""A small convolutional encoder that says where things are in an image (arXiv 1504.00702)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# (channels in, channels out, kernel, stride): a quarter of the resolution, where keypoints are still some pixels apart.
# Deeper stacks cost more and located unseen targets worse (60 episodes of `reach`).
LAYERS = ((3, 16, 5, 2), (16, 32, 3, 2))
FEATURES = 2 * LAYERS[-1][1]
# Sharpens the maps' softmax: from random weights it is so flat that every keypoint lies in the middle.
SHARPNESS = 10.0


def keypoints(maps: Tensor) -> Tensor:
    """Expected position of each map (B, C, H, W) under its own softmax, in [-1, 1]: (B, 2C), all x, then all y."""
    batch, channels, height, width = maps.shape
    weight = torch.softmax(maps.reshape(batch, channels, height * width), dim=-1).view(batch, channels, height, width)
    x = (weight.sum(2) * torch.linspace(-1.0, 1.0, width, device=maps.device)).sum(-1)
    y = (weight.sum(3) * torch.linspace(-1.0, 1.0, height, device=maps.device)).sum(-1)
    return torch.cat([x, y], dim=1)


class PixelEncoder(nn.Module):
    """Raw pixels (B, height, width, 3) uint8 -> (B, FEATURES) in [-1, 1]; seeded."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out, kernel, stride in LAYERS:
            layer = nn.Conv2d(fan_in, fan_out, kernel, stride, padding=kernel // 2)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            layers += [layer, nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, height, width, 3) uint8 -> (B, FEATURES)."""
        x = pixels.permute(0, 3, 1, 2).to(torch.float32) / 255.0 - 0.5
        return keypoints(SHARPNESS * self.layers(x))
