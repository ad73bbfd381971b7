"""What every stage of the demo gets: its numbers, its folders, and a way to show progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sealegs.demo.settings import DemoSettings

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Context:
    """One run. All paths lie inside `run`."""

    settings: DemoSettings
    run: Path
    console: Console
    robot: str = "so101"

    @property
    def bags(self) -> Path:
        """Bags collected without DDS."""
        return self.run / "bags"

    @property
    def live_bags(self) -> Path:
        """Bags recorded by the recorder node."""
        return self.run / "live_bags"

    @property
    def dataset(self) -> Path:
        """All bags as one dataset."""
        return self.run / "dataset"

    @property
    def bundle(self) -> Path:
        """The exported policy."""
        return self.run / "bundle"

    def arm(self, name: str) -> Path:
        """Training folder of an arm."""
        return self.run / "arms" / name

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Bars that stay on the screen when done."""
        columns = (TextColumn("  {task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console) as progress:
            yield progress

    @contextmanager
    def bar(self, description: str) -> Iterator[Advance]:
        """One bar; call it with (done, total)."""
        with self.progress() as progress:
            task = progress.add_task(description, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)
