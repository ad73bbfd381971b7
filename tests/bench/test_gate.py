"""Bench `gate`: cells that do not repeat, and claims that follow from the rows alone."""

from __future__ import annotations

import pytest

from sealegs.bench.gate import BENCH, SEEDS, SWEEP, TASKS
from sealegs.bench.gate_bundles import KINDS, NOMINAL
from sealegs.bench.options import BenchOptions
from sealegs_learning.statistics import wilson_interval


def row(arm, task, *, accepted=(), refused_sound=0):
    """A policy's row in which the bad kinds `accepted` pass, and so many of 3 examinations of the sound one fail."""
    bad = [
        {"kind": kind, "size": size, "failed": [] if kind in accepted else ["slope_min"], "return": 1.0}
        for kind, size in NOMINAL.items()
    ]
    sound = [{"set": k, "failed": ["bias_max"] if k < refused_sound else []} for k in range(3)]
    return {"arm": arm, "task": task, "seed": 20, "sound": sound, "bad": bad, "return": 4.0, "success": 0.5}


def sweep(task, failed=()):
    bad = [{"kind": kind, "size": 1.0, "failed": failed, "return": 2.0} for kind in KINDS]
    return {"arm": SWEEP, "task": task, "seed": 20, "bad": bad, "return": 4.0, "success": 0.5}


def claims(rows):
    return {c.claim: c for c in BENCH.summarise(rows, BenchOptions()).claims}


def test_all_refused_and_all_passed_holds():
    found = claims([row("iql", "drawer"), row("bc", "push"), sweep("drawer", ["bias_max"])])
    assert all(claim.holds for claim in found.values())
    assert found["seeded bad bundles refused"].interval == wilson_interval(2 * len(NOMINAL), 2 * len(NOMINAL))
    assert "sound bundles that pass on push" in found


def test_one_accepted_or_one_falsely_refused_does_not():
    found = claims([row("iql", "drawer", accepted=("noisy",)), row("bc", "drawer", refused_sound=1), sweep("drawer")])
    assert not any(claim.holds for claim in found.values())
    assert found["seeded bad bundles accepted"].value == 1.0
    assert found["sound bundles that pass"].value == pytest.approx(5 / 6)


@pytest.mark.parametrize("quick", [True, False])
def test_cells_are_told_apart(quick):
    cells = BENCH.cells(BenchOptions(quick=quick))
    assert len({cell.key for cell in cells}) == len(cells)
    assert min(SEEDS) > 1, "thresholds were set with training seeds 0 and 1"
    assert {cell.task for cell in cells} <= set(TASKS)
