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
    from sealegs.bench.publish import carry_out
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
    command = " ".join(["sealegs faults", *options.tasks, *(["--quick"] if config.quick else [])])
    return carry_out("faults", options, console, config.fresh, config.publish, BENCH, command)
