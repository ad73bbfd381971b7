"""The results file and the plot of `sealegs judge evaluate`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from sealegs_learning.judge.base import Judge
from sealegs_learning.judge.ledger import Ledger
from sealegs_learning.judge.training.evaluate import SUITES, EvaluateConfig, SuiteResult, evaluate_suite, sentence_rows
from sealegs_learning.results import Claim, Results

TARGET = ">= 0.9"


@dataclass(frozen=True)
class Outcome:
    """All answers by mode (how the judge was set), and what is claimed from them."""

    results: Mapping[str, Sequence[SuiteResult]]
    sentences: Sequence[Mapping[str, Any]]
    claims: Sequence[Claim]
    identities: Mapping[str, str]
    config: EvaluateConfig
    seconds: float


def evaluate_judge(
    judges: Mapping[str, Judge],
    suites: Sequence[str],
    tasks: Sequence[str],
    config: EvaluateConfig,
    cache: Path,
    on_block: Callable[[], None] | None = None,
) -> Outcome:
    """Every suite and task for every mode. The first mode carries the claims.

    Answers are kept in a ledger beside `cache`, so a stopped evaluation of a paid judge goes on where it stood.
    """
    started = time.monotonic()
    results: dict[str, list[SuiteResult]] = {mode: [] for mode in judges}
    with Ledger(cache.parent / "ledger.sqlite") as ledger:
        for suite, task in product(suites, tasks):
            for k, (mode, judge) in enumerate(judges.items()):
                hear = on_block if k == 0 else None
                results[mode].append(evaluate_suite(judge, suite, task, config, cache, ledger, hear))
    first_mode, first = next(iter(judges.items()))
    sentences = sentence_rows(first) if "paraphrases" in suites else []
    claims = _claims(results[first_mode])
    identities = {mode: judge.identity for mode, judge in judges.items()}
    return Outcome(results, sentences, claims, identities, config, time.monotonic() - started)


def _claims(results: Sequence[SuiteResult]) -> list[Claim]:
    """The project's promise: at least 0.90 on held-out episodes of every shipped task."""
    return [
        Claim(
            f"held-out episodes, task {r.task}: share of pairs judged right where true progress differs by > 0.1",
            r.answers.clearly_apart.right or 0.0,
            TARGET,
            r.answers.clearly_apart.right_interval,
        )
        for r in results
        if r.suite == "episodes"
    ]


def write_results(outcome: Outcome, name: str, folder: Path) -> Path:
    """Write NAME.json (the results format) and NAME.png; returns the JSON's path."""
    rows = [row for mode, results in outcome.results.items() for r in results for row in r.rows(mode)]
    right = sum(bool(row["right"]) for row in outcome.sentences)
    extra = {
        "judges": dict(outcome.identities),
        "episodes_per_task": outcome.config.episodes,
        "pairs_per_task_and_suite": outcome.config.pairs,
        "sentences_right": right,
        "sentences": [dict(row) for row in outcome.sentences],
        "note": "forced: the judge must decide every pair; shipped: it abstains where it is not sure. Intervals are "
        "95%, bootstrapped over episodes, since pairs share them; never narrower than Wilson's for independent pairs.",
    }
    path = folder / f"{name}.json"
    results = Results(
        name, "sealegs judge evaluate", outcome.seconds, [outcome.config.seed], rows, outcome.claims, extra
    )
    results.write(path)
    draw(outcome, path.with_suffix(".png"))
    return path


def draw(outcome: Outcome, path: Path) -> None:
    """Accuracy by bin of true-progress difference, one panel a suite, one line a task; bars are 95% intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    first = next(iter(outcome.results.values()))
    suites = [suite for suite in SUITES if any(r.suite == suite for r in first)]
    figure = Figure(figsize=(3.4 * len(suites), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for k, suite in enumerate(suites):
        axes = figure.add_subplot(1, len(suites), k + 1)
        for shift, r in enumerate(r for r in first if r.suite == suite):
            bins = [b for b in r.answers.bins if b.labelled]
            middle = [(b.low + b.high) / 2 + 0.012 * (shift - 1) for b in bins]
            share = [b.correct / b.labelled for b in bins]
            below = [s - b.interval.low for s, b in zip(share, bins, strict=True)]
            above = [b.interval.high - s for s, b in zip(share, bins, strict=True)]
            axes.errorbar(middle, share, yerr=[below, above], marker="o", markersize=3, linewidth=1, label=r.task)
        axes.axhline(0.5, color="0.7", linewidth=0.8)
        axes.axhline(0.9, color="0.7", linewidth=0.8, linestyle="--")
        axes.set(title=f"held-out {suite}", xlabel="|difference of true progress|", xlim=(0, 1), ylim=(0.4, 1.01))
        if k == 0:
            axes.set_ylabel("pairs judged right")
            axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
