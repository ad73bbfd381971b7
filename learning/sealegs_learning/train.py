"""Training a policy from a dataset: what `sealegs train` and the demo's arms do.

OUT/checkpoint/ is the newest checkpoint, OUT/train.jsonl the learning curve (one JSON object a line). A run that was
killed goes on from its checkpoint with `resume`, and ends with the very weights that an uninterrupted run has.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from sealegs_contract.errors import LearningError
from sealegs_learning.checkpoint import describe_policy, load_checkpoint, save_checkpoint
from sealegs_learning.config import TrainConfig
from sealegs_learning.files import replaced_file
from sealegs_learning.learners.base import Learner
from sealegs_learning.learners.bc import BC
from sealegs_learning.learners.iql import IQL, IQLSettings
from sealegs_learning.networks import Policy
from sealegs_learning.reward.sidecar import Reward, RewardDataset, describe_reward, read_reward
from sealegs_learning.transitions import (
    LoggedData,
    Transitions,
    build_transitions,
    return_range_scaled,
    standardised,
)

Progress = Callable[[int, int, Mapping[str, float]], None]
"""Called as progress(update, updates, figures) at every log line."""

# What may differ between a run and its continuation; all else decides the weights.
_NOT_DECISIVE = {"dataset", "out", "log_every", "checkpoint_every", "evaluate_every", "evaluate_episodes"} | {
    "evaluate_seed",
    "resume",
    "overwrite",
    "tensorboard",
}


class TrainingData(LoggedData, RewardDataset, Protocol):
    """A dataset with rows, episodes and reward sidecars."""


@dataclass(frozen=True)
class TrainReport:
    """Where the policy lies and what the run cost. `seconds` is of this call, without evaluations."""

    checkpoint: Path
    updates: int
    transitions: int
    seconds: float
    updates_per_second: float
    last: Mapping[str, float]


def scaled_reward(config: TrainConfig, reward: Reward, data: LoggedData) -> np.ndarray:
    """The row rewards (N,) that the learner sees: pessimistic by the spread if asked, then normalised."""
    pessimistic = reward.mean - config.spread_penalty * reward.spread
    match config.reward_normalisation:
        case "standardise":
            return standardised(pessimistic, config.reward_scale)
        case "return-range":
            return return_range_scaled(pessimistic, data.episode_index, 1000.0 * config.reward_scale)
        case _:
            return (pessimistic * config.reward_scale).astype(np.float32)


def make_learner(config: TrainConfig, data: LoggedData, transitions: Transitions, task: str) -> Learner:
    """The learner with its first weights, which `config.seed` decides."""
    generator = torch.Generator().manual_seed(config.seed)
    policy = Policy(
        data.robot, data.observation_spec, data.action_spec, transitions.normalizer, config.hidden, generator, task
    )
    if config.learner == "bc":
        return BC(policy, config.updates, config.learning_rate, config.bc_loss)
    names = {field.name for field in fields(IQLSettings)}
    settings = IQLSettings(**{name: value for name, value in asdict(config).items() if name in names})
    return IQL(policy, config.hidden, settings, config.updates, generator)


def train(config: TrainConfig, progress: Progress | None = None, dataset: TrainingData | None = None) -> TrainReport:
    """Train to `config.updates` and write the checkpoint. `dataset` is read from disk if not given.

    Callable from a subprocess; sets torch to one thread. Raises LearningError on unusable data or settings, and when
    the training diverges.
    """
    check_config(config)
    torch.set_num_threads(1)
    data: Any = dataset if dataset is not None else _open(config.dataset)
    reward_name = "constant" if config.learner == "bc" else config.reward
    transitions = build_transitions(data, scaled_reward(config, read_reward(data, reward_name), data))
    tasks = sorted({episode.task for episode in data.episodes})
    learner = make_learner(config, data, transitions, tasks[0] if len(tasks) == 1 else "")
    batches = torch.Generator().manual_seed(config.seed + 1)
    about = _about(config, data, reward_name, len(transitions))
    if config.resume:
        _resume(config, about, learner, batches)
    return _Run(config, learner, transitions, batches, about, progress).go()


def check_config(config: TrainConfig) -> None:
    """LearningError on a setting outside its range, and where `out` would lose an earlier training."""
    rules = (
        ("updates", config.updates >= 1, "at least 1"),
        ("batch_size", config.batch_size >= 1, "at least 1"),
        ("hidden", bool(config.hidden) and min(config.hidden) >= 1, "one or more positive sizes"),
        ("gamma", 0.0 <= config.gamma < 1.0, "in [0, 1)"),
        ("tau", 0.0 < config.tau < 1.0, "in (0, 1)"),
        ("polyak", 0.0 < config.polyak <= 1.0, "in (0, 1]"),
        ("learning_rate", config.learning_rate > 0.0, "positive"),
        ("log_every", config.log_every >= 1, "at least 1"),
        ("checkpoint_every", config.checkpoint_every >= 1, "at least 1"),
    )
    for name, holds, expected in rules:
        if not holds:
            raise LearningError(f"{name} must be {expected}, got {getattr(config, name)}")
    if (config.out / "checkpoint").exists() and not (config.resume or config.overwrite):
        raise LearningError(
            f"{config.out} already holds a training: go on with --resume, or replace it with --overwrite"
        )


class _Run:
    """The loop and its files."""

    def __init__(
        self,
        config: TrainConfig,
        learner: Learner,
        transitions: Transitions,
        batches: torch.Generator,
        about: Mapping[str, Any],
        progress: Progress | None,
    ) -> None:
        self.config, self.learner, self.transitions = config, learner, transitions
        self.batches, self.about, self.progress = batches, about, progress
        self.folder = config.out / "checkpoint"
        self.curve = config.out / "train.jsonl"
        self.seconds = 0.0
        self.last: dict[str, float] = {}

    def go(self) -> TrainReport:
        config, learner = self.config, self.learner
        config.out.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_curve(self.curve) if row["update"] <= learner.done] if config.resume else []
        with replaced_file(self.curve) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        board = _tensorboard(config)
        first = learner.done
        while learner.done < config.updates:
            started = time.perf_counter()
            figures = self._block()
            self.seconds += time.perf_counter() - started
            if figures:
                if config.evaluate_every and learner.done % config.evaluate_every == 0:
                    figures |= self._evaluate()
                self._log(figures, board)
            if learner.done % config.checkpoint_every == 0 or learner.done == config.updates:
                self._save()
        if board is not None:
            board.close()
        done = learner.done - first
        return TrainReport(
            self.folder, learner.done, len(self.transitions), self.seconds, done / max(self.seconds, 1e-9), self.last
        )

    def _block(self) -> dict[str, float]:
        """Updates up to the next event; the last update's metrics if a log line is due."""
        config, learner = self.config, self.learner
        periods = [config.log_every, config.checkpoint_every, config.evaluate_every or config.log_every]
        until = min([config.updates, *((learner.done // period + 1) * period for period in periods)])
        metrics: dict[str, torch.Tensor] = {}
        while learner.done < until:
            metrics = learner.update(self.transitions.sample(self.batches, config.batch_size))
        due = until == config.updates or until % config.log_every == 0
        if config.evaluate_every:
            due = due or until % config.evaluate_every == 0
        return {name: float(value) for name, value in metrics.items()} if due else {}

    def _log(self, figures: dict[str, float], board: Any) -> None:
        if not all(math.isfinite(value) for value in figures.values()):
            raise LearningError(f"training diverged at update {self.learner.done}: {figures}; lower the learning rate")
        self.last = figures
        row = {"update": self.learner.done, "seconds": round(self.seconds, 3), **figures}
        with self.curve.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        if board is not None:
            for name, value in figures.items():
                board.add_scalar(name, value, self.learner.done)
        if self.progress is not None:
            self.progress(self.learner.done, self.config.updates, figures)

    def _evaluate(self) -> dict[str, float]:
        from sealegs_learning.evaluate import evaluate

        policy = self.learner.policy
        if not policy.task:
            raise LearningError("evaluation while training needs a dataset of one simulated task; use evaluate_every 0")
        result = evaluate(policy, policy.task, self.config.evaluate_episodes, self.config.evaluate_seed)
        return {"success": result.success_rate, "final_progress": result.mean_final_progress}

    def _save(self) -> None:
        tensors = self.learner.tensors() | {"batches.generator": self.batches.get_state()}
        description = {**self.about, "update": self.learner.done, "metrics": {"training": self.last}}
        save_checkpoint(self.folder, {**description, "policy": describe_policy(self.learner.policy)}, tensors)


def read_curve(path: Path) -> list[dict[str, Any]]:
    """Rows of a train.jsonl; a last line that a kill cut off is left out."""
    rows: list[dict[str, Any]] = []
    if not path.is_file():
        return rows
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise LearningError(f"{path}:{number} is not JSON: {error}") from error
    return rows


def _about(config: TrainConfig, data: TrainingData, reward_name: str, transitions: int) -> dict[str, Any]:
    decisive = {name: value for name, value in asdict(config).items() if name not in _NOT_DECISIVE}
    reward = describe_reward(data, reward_name) if config.learner != "bc" else {"name": "none"}
    return {
        "config": json.loads(json.dumps(decisive)),
        "dataset_fingerprint": data.fingerprint,
        "reward": {k: reward[k] for k in ("name", "parquet_sha256", "labels", "held_out_accuracy") if k in reward},
        "transitions": transitions,
        "torch": torch.__version__,
    }


def _resume(config: TrainConfig, about: Mapping[str, Any], learner: Learner, batches: torch.Generator) -> None:
    """Load the state of `config.out`, if there is one, after checking that it is of the same run."""
    from sealegs_learning.files import settled

    folder = settled(config.out / "checkpoint")
    if not folder.exists():
        return
    checkpoint = load_checkpoint(folder)
    for key in ("config", "dataset_fingerprint", "reward"):
        then, now = checkpoint.description.get(key), about[key]
        if then != now:
            if isinstance(then, dict) and isinstance(now, dict):
                differing = sorted(k for k in then.keys() | now.keys() if then.get(k) != now.get(k))
                key = f"{key} ({', '.join(differing)})"
            raise LearningError(f"cannot resume {config.out}: its {key} differs from this run's; start in a new folder")
    learner.load_tensors(checkpoint.tensors, checkpoint.update)
    batches.set_state(checkpoint.tensors["batches.generator"])


def _open(path: Path) -> Any:
    from sealegs_learning.data.dataset import Dataset

    return Dataset.open(path)


def _tensorboard(config: TrainConfig) -> Any:
    if not config.tensorboard:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(config.out / "tensorboard"))  # type: ignore[no-untyped-call]
