"""Bench `swap` on rows made by hand: what holds, what does not, and that every fault is told apart."""

from __future__ import annotations

from typing import Any

import pytest

from sealegs.bench.options import BenchOptions
from sealegs.bench.swap import BENCH
from sealegs.bench.swap_claims import FAULTS, KINDS, ROLLBACK, SHADOW, SHADOWS, STAYS, SWAP


def rows(missed: int = 0, divergence: float = 0.0, state: str = "", p99_ms: float = 1.0) -> list[dict[str, Any]]:
    gaps = {"periods": [1.0, 1.0 + missed], "arrival_ms": [20.0, 21.0], "missed": [0, missed]}
    score = {"divergence_rad": {"p50": 0.01, "max": divergence}, "compared": 9, "skipped": 0, "errors": 0}
    latency = {"p50_ms": 0.5, "p99_ms": 1.0, "max_ms": 2.0}
    return [
        {"arm": SWAP, "task": "two policies", "seed": 0, "failures": [], **dict.fromkeys(KINDS, gaps)},
        *(
            {"arm": ROLLBACK, "task": fault, "seed": 0,
             "trials": [{"back": True, "state": state or STAYS[fault][0], "missed": 0}]}
            for fault in FAULTS
        ),
        *(
            {"arm": SHADOW, "task": kind, "seed": 0, "commands": 9, "score": {} if kind == "none" else score,
             "latency": latency if kind == "none" else latency | {"p99_ms": p99_ms}}
            for kind in SHADOWS
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("made", "broken"),
    [
        ({}, set()),
        ({"missed": 1}, {"command gap at the swap", "the same for the control", "share of trials"}),
        ({"divergence": 1e-9}, {"divergence of a policy from itself"}),
        ({"state": "fault"}, {f"{fault} on probation: former" for fault in FAULTS}),
        ({"p99_ms": 4.0}, {"command latency"}),
    ],
)
def test_a_claim_breaks_with_what_it_is_about_and_no_other(made: dict[str, Any], broken: set[str]) -> None:
    summary = BENCH.summarise(rows(**made), BenchOptions())
    failed = [claim.claim for claim in summary.claims if not claim.holds]
    assert {start for start in broken if any(claim.startswith(start) for claim in failed)} == broken
    assert [claim for claim in failed if not claim.startswith(tuple(broken))] == []
    assert list(summary.plots) == ["swap"]


def test_no_failure_in_n_trials_is_bounded_by_three_over_n() -> None:
    claims = {claim.claim: claim for claim in BENCH.summarise(rows(), BenchOptions()).claims}
    found = claims["NaN on probation: share of rollbacks with a command missed"]
    assert (found.value, found.interval) == (0.0, (0.0, 1.0))
    cells = BENCH.cells(BenchOptions())
    assert len({cell.key for cell in cells}) == len(cells) == 5 * (1 + len(FAULTS) + len(SHADOWS))
