"""Bench `best-of-n`: what it says of rows whose answers are known, and what each arm chooses by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sealegs.bench import best_of_n as bench
from sealegs.bench.best_of_n_arms import ARMS, LEARNED, MEAN, MEMBER, RANDOM, Chooser
from sealegs.bench.options import BenchOptions

SIZES = (2, 8, 64)
RATES = {2: 0.3, 8: 0.6, 64: 0.2}


def outcome(rate: float, believed: float) -> dict[str, Any]:
    success = [1.0] * round(rate * 20) + [0.0] * (20 - round(rate * 20))
    return {"success": success, "final_progress": success, "return": success, "believed": believed, "taken": 0.5}


def rows(rates: dict[int, float]) -> list[dict[str, Any]]:
    """Two tasks, three seeds: the learned minimum has `rates`, all else stays at the policy's 0.1."""
    found: list[dict[str, Any]] = []
    for task in ("reach", "push"):
        for seed in (1, 2, 3):
            base = {"task": task, "seed": seed, "seconds": 1.0}
            start = {"log_success": 0.1, "label_accuracy": 0.7, "differences": {"learned": {"scorer_relative": 1e-7}}}
            found.append({**base, "arm": bench.START, **start})
            found.append({**base, "arm": bench.ALONE, "by_size": {"1": outcome(0.1, 0.0)}})
            for arm in ARMS:
                values = {str(n): outcome((rates[n] if arm == LEARNED else 0.1) + 0.05 * seed, n / 10) for n in SIZES}
                found.append({**base, "arm": arm, "by_size": values})
        ms = {str(n): {"p50": 0.1, "p99": 0.3, "max": 0.4} for n in (1, *SIZES)}
        found.append({"task": task, "seed": 1, "seconds": 1.0, "arm": bench.LATENCY, "ms": ms})
    return found


def test_a_gain_and_its_turn_down_are_found_and_their_absence_too() -> None:
    summary = bench.summarise(rows(RATES), BenchOptions())
    claims = {claim.claim.split(", paired")[0]: claim for claim in summary.claims}
    assert all(
        claim.holds
        for name, claim in claims.items()
        if "true reward" not in name and "random choice, N = 8 m" not in name
    )
    gain = claims[f"success: {LEARNED}, N = 8 minus policy alone, N = 1"]
    # 0.6 + 0.05 seed less 0.1, mean over seeds 1 to 3: 0.6.
    assert gain.value == pytest.approx(0.6)
    assert claims[f"success: {LEARNED}, N = 8 minus {LEARNED}, N = 64"].value == pytest.approx(0.4)
    assert claims["p99 of one inference with N = 8, slowest task, ms"].value == 0.3
    assert any("N = 8 (learned reward, minimum)" in note for note in summary.notes)
    flat = {claim.claim: claim for claim in bench.summarise(rows(dict.fromkeys(SIZES, 0.3)), BenchOptions()).claims}
    turned = next(claim for name, claim in flat.items() if f"minus {LEARNED}, N = 64" in name)
    assert (turned.value, turned.holds) == (0.0, False)
    assert flat.keys() == {claim.claim for claim in summary.claims}


def test_cells_pair_every_arm_with_the_policy_alone() -> None:
    cells = bench.cells(BenchOptions())
    assert {cell.seed for cell in cells} == {1, 2, 3, 4, 5}
    assert {cell.task for cell in cells} == {"reach", "push", "drawer"}
    assert len({cell.key for cell in cells}) == len(cells) == 5 * 3 * (2 + len(ARMS)) + 3
    assert all(cell.settings["sizes"] == [2, 4, 8, 16, 32, 64] for cell in cells if cell.arm in ARMS)


def test_each_rule_chooses_as_it_says() -> None:
    scores = np.array([[0.0, 0.0], [3.0, -0.1], [1.0, 0.5], [0.4, 2.9]], np.float32)
    assert [Chooser(arm, 0)(scores) for arm in (LEARNED, MEAN, MEMBER)] == [2, 3, 1]
    blind = Chooser(RANDOM, 0)
    drawn = [blind(scores) for _ in range(400)]
    assert np.bincount(drawn, minlength=4).min() > 60  # uniform: 100 each
    minimum = Chooser(LEARNED, 0)
    minimum(scores)
    assert minimum.believed == [pytest.approx(0.5)]
