"""Ask a judge for preferences on pairs of frames of a dataset."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from sealegs_learning.judge.make import JudgeKind, JudgeOptions


@dataclass(frozen=True)
class Config:
    """Options of `sealegs label`. A run that was stopped goes on where it stood: answers are kept in the ledger."""

    dataset: Path
    """Dataset folder (LeRobot v3 layout)."""
    judge: JudgeKind = "embedded"
    """embedded: shipped, for the simulated tasks; transformers: a model on this machine; endpoint: an OpenAI-compatible
    server; oracle: true progress, for tests."""
    name: str = "default"
    """Name of the label set: DATASET/labels/NAME.parquet and NAME.json."""
    pairs: int = 2000
    """Pairs of frames to ask about."""
    camera: str = "front"
    """Camera whose images the judge sees."""
    seed: int = 0
    """Seeds the choice of pairs."""
    within: float = 0.5
    """Share of the pairs that lie inside one episode."""
    max_abstentions: int = 200
    """Stop after so many answers in a row without a preference."""
    retry: tuple[str, ...] = ()
    """Ask stored answers of these kinds again: tie, refusal, malformed."""
    ledger: Path | None = None
    """Ledger to use instead of DATASET/labels/ledger.sqlite, for example one shared by several datasets."""
    options: Annotated[JudgeOptions, tyro.conf.arg(name="")] = field(default_factory=JudgeOptions)


def run(config: Config) -> int:
    """Label, then say how many pairs got a label and, where truth is known, how many labels are right."""
    from rich.progress import Progress

    from sealegs_learning.data.dataset import Dataset
    from sealegs_learning.judge.label import LabelOptions, label_dataset
    from sealegs_learning.judge.make import make_judge

    dataset = Dataset.open(config.dataset)
    judge = make_judge(config.judge, config.options, dataset)
    options = LabelOptions(
        config.name,
        config.camera,
        config.pairs,
        config.seed,
        config.within,
        config.max_abstentions,
        config.retry,
    )
    with Progress(transient=True) as progress:
        bar = progress.add_task(f"asking {judge.identity}", total=config.pairs)
        result = label_dataset(
            dataset,
            judge,
            options,
            judge_config={"kind": config.judge, **asdict(config.options)},
            ledger_path=config.ledger,
            on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    print(f"wrote {result.path}: {summary(result.report)}")
    return 0


def summary(report: Any) -> str:
    """One line: counts, cost, and accuracy where it is known."""
    counts = ", ".join(
        f"{number} {'labels' if name == 'ok' else name}" for name, number in sorted(report["counts"].items())
    )
    text = f"{report['pairs']} pairs ({counts}) in {report['seconds']:.1f} s"
    if report["ledger_totals"]["cost_usd"]:
        text += f", {report['ledger_totals']['cost_usd']:.4f} USD by this judge so far"
    if report["accuracy"] and report["accuracy"]["clearly_apart"]["labelled"]:
        apart = report["accuracy"]["clearly_apart"]
        low, high = apart["interval"]
        text += f"; {apart['accuracy']:.1%} [{low:.1%}, {high:.1%}] of the labels right where progress differs by > 0.1"
    return text
