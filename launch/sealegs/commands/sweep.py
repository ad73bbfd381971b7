"""Train and evaluate a grid of settings with several seeds each, on several processes, and rank them with intervals.

Every run has one torch thread. A killed sweep goes on where it was when started again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from sealegs_learning.training.config import TrainConfig


@dataclass(frozen=True)
class Config(TrainConfig):
    """Options of `sealegs sweep`: those of a training, and what to vary."""

    out: Path = field(kw_only=True)
    """Folder of the sweep: runs/SETTING/seed0 and so on, sweep.json, sweep.md."""
    grid: tuple[str, ...] = ()
    """What to vary: NAME=VALUE,VALUE ..., as `iql.tau=0.7,0.9 hidden=64x64,256x256`; all combinations are run. Commas
    part values, an x the numbers in one: `hidden=16,32` is two networks of one layer, `hidden=16x32` one of two."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds of every setting."""
    jobs: int = 2
    """Runs at the same time, each in a process of its own on one thread."""
    together: bool = False
    """Train all runs as one batched model instead, which fills a GPU: IQL alone, and a grid over learning_rate,
    iql.gamma, iql.tau, iql.beta, iql.advantage_cap or iql.polyak. Evaluations still take --jobs processes."""
    rank_episodes: int = 100
    """Episodes on which every policy is evaluated at the end, from the same starts."""
    rank_seed: int = 2_000_000
    """Seed of the first of them; other starts than those of evaluations while training."""
    rank_by: Literal["auto", "success", "final_progress", "return"] = "auto"
    """What to rank by; auto: success, or the return where a benchmark knows no success."""
    use: Literal["last", "best"] = "last"
    """Rank each run's last policy, or the one of its best evaluation while training."""


def run(config: Config) -> int:
    """Run what is missing, then rank."""
    import time

    from sealegs.training.sweep import Sweep, show_table, write_files
    from sealegs_contract.errors import LearningError

    base = TrainConfig(**{one.name: getattr(config, one.name) for one in fields(TrainConfig)})
    ranked = (config.rank_episodes, config.rank_seed, config.rank_by, config.use)
    sweep = Sweep(base, config.grid, config.seeds, *ranked, config.together)
    started = time.monotonic()
    failed = sweep.run(config.jobs)
    table = sweep.ranking()
    for path in write_files(sweep, table, time.monotonic() - started):
        print(f"wrote {path}")
    show_table(table)
    if failed:
        lines = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise LearningError(f"{len(failed)} runs failed, their settings are not ranked: {lines}")
    return 0
