"""Training runs as jobs: what is still to do of them, and how far they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sealegs.training.jobs import Job, run_jobs
from sealegs_contract.errors import LearningError
from sealegs_learning.training.command_line import arguments_of
from sealegs_learning.training.config import TrainConfig, is_online, total_of


def unit_of(config: TrainConfig) -> str:
    """What the run counts."""
    return "step" if is_online(config) else "update"


def training_command(config: TrainConfig) -> tuple[str, ...]:
    """The command line that starts the run or goes on with it; with `overwrite` it starts anew."""
    return ("train", *arguments_of(replace(config, resume=not config.overwrite)))


def units_done(out: Path) -> int:
    """How far the run in `out` says it is, by the last whole line of its curve."""
    path = out / "train.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return 0
    for line in reversed(lines):
        try:
            row: dict[str, Any] = json.loads(line)
        except ValueError:
            continue  # the line that is being written
        return int(row.get("update", row.get("step", 0)))
    return 0


def run_trainings(configs: Sequence[TrainConfig], jobs: int) -> None:
    """Train all, `jobs` at a time, with a progress bar each. LearningError naming those that failed."""
    found = [
        Job(c.out.name, (training_command(c),), c.out / "train.log", partial(units_done, c.out), total_of(c))
        for c in configs
    ]
    check_none_failed(run_with_bars(found, jobs), len(found))


def run_together(runs: Mapping[str, TrainConfig]) -> dict[str, str]:
    """Train all, by name, as one batched model, with the first one's figures; those that failed, with the reason."""
    from sealegs.training.live import LiveTraining
    from sealegs_learning.together import train_together

    first = next(iter(runs.values()))
    with LiveTraining(f"{len(runs)} runs as one", total_of(first), unit_of(first)) as live:
        outcomes = train_together(list(runs.values()), live)
    return {name: str(one) for name, one in zip(runs, outcomes, strict=True) if isinstance(one, LearningError)}


def check_none_failed(failed: Mapping[str, str], runs: int) -> None:
    """LearningError naming those that failed."""
    if failed:
        lines = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise LearningError(f"{len(failed)} of {runs} runs failed: {lines}")


def run_with_bars(jobs: Sequence[Job], at_once: int) -> dict[str, str]:
    """`run_jobs` with a progress bar for each that runs and one for all; the failed ones, with the reason."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        whole = progress.add_task(f"{len(jobs)} runs", total=len(jobs))
        bars: dict[str, Any] = {}

        def show(job: Job, done: int) -> None:
            if job.name not in bars:
                bars[job.name] = progress.add_task(job.name, total=job.total)
            progress.update(bars[job.name], completed=done)
            if done >= job.total:
                progress.update(bars[job.name], visible=len(jobs) <= 2 * at_once)
            progress.update(whole, completed=sum(progress.tasks[bar].finished for bar in bars.values()))

        return run_jobs(jobs, at_once, show)
