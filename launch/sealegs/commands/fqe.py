"""Estimate from logs alone what policies are worth (fitted Q evaluation), with bootstrap intervals over episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from sealegs_learning.learners.settings import FQESettings, ModelSettings

if TYPE_CHECKING:
    from sealegs_learning.evaluation.policy_value import PolicyValue

LOGS = "logs"
"""Name of the logs' own behaviour in the table and in the file."""


@dataclass(frozen=True)
class Config:
    """Options of `sealegs fqe`."""

    dataset: Path
    """Dataset folder (LeRobot v3 layout)."""
    policy: tyro.conf.UseAppendAction[tuple[Path, ...]]
    """Checkpoint, or the training run that holds it; repeat the option for more policies."""
    reward: str = "true"
    """Name of a reward sidecar, or `true` (simulated progress), or `constant` (the control)."""
    seed: int = 0
    """Seeds networks, resamples and batches."""
    json: Path | None = None
    """Write every figure, also by resample, to this file."""
    fqe: Annotated[FQESettings, tyro.conf.arg(name="")] = field(default_factory=FQESettings)
    model: ModelSettings = field(default_factory=ModelSettings)


def run(config: Config) -> int:
    """Fit, print values and differences from the first policy, and write what was asked for."""
    import torch
    from rich.progress import Progress

    from sealegs.os_errors import require_file
    from sealegs_contract.errors import LearningError
    from sealegs_learning.data.dataset import Dataset
    from sealegs_learning.evaluation.expansion import evaluate_offline
    from sealegs_learning.evaluation.policy_value import check_policy, logged_steps
    from sealegs_learning.files import write_json
    from sealegs_learning.reward.sidecar import read_reward
    from sealegs_learning.training.checkpoint import load_policy

    if not config.policy:
        raise LearningError("no policy to evaluate: give --policy CHECKPOINT, once for each")
    if config.json is not None:
        require_file(config.json)
    torch.set_num_threads(1)
    data = Dataset.open(config.dataset)
    policies = {str(path): load_policy(path) for path in config.policy}
    for name, policy in policies.items():
        check_policy(policy, data, name)
    steps = logged_steps(data, read_reward(data, config.reward).mean)
    with Progress(transient=True) as bar:
        job = bar.add_task(f"FQE of {len(policies)} policies", total=None)
        found = evaluate_offline(
            steps,
            [*policies.values(), None],
            config.fqe,
            config.seed,
            lambda done, total: bar.update(job, completed=done, total=total),
            config.model,
        )
    values = dict(zip([*policies, LOGS], found, strict=True))
    _show(values, config)
    if config.json is not None:
        write_json(config.json, _content(values, config, data.fingerprint))
    return 0


def _show(values: dict[str, PolicyValue], config: Config) -> None:
    from rich.console import Console
    from rich.table import Table

    from sealegs_learning.evaluation.policy_value import difference

    console = Console()
    table = Table("policy", "value", "95% interval", "less the logs'", "95% interval")
    for name, value in values.items():
        more = difference(value, values[LOGS])
        shown = [f"{more.value:+.3f}", _span(more.interval)] if name != LOGS else ["", ""]
        table.add_row(name, f"{value.value:.3f}", _span(value.interval), *shown)
    console.print(table)
    console.print(
        f"Discounted sums (gamma {config.fqe.gamma}) of reward {config.reward!r} from the logged starts on, without "
        "end. The intervals are over resampled episodes; where a policy does what the logs hardly tried, FQE guesses."
    )


def _span(interval: Sequence[float]) -> str:
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]"


def _content(values: dict[str, PolicyValue], config: Config, fingerprint: str) -> dict[str, Any]:
    from dataclasses import asdict

    rows = [
        {"policy": name, "value": v.value, "interval": list(v.interval), "members": list(v.members)}
        for name, v in values.items()
    ]
    return {
        "dataset": str(config.dataset),
        "dataset_fingerprint": fingerprint,
        "reward": config.reward,
        "seed": config.seed,
        "settings": asdict(config.fqe),
        "model": asdict(config.model),
        "values": rows,
    }
