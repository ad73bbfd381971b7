"""Behaviour cloning: the policy's likelihood (or squared error) on the logged actions, whatever they led to.

L = -E[log pi(a|s)]   or   L = E[|a - mean(s)|^2]

pi is a Gaussian, or a categorical distribution over bins (`policies.cloned`); a may be a chunk of actions, and s may
hold images.
"""

from __future__ import annotations

from torch import Tensor, nn

from sealegs_learning.learners.base import Learner
from sealegs_learning.learners.settings import BCSettings
from sealegs_learning.networks import GaussianActor
from sealegs_learning.policies.cloned import ClonedPolicy
from sealegs_learning.policies.frames import ImageBatch
from sealegs_learning.transitions import Batch


def squared_error(mean: Tensor, action: Tensor) -> Tensor:
    """mean over the batch of |a - mean|^2, (B, J) and (B, J)."""
    return (action - mean).square().sum(-1).mean()


class BC(Learner):
    """Clones the logged behaviour; rewards are ignored."""

    def __init__(self, policy: GaussianActor, settings: BCSettings, learning_rate: float, updates: int) -> None:
        super().__init__(learning_rate, updates)
        self.policy = policy
        self.settings = settings
        self.networks = nn.ModuleDict({"policy": policy})
        self.optimizer = self._make_optimizer()

    def step(self, batch: Batch | ImageBatch, measured: bool = True) -> dict[str, Tensor]:
        """One step on the policy's loss."""
        s, a = batch.observation, batch.action
        if isinstance(batch, ImageBatch) and isinstance(self.policy, ClonedPolicy):
            s = self.policy.see(s, batch.images)
        if self.settings.loss == "mse":
            loss = squared_error(self.policy.mean_action(s), a)
        else:
            loss = -self.policy.log_prob(s, a).mean()
        self._descend(loss)
        return {"policy_loss": loss.detach()}
