"""A training on the screen: a progress bar, and under it the figures of the learning curve as they come in.

Where nothing can be drawn (a pipe, a log file), a plain line of the newest figures now and then.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WIDTH = 32
PLAIN_EVERY_S = 10.0
_BARS = "▁▂▃▄▅▆▇█"
_EVALUATED = ("success", "final_progress", "evaluation_return", "return")


def sparkline(values: Sequence[float]) -> str:
    """The values as bars of eight heights between their least and greatest; a constant is a line at the bottom."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in values)


def in_order(names: Sequence[str]) -> list[str]:
    """What is measured in simulation first, then the losses."""
    return sorted(names, key=lambda name: (name not in _EVALUATED, name))


class PlainTraining:
    """Lines for a log: the first figures, the last ones, and every PLAIN_EVERY_S seconds between."""

    def __init__(
        self, title: str, unit: str, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._title, self._unit, self._write, self._clock = title, unit, write, clock
        self._first: tuple[int, float] | None = None
        self._written_at = 0.0
        self._waiting = ""

    def __call__(self, done: int, total: int, figures: Mapping[str, float]) -> None:
        """Take in one log line."""
        now = self._clock()
        first = self._first is None
        begun, started = self._first = self._first or (done, now)
        speed = f", {(done - begun) / (now - started):.0f}/s" if done > begun and now > started else ""
        found = ", ".join(f"{name} {figures[name]:.4g}" for name in in_order(list(figures)))
        self._waiting = f"{self._title}: {done} of {total} {self._unit}s{speed}; {found}"
        if first or done >= total or now - self._written_at >= PLAIN_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Write the newest figures, unless they have been written."""
        if self._waiting:
            self._write(self._waiting)
        self._written_at, self._waiting = self._clock(), ""


class LiveTraining:
    """Context manager; call it as a training's progress: live(done, total, figures)."""

    def __init__(self, title: str, total: int, unit: str, console: Console | None = None) -> None:
        from rich import get_console
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

        console = console or get_console()
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}s"), TextColumn("{task.fields[speed]}"), TimeElapsedColumn(),
            TimeRemainingColumn(), console=console,
        )  # fmt: skip
        self._task = self._bar.add_task(title, total=total, unit=unit, speed="")
        self._curves: dict[str, deque[float]] = {}
        self._extremes: dict[str, tuple[float, float]] = {}
        self._live = Live(self._bar, console=console, refresh_per_second=4)
        # rich draws a bar into a pipe once, at the end and without a newline: what comes next would be glued to it.
        print_line = partial(console.print, markup=False, highlight=False, soft_wrap=True)
        self._plain = None if console.is_interactive else PlainTraining(title, unit, print_line)

    def __enter__(self) -> LiveTraining:
        if self._plain is None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._plain is not None:
            self._plain.flush()
            return
        # An error stands alone, and so does the news that all was done before: no empty bar.
        self._live.transient = not self._curves
        self._live.stop()

    def __call__(self, done: int, total: int, figures: Mapping[str, float]) -> None:
        """Take in one log line."""
        if self._plain is not None:
            self._plain(done, total, figures)
            return
        for name, value in figures.items():
            self._curves.setdefault(name, deque(maxlen=WIDTH)).append(value)
            low, high = self._extremes.get(name, (value, value))
            self._extremes[name] = min(low, value), max(high, value)
        speed = self._bar.tasks[self._task].speed
        self._bar.update(self._task, completed=done, total=total, speed=f"{speed:.0f}/s" if speed else "")
        self._live.update(self.renderable())

    def renderable(self) -> RenderableType:
        """Bar and table."""
        from rich.console import Group
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0))
        for head in ("figure", "now", "lowest", "highest", f"last {WIDTH}"):
            table.add_column(head, justify="left" if head in {"figure", f"last {WIDTH}"} else "right")
        for name in in_order(list(self._curves)):
            low, high = self._extremes[name]
            curve = self._curves[name]
            table.add_row(name, f"{curve[-1]:.4g}", f"{low:.4g}", f"{high:.4g}", sparkline(curve))
        return Group(self._bar, table)
