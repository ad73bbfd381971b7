"""Off-policy value of a bundle on the bags that it was replayed on: FQE, against the recorded behaviour's own value.

Rewards are those of the bags: a sidecar of a dataset that was imported from them, the progress of a simulated task, or
the episodes' outcomes. Without any of them nothing is measured, and the note says why.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sealegs_contract.errors import DatasetError, SealegsError
from sealegs_contract.temporal import TemporalSpec
from sealegs_deploy.bundle import VerifiedBundle
from sealegs_deploy.gate_findings import ValueFigures
from sealegs_deploy.runtime import PolicyRuntime
from sealegs_learning.evaluation.expansion import evaluate_offline
from sealegs_learning.evaluation.policy_value import PolicyValue, difference, logged_steps
from sealegs_learning.learners.settings import FQESettings, ModelSettings

if TYPE_CHECKING:
    from sealegs_learning.data.dataset import Dataset

Progress = Callable[[int, int], None]
OUTCOMES = "outcomes"


@dataclass(frozen=True)
class ValueSettings:
    """How the off-policy value is fitted: smaller than `sealegs fqe`, as the gate only asks whether it is worse."""

    fqe: FQESettings = field(default_factory=lambda: FQESettings(updates=2_000))
    model: ModelSettings = field(default_factory=lambda: ModelSettings(steps=200, updates=1_500, starts=100))


@dataclass(frozen=True)
class Rewards:
    """Row rewards (N,), rows in which an episode ended for good (N,) or None, and where they come from."""

    name: str
    reward: NDArray[np.float32]
    terminal: NDArray[np.bool_] | None = None


class BundlePolicy(nn.Module):
    """A bundle's graph as a policy of learning: raw observations (N, D) to actions (N, J) in [-1, 1]."""

    def __init__(self, bundle: VerifiedBundle, runtime: PolicyRuntime | None = None) -> None:
        super().__init__()
        self._runtime = runtime or PolicyRuntime(bundle)
        self._to_action = bundle.manifest.action.to_action

    def forward(self, observation: Tensor) -> Tensor:
        """Actions (N, J)."""
        output = self._runtime.infer_batch(np.ascontiguousarray(observation.numpy(), dtype=np.float32))
        return torch.from_numpy(self._to_action(output).astype(np.float32))


def measure_value(
    bundle: VerifiedBundle,
    bags: Sequence[Path],
    dataset: Path | None = None,
    reward: str = "",
    settings: ValueSettings | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[ValueFigures | None, str]:
    """The value of the bundle and of the record, or None and why it was not measured."""
    from sealegs_learning.data.dataset import Dataset
    from sealegs_learning.data.importer import ImportOptions, import_bags

    manifest = bundle.manifest
    if manifest.temporal != TemporalSpec() or manifest.observation.images:
        return None, "not measured: FQE has no states with images, frames of the past or chunks"
    with tempfile.TemporaryDirectory(prefix="sealegs-gate-") as folder:
        try:
            if dataset is None:
                out = Path(folder) / "dataset"
                import_bags(bags, out, ImportOptions(cameras=()))
                data = Dataset.open(out)
            else:
                data = Dataset.open(dataset)
                _check_source(data, bags)
            if data.observation_spec.fields != manifest.observation.fields or data.action_spec != manifest.action:
                return None, "not measured: the bags give other observations or actions than the bundle's"
            found = rewards_of(data, reward)
        except SealegsError as error:
            if reward or dataset is not None:
                raise
            return None, f"not measured: {error}"
        if found is None:
            return None, "not measured: the bags carry no reward (no simulated task, no success beside a failure)"
        return _values(bundle, data, found, settings or ValueSettings(), seed, progress), ""


def rewards_of(data: Dataset, name: str) -> Rewards | None:
    """The named sidecar or built-in reward; without a name, simulated progress, else outcomes, else None."""
    from sealegs_learning.reward.sidecar import read_reward
    from sealegs_sim.tasks import TASKS

    if name and name != OUTCOMES:
        return Rewards(name, read_reward(data, name).mean)
    if not name and all(episode.task in TASKS for episode in data.episodes):
        return Rewards("true", read_reward(data, "true").mean)
    return outcome_rewards(data)


def outcome_rewards(data: Dataset) -> Rewards | None:
    """1 in the last row of a success, which ends an episode for good as a failure does; None without both kinds."""
    reward = np.zeros(len(data.state), dtype=np.float32)
    terminal = np.zeros(len(data.state), dtype=bool)
    kinds = {episode.outcome for episode in data.episodes}
    if not {"success"} < kinds & {"success", "failure", "aborted"}:
        return None
    for episode in data.episodes:
        last = episode.start + episode.length - 1
        terminal[last] = episode.outcome in {"success", "failure", "aborted"}
        reward[last] = float(episode.outcome == "success")
    return Rewards(OUTCOMES, reward, terminal)


def _check_source(data: Dataset, bags: Sequence[Path]) -> None:
    """The dataset must hold these very bags, or its rewards would be another recording's."""
    from sealegs_learning.data.bag import Bag

    sources = {source.sha256 for source in data.sealegs.sources} if data.sealegs else set()
    strangers = [path.name for path in bags if Bag(path).sha256() not in sources]
    if strangers:
        raise DatasetError(f"{data.path} was not imported from {', '.join(strangers[:3])}; give --bags that it has")


def _values(
    bundle: VerifiedBundle, data: Dataset, found: Rewards, settings: ValueSettings, seed: int, progress: Progress | None
) -> ValueFigures:
    torch.set_num_threads(1)
    steps = logged_steps(data, found.reward, found.terminal)
    policy, record = evaluate_offline(steps, [BundlePolicy(bundle), None], settings.fqe, seed, progress, settings.model)
    return value_figures(found.name, policy, record)


def value_figures(reward: str, policy: PolicyValue, record: PolicyValue) -> ValueFigures:
    """Both values and their difference, paired by resample."""
    gain = difference(policy, record)
    return ValueFigures(
        reward=reward,
        policy=policy.value,
        policy_interval=(policy.interval[0], policy.interval[1]),
        record=record.value,
        record_interval=(record.interval[0], record.interval[1]),
        gain=gain.value,
        gain_interval=(gain.interval[0], gain.interval[1]),
    )
