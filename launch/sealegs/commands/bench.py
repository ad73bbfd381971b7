"""Measure one of the benches, resumably: results file, claims and pictures. Without a name, list them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from sealegs.bench.options import BenchOptions


@dataclass(frozen=True)
class Config:
    """Options of `sealegs bench`."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """Which bench; empty: list them."""
    publish: Path | None = None
    """After a full run, also write results and pictures into this documentation folder (results/, images/bench/)."""
    fresh: bool = False
    """Measure every cell again, whatever is on record."""
    options: Annotated[BenchOptions, tyro.conf.arg(name="")] = field(default_factory=BenchOptions)


def run(config: Config) -> int:
    """Run what is missing and write the results; 0 when all is measured, whatever the claims say."""
    from rich.console import Console

    from sealegs.bench import BENCHES, find_bench
    from sealegs_contract.errors import MachineError

    console = Console()
    if not config.name:
        width = max(map(len, BENCHES), default=0)
        print("\n".join(f"{name:<{width}}  {summary}" for name, (_, summary) in BENCHES.items()))
        return 0
    if config.publish is not None and config.options.quick:
        raise MachineError("a quick run's figures mean little and are not published: leave out --quick or --publish")
    find_bench(config.name)

    from sealegs.bench.publish import carry_out

    return carry_out(config.name, config.options, console, config.fresh, config.publish)
