"""From a label set to a reward sidecar: what `sealegs reward` does."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sealegs_contract.errors import LearningError
from sealegs_learning.networks import Normalizer
from sealegs_learning.reward.builtin import true_progress
from sealegs_learning.reward.fit import FitReport, Pairs, fit_reward, split_pairs, usable_pairs
from sealegs_learning.reward.frames import HasImages, load_frames
from sealegs_learning.reward.model import RewardEnsemble, RewardInputs
from sealegs_learning.reward.sidecar import Reward, RewardDataset, sidecar_path, write_reward
from sealegs_learning.statistics import pearson, spearman
from sealegs_learning.training.config import RewardConfig

Progress = Callable[[str, int, int, dict[str, float]], None]
"""Called as progress(stage, done, total, figures)."""


class LabelArrays(Protocol):
    """A label set: global row indices and the probability that b shows more progress, (P,) each."""

    @property
    def index_a(self) -> NDArray[np.int64]:
        """Rows a (P,)."""
        ...

    @property
    def index_b(self) -> NDArray[np.int64]:
        """Rows b (P,)."""
        ...

    @property
    def probability_b_better(self) -> NDArray:
        """Probability (P,) that b shows more progress."""
        ...

    @property
    def abstain(self) -> NDArray[np.bool_]:
        """Whether the judge gave no answer (P,)."""
        ...


class RewardSource(RewardDataset, HasImages, Protocol):
    """A dataset with rows, episodes and images."""


@dataclass(frozen=True)
class RewardReport:
    """What was learned: the fit, the order's agreement with true progress (None on real data), and where it lies."""

    name: str
    path: Path
    fit: FitReport
    labels: int
    abstained: int
    order: dict[str, float] | None
    mean_spread: float


def labels_digest(labels: LabelArrays) -> str:
    """SHA-256 over the label arrays, whatever file they came from."""
    digest = hashlib.sha256()
    for values, kind in (
        (labels.index_a, "<i8"),
        (labels.index_b, "<i8"),
        (labels.probability_b_better, "<f8"),
        (labels.abstain, "|b1"),
    ):
        digest.update(np.ascontiguousarray(values, dtype=kind).tobytes())
    return digest.hexdigest()


def order_consistency(dataset: RewardDataset, mean: NDArray[np.float32]) -> dict[str, float] | None:
    """Spearman and Pearson of the reward with true progress, over all rows and as the mean within episodes.

    None where the task is not simulated. Episodes whose progress or reward never changes say nothing and are left out.
    """
    from sealegs_sim.tasks import TASKS

    if any(episode.task not in TASKS for episode in dataset.episodes):
        return None
    truth = true_progress(dataset)
    rows = [slice(e.start, e.start + e.length) for e in dataset.episodes]
    inside = [spearman(mean[r], truth[r]) for r in rows if np.ptp(truth[r]) > 0.02]
    inside = [value for value in inside if not math.isnan(value)]
    figures = {"spearman": spearman(mean, truth), "pearson": pearson(mean, truth)}
    if inside:
        figures["spearman_within_episodes"] = float(np.mean(inside))
        figures["episodes_compared"] = float(len(inside))
    return {key: value for key, value in figures.items() if not math.isnan(value)}


def build_model(dataset: RewardSource, config: RewardConfig) -> RewardEnsemble:
    """An untrained ensemble for the inputs that `config` names."""
    generator = torch.Generator().manual_seed(config.seed)
    sees_state, sees_frames = config.inputs != "frames", config.inputs != "state"
    normalizer = Normalizer.fit(torch.from_numpy(np.array(dataset.state))) if sees_state else None
    channels = 3 * len(config.cameras) if sees_frames else 0
    return RewardEnsemble(config.members, config.hidden, generator, normalizer, channels, config.image_size)


def load_inputs(dataset: RewardSource, config: RewardConfig, rows: NDArray[np.int64]) -> RewardInputs:
    """What the reward sees at `rows` (R,)."""
    state = torch.from_numpy(np.asarray(dataset.state)[rows]) if config.inputs != "frames" else None
    frames = None
    if config.inputs != "state":
        frames = load_frames(dataset, config.cameras, rows, config.image_size)
    return RewardInputs(state, frames)


