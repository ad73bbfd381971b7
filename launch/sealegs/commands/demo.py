"""Run the main job end to end: collect bags, label, learn a reward, train, export, and drive the robot over ROS 2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Config:
    """Options of `sealegs demo`."""

    task: Literal["drawer", "push", "reach"] = "drawer"
    """The task in the simulator."""
    quick: bool = False
    """Three minutes instead of fifteen: every stage runs, the figures mean little."""
    seed: int = 0
    """Seed of the data, the pairs, the batches and the first weights."""
    resume: bool = False
    """Go on with an earlier run; the newest, or the one that --run names."""
    run: str | None = None
    """The run to resume: its name in the runs folder, or its path."""
    runs: Path = Path("runs")
    """Folder of all runs."""
    publish: Path | None = None
    """After a full run, also write results and pictures into this documentation folder (results/, images/)."""


def run(config: Config) -> int:
    """Run or resume; 0 when the run is complete, whatever its claims say."""
    from rich.console import Console

    from sealegs.demo.job import find_run, new_run, run_job, show
    from sealegs.demo.settings import full_settings, quick_settings
    from sealegs_contract.errors import MachineError

    console = Console()
    if config.run is not None and not config.resume:
        raise MachineError("--run names a run to resume: add --resume")
    if config.resume:
        folder = find_run(config.runs, config.run or "last")
        console.print(f"Going on with {folder}")
    else:
        make = quick_settings if config.quick else full_settings
        folder = new_run(config.runs, make(config.task, config.seed))
        console.print(f"Run folder: {folder}  (Ctrl-C loses nothing: `sealegs demo --resume` goes on)")
    try:
        summary = run_job(folder, console)
    except KeyboardInterrupt:
        console.print(f"\nInterrupted. Go on with: sealegs demo --resume --run {folder.name} --runs {config.runs}")
        return 130
    show(summary, folder, console)
    if config.publish is not None:
        from sealegs.demo.publish import publish

        for path in publish(folder, config.publish):
            console.print(f"wrote {path}")
    return 0
