"""The fault catalogue as a bench: a cell a row, resumable; a claim for what is required, and one for each figure."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from sealegs.bench.frame import Bench, Cell, CellContext, Row, Summary, Table
from sealegs.bench.options import BenchOptions
from sealegs.faults.frame import Fault, Trials
from sealegs_contract.errors import MachineError, available
from sealegs_learning.results import Claim
from sealegs_learning.statistics import Interval, wilson_interval

MODULES = (
    "bundle_bombs",
    "bundle_files",
    "bundle_graphs",
    "checkpoints",
    "data",
    "exports",
    "guarding",
    "inputs",
    "labelling",
    "network",
    "processes",
    "recording",
    "relays",
    "simulation",
    "streams",
    "training",
)
"""Where the rows are: modules of `sealegs.faults.rows`, each with its FAULTS."""
COLUMNS = ("#", "fault", "required", "trials", "failures", "rate below", "figure", "p50", "p99", "max")


@cache
def faults() -> dict[int, Fault]:
    """All rows by number, in order."""
    found = [fault for name in MODULES for fault in importlib.import_module(f"sealegs.faults.rows.{name}").FAULTS]
    return {fault.row: fault for fault in sorted(found, key=lambda fault: fault.row)}


def chosen(options: BenchOptions) -> list[Fault]:
    """The rows asked for by number (`options.tasks`), or all. MachineError naming those there are."""
    rows = faults()
    unknown = [name for name in options.tasks if name not in map(str, rows)]
    if unknown:
        raise MachineError(f"no row {', '.join(unknown)} in the catalogue; {available(map(str, rows))}")
    return [fault for row, fault in rows.items() if not options.tasks or str(row) in options.tasks]


def cells(options: BenchOptions) -> list[Cell]:
    """A cell for every row that this machine can run."""
    return [
        Cell(fault.title, settings={"trials": fault.quick if options.quick else fault.trials, **fault.settings})
        for fault in chosen(options)
        if fault.run is not None
    ]


def run_cell(cell: Cell, context: CellContext) -> Mapping[str, Any]:
    """The row's trials."""
    fault = faults()[int(cell.arm.split(" ", 1)[0])]
    if fault.run is None:
        raise MachineError(f"row {fault.row} has no experiment: {fault.unverified}")
    return fault.run(Trials(int(cell.settings["trials"]), context.folder, context.progress)).to_json()


def failure_bound(failures: int, trials: int) -> float:
    """Upper end of the 95% interval of the failure rate: 3/n where none failed (the rule of three), else Wilson's."""
    return min(1.0, 3.0 / trials) if not failures else wilson_interval(failures, trials).high


def summarise(rows: Sequence[Row], options: BenchOptions) -> Summary:
    """Claims and the table of the catalogue; rows that cannot run here say so."""
    measured = {int(row["arm"].split(" ", 1)[0]): row for row in rows}
    claims: list[Claim] = []
    lines: list[tuple[str | float | int, ...]] = []
    notes = []
    for fault in chosen(options):
        if fault.run is None:
            claims.append(Claim(f"{fault.title}: not verified at run time ({fault.unverified})", None, "== 0"))
            lines.append((fault.row, fault.name, fault.required, "not verified at run time", *["-"] * 6))
            continue
        row = measured[fault.row]
        claims += _claims(fault, row)
        lines.append(_line(fault, row))
        notes += [f"{fault.title}: {note}" for note in row["notes"]]
    table = Table("The fault catalogue", COLUMNS, lines)
    return Summary(claims, {}, [table], [*notes, "With no failure in n trials the failure rate is below 3/n (95%)."])


def _claims(fault: Fault, row: Row) -> list[Claim]:
    failures, trials = int(row["failures"]), int(row["trials"])
    bound = Interval(0.0, failure_bound(failures, trials))
    about = f"{fault.title}: trials without what is required ({fault.required})"
    found = [Claim(about, failures / trials, "== 0", bound)]
    if fault.target:
        largest = max(row["values"]) if row["values"] else None
        found.append(Claim(f"{fault.title}: {fault.figure}, the largest of {trials}", largest, fault.target))
    return found


def _line(fault: Fault, row: Row) -> tuple[str | float | int, ...]:
    failures, trials, values = int(row["failures"]), int(row["trials"]), row["values"]
    shown: list[str | float] = ["-"] * 3
    if values:
        shown = [float(value) for value in (*np.percentile(values, [50, 99]), max(values))]
    bound = failure_bound(failures, trials)
    return fault.row, fault.name, fault.required, trials, failures, bound, fault.figure or "-", *shown


BENCH = Bench(cells, run_cell, summarise)
