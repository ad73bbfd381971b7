"""Pictures of benches, in one style: matplotlib figures that are saved as SVG, the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, ScalarFormatter
from numpy.typing import ArrayLike

from sealegs_learning.files import replaced_file

COLOURS = ("#1767b3", "#c4661f", "#0f8a6c", "#8257b8", "#b03a5b", "#7d8896", "#a08a00", "#3aa6b9")
"""Ours first; the grey for controls is the sixth."""
INK, SOFT, RULE = "#16243a", "#5b6b80", "#d9dfe6"
STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica", "sans-serif"],
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.labelcolor": SOFT,
    "axes.edgecolor": RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "svg.fonttype": "none",
    "svg.hashsalt": "sealegs",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.constrained_layout.h_pad": 0.12,
}


def panels(columns: int = 1, rows: int = 1, width: float = 4.2, height: float = 3.2) -> tuple[Figure, list[Axes]]:
    """A figure of rows x columns panels, each `width` x `height` inches, and the panels row by row."""
    with rc_context(STYLE):
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
    return figure, list(np.ravel(grid))


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name, in order; wraps round after eight."""
    return {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(dict.fromkeys(names))}


def curve(axes: Axes, x: ArrayLike, ys: ArrayLike, label: str, colour: str) -> None:
    """Mean over seeds of `ys` (S, N) at `x` (N,), with the range from the lowest to the highest seed."""
    values = np.atleast_2d(np.asarray(ys, dtype=float))
    axes.plot(x, values.mean(axis=0), color=colour, linewidth=1.8, label=label)
    if len(values) > 1:
        axes.fill_between(np.asarray(x), values.min(axis=0), values.max(axis=0), color=colour, alpha=0.18, linewidth=0)


def bars(
    axes: Axes,
    values: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]] | None = None,
    colour: Mapping[str, str] | None = None,
    unit: str = "",
) -> None:
    """Horizontal bars, one a name, first on top, with their interval and their value written behind."""
    shades, names = colour or colours(list(values)), list(values)
    places = range(len(names))
    axes.barh(places, [values[name] for name in names], color=[shades[name] for name in names], height=0.62)
    for place, name in zip(places, names, strict=True):
        end = max(values[name], 0.0)
        if intervals and name in intervals:
            low, high = intervals[name]
            axes.plot([low, high], [place, place], color=INK, linewidth=1.4)
            end = max(end, high)
        text = f" {short(values[name])}{unit}"
        axes.annotate(text, (end, place), xytext=(3, 0), textcoords="offset points", va="center", color=INK)
    axes.set_yticks(places, names, color=INK)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.18)


def short(value: float) -> str:
    """Three significant digits, without an exponent: `0.25`, `5,510`, `1.2M`."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:.3g}M"
    return f"{value:,.0f}" if abs(value) >= 1000.0 else f"{value:.3g}"


def save_svg(figure: Figure, path: Path) -> None:
    """Write a figure; no date and no random name goes into it."""
    with rc_context(STYLE), replaced_file(path) as temporary:
        for axes in figure.axes:
            _finish(axes)
        figure.savefig(temporary, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})


def _finish(axes: Axes) -> None:
    """Titles and legends are drawn by whoever makes the figure: bring them into the style."""
    title = axes.get_title()
    if title:
        axes.set_title("", loc="center")
        axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")
    for axis in (axes.xaxis, axes.yaxis):
        if isinstance(axis.get_major_formatter(), ScalarFormatter) and max(map(abs, axis.get_view_interval())) >= 1e4:
            axis.set_major_formatter(FuncFormatter(lambda value, place: _thousands(value)))
    legend = axes.get_legend()
    if legend is not None:
        legend.set_frame_on(False)
        for text in legend.get_texts():
            text.set_color(INK)


def _thousands(value: float) -> str:
    """A round number on an axis: `0`, `20k`, `1.5M`."""
    return f"{value / 1e6:g}M" if abs(value) >= 1e6 else f"{value / 1e3:g}k" if value else "0"
