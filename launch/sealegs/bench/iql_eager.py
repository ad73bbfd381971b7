"""IQL as plain PyTorch has it, one module, one optimiser and one backward a network: the yardstick of `bench iql`.

The structure is CORL's (its files are not used); the mathematics is `learners.iql`'s.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from sealegs_learning.learners.iql import expectile_loss
from sealegs_learning.learners.settings import IQLSettings
from sealegs_learning.networks import LOG_STD_MAX, LOG_STD_MIN, GaussianActor, perceptron
from sealegs_learning.transitions import Batch


class EagerIQL:
    """`update` as in `Learner`."""

    def __init__(
        self,
        policy: GaussianActor,
        settings: IQLSettings,
        learning_rate: float,
        updates: int,
        generator: torch.Generator,
    ) -> None:
        self.policy, self.settings = policy, settings
        device = policy.log_std.device
        sizes = (policy.observations, *policy.hidden, 1)
        pair_sizes = (policy.observations + policy.actions, *policy.hidden, 1)
        self.value = perceptron(sizes, generator).to(device)
        self.q = nn.ModuleList(perceptron(pair_sizes, generator) for _ in range(2)).to(device)
        self.target = nn.ModuleList(perceptron(pair_sizes, generator) for _ in range(2)).to(device)
        self.target.load_state_dict(self.q.state_dict())
        self.value_optimizer = torch.optim.Adam(self.value.parameters(), lr=learning_rate)
        self.q_optimizer = torch.optim.Adam(self.q.parameters(), lr=learning_rate)
        self.policy_optimizer = torch.optim.Adam(policy.parameters(), lr=learning_rate)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.policy_optimizer, updates)

    def update(self, batch: Batch, measured: bool = False) -> None:
        """One gradient step on each network; nothing is ever measured."""
        s, a, r, s_next, terminal = batch
        c = self.settings
        sa = torch.cat([s, a], dim=1)
        with torch.no_grad():
            target = torch.min(self.target[0](sa), self.target[1](sa)).squeeze(-1)
            next_value = self.value(s_next).squeeze(-1)
        u = target - self.value(s).squeeze(-1)
        _descend(self.value_optimizer, expectile_loss(u, c.tau))

        y = r + (1.0 - terminal) * c.gamma * next_value
        q_loss = sum(nn.functional.mse_loss(q(sa).squeeze(-1), y) for q in self.q)
        _descend(self.q_optimizer, torch.as_tensor(q_loss))
        with torch.no_grad():
            for mine, theirs in zip(self.target.parameters(), self.q.parameters(), strict=True):
                mine.mul_(1.0 - c.polyak).add_(theirs, alpha=c.polyak)

        weight = torch.exp(c.beta * u.detach()).clamp(max=c.advantage_cap)
        log_std = self.policy.log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        log_prob = Normal(self.policy.mean_action(s), log_std.exp()).log_prob(a).sum(-1)  # type: ignore[no-untyped-call]
        _descend(self.policy_optimizer, -(weight * log_prob).mean())
        self.schedule.step()


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
