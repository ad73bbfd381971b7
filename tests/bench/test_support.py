"""Bench `support`: faults are what they are named for, claims are what the rows say, and a cell of each kind runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sealegs.bench import support
from sealegs.bench.frame import Cell
from sealegs.bench.options import BenchOptions
from sealegs.bench.runner import run_bench
from sealegs.bench.support_cases import ONSET, Case, Faults, cases
from sealegs.bench.support_claims import BOX, DETECTORS, GUARD, LOGS, OWN, RANDOM, summarise
from sealegs_learning.support.fit import KINDS
from sealegs_sim.starts import DEFAULT_RANGES


def test_every_kind_is_measured_against_the_same_controls() -> None:
    assert set(DETECTORS) - {LOGS, OWN, RANDOM} == set(KINDS)
    found = support.cells_of(BenchOptions())
    assert {cell.arm for cell in found if cell.stage} == set(DETECTORS)
    assert len({tuple(sorted(cell.settings.items())) for cell in found if cell.stage}) == 1
    for task in ("reach", "push", "drawer"):
        for name, case in cases(task).items():
            moved = [pair for pair in vars(case.starts).items() if getattr(DEFAULT_RANGES, pair[0]) != pair[1]]
            assert bool(moved) == (case.group == "objects"), name
            for field, span in moved:  # wholly outside of where the logs have it
                low, high = getattr(DEFAULT_RANGES, field)
                assert span[1] < low or span[0] > high, (name, field)


@pytest.mark.parametrize("fault", ["offset", "scale", "frozen", "swapped", "noise"])
def test_a_fault_begins_at_its_onset_and_breaks_one_joint(fault: str) -> None:
    rng = np.random.default_rng(0)
    faults = Faults(Case("sensors", fault=fault, size=1.3), episodes=4, seed=5)
    true = [rng.normal(size=(4, 18)).astype(np.float32) for _ in range(3)]
    assert (faults(ONSET - 1, true[0]) == true[0]).all()
    seen = [faults(ONSET + k, true[k]) for k in (1, 2)]
    changed = np.array([one != other for one, other in zip(seen, true[1:], strict=True)]).any(0)
    assert not changed[:, 12:].any()  # places of objects stay
    joints = changed[:, :6]
    assert joints.sum(1).tolist() == [{"swapped": 2, "noise": 6}.get(fault, 1)] * 4
    row, joint = 0, int(np.argmax(joints[0]))
    if fault == "frozen":
        assert seen[0][row, joint] == seen[1][row, joint] == true[1][row, joint]
        assert seen[1][row, 6 + joint] == 0.0
    if fault == "scale":
        np.testing.assert_allclose(seen[0][row, [joint, 6 + joint]], 1.3 * true[1][row, [joint, 6 + joint]], rtol=1e-6)
    if fault == "offset":
        assert abs(seen[0][row, joint] - true[1][row, joint]) == pytest.approx(1.3, rel=1e-5)


def rows_of(detected: dict[str, int], clean: int) -> list[dict[str, Any]]:
    """Two seeds, one task; ten runs of a case in each group, 100 clean ones."""
    found: list[dict[str, Any]] = []
    for seed in (0, 1):
        success = {"clean": [1, 0], "a": [1], "b": [1], "c": [1]}
        found.append({"arm": "runs", "task": "reach", "seed": seed, "success": success})
        for arm in DETECTORS:
            hits = detected.get(arm, 0) + (seed if arm == GUARD else 0)
            groups = {"a": "sensors", "b": "objects", "c": "dynamics"}
            named = {
                name: {"group": group, "episodes": 10, "early": 0, "detected": hits, "delay": [2] * hits}
                for name, group in groups.items()
            }
            named["clean"] = {"group": "clean", "episodes": 100, "early": 0, "detected": clean, "delay": []}
            row = {"arm": arm, "task": "reach", "seed": seed, "bound": 0.01, "calibrated": 200, "cases": named}
            extra = {"guarded_success": [1, 0], "held": 0, "slowed": 1, "check_us": {"p50": 40.0, "p99": 90.0}}
            found.append(row | (extra if arm == GUARD else {}))
    return found


def test_claims_by_hand() -> None:
    summary = summarise(rows_of({GUARD: 6, BOX: 2}, clean=1), BenchOptions())
    claims = {claim.claim: claim for claim in summary.claims}
    better = next(c for name, c in claims.items() if f"minus {BOX}" in name)
    # Seeds differ by .4 and .5: .45 +- 12.7062 x .05, cut to [-1, 1]
    assert (better.value, *(better.interval or ())) == pytest.approx((0.45, 0.45 - 0.63531, 1.0), abs=1e-4)
    assert not better.holds
    alarms = claims["clean runs that hold, calibrated on both, as shipped, all tasks"]
    assert (alarms.value, alarms.holds) == (0.01, True)
    many = summarise(rows_of({GUARD: 6}, clean=5), BenchOptions()).claims
    assert not next(c for c in many if c.claim == alarms.claim).holds
    delay = next(c for name, c in claims.items() if name.startswith("median time"))
    assert (delay.value, delay.holds) == (40.0, True)
    success = next(c for name, c in claims.items() if name.startswith("success of clean runs"))
    assert (success.value, success.holds) == (0.0, True)


def test_a_cell_of_every_kind_runs(tmp_path: Path) -> None:
    small = {"logs": 22, "updates": 20, "clean": 3, "own": 4, "shifted": 2, "fit_updates": 5}

    def found(options: BenchOptions) -> list[Cell]:
        wanted = ("runs", GUARD, LOGS, OWN, BOX, RANDOM)
        every = [cell for cell in support.cells_of(options) if cell.arm in wanted]
        return [replace(cell, settings={**cell.settings, **small}) for cell in every]

    options = BenchOptions(quick=True, work=tmp_path, tasks=("reach",), seeds=(3,))
    rows = run_bench("support", options, Console(quiet=True), bench=replace(support.BENCH, cells=found))
    by_arm = {row["arm"]: row for row in rows}
    assert [by_arm[arm]["calibrated"] for arm in (GUARD, LOGS, OWN, BOX)] == [13, 9, 4, 13]
    found_by = [by_arm[arm]["cases"].values() for arm in (GUARD, LOGS, OWN)]
    noticed = [sum(case["early"] + case["detected"] for case in cases) for cases in found_by]
    assert noticed[0] == min(noticed[1:])  # the same model at the higher threshold
    assert len(by_arm[GUARD]["guarded_success"]) == len(by_arm["runs"]["success"]["clean"]) == 3
    for row in rows:
        if row["arm"] != "runs":
            counts = row["cases"]["noise 0.1 rad"]
            assert 0 <= counts["detected"] == len(counts["delay"]) <= 2
