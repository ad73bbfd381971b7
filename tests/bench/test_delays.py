"""Bench `delays`: what its claims say of rows, and that real nodes leave a timing that simulation can draw from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sealegs.bench import delays
from sealegs.bench.options import BenchOptions
from sealegs_sim.delays import Delays


def test_both_trainings_differ_in_the_delays_alone() -> None:
    cells = [cell for cell in delays.cells(BenchOptions()) if cell.arm != delays.MEASURED]
    assert {(c.task, c.seed) for c in cells if c.arm == delays.WITH} == {
        (c.task, c.seed) for c in cells if c.arm == delays.WITHOUT
    }
    assert len({tuple(sorted(cell.settings.items())) for cell in cells}) == 1
    assert {cell.stage for cell in cells} == {1}


def row(arm: str, seed: int, none: list[int], measured: list[int], twice: list[int]) -> dict[str, Any]:
    scales = dict(zip(delays.SCALES, (none, measured, twice), strict=True))
    return {"arm": arm, "task": "reach", "seed": seed, "successes": scales}


def test_claims_by_hand() -> None:
    figures = {"p50_ms": 30.0, "p99_ms": 50.0, "count": 100}
    timing = {"observation_age": figures, "command_latency": figures, "period_ms": 20.0}
    rows: list[dict[str, Any]] = [
        {"arm": delays.MEASURED, "task": "all", "seed": 0, "timing": timing, "cost_us": {"without": 40.0, "with": 50.0}}
    ]
    for seed in (0, 1):
        rows.append(row(delays.WITHOUT, seed, [1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]))
        rows.append(row(delays.WITH, seed, [1, 1, 1, seed], [1, 1, 1, 1], [0, 0, 0, 0]))
    hurt, helped, beyond, price = delays.summarise(rows, BenchOptions()).claims
    assert (hurt.value, hurt.holds) == (0.75, True)
    assert (helped.value, helped.holds) == (0.75, True)
    assert (beyond.value, beyond.holds) == (0.0, False)
    assert (price.value, price.holds) == (-0.125, False)  # two seeds cannot say that it costs less than a tenth
    notes = delays.summarise(rows, BenchOptions()).notes
    assert "(+25%)" in notes[2]


def test_real_nodes_over_a_slow_link_leave_delays_beyond_a_period(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="nodes need the extra `ros`")
    from sealegs.bench.delays_measured import measure

    found = Delays.read(measure(tmp_path, 1.5, delays.INFERENCE_MS))
    age, latency = (one.at(np.array([0.5]))[0] for one in (found.observation_age, found.command_latency))
    assert 20.0 <= age <= 80.0  # under way for 25 to 45 ms; /clock is not, and ticks once a period
    assert latency >= 8.0
