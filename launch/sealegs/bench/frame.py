"""What a bench is: cells (arm x task x seed), a function that measures one, and a function that sums all up.

    BENCH = Bench(cells, run_cell, summarise)

`sealegs.bench.runner` does the rest: order, resumption, progress, results file, pictures.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sealegs.bench.options import BenchOptions
from sealegs_contract.errors import LearningError, available
from sealegs_learning.results import Claim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
"""A measured cell: arm, task, seed, seconds, revision (of the source that measured it; older rows have none), and
whatever `run_cell` returned: plain JSON, finite numbers."""

Progress = Callable[[int, int], None]
"""(done, total) of the cell that runs now."""


@dataclass(frozen=True)
class Cell:
    """One measurement. All that decides its outcome is in it: another value of `settings` is another cell."""

    arm: str
    """What is compared: a learner, a library, a setting."""
    task: str = "all"
    """What it is measured on."""
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Plain JSON: steps, sizes, fixed settings."""
    stage: int = 0
    """All cells of a lower stage are done before one of a higher starts: data before what learns from it."""

    @property
    def key(self) -> str:
        """Name of its folder, from all of its values but `stage`."""
        values = {name: value for name, value in asdict(self).items() if name != "stage"}
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
        words = re.sub(r"[^\w.+-]+", "_", f"{self.arm}-{self.task}-{self.seed}")
        return f"{words}-{digest}"


@dataclass(frozen=True)
class CellContext:
    """What a cell is given to work with."""

    options: BenchOptions
    folder: Path
    """The cell's own folder: checkpoints, data. It survives a kill, so that training can go on in it."""
    cells: Mapping[str, Cell]
    """All cells of the run by key."""
    progress: Progress
    """Tell how far the cell is: `progress(done, total)`."""

    def folder_of(self, arm: str, task: str, seed: int) -> Path:
        """Folder of another cell of the run, of an earlier stage. LearningError where there is none."""
        found = [key for key, cell in self.cells.items() if (cell.arm, cell.task, cell.seed) == (arm, task, seed)]
        if len(found) != 1:
            raise LearningError(f"{len(found)} cells are {(arm, task, seed)}; {available(self.cells)}")
        return self.folder.parent / found[0]

    def row_of(self, arm: str, task: str, seed: int) -> Row:
        """What that cell measured."""
        row: Row = json.loads((self.folder_of(arm, task, seed) / "row.json").read_text(encoding="utf-8"))
        return row


@dataclass(frozen=True)
class Table:
    """A table for the results page; floats are shown with three significant digits."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | int]]


@dataclass(frozen=True)
class Summary:
    """What the rows say."""

    claims: Sequence[Claim]
    plots: Mapping[str, Figure] = field(default_factory=dict)
    """SVG pictures by name, made with `sealegs.bench.plots`."""
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    """Sentences for the results page: what was compared, what is to be kept in mind, null results."""


@dataclass(frozen=True)
class Bench:
    """One bench. `cells` lists what to measure, `run_cell` measures one, `summarise` gets all rows in that order."""

    cells: Callable[[BenchOptions], Sequence[Cell]]
    run_cell: Callable[[Cell, CellContext], Mapping[str, Any]]
    summarise: Callable[[Sequence[Row], BenchOptions], Summary]
    on_gpu: bool = False
    """Whether cells run on `options.device`, and have it in their settings where it is not cpu. Others refuse it."""
