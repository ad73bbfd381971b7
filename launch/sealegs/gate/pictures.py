"""The drawings of a gate report. All return the body of a drawing and its height."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sealegs.report import svg
from sealegs.report.charts import LEFT, RIGHT, STRIP_WIDTH, WIDTH, Drawn
from sealegs_deploy.gate_figures import FloatArray
from sealegs_deploy.gate_findings import ValueFigures

COLUMNS = 2
POLICY, RECORD = "s1", "s4"


def traces(names: Sequence[str], action: FloatArray, recorded: FloatArray, rate_hz: float) -> Drawn:
    """Actions of the policy and of the record over time, one small panel a joint; both (T, J) in [-1, 1]."""
    legend, _ = svg.legend(LEFT, 14.0, [("policy", POLICY), ("record", RECORD)], STRIP_WIDTH)
    width, height, top = (STRIP_WIDTH - 24.0) / COLUMNS, 132.0, 44.0
    times = np.arange(len(action)) / rate_hz
    parts = [legend]
    rows = -(-len(names) // COLUMNS)
    for j, name in enumerate(names):
        left, upper = (j % COLUMNS) * (width + 24.0), top + (j // COLUMNS) * (height + 44.0)
        panel = svg.Panel(
            svg.Scale(0.0, max(float(times[-1]), 1e-6), left + LEFT, left + width - RIGHT),
            svg.Scale(-1.0, 1.0, upper + height - 24.0, upper + 8.0),
        )
        last = j + COLUMNS >= len(names)
        parts.append(_axes(panel, name, last))
        known = np.isfinite(recorded[:, j])
        parts.append(svg.polyline(panel, times[known].tolist(), _within(recorded[known, j]), RECORD))
        parts.append(svg.polyline(panel, times.tolist(), _within(action[:, j]), POLICY))
    return "".join(parts), top + rows * (height + 44.0)


def _within(values: FloatArray) -> list[float]:
    return [float(v) for v in np.clip(values, -1.0, 1.0)]


def _axes(panel: svg.Panel, name: str, last: bool) -> str:
    left, right, bottom = panel.x.start, panel.x.end, panel.y.start
    parts = [svg.text(left, panel.y.end - 6.0, name, "ink bold")]
    for tick in (-1.0, 0.0, 1.0):
        parts.append(svg.segment((left, panel.y(tick)), (right, panel.y(tick)), "grid"))
        parts.append(svg.text(left - 6.0, panel.y(tick) + 4.0, f"{tick:g}", "end"))
    for tick in panel.x.ticks(6):
        parts.append(svg.segment((panel.x(tick), bottom), (panel.x(tick), bottom + 4.0), "axis"))
        parts.append(svg.text(panel.x(tick), bottom + 17.0, svg.short_number(tick), "mid"))
    if last:
        parts.append(svg.text((left + right) / 2.0, bottom + 34.0, "time, s", "mid"))
    return "".join(parts)


def joint_matrix(names: Sequence[str], correlations: FloatArray) -> Drawn:
    """How each joint of the policy (rows) goes with each of the record (columns): size is strength, red is against."""
    name_width, top = 8.0 * max(map(len, names)) + 10.0, 26.0
    cell = min(46.0, (WIDTH - name_width - 4.0) / len(names))
    parts = [svg.text(0.0, 14.0, "policy (rows) with record (columns)", "ink bold")]
    for i, name in enumerate(names):
        y = top + i * cell
        parts.append(svg.text(name_width - 8.0, y + cell / 2.0 + 4.0, name, "end ink"))
        for j, other in enumerate(names):
            value = float(correlations[i, j])
            side = (cell - 4.0) * min(abs(value), 1.0) ** 0.5
            x = name_width + j * cell
            offset = (cell - side) / 2.0
            colour = POLICY if value >= 0.0 else "s6"
            tip = f"{name} with the record's {other}: {value:+.2f}"
            parts.append(svg.rectangle(x + offset, y + offset, side, side, colour, tip))
        parts.append(svg.segment((name_width, y + cell), (name_width + cell * len(names), y + cell), "grid"))
    bottom = top + cell * len(names)
    for j in range(len(names)):
        parts.append(svg.text(name_width + (j + 0.5) * cell, bottom + 16.0, str(j + 1), "mid"))
    parts.append(svg.text(name_width, bottom + 34.0, "columns in the order of the rows"))
    return "".join(parts), bottom + 42.0


def values(found: ValueFigures) -> Drawn:
    """Values of the policy and of the record with their intervals."""
    rows = [("policy", found.policy, found.policy_interval, POLICY)]
    rows.append(("record", found.record, found.record_interval, RECORD))
    low, high = svg.padded_range([0.0, *found.policy_interval, *found.record_interval])
    x = svg.Scale(low, high, 2.0, WIDTH - 14.0)
    parts, bottom = [], 6.0 + 44.0 * len(rows)
    for tick in x.ticks(5):
        parts.append(svg.segment((x(tick), 22.0), (x(tick), bottom), "grid"))
        parts.append(svg.text(x(tick), bottom + 16.0, svg.short_number(tick), "mid"))
    for k, (name, value, (a, b), colour) in enumerate(rows):
        y = 6.0 + 44.0 * k
        left, right = sorted((x(0.0), x(value)))
        parts.append(svg.text(2.0, y + 12.0, name, "ink bold"))
        parts.append(svg.text(WIDTH - 14.0, y + 12.0, f"{value:.4g} [{a:.4g}, {b:.4g}]", "ink end"))
        parts.append(svg.rectangle(left, y + 19.0, right - left, 16.0, colour, f"{name}: {value:.4g}"))
        parts.append(svg.whisker((x(a), y + 27.0), (x(b), y + 27.0)))
    parts.append(svg.text(x(0.5 * (low + high)), bottom + 34.0, "discounted reward, 95 % interval", "mid"))
    return "".join(parts), bottom + 42.0
