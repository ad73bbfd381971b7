"""Inject the faults of the catalogue into real nodes, and count what they do: results file and table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Config:
    """Options of `sealegs faults`."""

    rows: Annotated[tuple[int, ...], tyro.conf.Positional] = ()
    """Rows of the catalogue; empty: all that this machine can run."""
    quick: bool = False
    """A few trials of each row; the bounds mean little and are not published."""
    list: bool = False
    """Only show the catalogue."""
    work: Path = Path("runs/bench")
    """Folder of finished rows; a rerun goes on where the last one stopped."""
    publish: Path | None = None
    """After a full run of all rows, also write the results into this documentation folder (results/)."""
    fresh: bool = False
    """Run every row again, whatever is on record."""


def run(config: Config) -> int:
    """0 when all rows were run, whatever came of them."""
    from rich.console import Console

    from sealegs.bench.options import BenchOptions
    from sealegs.bench.publish import publish, show, summed_up, write_results
    from sealegs.bench.runner import run_bench, run_folder
    from sealegs.faults.catalogue import BENCH, chosen
    from sealegs_contract.errors import MachineError

    console = Console()
    options = BenchOptions(quick=config.quick, tasks=tuple(map(str, config.rows)), work=config.work)
    if config.list:
        for fault in chosen(options):
            console.print(f"{fault.row:>3}  {fault.name}: {fault.required}", soft_wrap=True)
        return 0
    if config.publish is not None and (config.quick or config.rows):
        raise MachineError("only a full run of all rows is published: leave out --quick and the rows, or --publish")
    try:
        rows = run_bench("faults", options, console, config.fresh, BENCH)
    except KeyboardInterrupt:
        console.print("\nInterrupted; finished rows are kept. The same command goes on.")
        return 130
    summary = summed_up(BENCH, rows, options)
    command = " ".join(["sealegs faults", *options.tasks, *(["--quick"] if config.quick else [])])
    path = write_results("faults", options, rows, summary, run_folder("faults", options), command)
    show(summary, console)
    console.print(f"wrote {path}")
    if config.publish is not None:
        for written in publish(path, config.publish):
            console.print(f"wrote {written}")
    return 0
