"""Fitting the reward to preferences: Bradley-Terry with soft labels, held-out episodes, early stop."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from sealegs_contract.errors import LearningError
from sealegs_learning.reward.model import RewardEnsemble, RewardInputs
from sealegs_learning.training.config import RewardConfig


class Pairs(NamedTuple):
    """Row indices a, b (P,) and the probability (P,) that b shows more progress."""

    index_a: NDArray[np.int64]
    index_b: NDArray[np.int64]
    probability_b_better: NDArray[np.float64]

    def where(self, mask: NDArray[np.bool_]) -> Pairs:
        """The pairs that `mask` (P,) picks."""
        return Pairs(self.index_a[mask], self.index_b[mask], self.probability_b_better[mask])


@dataclass(frozen=True)
class FitReport:
    """How the fit went. Accuracies are shares of decided pairs ranked as their labels say, by the ensemble's mean."""

    pairs_train: int
    pairs_held_out: int
    epochs: int
    stopped: str
    train_accuracy: float
    held_out_accuracy: float
    held_out_loss: float
    history: tuple[dict[str, float], ...]


def bradley_terry_loss(reward_a: Tensor, reward_b: Tensor, probability_b_better: Tensor) -> Tensor:
    """mean of -[p log s + (1-p) log(1-s)], s = sigmoid(r_b - r_a), over (..., B)."""
    return binary_cross_entropy_with_logits(reward_b - reward_a, probability_b_better)


def agreement(reward_a: Tensor, reward_b: Tensor, probability_b_better: Tensor) -> Tensor:
    """Share of decided pairs (p != 1/2) ranked as labelled, over the last axis; a tie of rewards is a miss."""
    decided = probability_b_better != 0.5
    right = ((reward_b - reward_a) * (probability_b_better - 0.5) > 0) & decided
    return right.sum(-1) / decided.sum(-1).clamp_min(1)


def usable_pairs(index_a: NDArray, index_b: NDArray, probability: NDArray, abstain: NDArray, rows: int) -> Pairs:
    """Labels that speak: no abstentions, no pairs of a row with itself. LearningError on foreign rows or too few."""
    pairs = Pairs(index_a.astype(np.int64), index_b.astype(np.int64), probability.astype(np.float64))
    if len(index_a) and (min(index_a.min(), index_b.min()) < 0 or max(index_a.max(), index_b.max()) >= rows):
        raise LearningError(f"labels name rows outside the dataset's {rows}: they belong to another dataset")
    pairs = pairs.where(~abstain.astype(bool) & (index_a != index_b) & np.isfinite(probability))
    decided = int(np.count_nonzero(pairs.probability_b_better != 0.5))
    if decided < 10:
        raise LearningError(
            f"only {decided} of {len(index_a)} labelled pairs say which frame is better; a reward needs at least 10: "
            "label more pairs, or use a judge that supports the task"
        )
    return pairs


def split_pairs(
    pairs: Pairs, episode_index: NDArray[np.int64], fraction: float, rng: np.random.Generator
) -> tuple[Pairs, Pairs]:
    """(train, held out): a share of the episodes is held out, and a pair that touches one of them never trains.

    With fewer than five labelled episodes, pairs are split at random instead.
    """
    a, b = episode_index[pairs.index_a], episode_index[pairs.index_b]
    episodes = np.unique(np.concatenate([a, b]))
    if len(episodes) >= 5:
        # A pair of two episodes touches a held-out one with twice the chance.
        share = fraction / 2.0 if np.mean(a != b) > 0.5 else fraction
        chosen = rng.permutation(episodes)[: max(1, round(share * len(episodes)))]
        held = np.isin(a, chosen) | np.isin(b, chosen)
    else:
        held = rng.random(len(a)) < fraction
    if held.all() or not held.any():
        held = np.arange(len(a)) % 10 == 0
    return pairs.where(~held), pairs.where(held)


