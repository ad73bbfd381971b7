"""A sweep: which runs it has, what is still to do, and what came out."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from sealegs.training.jobs import Job
from sealegs.training.runs import run_with_bars, total_of, training_command, units_done
from sealegs_contract.errors import LearningError
from sealegs_contract.robot import load_robot
from sealegs_learning.evaluation.ranking import Metric, Standing, rank
from sealegs_learning.files import replaced_file, settled
from sealegs_learning.results import Results
from sealegs_learning.training.command_line import arguments_of
from sealegs_learning.training.config import TrainConfig, check_config, decisive
from sealegs_learning.training.grid import Setting, expand


@dataclass(frozen=True)
class Table:
    """The ranking, and of every finished run what it came to."""

    metric: Metric
    standings: list[Standing]
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Sweep:
    """A grid around `base`, whose `out` is the sweep's folder."""

    base: TrainConfig
    grid: tuple[str, ...]
    seeds: tuple[int, ...]
    episodes: int
    first_seed: int
    metric: str
    use: str

    @cached_property
    def settings(self) -> list[Setting]:
        """The points of the grid. LearningError on settings that cannot be."""
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise LearningError(f"--seeds needs one or more different seeds, got {list(self.seeds)}")
        if self.use == "best" and not self.base.evaluate_every:
            raise LearningError("--use best needs evaluations while training: set --evaluate-every")
        found = expand(self.base, self.grid)
        for setting in found:
            check_config(replace(setting.config, resume=True))
        return found

    def config(self, setting: Setting, seed: int) -> TrainConfig:
        """The run of a setting with a seed."""
        out = self.base.out / "runs" / setting.folder / f"seed{seed}"
        return replace(setting.config, seed=seed, out=out, resume=True, overwrite=False)

    def policy(self, setting: Setting, seed: int) -> Path:
        """Where its policy lies."""
        return self.config(setting, seed).out / ("best" if self.use == "best" else "checkpoint")

    def run(self, at_once: int) -> dict[str, str]:
        """Train and evaluate what is missing; the runs that failed, with the reason."""
        jobs = [job for setting in self.settings for seed in self.seeds for job in self._job(setting, seed)]
        return run_with_bars(jobs, at_once) if jobs else {}

    def _job(self, setting: Setting, seed: int) -> Iterator[Job]:
        """What is left of a run, if anything is."""
        config, anew = self.config(setting, seed), self.base.overwrite
        commands: list[tuple[str, ...]] = []
        if anew or not is_finished(config):
            commands.append(training_command(replace(config, overwrite=anew)))
        if commands or self.evaluation(setting, seed) is None:
            task = ("--task", config.task) if config.task else ()
            numbers = ("--episodes", str(self.episodes), "--seed", str(self.first_seed))
            commands.append(("evaluate", "--policy", str(self.policy(setting, seed)), *task, *numbers, "--record"))
            name, log = f"{setting.name} seed {seed}", config.out / "run.log"
            yield Job(name, tuple(commands), log, partial(units_done, config.out), total_of(config))

    def evaluation(self, setting: Setting, seed: int) -> dict[str, Any] | None:
        """The recorded evaluation on the sweep's episodes; None where there is none."""
        file = settled(self.policy(setting, seed)) / "evaluation.json"
        if not file.is_file():
            return None
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["evaluation"]
        return found if (found["episodes"], found["seed"]) == (self.episodes, self.first_seed) else None

    def ranking(self) -> Table:
        """All settings whose every seed is trained and evaluated. LearningError where there is none."""
        found = {
            setting.name: {seed: self.evaluation(setting, seed) for seed in self.seeds} for setting in self.settings
        }
        complete = {
            name: {seed: one for seed, one in by_seed.items() if one is not None}
            for name, by_seed in found.items()
            if None not in by_seed.values()
        }
        if not complete:
            raise LearningError(f"no setting has all of its runs; see the logs in {self.base.out / 'runs'}")
        metric = self._metric(next(iter(next(iter(complete.values())).values())))
        outcomes = {
            name: {seed: one["per_episode"][metric] for seed, one in by_seed.items()}
            for name, by_seed in complete.items()
        }
        return Table(metric, rank(outcomes, metric), list(self._rows(complete)))

    def _metric(self, evaluation: dict[str, Any]) -> Metric:
        known: dict[str, Metric] = {"success": "success", "final_progress": "final_progress", "return": "return"}
        if self.metric == "auto":
            return "success" if "success" in evaluation["per_episode"] else "return"
        if self.metric not in evaluation["per_episode"]:
            raise LearningError(f"task {evaluation['task']!r} has no {self.metric}: rank by return")
        return known[self.metric]

    def _rows(self, complete: dict[str, dict[int, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
        for setting in self.settings:
            for seed, evaluation in complete.get(setting.name, {}).items():
                about = _description(self.policy(setting, seed))
                yield {
                    "setting": setting.name,
                    "values": dict(setting.values),
                    "seed": seed,
                    **{key: about[key] for key in ("unit", "update", "seconds", "stopped")},
                    **{key: value for key, value in evaluation.items() if key not in {"per_episode", "seed"}},
                }

    @property
    def command(self) -> str:
        """The command line of this sweep."""
        extra = ["--grid", *self.grid] if self.grid else []
        extra += ["--seeds", *map(str, self.seeds), "--rank-episodes", str(self.episodes)]
        extra += ["--rank-seed", str(self.first_seed), "--rank-by", self.metric, "--use", self.use]
        return shlex.join(["sealegs", "sweep", *arguments_of(self.base, {"resume", "overwrite"}), *extra])


def is_finished(config: TrainConfig) -> bool:
    """Whether the run has come to its end or its early stop, with these settings."""
    folder = settled(config.out / "checkpoint")
    if not (folder / "checkpoint.json").is_file():
        return False
    about = _description(folder)
    if config.robot and about["policy"].get("robot_digest") != load_robot(config.robot).digest:
        return False  # the profile was edited since
    return about["config"] == decisive(config) and (about["update"] >= total_of(config) or bool(about["stopped"]))


def _description(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((settled(folder) / "checkpoint.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise LearningError(
            f"{folder}/checkpoint.json is damaged: {error}; delete {folder} to train it again"
        ) from error
    return found


def write_files(sweep: Sweep, table: Table, seconds: float) -> tuple[Path, Path]:
    """OUT/sweep.json, in the format of the results files but without claims, and OUT/sweep.md."""
    extra = {
        "metric": table.metric,
        "episodes": sweep.episodes,
        "first_episode_seed": sweep.first_seed,
        "grid": list(sweep.grid),
        "ranking": [standing.to_json() for standing in table.standings],
    }
    content, text = sweep.base.out / "sweep.json", sweep.base.out / "sweep.md"
    Results("sweep", sweep.command, seconds, sweep.seeds, table.rows, (), extra).write(content)
    with replaced_file(text) as temporary:
        temporary.write_text(markdown(sweep, table), encoding="utf-8")
    return content, text


def markdown(sweep: Sweep, table: Table) -> str:
    """The ranking for people."""
    head = ("", "setting", f"mean {table.metric}", "95 % interval", "behind the first", "apart")
    lines = [" | ".join(row) for row in [head, ["---"] * len(head), *_cells(table.standings)]]
    over = "seeds (Student)" if len(sweep.seeds) > 1 else "episodes of the one seed, which says nothing of other seeds"
    return (
        f"# Sweep\n\n```\n{sweep.command}\n```\n\n"
        f"{len(sweep.seeds)} seeds, {sweep.episodes} episodes each on the same starts; intervals over {over}.\n"
        "The first was chosen as the best of several, so its figure flatters it: measure it again on other starts "
        "before\nyou believe it.\n\n" + "\n".join(f"| {line} |" for line in lines) + "\n"
    )


def _cells(standings: Sequence[Standing]) -> Iterator[list[str]]:
    for place, one in enumerate(standings, start=1):
        behind = "{:.3g} [{:.3g}, {:.3g}]".format(one.behind, *one.behind_interval) if place > 1 else ""
        yield [
            str(place),
            one.name,
            f"{one.mean:.4g}",
            "{:.4g} to {:.4g}".format(*one.interval),
            behind,
            "yes" if one.apart else "no" if place > 1 else "",
        ]


def show_table(table: Table) -> None:
    """The ranking on the screen."""
    import rich.table
    from rich.console import Console

    shown = rich.table.Table(title=f"ranked by {table.metric}")
    for head in ("", "setting", "mean", "95 % interval", "behind the first", "apart"):
        shown.add_column(head, overflow="fold")
    for cells in _cells(table.standings):
        shown.add_row(*cells)
    Console().print(shown)