def raw_rewards(
    model: RewardEnsemble, dataset: RewardSource, config: RewardConfig, progress: Progress | None = None
) -> torch.Tensor:
    """The members' rewards (K, N) of all rows, not standardised."""
    count, chunk = len(dataset.state), 2048
    raw = []
    with torch.no_grad():
        for start in range(0, count, chunk):
            rows = np.arange(start, min(start + chunk, count))
            raw.append(model(load_inputs(dataset, config, rows)))
            if progress is not None:
                progress("reward of every frame", int(rows[-1]) + 1, count, {})
    return torch.cat(raw, dim=1)


def relabel(
    model: RewardEnsemble, dataset: RewardSource, config: RewardConfig, progress: Progress | None = None
) -> Reward:
    """Standardise the model over all rows of the dataset and give its mean and spread (N,)."""
    members = raw_rewards(model, dataset, config, progress)
    model.standardise(members)
    standard = (members - model.offset) / model.scale
    return Reward(standard.mean(0).numpy(), standard.std(0, unbiased=False).numpy())


def check_config(config: RewardConfig) -> None:
    """LearningError on a setting outside its range."""
    rules = (
        ("members", config.members >= 1, "at least 1"),
        ("epochs", config.epochs >= 1, "at least 1"),
        ("batch_size", config.batch_size >= 1, "at least 1"),
        ("learning_rate", config.learning_rate > 0.0, "positive"),
        ("held_out_fraction", 0.0 < config.held_out_fraction < 1.0, "in (0, 1)"),
        ("cameras", bool(config.cameras) or config.inputs == "state", "named where the reward sees frames"),
    )
    for name, holds, expected in rules:
        if not holds:
            raise LearningError(f"{name} must be {expected}, got {getattr(config, name)}")


def learn_reward(
    config: RewardConfig,
    progress: Progress | None = None,
    dataset: RewardSource | None = None,
    labels: LabelArrays | None = None,
) -> RewardReport:
    """Fit the ensemble to a label set and write the sidecar. `dataset` and `labels` are read from disk if not given."""
    check_config(config)
    torch.set_num_threads(1)
    if dataset is None:
        from sealegs_learning.data.dataset import Dataset

        dataset = Dataset.open(config.dataset)
    sidecar_path(dataset, config.name, "json")  # a bad name fails before the work, not after it
    if labels is None:
        from sealegs_learning.judge.labels import read_labels

        labels = read_labels(dataset, config.labels)
    pairs = usable_pairs(
        labels.index_a, labels.index_b, labels.probability_b_better, labels.abstain, len(dataset.state)
    )
    train, held_out = split_pairs(
        pairs, np.asarray(dataset.episode_index), config.held_out_fraction, np.random.default_rng(config.seed)
    )
    model = build_model(dataset, config)

    def tick(epoch: int, figures: dict[str, float]) -> None:
        if progress is not None:
            progress("fit", epoch, config.epochs, figures)

    fit = fit_reward(model, train, held_out, lambda rows: load_inputs(dataset, config, rows), config, tick)
    model.eval()
    reward = relabel(model, dataset, config, progress)
    if not np.ptp(reward.mean) > 0:
        raise LearningError("the learned reward is the same everywhere; the labels say nothing the inputs can show")
    order = order_consistency(dataset, reward.mean)
    about = _about(config, labels, pairs, fit, order, reward)
    path = write_reward(dataset, config.name, reward, about, model)
    return RewardReport(
        config.name, path, fit, len(labels.index_a), int(labels.abstain.sum()), order, float(reward.spread.mean())
    )


def _about(
    config: RewardConfig,
    labels: LabelArrays,
    pairs: Pairs,
    fit: FitReport,
    order: dict[str, float] | None,
    reward: Reward,
) -> dict[str, Any]:
    settings = {key: value for key, value in asdict(config).items() if key not in {"dataset", "name"}}
    return {
        "labels": {
            "name": config.labels,
            "digest": labels_digest(labels),
            "pairs": len(labels.index_a),
            "used": len(pairs.index_a),
            "abstained": int(labels.abstain.sum()),
        },
        "config": settings,
        "fit": asdict(fit),
        "held_out_accuracy": fit.held_out_accuracy,
        "order_consistency": order,
        "mean_spread": float(reward.spread.mean()),
    }
