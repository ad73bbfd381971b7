"""Learn a reward from a label set and write it beside the dataset as a sidecar."""

from __future__ import annotations

from sealegs_learning.training.config import RewardConfig as Config

__all__ = ["Config", "run"]


def run(config: Config) -> int:
    """Fit the ensemble with a progress bar, then say how well its order agrees with the labels and the truth."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    from sealegs_learning.reward.learn import learn_reward

    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}")
    ) as bar:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int, figures: dict[str, float]) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, figures="")
            text = f"held-out accuracy {figures['held_out_accuracy']:.3f}" if figures else ""
            bar.update(tasks[stage], completed=done, figures=text)

        report = learn_reward(config, show)
    fit = report.fit
    print(
        f"{report.path}: {report.labels} labels ({report.abstained} abstained), {fit.epochs} epochs, stopped by "
        f"{fit.stopped}; accuracy {fit.train_accuracy:.3f} on {fit.pairs_train} training pairs, "
        f"{fit.held_out_accuracy:.3f} on {fit.pairs_held_out} pairs of held-out episodes"
    )
    if report.order is None:
        print("the task is not simulated, so there is no true progress to compare the order with")
    else:
        figures = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in report.order.items())
        print(f"order against true progress: {figures}")
    return 0
