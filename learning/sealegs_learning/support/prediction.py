"""Each element of the frame against what a network predicts of it from all the others.

For i = 1..D:  (mu_i, log s_i) = f(x without x_i),   trained by  (x_i - mu_i)^2 / (2 s_i^2) + log s_i
score = max_i |x_i - mu_i| / (s_i q_i),   q_i: tail of the same in the fitted rows

A robot's sensors say the same thing several times: the gripper's place follows from the joints, a velocity from the
change of a position. A joint that reads 0.1 rad wrong stays within every range, but not within what the rest says.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sealegs_learning.support.scores import tails

LOG_STD_MIN, LOG_STD_MAX = -4.0, 2.0
HIDDEN, BATCH, LEARNING_RATE, EPOCHS = 128, 64, 2e-3, 20


class Prediction(nn.Module):
    """Features (B, F), of which the first D are predicted. One network for all: its first layer is told which.

    `noise` (D,): no element is expected to be more exact.
    """

    tail: Tensor
    log_std_min: Tensor

    def __init__(self, features: int, noise: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        predicted = len(noise)
        self.predicted = predicted
        self.first, self.second = nn.Linear(features, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.which = nn.Parameter(torch.empty(predicted, HIDDEN))
        self.last = nn.Parameter(torch.empty(predicted, HIDDEN, 2))
        self.last_bias = nn.Parameter(torch.zeros(predicted, 2))
        self.register_buffer("tail", torch.ones(predicted))
        self.register_buffer("log_std_min", noise.log().clamp_min(LOG_STD_MIN))
        with torch.no_grad():
            for weights, inputs in ((self.first.weight, features), (self.second.weight, HIDDEN), (self.last, HIDDEN)):
                weights.normal_(0.0, math.sqrt(1.0 / inputs), generator=generator)
            self.which.normal_(0.0, 0.3, generator=generator)
            self.first.bias.zero_()
            self.second.bias.zero_()

    def residuals(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(x_i - mu_i) / s_i and log s_i, (B, D) each; x_i is taken out of the first layer's sum for its own row."""
        own = x[:, : self.predicted]
        without = self.first(x)[:, None] - own[:, :, None] * self.first.weight[:, : self.predicted].T
        hidden = torch.relu(self.second(torch.relu(without + self.which)))
        output = (hidden.transpose(0, 1) @ self.last).transpose(0, 1) + self.last_bias
        log_std = torch.maximum(output[:, :, 1], self.log_std_min).clamp_max(LOG_STD_MAX)
        return (own - output[:, :, 0]) * torch.exp(-log_std), log_std

    def forward(self, x: Tensor) -> Tensor:
        """(B, F) -> (B,)."""
        return (self.residuals(x)[0].abs() / self.tail).amax(1)


def fit_prediction(x: Tensor, noise: Tensor, updates: int, generator: torch.Generator) -> Prediction:
    """Trained on rows (N, F), seeded; at most EPOCHS times on each."""
    updates = max(min(updates, EPOCHS * len(x) // BATCH), 1)
    model = Prediction(x.shape[1], noise, generator)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in range(updates):
        residual, log_std = model.residuals(x[torch.randint(len(x), (BATCH,), generator=generator)])
        loss = (0.5 * residual.square() + log_std).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    model.requires_grad_(False)
    with torch.no_grad():
        model.tail.copy_(tails(torch.cat([model.residuals(part)[0] for part in torch.split(x, 2_000)])))
    return model.eval()
