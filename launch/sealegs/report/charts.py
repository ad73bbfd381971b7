"""The charts of a report, each from one part of the summary. All return the body of a drawing and its height."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sealegs.report import svg
from sealegs.report.summary import Arm, Interval, LabelBin, Strip, Timing

WIDTH = 400.0
STRIP_WIDTH = 880.0
LEFT, RIGHT, BOTTOM = 50.0, 12.0, 44.0
Drawn = tuple[str, float]


@dataclass(frozen=True, slots=True)
class SuccessRow:
    """One bar: success over episodes with its interval; `slot` is the series colour 1..6."""

    name: str
    successes: int
    episodes: int
    interval: Interval
    slot: int


def slot(index: int) -> int:
    """Series colour of the index-th series."""
    return index % 6 + 1


def percent(value: float) -> str:
    """`87 %`; one decimal where it matters (`99.6 %`)."""
    scaled = 100.0 * value
    return f"{scaled:.0f} %" if abs(scaled - round(scaled)) < 0.05 or 1.0 < scaled < 99.0 else f"{scaled:.1f} %"


def percent_range(interval: Interval) -> str:
    """`79 to 92 %`."""
    return f"{100.0 * interval[0]:.0f} to {100.0 * interval[1]:.0f} %"


def success_bars(rows: Sequence[SuccessRow]) -> Drawn:
    """Horizontal bars of success rates with whiskers, and the counts in words."""
    row_height, top = 44.0, 6.0
    x = svg.Scale(0.0, 1.0, 2.0, WIDTH - 14.0)
    bottom = top + row_height * len(rows)
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(svg.segment((x(tick), top + 16.0), (x(tick), bottom), "grid"))
        anchor = "" if tick == 0.0 else "end" if tick == 1.0 else "mid"
        parts.append(svg.text(x(tick), bottom + 16.0, percent(tick), anchor))
    for k, row in enumerate(rows):
        y, rate = top + k * row_height, row.successes / row.episodes
        low, high = row.interval
        figures = f"{percent(rate)}  ({row.successes}/{row.episodes}, {100 * low:.0f}\N{EN DASH}{100 * high:.0f} %)"
        parts.append(svg.text(2.0, y + 12.0, row.name, "ink bold"))
        parts.append(svg.text(WIDTH - 14.0, y + 12.0, figures, "ink end"))
        parts.append(svg.rectangle(x(0.0), y + 19.0, x(rate) - x(0.0), 16.0, f"s{row.slot}", f"{row.name}: {figures}"))
        parts.append(svg.whisker((x(low), y + 27.0), (x(high), y + 27.0)))
    parts.append(svg.text(x(0.5), bottom + 34.0, "successful episodes, 95 % interval", "mid"))
    return "".join(parts), bottom + 40.0


def label_accuracy(bins: Sequence[LabelBin]) -> Drawn:
    """Accuracy with intervals against the difference in true progress; the dashed line is chance."""
    height, top = 250.0, 32.0
    panel = svg.Panel(
        svg.Scale(bins[0].low, bins[-1].high, LEFT, WIDTH - RIGHT), svg.Scale(0.0, 1.0, height - BOTTOM, top)
    )
    parts = [svg.axes(panel, "difference in true progress", "pairs answered correctly", y_percent=True)]
    parts.append(svg.segment((LEFT, panel.y(0.5)), (WIDTH - RIGHT, panel.y(0.5)), "mark"))
    parts.append(svg.text(LEFT + 4.0, panel.y(0.5) + 15.0, "chance"))
    for one in bins:
        if one.accuracy is None:
            continue
        x, y = panel.x((one.low + one.high) / 2.0), panel.y(one.accuracy)
        if one.interval is not None:
            parts.append(svg.whisker((x, panel.y(one.interval[0])), (x, panel.y(one.interval[1]))))
        tip = f"{one.low:g} to {one.high:g}: {percent(one.accuracy)} of {one.pairs - one.abstained} answered pairs"
        parts.append(svg.rectangle(x - 5.0, y - 5.0, 10.0, 10.0, "s1", tip))
        parts.append(svg.text(x, panel.y.start - 6.0, f"{100.0 * one.accuracy:.0f}", "ink mid"))
    return "".join(parts), height


def label_coverage(bins: Sequence[LabelBin]) -> Drawn:
    """Pairs asked per bin: answered, and abstained on top."""
    height, top = 250.0, 44.0
    most = max((one.pairs for one in bins), default=1) or 1
    panel = svg.Panel(
        svg.Scale(bins[0].low, bins[-1].high, LEFT, WIDTH - RIGHT), svg.Scale(0.0, 1.05 * most, height - BOTTOM, top)
    )
    names, _ = svg.legend(LEFT + 60.0, 16.0, [("answered", "s1"), ("abstained", "s3")], WIDTH)
    parts = [
        svg.axes(panel, "difference in true progress", "", x_labels=True),
        svg.text(0.0, 16.0, "pairs asked", "ink"),
    ]
    parts.append(names)
    for one in bins:
        left, right = panel.x(one.low) + 2.0, panel.x(one.high) - 2.0
        answered = one.pairs - one.abstained
        low, high = panel.y(answered), panel.y(one.pairs)
        tip = f"{one.low:g} to {one.high:g}: {answered} answered, {one.abstained} abstained"
        parts.append(svg.rectangle(left, low, right - left, panel.y.start - low, "s1", tip))
        parts.append(svg.rectangle(left, high, right - left, low - high, "s3", tip))
    return "".join(parts), height


def curves(series: Mapping[str, Sequence[tuple[float, float]]], slots: Mapping[str, int], title: str) -> Drawn:
    """Lines (update, value) by name. A metric named `success` is drawn from 0 to 100 %."""
    share = title == "success"
    items = [(name, f"s{slots[name]}") for name in series]
    names, names_height = svg.legend(LEFT, 14.0, items, WIDTH - RIGHT)
    top = 38.0 + names_height
    height = top + 210.0
    xs = [x for points in series.values() for x, _ in points]
    low, high = (0.0, 1.0) if share else svg.padded_range(y for points in series.values() for _, y in points)
    x_low, x_high = min(0.0, *xs), max(xs) or 1.0
    panel = svg.Panel(svg.Scale(x_low, x_high, LEFT, WIDTH - RIGHT - 8.0), svg.Scale(low, high, height - BOTTOM, top))
    parts = [names, svg.axes(panel, "updates", title, y_percent=share)]
    for name, points in series.items():
        parts.append(svg.polyline(panel, [x for x, _ in points], [y for _, y in points], f"s{slots[name]}"))
    return "".join(parts), height


def curve_metrics(arms: Sequence[Arm]) -> list[str]:
    """Names of the metrics worth a chart: `success` first, then final progress and the losses as they appear."""
    names = dict.fromkeys(key for arm in arms for row in arm.curve for key in row)
    shown = [name for name in names if name in {"success", "final_progress"} or name.endswith("loss")]
    return sorted(shown, key=lambda name: name != "success")


def curve_series(arms: Sequence[Arm], metric: str) -> dict[str, list[tuple[float, float]]]:
    """The rows of each arm that logged `metric`."""
    rows = {arm.name: [(row["update"], row[metric]) for row in arm.curve if metric in row] for arm in arms}
    return {name: points for name, points in rows.items() if points}


def timing_histogram(timing: Timing, title: str, classes: str, limit_ms: float | None = None) -> Drawn:
    """Share of ticks per bin, with p50 and p99 marked; `limit_ms` is the target for p99."""
    height, top = 220.0, 44.0
    histogram = timing.histogram
    heading = svg.text(0.0, 14.0, title, "ink bold") + svg.text(0.0, 31.0, _timing_figures(timing))
    if histogram is None:
        return heading, top
    edges, total = histogram.edges_ms, sum(histogram.counts) or 1
    shares = [count / total for count in histogram.counts]
    left, right = min(edges[0], timing.p50_ms), max(edges[-1], 1.05 * timing.p99_ms, 1.02 * (limit_ms or 0.0))
    # Bins that widen were made on a logarithmic scale: on it they are equal, so heights may be compared.
    logarithmic = left > 0.0 and edges[-1] - edges[-2] > 1.5 * (edges[1] - edges[0])
    panel = svg.Panel(
        svg.Scale(left, right, LEFT, WIDTH - RIGHT, logarithmic),
        svg.Scale(0.0, 1.08 * max(shares), height - BOTTOM, top),
    )
    unit = "ms, logarithmic" if logarithmic else "ms"
    parts = [svg.axes(panel, unit, "", y_percent=True), heading]
    for share, low, high in zip(shares, edges, edges[1:], strict=False):
        x, width = panel.x(low), panel.x(high) - panel.x(low)
        tip = f"{low:.2f} to {high:.2f} ms: {100.0 * share:.1f} %"
        parts.append(svg.rectangle(x + 0.3, panel.y(share), width - 0.6, panel.y.start - panel.y(share), classes, tip))
    marks = [("p50", timing.p50_ms), ("p99", timing.p99_ms)] + ([("target", limit_ms)] if limit_ms else [])
    parts += [_mark(panel, name, value, top) for name, value in marks]
    return "".join(parts), height


def _timing_figures(timing: Timing) -> str:
    figures = f"p50 {timing.p50_ms:.2f}, p99 {timing.p99_ms:.2f}, max {timing.max_ms:.2f} ms"
    return f"{figures}; n = {timing.count}"


def _mark(panel: svg.Panel, name: str, value: float, top: float) -> str:
    x = panel.x(value)
    near_the_edge = x > panel.x.end - 50.0
    label = svg.text(x + (-4.0 if near_the_edge else 4.0), top + 10.0, name, "ink end" if near_the_edge else "ink")
    return svg.segment((x, top), (x, panel.y.start), "mark") + label


def frame_choice(strip: Strip, most: int) -> list[int]:
    """Frames for a film strip of at most `most` images: each is the one nearest in time to where its centre lies."""
    count = min(len(strip.frames), most)
    start, span = strip.times_s[0], strip.times_s[-1] - strip.times_s[0]
    last = max(len(strip.frames) - 1, 1)
    times = strip.frame_times_s or tuple(start + span * k / last for k in range(len(strip.frames)))
    centres = [start + span * (k + 0.5) / count for k in range(count)]
    return [min(range(len(times)), key=lambda k, t=centre: abs(times[k] - t)) for centre in centres]  # type: ignore[misc]


def reward_strip(strip: Strip, images: Sequence[str], aspect: float = 4.0 / 3.0) -> Drawn:
    """A film strip, the learned reward with its spread, and true progress, over one time axis.

    `images` are data URIs, one per frame of the strip that is drawn; `aspect` is width over height.
    """
    left, right = LEFT, STRIP_WIDTH - RIGHT
    x = svg.Scale(strip.times_s[0], max(strip.times_s[-1], strip.times_s[0] + 1e-6), left, right)
    film, film_height = _film(images, left, right, aspect)
    reward_top = film_height + 34.0
    parts = [film, _reward_panel(strip, svg.Scale(0.0, 1.0, reward_top + 110.0, reward_top), x, not strip.progress)]
    height = reward_top + 110.0
    if strip.progress:
        top = height + 36.0
        panel = svg.Panel(x, svg.Scale(0.0, 1.0, top + 70.0, top))
        parts.append(svg.axes(panel, "time, s", "true progress (not shown to the judge)", y_percent=True))
        parts.append(svg.polyline(panel, strip.times_s, strip.progress, "s2"))
        height = top + 70.0
    return "".join(parts), height + BOTTOM


def _reward_panel(strip: Strip, place: svg.Scale, x: svg.Scale, labelled: bool) -> str:
    spread = strip.spread or (0.0,) * len(strip.reward)
    lows = [r - s for r, s in zip(strip.reward, spread, strict=True)]
    highs = [r + s for r, s in zip(strip.reward, spread, strict=True)]
    panel = svg.Panel(x, svg.Scale(*svg.padded_range([*lows, *highs]), place.start, place.end))
    title = "learned reward, mean \N{PLUS-MINUS SIGN} spread of the ensemble"
    parts = [
        svg.axes(panel, "time, s", title, x_labels=labelled),
        svg.polyline(panel, strip.times_s, strip.reward, "s1"),
    ]
    return "".join([svg.band(panel, strip.times_s, lows, highs, "s1"), *parts] if strip.spread else parts)


def _film(images: Sequence[str], left: float, right: float, aspect: float) -> Drawn:
    if not images:
        return "", 0.0
    gap = 3.0
    width = min((right - left - gap * (len(images) - 1)) / len(images), 150.0)
    step = (right - left - width) / max(len(images) - 1, 1)
    height = width / aspect
    size = f'y="0" width="{svg.coordinate(width)}" height="{svg.coordinate(height)}"'
    parts = [
        f'<image x="{svg.coordinate(left + k * step)}" {size} preserveAspectRatio="xMidYMid slice" href="{uri}"/>'
        for k, uri in enumerate(images)
    ]
    return "".join(parts), height
