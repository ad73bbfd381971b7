from __future__ import annotations

import json

import numpy as np
import pytest

from sealegs_deploy.timing import Durations, LoopTiming, flat


@pytest.mark.parametrize("count", [1, 2, 99, 1000, 5000])
def test_percentiles_are_numpys_over_the_window(count: int):
    values = np.random.default_rng(count).integers(1, 10_000_000, count)
    durations = Durations(window=1000)
    for value in values:
        durations.add(int(value))
    kept = values[-1000:] / 1e6
    summary = durations.summary()
    assert summary["count"] == count
    assert summary["p50_ms"] == pytest.approx(np.percentile(kept, 50), rel=1e-12)
    assert summary["p99_ms"] == pytest.approx(np.percentile(kept, 99), rel=1e-12)
    assert summary["max_ms"] == pytest.approx(values.max() / 1e6, rel=1e-12)
    recent = durations.summary(recent=10)
    assert recent["p50_ms"] == pytest.approx(np.percentile(values[-10:] / 1e6, 50), rel=1e-12)
    assert recent["max_ms"] == pytest.approx(values[-10:].max() / 1e6, rel=1e-12)


def test_memory_is_bounded_and_order_kept():
    durations = Durations(window=4)
    for value in range(10):
        durations.add(value)
    assert durations.newest().tolist() == [6, 7, 8, 9]
    assert durations.newest(2).tolist() == [8, 9]
    assert durations.newest(100).tolist() == [6, 7, 8, 9]
    assert (durations.count, durations.max_ns) == (10, 9)


def test_histogram_holds_every_value_with_the_tail_in_the_last_bin():
    durations = Durations()
    for value in [*range(1_000_000, 2_000_000, 1000), 10**12]:
        durations.add(value)
    histogram = durations.histogram()
    assert sum(histogram["counts"]) == 1001
    assert len(histogram["edges_ms"]) == len(histogram["counts"]) + 1
    assert histogram["edges_ms"][0] == 0.0
    assert np.all(np.diff(histogram["edges_ms"]) > 0)
    assert histogram["edges_ms"][-1] < 3.0


def test_reports_are_plain_json_and_empty_ones_say_so():
    timing = LoopTiming()
    assert timing.full() == {
        "observation_age": {"count": 0},
        "inference": {"count": 0},
        "command_latency": {"count": 0},
        "misses": 0,
        "histograms": {},
    }
    timing.inference.add(2_000_000)
    report = json.loads(json.dumps(timing.full()))
    assert report["inference"] == {"count": 1, "p50_ms": 2.0, "p99_ms": 2.0, "max_ms": 2.0}
    assert list(report["histograms"]) == ["inference"]
    assert flat(timing.summary())["inference_p99_ms"] == 2.0
    assert flat({"misses": 3}) == {"misses": 3}
