"""What the command line says to every bench. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BenchOptions:
    """What the command line says to every bench."""

    quick: bool = False
    """Minutes instead of an hour: every arm runs, the figures mean little and are not published."""
    seeds: tuple[int, ...] = ()
    """Seeds to measure; empty: the bench's own."""
    tasks: tuple[str, ...] = ()
    """Tasks to measure; empty: the bench's own."""
    device: str = "cpu"
    """Where learners of ours and of the peers run: cpu or cuda."""
    work: Path = Path("runs/bench")
    """Folder of finished cells; a rerun goes on where the last one stopped."""
    peers: Path | None = None
    """Folder of the peers' virtual environments, one a peer by its name; missing ones are made. Empty: WORK/peers."""
    jobs: int = 1
    """Cells measured at the same time, each in a process of its own. More than one spoils timings."""

    def seeds_or(self, full: Sequence[int], quick: Sequence[int] | None = None) -> tuple[int, ...]:
        """The seeds asked for, or those of the bench: `full`, or `quick` (the first of `full`) under --quick."""
        return self.seeds or tuple((quick or full[:1]) if self.quick else full)

    def tasks_or(self, full: Sequence[str], quick: Sequence[str] | None = None) -> tuple[str, ...]:
        """The tasks asked for, or those of the bench, as `seeds_or`."""
        return self.tasks or tuple((quick or full[:1]) if self.quick else full)

    @property
    def peers_folder(self) -> Path:
        """Where the peers' virtual environments are."""
        return self.peers or self.work / "peers"
