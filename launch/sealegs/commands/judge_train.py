"""Train the embedded judge in simulation, from true progress."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Config:
    """Options of `sealegs judge train`. A run that was stopped goes on where it stood (see --work)."""

    out: Path
    """Folder for the model (Hugging Face format)."""
    work: Path | None = None
    """Folder for rendered frames and the checkpoint, kept between runs; OUT.work unless given."""
    quick: bool = False
    """Little data and few steps: under a minute, for a first look."""
    episodes: int | None = None
    """Training episodes per task instead of the shipped model's number."""
    steps: int | None = None
    """Updates instead of the shipped model's number."""
    seed: int = 0
    """Seeds episodes, views, weights and batches."""


def run(config: Config) -> int:
    """Render, train, calibrate, save."""
    from dataclasses import replace

    from rich.progress import Progress

    from sealegs.os_errors import require_folder
    from sealegs_learning.judge.training.train import JudgeTrainConfig, quick, train_judge

    for folder in (config.out, config.work or config.out):
        require_folder(folder)
    settings = replace(JudgeTrainConfig(), seed=config.seed)
    settings = quick(settings) if config.quick else settings
    settings = replace(
        settings,
        episodes=config.episodes if config.episodes is not None else settings.episodes,
        steps=config.steps if config.steps is not None else settings.steps,
    )
    work = config.work or config.out.with_name(f"{config.out.name}.work")
    with Progress(transient=True) as progress:
        bars: dict[str, int] = {}

        def on_progress(stage: str, done: int, total: int, text: str) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=total)
            progress.update(bars[stage], completed=done, total=total, description=f"{stage} {text}")  # type: ignore[arg-type]

        result = train_judge(config.out, work, settings, on_progress)
    accuracy = ", ".join(f"{task} {share:.1%}" for task, share in result["tune_accuracy_clearly_apart"].items())
    cpu = result["seconds"]["all_cpu"]
    print(f"wrote {config.out} ({result['parameters'] / 1e6:.2f} M parameters, {cpu:.0f} CPU-seconds)")
    print(f"tuning episodes, pairs more than 0.1 apart: {accuracy}; measure it honestly: sealegs judge evaluate")
    return 0
