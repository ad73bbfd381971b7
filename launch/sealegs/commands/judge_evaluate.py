"""Measure a judge against true progress, on held-out simulated episodes, cameras and sentences."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sealegs_learning.judge.make import JudgeOptions


@dataclass(frozen=True)
class Config:
    """Options of `sealegs judge evaluate`."""

    judge: Literal["embedded", "transformers", "endpoint"] = "embedded"
    """Which judge. The others cost money or minutes: choose --pairs with care. Answers go to WORK/ledger.sqlite."""
    out: Path = Path("judge_results")
    """Folder for NAME.json and NAME.png."""
    name: str = "embedded_judge"
    """Name of the results."""
    work: Path = Path("judge_work")
    """Folder for rendered frames and the ledger, kept between runs."""
    episodes: int = 120
    """Held-out episodes per task."""
    pairs: int = 4000
    """Pairs per task and suite."""
    suites: tuple[str, ...] = ("episodes", "looks", "cameras", "paraphrases")
    """What is held out: episodes; also light and colours (looks); also the camera; also the sentence."""
    tasks: tuple[str, ...] = ("reach", "push", "drawer")
    """Tasks to measure."""
    seed: int = 0
    """Seeds the held-out episodes, their views and the pairs."""
    card: Path | None = None
    """Also write README.md (the model card) into this folder of an embedded model, with the figures measured here."""
    options: Annotated[JudgeOptions, tyro.conf.arg(name="")] = field(default_factory=JudgeOptions)


def run(config: Config) -> int:
    """Evaluate every suite and task, write the results file and the plot, print the claims."""

    from rich.progress import Progress

    from sealegs.os_errors import require_folder
    from sealegs_learning.judge.make import make_judge
    from sealegs_learning.judge.training.card import write_card
    from sealegs_learning.judge.training.evaluate import EvaluateConfig, blocks
    from sealegs_learning.judge.training.results import evaluate_judge, write_results

    for folder in (config.out, config.work):
        require_folder(folder)
    settings = EvaluateConfig(config.episodes, pairs=config.pairs, seed=config.seed)
    judges = {"shipped": make_judge(config.judge, config.options)}
    if config.judge == "embedded":
        from sealegs_learning.judge.embedded_judge import EmbeddedJudge

        judges = {"forced": EmbeddedJudge(config.options.model, minimum_confidence=0.5), **judges}
    with Progress(transient=True) as progress:
        total = blocks(settings) * len(config.suites) * len(config.tasks)
        bar = progress.add_task("held-out episodes", total=total)
        outcome = evaluate_judge(
            judges, config.suites, config.tasks, settings, config.work / "frames", lambda: progress.advance(bar)
        )
    path = write_results(outcome, config.name, config.out)
    for claim in outcome.claims:
        print(f"{'holds' if claim.holds else 'FAILS'}: {claim}")
    print(f"wrote {path} and {path.with_suffix('.png')}")
    if config.card is not None:
        print(f"wrote {write_card(config.card, path)}")
    return 0
