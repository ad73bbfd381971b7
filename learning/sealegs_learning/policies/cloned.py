"""ClonedPolicy: a robot's policy that may see cameras, and may choose its actions from bins."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sealegs_contract.robot import RobotProfile
from sealegs_contract.spec import ActionSpec, ObservationSpec
from sealegs_contract.temporal import TemporalSpec
from sealegs_learning.networks import Normalizer, Policy, perceptron
from sealegs_learning.policies.bins import likely_action, log_likelihood
from sealegs_learning.policies.encoder import FEATURES, PixelEncoder


class ClonedPolicy(Policy):
    """`see` joins the vector and the encoded images; all other methods take what it gives as observation.

    `bins` > 0: each element of the action has a categorical distribution over so many values in [-1, 1], instead of a
    Gaussian; `sharpness` as in `bins.likely_action`.
    """

    def __init__(
        self,
        robot: RobotProfile,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        normalizer: Normalizer,
        hidden: tuple[int, ...],
        generator: torch.Generator,
        task: str = "",
        temporal: TemporalSpec | None = None,
        bins: int = 0,
        sharpness: float = 1.0,
    ) -> None:
        super().__init__(robot, observation_spec, action_spec, normalizer, hidden, generator, task, temporal=temporal)
        self.bins, self.sharpness = bins, sharpness
        self.encoders = nn.ModuleList(PixelEncoder(generator) for _ in observation_spec.images)
        seen = self.observations + FEATURES * len(self.encoders)
        self.actor = perceptron((seen, *hidden, self.actions * max(bins, 1)), generator)
        if bins:
            self.register_parameter("log_std", None)

    def forward(self, observation: Tensor, *images: Tensor) -> Tensor:
        """Action (B, J), or (B, chunk, J), in [-1, 1] for raw inputs; `images` in the order of the observation's."""
        return self.shaped(self.mean_action(self.see(self.normalizer(observation), images)))

    def see(self, normalised: Tensor, images: tuple[Tensor, ...]) -> Tensor:
        """Normalised vectors (B, history * D) and pixels (B, height, width, 3) uint8 each -> (B, D')."""
        features = [encoder(pixels) for encoder, pixels in zip(self.encoders, images, strict=True)]
        return torch.cat([normalised, *features], dim=1)

    def mean_action(self, normalised: Tensor) -> Tensor:
        """The Gaussian's mean, or the bins' likely action: (B, chunk * J)."""
        if not self.bins:
            return super().mean_action(normalised)
        return likely_action(self._logits(normalised), self.sharpness)

    def log_prob(self, normalised: Tensor, action: Tensor) -> Tensor:
        """Log likelihood (B,) of actions (B, chunk * J): of their density, or of their bins."""
        if not self.bins:
            return super().log_prob(normalised, action)
        return log_likelihood(self._logits(normalised), action)

    def _logits(self, normalised: Tensor) -> Tensor:
        logits: Tensor = self.actor(normalised)
        return logits.view(-1, self.actions, self.bins)
