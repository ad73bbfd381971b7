"""Small pure functions that draw: numbers in, SVG text out. Lengths are in px of the drawing's own width.

Colours are CSS classes (`s1`..`s6` for series, `ink`, `soft`, `rule`), so one drawing serves light and dark pages.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]
MARGIN = 12.0

STANDALONE_STYLE = """
svg{--ink:#16243a;--soft:#5b6b80;--rule:#d9dfe6;--paper:#fff;
--s1:#1767b3;--s2:#0f8a6c;--s3:#7d8896;--s4:#c4661f;--s5:#8257b8;--s6:#b03a5b}
@media(prefers-color-scheme:dark){svg{--ink:#e7edf5;--soft:#9fb0c3;--rule:#33445a;--paper:#101a28;
--s1:#6fb2f2;--s2:#4fcfae;--s3:#a3afbd;--s4:#f0a067;--s5:#bd9cec;--s6:#f08aa6}}
"""
MARK_STYLE = """
svg text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:var(--soft);
font-variant-numeric:tabular-nums}
svg text.ink{fill:var(--ink)}svg text.bold{font-weight:600}svg text.end{text-anchor:end}svg text.mid{text-anchor:middle}
svg .grid{stroke:var(--rule);stroke-width:1;fill:none}svg .axis{stroke:var(--soft);stroke-width:1;fill:none}
svg .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}svg .band{opacity:.22;stroke:none}
svg .whisker{stroke:var(--ink);stroke-width:1.5;fill:none}
svg .mark{stroke:var(--ink);stroke-width:1;stroke-dasharray:4 3}
""" + "".join(
    f"svg .s{k}{{fill:var(--s{k});stroke:none}}svg .line.s{k}{{fill:none;stroke:var(--s{k})}}" for k in range(1, 7)
)


@dataclass(frozen=True, slots=True)
class Scale:
    """Map from [low, high] in data to [start, end] in px; linear, or `logarithmic` for positive data."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Where `value` lies, px."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int) -> tuple[float, ...]:
        """Round values inside the scale: about `most`, or 1, 2, 5 times powers of ten."""
        return decade_ticks(self.low, self.high) if self.logarithmic else nice_ticks(self.low, self.high, most)


@dataclass(frozen=True, slots=True)
class Panel:
    """A plotting area: `x` grows to the right, `y` upwards (its `start` is the lower edge)."""

    x: Scale
    y: Scale


def coordinate(value: float) -> str:
    """Tenths of a px: `12`, `12.5`."""
    rounded = f"{value:.1f}".removesuffix(".0")
    return "0" if rounded == "-0" else rounded


def short_number(value: float) -> str:
    """Three significant digits; thousands as k, millions as M: `0.25`, `20k`, `1.5M`."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= 10.0 * size or (abs(value) >= size and value % (size / 10.0) == 0.0):
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def nice_ticks(low: float, high: float, most: int = 5) -> tuple[float, ...]:
    """At most `most` + 1 multiples of 1, 2, 2.5 or 5 times a power of ten inside [low, high]."""
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0, 20.0) if span / (power * factor) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(k * step for k in range(first, last + 1))


def decade_ticks(low: float, high: float) -> tuple[float, ...]:
    """1, 2 and 5 times powers of ten inside [low, high]; beyond two decades the powers of ten alone."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1.0, 2.0, 5.0) if high / low <= 100.0 else (1.0,)
    return tuple(
        f * 10.0**k for k in powers for f in factors if low * (1.0 - 1e-9) <= f * 10.0**k <= high * (1.0 + 1e-9)
    )


def padded_range(values: Iterable[float], share: float = 0.06) -> tuple[float, float]:
    """Range of the values, widened by `share` of it on both sides; never of zero width."""
    listed = list(values)
    low, high = (min(listed), max(listed)) if listed else (0.0, 1.0)
    pad = share * (high - low) or max(1e-3, 0.1 * abs(high))
    return low - pad, high + pad


def thinned(count: int, most: int) -> list[int]:
    """At most `most` indices of `count`, evenly spread, with the first and the last."""
    if count <= most:
        return list(range(count))
    if most == 1:
        return [0]
    return [round(k * (count - 1) / (most - 1)) for k in range(most)]


def text(x: float, y: float, content: str, classes: str = "") -> str:
    """A line of text; classes `end` and `mid` set the anchor."""
    return f'<text x="{coordinate(x)}" y="{coordinate(y)}" class="{classes}">{escape(content)}</text>'


