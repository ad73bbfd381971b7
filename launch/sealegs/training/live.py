"""A training on the screen: a progress bar, and under it the figures of the learning curve as they come in."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WIDTH = 32
_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float]) -> str:
    """The values as bars of eight heights between their least and greatest; a constant is a line at the bottom."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in values)


class LiveTraining:
    """Context manager; call it as a training's progress: live(done, total, figures)."""

    def __init__(self, title: str, total: int, unit: str, console: Console | None = None) -> None:
        from rich.live import Live
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}s"), TextColumn("{task.fields[speed]}"), TimeElapsedColumn(),
            TimeRemainingColumn(), console=console,
        )  # fmt: skip
        self._task = self._bar.add_task(title, total=total, unit=unit, speed="")
        self._curves: dict[str, deque[float]] = {}
        self._extremes: dict[str, tuple[float, float]] = {}
        self._live = Live(self._bar, console=console, refresh_per_second=4)

    def __enter__(self) -> LiveTraining:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.transient = error is not None and not self._curves  # an error stands alone, without an empty bar
        self._live.stop()

    def __call__(self, done: int, total: int, figures: Mapping[str, float]) -> None:
        """Take in one log line."""
        for name, value in figures.items():
            self._curves.setdefault(name, deque(maxlen=WIDTH)).append(value)
            low, high = self._extremes.get(name, (value, value))
            self._extremes[name] = min(low, value), max(high, value)
        speed = self._bar.tasks[self._task].speed
        self._bar.update(self._task, completed=done, total=total, speed=f"{speed:.0f}/s" if speed else "")
        self._live.update(self.renderable())

    def renderable(self) -> RenderableType:
        """Bar and table: what is measured in simulation first, then the losses."""
        from rich.console import Group
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0))
        for head in ("figure", "now", "lowest", "highest", f"last {WIDTH}"):
            table.add_column(head, justify="left" if head in {"figure", f"last {WIDTH}"} else "right")
        evaluated = ("success", "final_progress", "evaluation_return", "return")
        for name in sorted(self._curves, key=lambda name: (name not in evaluated, name)):
            low, high = self._extremes[name]
            curve = self._curves[name]
            table.add_row(name, f"{curve[-1]:.4g}", f"{low:.4g}", f"{high:.4g}", sparkline(curve))
        return Group(self._bar, table)
