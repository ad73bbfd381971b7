"""The main job: its stages in order, the run folder, and the page at the end."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from sealegs.demo import learning, robot
from sealegs.demo.context import Context
from sealegs.demo.settings import DemoSettings
from sealegs.demo.stages import StageLog, write_json
from sealegs.demo.summarise import build_summary, now, results
from sealegs.report.page import write_report
from sealegs.report.summary import Summary, write_summary
from sealegs_contract.errors import MachineError, available

STAGES = (
    ("collect", robot.collect),
    ("record over ROS", robot.record),
    ("import", robot.import_bags),
    ("label", learning.label),
    ("reward", learning.reward),
    ("train", learning.train),
    ("evaluate", learning.evaluate),
    ("export and verify", robot.export),
    ("drive over ROS", robot.drive),
)


def new_run(folder: Path, settings: DemoSettings) -> Path:
    """A fresh run folder named by the time, with its settings."""
    run = folder / time.strftime("%Y%m%d-%H%M%S")
    try:
        run.mkdir(parents=True)
    except FileExistsError as error:
        raise MachineError(f"{run} exists already; wait a second and start again") from error
    write_json(run / "settings.json", {"started": now(), "settings": asdict(settings)})
    return run


def find_run(folder: Path, name: str) -> Path:
    """The run to go on with: `last`, or its name or path."""
    runs = sorted(path.parent for path in folder.glob("*/settings.json"))
    if name == "last":
        if not runs:
            raise MachineError(f"no run to resume in {folder}; start one without --resume")
        return runs[-1]
    for path in (Path(name), folder / name):
        if (path / "settings.json").is_file():
            return path
    raise MachineError(f"no run {name!r} in {folder}; {available(run.name for run in runs)}")


def read_settings(run: Path) -> tuple[DemoSettings, str]:
    """Settings and start of a run."""
    try:
        content = json.loads((run / "settings.json").read_text(encoding="utf-8"))
        return DemoSettings(**content["settings"]), str(content["started"])
    except (ValueError, KeyError, TypeError) as error:
        raise MachineError(f"{run / 'settings.json'} is damaged ({error}); start a new run without --resume") from error


def run_job(run: Path, console: Console) -> Summary:
    """Run every stage that is not on record yet; the summary and the page are rewritten after each."""
    settings, started = read_settings(run)
    context = Context(settings, run.resolve(), console)
    log = StageLog(run, lambda name, seconds, old: _announce(console, name, seconds, old))
    for number, (name, work) in enumerate(STAGES, start=1):
        if name not in log.done:
            console.print(f"[bold]{number}/{len(STAGES)} {name}[/bold]")
        log.stage(name, lambda work=work: work(context))  # type: ignore[misc]
        summary = build_summary(context, log, started, complete=number == len(STAGES))
        write_summary(summary, run / "summary.json")
    results(context, summary).write(run / "results.json")
    write_report(summary, run, run / "report.html")
    return summary


def _announce(console: Console, name: str, seconds: float, old: bool) -> None:
    console.print(f"  [dim]{name}: {seconds:.1f} s{' (on record)' if old else ''}[/dim]")


def show(summary: Summary, run: Path, console: Console) -> None:
    """The arms and the claims on the terminal."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"Success over {summary.arms[0].episodes} episodes: {summary.task_text}")
    for column in ("policy", "success", "95% interval"):
        table.add_column(column)
    for arm in summary.arms:
        table.add_row(arm.name, f"{arm.rate:.2f}", f"{arm.interval[0]:.2f} to {arm.interval[1]:.2f}")
    if summary.ros:
        ros = summary.ros
        table.add_row("judge reward, over ROS 2", f"{ros.rate:.2f}", f"{ros.interval[0]:.2f} to {ros.interval[1]:.2f}")
    console.print(table)
    for claim in summary.claims:
        mark = "[green]holds[/green]" if claim.holds else "[red]does not hold[/red]"
        console.print(f"  {mark}: {escape(str(claim))}")
    console.print(f"\nReport: {run / 'report.html'}")
