"""Train a policy from a dataset: IQL under a learned, true or constant reward, or behaviour cloning."""

from __future__ import annotations

from collections.abc import Mapping

from sealegs_learning.config import TrainConfig as Config

__all__ = ["Config", "run"]


def run(config: Config) -> int:
    """Train with a progress bar and say where the checkpoint lies."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sealegs_learning.config import check_config
    from sealegs_learning.train import train

    check_config(config)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[figures]}")) as bar:
        task = bar.add_task(_title(config), total=config.updates, figures="")

        def show(update: int, updates: int, figures: Mapping[str, float]) -> None:
            bar.update(task, completed=update, total=updates, figures=_brief(figures))

        report = train(config, show)
    print(
        f"{report.done} {report.unit}s in {report.seconds:.0f} s ({report.per_second:.0f}/s)"
        f"{f', stopped early: {report.stopped}' if report.stopped else ''}; checkpoint: {report.checkpoint}"
    )
    return 0


def _title(config: Config) -> str:
    return "behaviour cloning" if config.learner == "bc" else f"IQL, reward {config.reward}"


def _brief(figures: Mapping[str, float]) -> str:
    shown = [name for name in ("success", "q", "policy_loss") if name in figures]
    return "  ".join(f"{name} {figures[name]:.2f}" for name in shown)
