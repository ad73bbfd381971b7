"""The schema of summary.json: what it computes and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sealegs.report.summary import Arm, Film, Histogram, Strip, Summary, Timing, read_summary, write_summary
from sealegs_contract.errors import ReportError
from sealegs_learning.results import Claim
from sealegs_learning.statistics import Interval


def test_claims_are_written_with_their_verdict_and_judged_anew_when_read(tmp_path: Path) -> None:
    claim = Claim("success", 0.5, ">= 0.9", Interval(0.4, 0.6))
    summary = Summary(name="x", version="0", started="now", claims=(claim, Claim("unknown", None, "<= 1")))
    write_summary(summary, tmp_path / "summary.json")
    written = json.loads((tmp_path / "summary.json").read_text())["claims"]
    assert written[0] == {"claim": "success", "value": 0.5, "interval": [0.4, 0.6], "target": ">= 0.9", "holds": False}
    assert written[1]["holds"] is False
    # A verdict that somebody typed into the file counts for nothing.
    (tmp_path / "summary.json").write_text((tmp_path / "summary.json").read_text().replace("false", "true"))
    again = read_summary(tmp_path / "summary.json").claims
    assert again == summary.claims
    assert [c.holds for c in again] == [False, False]


def test_a_timing_is_percentiles_and_counts() -> None:
    timing = Timing.of(list(range(1, 101)), bins=4)  # 1..100 ms
    assert timing.count == 100
    assert timing.p50_ms == pytest.approx(50.5)
    assert timing.p99_ms == pytest.approx(99.01)
    assert timing.max_ms == 100.0
    assert timing.histogram is not None
    assert sum(timing.histogram.counts) == 100
    assert timing.histogram.edges_ms[-1] == pytest.approx(99.901)  # p99.9: the tail is in the last bin
    assert timing.histogram.counts == (24, 25, 25, 26)  # edges at multiples of 24.975


def test_a_timing_of_equal_or_negative_values_has_edges_too() -> None:
    assert Timing.of([0.0, 0.0]).histogram is not None
    negative = Timing.of([-1.0, 1.0]).histogram
    assert negative is not None
    assert negative.edges_ms[0] == -1.0
    assert sum(negative.counts) == 2


@pytest.mark.parametrize("values", [[], [1.0, float("nan")]])
def test_a_timing_refuses_nothing_and_nan(values: list[float]) -> None:
    with pytest.raises(ReportError):
        Timing.of(values)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (Strip, {"episode": 0, "outcome": "", "times_s": [0, 1], "reward": [1]}),
        (Strip, {"episode": 0, "outcome": "", "times_s": [0], "reward": [1], "frames": ["../x.jpg"]}),
        (Strip, {"episode": 0, "outcome": "", "times_s": [0], "reward": [1], "frames": ["/etc/x.jpg"]}),
        (Strip, {"episode": 0, "outcome": "", "times_s": [0], "reward": [float("nan")]}),
        (Film, {"frames": []}),
        (Histogram, {"edges_ms": [0, 1], "counts": [1, 2]}),
        (Histogram, {"edges_ms": [1, 0], "counts": [1]}),
        (Arm, {"name": "a", "learner": "x", "successes": 1, "episodes": 2, "rate": 0.6, "interval": [0, 1]}),
        (Arm, {"name": "a", "learner": "x", "successes": 3, "episodes": 2, "rate": 1.0, "interval": [0, 1]}),
    ],
)
def test_what_contradicts_itself_is_refused(kind: type[Any], content: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(content)


def test_arms_have_names_of_their_own() -> None:
    arm = Arm(name="a", learner="x", successes=1, episodes=2, rate=0.5, interval=(0.1, 0.9))
    with pytest.raises(ValidationError, match="unique"):
        Summary(name="demo", version="1", started="", arms=(arm, arm))
