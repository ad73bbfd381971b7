"""Results file, tables and pictures of a bench: beside its cells, and in the documentation."""

from __future__ import annotations

import shlex
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from sealegs.bench import find_bench
from sealegs.bench.frame import Bench, Row, Summary
from sealegs.bench.options import BenchOptions
from sealegs.bench.plots import save_svg
from sealegs.bench.runner import run_bench, run_folder
from sealegs_contract.errors import MachineError
from sealegs_learning.results import Results

UNKNOWN = "unknown"
"""The revision of rows from before it was recorded."""


def command_of(name: str, options: BenchOptions) -> str:
    """The command line that repeats the run."""
    words = ["sealegs", "bench", name]
    words += ["--quick"] if options.quick else []
    words += ["--seeds", *map(str, options.seeds)] if options.seeds else []
    words += ["--tasks", *options.tasks] if options.tasks else []
    words += ["--device", options.device] if options.device != "cpu" else []
    return shlex.join(words)


def results_name(name: str, options: BenchOptions) -> str:
    """NAME on the CPU, NAME_DEVICE elsewhere: a GPU's results stand beside the CPU's, not in their place."""
    return name if options.device == "cpu" else f"{name}_{options.device}"


def revisions_of(rows: Sequence[Row]) -> dict[str, int]:
    """Number of rows by the revision of the source that measured them."""
    return dict(Counter(_in_words(row.get("revision")) for row in rows))


def _in_words(source: Mapping[str, Any] | None) -> str:
    if source is None:
        return UNKNOWN
    if "commit" not in source:
        return f"version {source['version']}"
    return f"commit {source['commit'][:12]}{' with changes' if source['dirty'] else ''}"


def summed_up(bench: Bench, rows: Sequence[Row], options: BenchOptions) -> Summary:
    """The bench's own summary, and a note where its rows are not all of one known revision."""
    summary, found = bench.summarise(rows, options), revisions_of(rows)
    if len(found) < 2 and UNKNOWN not in found:
        return summary
    listed = ", ".join(f"{words} ({count} of {len(rows)} rows)" for words, count in found.items())
    note = f"Revisions of the source that the rows were measured with: {listed}."
    return replace(summary, notes=[*summary.notes, note])


def write_results(
    name: str, options: BenchOptions, rows: Sequence[Row], summary: Summary, folder: Path, command: str = ""
) -> Path:
    """RESULTS.json and its pictures in `folder`/RESULTS, by `results_name`; the JSON's path.

    `command` repeats the run; by default that of the bench.
    """
    title = results_name(name, options)
    pictures = folder / title
    shutil.rmtree(pictures, ignore_errors=True)
    for plot, figure in summary.plots.items():
        save_svg(figure, pictures / f"{plot}.svg")
    extra = {
        "revisions": revisions_of(rows),
        "notes": list(summary.notes),
        "tables": [asdict(table) for table in summary.tables],
    }
    seconds = round(sum(float(row["seconds"]) for row in rows), 1)
    seeds = sorted({int(row["seed"]) for row in rows})
    path = folder / f"{title}.json"
    Results(title, command or command_of(name, options), seconds, seeds, rows, summary.claims, extra).write(path)
    return path


def carry_out(
    name: str,
    options: BenchOptions,
    console: Console,
    fresh: bool = False,
    docs: Path | None = None,
    bench: Bench | None = None,
    command: str = "",
) -> int:
    """Measure what is missing, write and show the results, publish them to `docs` if given; the exit code.

    `bench` stands in for the registered one of this name, and `command` for its command line.
    """
    try:
        rows = run_bench(name, options, console, fresh, bench)
    except KeyboardInterrupt:
        console.print("\nInterrupted; what is finished is kept. The same command goes on.")
        return 130
    summary = summed_up(bench or find_bench(name), rows, options)
    path = write_results(name, options, rows, summary, run_folder(name, options), command)
    show(summary, console)
    for written in (path, *(publish(path, docs) if docs is not None else ())):
        console.print(f"wrote {written}")
    return 0


def publish(results: Path, docs: Path) -> list[Path]:
    """Copy a results file to docs/results and its pictures to docs/images/bench/NAME; the files written."""
    if not docs.is_dir():
        raise MachineError(f"no folder {docs} to publish to: give the documentation folder of a checkout")
    name = results.stem
    target, images = docs / "results" / results.name, docs / "images" / "bench" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(results, target)
    shutil.rmtree(images, ignore_errors=True)
    pictures = results.parent / name
    if pictures.is_dir():
        shutil.copytree(pictures, images)
    return [target, *sorted(images.glob("*.svg"))]


def show(summary: Summary, console: Console) -> None:
    """Tables and claims on the terminal."""
    from rich.markup import escape
    from rich.table import Table

    for table in summary.tables:
        shown = Table(*table.columns, title=table.title)
        for row in table.rows:
            shown.add_row(*(escape(value) if isinstance(value, str) else f"{value:.4g}" for value in row))
        console.print(shown)
    for claim in summary.claims:
        decided = "[green]holds[/green]" if claim.holds else "[red]does not hold[/red]"
        mark = "[yellow]open[/yellow]" if claim.value is None else decided
        console.print(f"  {mark}: {escape(str(claim))}")
    for note in summary.notes:
        console.print(f"  [dim]{escape(note)}[/dim]")
