"""What a row of the fault catalogue is, and what its trials gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Trials:
    """What a fault's experiment is given."""

    count: int
    """How often to inject the fault."""
    folder: Path
    """Its own folder: logs, bundles, bags."""
    progress: Progress
    """Tell how far it is: `progress(done, total)`."""


@dataclass(frozen=True)
class Outcome:
    """What came of the trials. A trial fails where what is required was not seen."""

    trials: int
    failures: int
    values: Sequence[float] = ()
    """The figure of every trial, in the fault's unit; empty where the fault has none."""
    notes: Sequence[str] = ()
    """What the reader must know: what was left out, what a failure looked like."""

    def to_json(self) -> dict[str, Any]:
        """A row of the results file."""
        return {
            "trials": self.trials,
            "failures": self.failures,
            "values": [float(value) for value in self.values],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Fault:
    """One row of the catalogue: what is done to the robot's software, and what it must do."""

    row: int
    name: str
    required: str
    trials: int
    """Trials of a full run."""
    quick: int
    """Trials under --quick."""
    run: Callable[[Trials], Outcome] | None = None
    """The experiment; None where this machine cannot run it (see `unverified`)."""
    figure: str = ""
    """What a trial's value is, with its unit: "ms to hold"."""
    target: str = ""
    """What must hold of the largest value: "<= 150"."""
    unverified: str = ""
    """Why there is no experiment, and what is checked in its place."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What decides the outcome beside the number of trials: another value is another measurement."""

    @property
    def title(self) -> str:
        """`7 kill -9 of the policy node in motion`."""
        return f"{self.row} {self.name}"
