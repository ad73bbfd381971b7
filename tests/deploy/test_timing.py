from __future__ import annotations

import json

import numpy as np
import pytest

from sealegs_contract.errors import ControllerError
from sealegs_contract.timing import read_timing
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
        "schema_version": 1,
        "kind": "policy_timing",
        "period_ms": 0.0,
        "observation_age": {"count": 0},
        "inference": {"count": 0},
        "command_latency": {"count": 0},
        "period_jitter": {"count": 0},
        "late_ticks": 0,
        "late_inference": 0,
        "misses": 0,
        "histograms": {},
        "tails": {},
    }
    timing.inference.add(2_000_000)
    report = json.loads(json.dumps(timing.full()))
    assert report["inference"] == {"count": 1, "p50_ms": 2.0, "p99_ms": 2.0, "max_ms": 2.0}
    assert list(report["histograms"]) == ["inference"]
    assert flat(timing.summary())["inference_p99_ms"] == 2.0
    assert flat({"misses": 3}) == {"misses": 3}


def test_jitter_and_misses_by_hand():
    timing = LoopTiming(20_000_000)
    for at_ms in (0, 20, 41, 60, 92, 112):
        timing.sent(at_ms * 1_000_000, 3_000_000)
    timing.paused()  # HOLD, and on again: the pause is no jitter
    for at_ms in (9000, 9019):
        timing.sent(at_ms * 1_000_000, 3_000_000)
    timing.late_inference += 2
    assert (timing.period_jitter.newest() / 1e6).tolist() == [0, 1, 1, 12, 0, 1]
    assert (timing.late_ticks, timing.misses) == (1, 3)
    assert timing.summary()["command_latency"]["count"] == 8


def test_a_written_report_is_read_back_with_its_tail(tmp_path):
    timing = LoopTiming(20_000_000)
    for latency in [*range(1_000_000, 2_000_000, 500), 40_000_000]:
        timing.sent(0, latency)
    path = tmp_path / "timing.json"
    path.write_text(json.dumps(timing.full() | {"commands": 7}))
    report = read_timing(path)
    assert report.period_ms == 20.0
    assert sum(report.histogram("command_latency").counts) == 2001
    tail = report.tails["command_latency"]
    assert (tail.count, tail.max_ms) == (2, 40.0)  # one more lies between p99.9 and 2 ms
    with pytest.raises(ControllerError, match="has no observation_age.*available: command_latency"):
        report.histogram("observation_age")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "damaged, or no timing.json"),
        ("[1]", "holds a list"),
        ('{"round_trip": {"count": 1}}', "not the timing of a policy node, but the robot node's"),
        ('{"misses": 0}', "of an earlier release"),
        ('{"kind": "policy_timing", "schema_version": 9}', "schema version 9; this release reads 1"),
        ('{"kind": "policy_timing", "schema_version": 1}', "damaged: period_ms: Field required"),
        ({"counts": [1, -1]}, "damaged: histograms.inference.counts.1"),
        ({"counts": [0, 0]}, "all counts are zero"),
        ({"counts": [1]}, "one edge more"),
        ({"edges_ms": [0, 2, 1]}, "edges must increase"),
        ({"edges_ms": [0, float("nan"), 1]}, "damaged: histograms.inference.edges_ms.1"),
    ],
)
def test_foreign_and_damaged_files_are_refused_in_words(tmp_path, content, said):
    if isinstance(content, dict):
        histogram = {"edges_ms": [0, 1, 2], "counts": [1, 1], **content}
        report = {"kind": "policy_timing", "schema_version": 1, "period_ms": 20.0}
        content = json.dumps(report | {"histograms": {"inference": histogram}})
    path = tmp_path / "timing.json"
    path.write_text(content)
    with pytest.raises(ControllerError, match=said):
        read_timing(path)