class _Rows:
    """Inputs of the labelled rows only, and pairs as positions among them."""

    def __init__(self, pairs: Pairs, rows: NDArray[np.int64], inputs: RewardInputs) -> None:
        self.inputs = inputs
        self.a = torch.from_numpy(np.searchsorted(rows, pairs.index_a))
        self.b = torch.from_numpy(np.searchsorted(rows, pairs.index_b))
        self.p = torch.from_numpy(pairs.probability_b_better).to(torch.float32)

    def pick(self, where: Tensor) -> RewardInputs:
        state, frames = self.inputs
        return RewardInputs(None if state is None else state[where], None if frames is None else frames[where])

    def rewards(self, model: RewardEnsemble, chunk: int = 512) -> tuple[Tensor, Tensor]:
        """Member rewards (K, P) of all pairs."""
        with torch.no_grad():
            a = [model(self.pick(part)) for part in torch.split(self.a, chunk)]
            b = [model(self.pick(part)) for part in torch.split(self.b, chunk)]
        return torch.cat(a, 1), torch.cat(b, 1)


def fit_reward(
    model: RewardEnsemble,
    train: Pairs,
    held_out: Pairs,
    load: Callable[[NDArray[np.int64]], RewardInputs],
    config: RewardConfig,
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> FitReport:
    """Fit `model` in place. `load` gives the inputs of row indices (R,); each row is loaded once.

    Every member sees its own order of the pairs. Stops at the training accuracy `stop_accuracy`, or when the held-out
    loss has not improved for `patience` epochs; the weights of the best held-out loss are kept.
    """
    rows = np.unique(np.concatenate([train.index_a, train.index_b, held_out.index_a, held_out.index_b]))
    inputs = load(rows)
    fit, check = _Rows(train, rows, inputs), _Rows(held_out, rows, inputs)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    generator = torch.Generator().manual_seed(config.seed)
    best, best_weights = 0, copy.deepcopy(model.state_dict())
    history: list[dict[str, float]] = []
    stopped = "epochs"
    while len(history) < config.epochs and stopped == "epochs":
        accuracy = float(_epoch(model, optimizer, fit, config.batch_size, generator).min())
        history.append({"train_accuracy": accuracy, **_held_out_figures(model, check)})
        if progress is not None:
            progress(len(history), history[-1])
        if len(history) == 1 or history[-1]["held_out_loss"] < history[best]["held_out_loss"]:
            best, best_weights = len(history) - 1, copy.deepcopy(model.state_dict())
        if accuracy >= config.stop_accuracy:
            stopped = "train accuracy"
        elif len(history) - 1 - best >= config.patience:
            stopped = "held-out loss"
    model.load_state_dict(best_weights)
    a, b = fit.rewards(model)
    return FitReport(
        pairs_train=len(train.index_a),
        pairs_held_out=len(held_out.index_a),
        epochs=len(history),
        stopped=stopped,
        train_accuracy=float(agreement(a.mean(0), b.mean(0), fit.p)),
        held_out_accuracy=history[best]["held_out_accuracy"],
        held_out_loss=history[best]["held_out_loss"],
        history=tuple(history),
    )


def _held_out_figures(model: RewardEnsemble, check: _Rows) -> dict[str, float]:
    """Accuracy of the ensemble's mean, and the members' mean loss."""
    a, b = check.rewards(model)
    return {
        "held_out_accuracy": float(agreement(a.mean(0), b.mean(0), check.p)),
        "held_out_loss": float(bradley_terry_loss(a, b, check.p.expand_as(a))),
    }


def _epoch(
    model: RewardEnsemble, optimizer: torch.optim.Optimizer, data: _Rows, size: int, generator: torch.Generator
) -> Tensor:
    """One pass of every member over the pairs in its own order; running training accuracy of each member (K,)."""
    count = len(data.p)
    orders = torch.stack([torch.randperm(count, generator=generator) for _ in range(model.members)])
    right = torch.zeros(model.members)
    decided = torch.zeros(model.members)
    for order in torch.split(orders, size, dim=1):
        p = data.p[order]
        ends = torch.cat([data.a[order], data.b[order]], dim=1)
        a, b = model(data.pick(ends)).chunk(2, dim=1)
        # Summed over members: each has the gradient that it would have alone.
        loss = bradley_terry_loss(a, b, p) * model.members
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        speaks = (p != 0.5).sum(1)
        right += agreement(a.detach(), b.detach(), p) * speaks
        decided += speaks
    if not torch.isfinite(model.head.weights[0]).all():
        raise LearningError("the reward diverged: its weights are not finite; lower --learning-rate")
    return right / decided.clamp_min(1)
