"""Runs a bench cell by cell. A cell's row is written when it is done; a rerun skips what is on record."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache, partial
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sealegs.bench import BENCHES, find_bench
from sealegs.bench.frame import Bench, Cell, CellContext, Row
from sealegs.bench.frame import Progress as Advance
from sealegs.bench.options import BenchOptions
from sealegs_contract.errors import LearningError, MachineError
from sealegs_learning.files import write_json
from sealegs_learning.revision import revision


def run_folder(name: str, options: BenchOptions) -> Path:
    """Where a bench's cells are; quick ones apart from full ones."""
    return (options.work / name / ("quick" if options.quick else "full")).resolve()


def check_device_of(name: str, bench: Bench, device: str) -> None:
    """MachineError for a device that the bench has no use for, or that is not here."""
    if device == "cpu":
        return
    if not bench.on_gpu:
        takers = ", ".join(one for one in BENCHES if find_bench(one).on_gpu)
        raise MachineError(
            f"bench {name} takes no --device, got {device!r}: leave it out; benches that take it: {takers}"
        )
    from sealegs_learning.learners.graphed import check_device

    if check_device(device).index is not None:
        raise MachineError(f"device {device!r}: expected cpu or cuda; choose among GPUs with CUDA_VISIBLE_DEVICES")


def run_bench(
    name: str, options: BenchOptions, console: Console, fresh: bool = False, bench: Bench | None = None
) -> list[Row]:
    """Measure every cell that is not on record yet; rows in the order of the bench's cells.

    `bench` stands in for the registered one of this name, in this process only.
    """
    bench_here = bench or find_bench(name)
    check_device_of(name, bench_here, options.device)
    cells = {cell.key: cell for cell in bench_here.cells(options)}
    folder = run_folder(name, options)
    if fresh:
        for key in cells:
            shutil.rmtree(folder / key, ignore_errors=True)
    todo = [key for key in cells if read_row(folder / key) is None]
    console.print(f"{name}: {len(cells)} cells, {len(cells) - len(todo)} on record in {folder}")
    columns = (TextColumn("  {task.description:<36}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        total = progress.add_task("cells", total=len(cells), completed=len(cells) - len(todo))
        for _, stage in groupby(sorted(todo, key=lambda key: cells[key].stage), key=lambda key: cells[key].stage):
            keys = list(stage)
            if options.jobs > 1 and bench is None:
                _run_in_processes(name, keys, options, partial(progress.advance, total))
                continue
            for key in keys:
                bar = progress.add_task(_title(cells[key]), total=None)
                _run_cell(bench_here, key, cells, folder, options, _advance(progress, bar))
                progress.remove_task(bar)
                progress.advance(total)
    return [_known(folder / key) for key in cells]


def read_row(folder: Path) -> Row | None:
    """The row of a finished cell; None where it is not finished."""
    path = folder / "row.json"
    if not path.is_file():
        return None
    try:
        row: Row = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LearningError(f"{path} is damaged ({error}): delete it to measure that cell again") from error
    return row


def _known(folder: Path) -> Row:
    row = read_row(folder)
    if row is None:
        raise LearningError(f"{folder} has no row.json: the cell was not measured")
    return row


def _title(cell: Cell) -> str:
    return f"{cell.arm}, {cell.task}, seed {cell.seed}"


def _advance(progress: Progress, bar: Any) -> Advance:
    return lambda done, total: progress.update(bar, completed=done, total=total)


@cache
def _source() -> dict[str, Any]:
    """The revision that this process runs: what it has loaded stays, whatever is committed meanwhile."""
    return revision()


def _run_cell(
    bench: Bench, key: str, cells: Mapping[str, Cell], runs: Path, options: BenchOptions, advance: Advance
) -> None:
    cell, folder = cells[key], runs / key
    folder.mkdir(parents=True, exist_ok=True)
    source, started = _source(), time.perf_counter()
    values = bench.run_cell(cell, CellContext(options, folder, cells, advance))
    seconds = round(time.perf_counter() - started, 3)
    named = {"arm": cell.arm, "task": cell.task, "seed": cell.seed, "seconds": seconds, "revision": source}
    row = {**named, **values}
    try:
        write_json(folder / "row.json", row)
    except (ValueError, TypeError) as error:
        raise LearningError(f"cell {key}: {error}; a row holds plain JSON and finite numbers") from error


def _run_in_processes(name: str, keys: Sequence[str], options: BenchOptions, done: Callable[[], None]) -> None:
    """One fresh process a cell: no cell sees another's threads, caches or random state."""
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        futures = [pool.submit(_run_apart, name, key, options) for key in keys]
        try:
            for future in as_completed(futures):
                future.result()
                done()
        except BaseException:
            # Not shutdown(wait=False): in Python 3.11 the pool's own thread may still want to replace a worker.
            for future in futures:
                future.cancel()
            raise


def _run_apart(name: str, key: str, options: BenchOptions) -> None:
    bench = find_bench(name)
    cells = {cell.key: cell for cell in bench.cells(options)}
    _run_cell(bench, key, cells, run_folder(name, options), options, lambda done, total: None)
