"""Train a policy: IQL or behaviour cloning from a dataset, or PPO in simulation; one seed or several at once."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from sealegs_learning.training.config import TrainConfig

__all__ = ["Config", "run"]


@dataclass(frozen=True)
class Config(TrainConfig):
    """Options of `sealegs train`."""

    seeds: tuple[int, ...] = ()
    """Train one run for each of these seeds, in OUT/seed0 and so on, instead of one with --seed."""
    jobs: int = 2
    """Runs at the same time, each in a process of its own on one thread, where there are several seeds."""
    together: bool = False
    """Train the seeds as one batched model instead (IQL): what fills a GPU."""


def run(config: Config) -> int:
    """Train with live figures, and say where the checkpoint lies."""
    training = TrainConfig(**{field.name: getattr(config, field.name) for field in fields(TrainConfig)})
    if config.seeds:
        return _several(training, config.seeds, config.jobs, config.together)
    return _one(training)


def _one(config: TrainConfig) -> int:
    from sealegs.training.live import LiveTraining
    from sealegs.training.runs import unit_of
    from sealegs_learning.train import train
    from sealegs_learning.training.config import check_config, total_of

    check_config(config)
    with LiveTraining(_title(config), total_of(config), unit_of(config)) as live:
        report = train(config, live)
    speed = f" ({report.per_second:.0f}/s)" if report.per_second else ""
    print(
        f"{report.done} {report.unit}s in {report.seconds:.0f} s{speed}"
        f"{f', stopped early: {report.stopped}' if report.stopped else ''}; checkpoint: {report.checkpoint}"
    )
    return 0


def _several(config: TrainConfig, seeds: tuple[int, ...], jobs: int, together: bool) -> int:
    from sealegs.training.runs import check_none_failed, run_together, run_trainings
    from sealegs_contract.errors import LearningError
    from sealegs_learning.training.config import check_config

    if len(set(seeds)) != len(seeds):
        raise LearningError(f"a seed comes twice in --seeds {' '.join(map(str, seeds))}")
    runs = [replace(config, seed=seed, out=config.out / f"seed{seed}") for seed in seeds]
    for one in runs:
        check_config(one)
    if together:
        check_none_failed(run_together({one.out.name: one for one in runs}), len(runs))
    else:
        run_trainings(runs, jobs)
    print(f"{len(runs)} policies: {', '.join(str(one.out) for one in runs)}")
    return 0


def _title(config: TrainConfig) -> str:
    match config.learner:
        case "bc":
            return "behaviour cloning"
        case "ppo":
            return f"PPO on {config.task}"
        case "unio4":
            return f"offline improvement, reward {config.reward}"
        case _:
            return f"IQL, reward {config.reward}"
