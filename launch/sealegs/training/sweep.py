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
from sealegs.training.runs import run_together, run_with_bars, training_command, units_done
from sealegs_contract.errors import LearningError
from sealegs_contract.robot import load_robot
from sealegs_learning.evaluation.ranking import Metric, Standing, rank
from sealegs_learning.files import replaced_file, settled
from sealegs_learning.results import Results
from sealegs_learning.training.command_line import arguments_of
from sealegs_learning.training.config import TrainConfig, check_config, decisive, total_of
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
    together: bool = False

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
        failed = self._train_together() if self.together else {}
        jobs = [
            job
            for setting in self.settings
            for seed in self.seeds
            if _name(setting, seed) not in failed
            for job in self._job(setting, seed)
        ]
        return failed | (run_with_bars(jobs, at_once) if jobs else {})

    def _train_together(self) -> dict[str, str]:
        """Train what is missing as one batched model. LearningError where the grid cannot be one."""
        from sealegs_learning.together import check_together

        anew = self.base.overwrite
        runs = {_name(one, seed): self.config(one, seed) for one in self.settings for seed in self.seeds}
        check_together(list(runs.values()))
        missing = {
            name: replace(run, resume=not anew, overwrite=anew)
            for name, run in runs.items()
            if anew or not is_finished(run)
        }
        return run_together(missing) if missing else {}

    def _job(self, setting: Setting, seed: int) -> Iterator[Job]:
        """What is left of a run, if anything is."""
        config, anew = self.config(setting, seed), self.base.overwrite and not self.together
        commands: list[tuple[str, ...]] = []
        if anew or not is_finished(config):
            commands.append(training_command(replace(config, overwrite=anew)))
        if commands or self.evaluation(setting, seed) is None:
            task = ("--task", config.task) if config.task else ()
            numbers = ("--episodes", str(self.episodes), "--seed", str(self.first_seed))
            commands.append(("evaluate", "--policy", str(self.policy(setting, seed)), *task, *numbers, "--record"))
            log = config.out / "run.log"
            yield Job(_name(setting, seed), tuple(commands), log, partial(units_done, config.out), total_of(config))

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
        extra += ["--together"] if self.together else []
        return shlex.join(["sealegs", "sweep", *arguments_of(self.base, {"resume", "overwrite"}), *extra])


def _name(setting: Setting, seed: int) -> str:
    return f"{setting.name} seed {seed}"


def is_finished(config: TrainConfig) -> bool:
    """Whether the run has come to its end or its early stop, with these settings."""
    folder = settled(config.out / "checkpoint")
    if not (folder / "checkpoint.json").is_file():
        return False
    about = _description(folder)
    if config.robot and about["policy"].get("robot_digest") != load_robot(config.robot).digest:
        return False  # the profile was edited since
    if config.init is not None and not config.hidden:
        config = replace(config, hidden=tuple(about["policy"]["hidden"]))  # those of init
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
    return (
        f"# Sweep\n\n```\n{sweep.command}\n```\n\n"
        f"{len(sweep.seeds)} seeds, {sweep.episodes} episodes each on the same starts; "
        f"{_about_intervals(len(sweep.seeds), table.metric)}\n"
        "The first was chosen as the best of several, so its figure flatters it: measure it again on other starts "
        "before\nyou believe it.\n\n" + "\n".join(f"| {line} |" for line in lines) + "\n"
    )


def _about_intervals(seeds: int, metric: Metric) -> str:
    if seeds == 1:
        return "intervals over episodes of the one seed, which says nothing of other seeds."
    if metric == "success":
        return (
            "intervals of success are the hull of\nStudent's over the seeds and Wilson's over all episodes, those of "
            "differences Student's over the seeds."
        )
    return "intervals over seeds (Student)."


def _cells(standings: Sequence[Standing]) -> Iterator[list[str]]:
    for one in standings:
        chosen = one is standings[0]
        behind = "" if chosen else "{:.3g} [{:.3g}, {:.3g}]".format(one.behind, *one.behind_interval)
        yield [
            str(one.place),
            one.name,
            f"{one.mean:.4g}",
            "{:.4g} to {:.4g}".format(*one.interval),
            behind,
            "" if chosen else "yes" if one.apart else "no",
        ]


def show_table(table: Table) -> None:
    """The ranking on the screen."""
    import rich.table
    from rich.console import Console

    seeds = len(table.standings[0].seeds)
    shown = rich.table.Table(title=f"ranked by {table.metric}", caption=_about_intervals(seeds, table.metric))
    for head in ("", "setting", "mean", "95 % interval", "behind the first", "apart"):
        shown.add_column(head, overflow="fold")
    for cells in _cells(table.standings):
        shown.add_row(*cells)
    Console().print(shown)