def rectangle(x: float, y: float, width: float, height: float, classes: str, tip: str = "") -> str:
    """A rectangle; `tip` shows where a pointer rests on it."""
    title = f"<title>{escape(tip)}</title>" if tip else ""
    size = f'width="{coordinate(max(width, 0.0))}" height="{coordinate(max(height, 0.0))}"'
    return f'<rect x="{coordinate(x)}" y="{coordinate(y)}" {size} class="{classes}">{title}</rect>'


def segment(a: Point, b: Point, classes: str) -> str:
    """A straight line."""
    x1, y1, x2, y2 = (coordinate(value) for value in (*a, *b))
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="{classes}"/>'


def polyline(panel: Panel, xs: Sequence[float], ys: Sequence[float], classes: str, most: int = 400) -> str:
    """A curve through data points; beyond `most` points it is thinned."""
    keep = thinned(len(xs), most)
    points = " ".join(f"{coordinate(panel.x(xs[k]))},{coordinate(panel.y(ys[k]))}" for k in keep)
    return f'<polyline points="{points}" class="line {classes}"/>'


def band(panel: Panel, xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], classes: str) -> str:
    """The area between two curves."""
    keep = thinned(len(xs), 400)
    there = [(panel.x(xs[k]), panel.y(highs[k])) for k in keep]
    back = [(panel.x(xs[k]), panel.y(lows[k])) for k in reversed(keep)]
    points = " ".join(f"{coordinate(x)},{coordinate(y)}" for x, y in there + back)
    return f'<polygon points="{points}" class="band {classes}"/>'


def whisker(a: Point, b: Point, cap: float = 4.0) -> str:
    """An interval from a to b (px) with caps across its ends; a and b share x or y."""
    across = (0.0, cap) if a[1] == b[1] else (cap, 0.0)
    caps = [segment((x - across[0], y - across[1]), (x + across[0], y + across[1]), "whisker") for x, y in (a, b)]
    return segment(a, b, "whisker") + "".join(caps)


def axes(panel: Panel, x_title: str, y_title: str, y_percent: bool = False, x_labels: bool = True) -> str:
    """Grid, ticks and titles (with units) of a panel."""
    left, right, bottom, top = panel.x.start, panel.x.end, panel.y.start, panel.y.end
    parts = []
    for tick in panel.y.ticks(4):
        label = f"{100.0 * tick:.3g} %" if y_percent else short_number(tick)
        parts.append(segment((left, panel.y(tick)), (right, panel.y(tick)), "grid"))
        parts.append(text(left - 6.0, panel.y(tick) + 4.0, label, "end"))
    parts.append(segment((left, bottom), (right, bottom), "axis"))
    if x_labels:
        for tick in panel.x.ticks(6):
            parts.append(segment((panel.x(tick), bottom), (panel.x(tick), bottom + 4.0), "axis"))
            parts.append(text(panel.x(tick), bottom + 17.0, short_number(tick), "mid"))
        parts.append(text((left + right) / 2.0, bottom + 36.0, x_title, "mid"))
    parts.append(text(0.0, top - 14.0, y_title, "ink"))
    return "".join(parts)


def legend(x: float, y: float, items: Sequence[tuple[str, str]], width: float) -> tuple[str, float]:
    """Coloured names (name, class) from (x, y) on, wrapped at `width`; returns the drawing and its height."""
    parts, column, row = [], x, 0
    for name, classes in items:
        space = 26.0 + 7.3 * len(name)
        if column > x and column + space > width:
            column, row = x, row + 1
        parts.append(rectangle(column, y + 18.0 * row - 9.0, 10.0, 10.0, classes))
        parts.append(text(column + 15.0, y + 18.0 * row, name, "ink"))
        column += space
    return "".join(parts), 18.0 * (row + 1)


def drawing(width: float, height: float, body: str, description: str, standalone: bool = False) -> str:
    """The whole <svg>; `standalone` makes it a file of its own, with its colours inside."""
    size = f'viewBox="0 0 {coordinate(width)} {coordinate(height)}"'
    label = f'role="img" aria-label="{escape(description, quote=True)}"'
    if not standalone:
        return f"<svg {size} {label}>{body}</svg>"
    name_space = 'xmlns="http://www.w3.org/2000/svg"'
    page = f"<style>{STANDALONE_STYLE}{MARK_STYLE}svg .paper{{fill:var(--paper)}}</style>"
    paper = rectangle(-MARGIN, -MARGIN, width + 2.0 * MARGIN, height + 2.0 * MARGIN, "paper")
    low, wide, high = (coordinate(value) for value in (-MARGIN, width + 2.0 * MARGIN, height + 2.0 * MARGIN))
    size = f'viewBox="{low} {low} {wide} {high}" width="{wide}"'
    return f"<svg {name_space} {size} {label}>{page}{paper}{body}</svg>\n"
