"""Bench `policies`: arms differ only in what they are named for, claims are what the rows say, and an arm runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sealegs.bench import find_bench, policies
from sealegs.bench.frame import Cell
from sealegs.bench.options import BenchOptions
from sealegs.bench.runner import run_bench


def test_every_arm_has_the_same_logs_updates_and_starts() -> None:
    cells = find_bench("policies").cells(BenchOptions())
    for arms in (policies.ARMS, policies.SEEN_ARMS):
        found = [cell for cell in cells if cell.arm in arms]
        assert len({tuple(sorted(cell.settings.items())) for cell in found}) == 1
        assert {cell.arm for cell in found} == set(arms)
        assert {cell.seed for cell in found} == {0, 1, 2}
        assert all(cell.stage == 1 for cell in found)


def test_claims_by_hand() -> None:
    """One task; a control that fails half the time, and an arm that only adds successes."""
    outcomes = {arm: [0, 1, 0, 1] for arm in policies.ARMS | policies.SEEN_ARMS}
    outcomes |= {"chunks 8/4": [1, 1, 0, 1], policies.SEEING: [1, 1, 1, 1]}
    rows: list[dict[str, Any]] = [
        {"arm": arm, "task": "drawer", "seed": 0, "successes": found, "final_progress": [0.5] * 4}
        for arm, found in outcomes.items()
    ]
    summary = policies.summarise(rows, BenchOptions())
    values = {claim.claim: claim for claim in summary.claims}
    assert values["success: chunks 8/4 minus gaussian, paired"].value == pytest.approx(0.25)
    assert values["success: bins, mean minus gaussian, paired"].value == 0.0
    assert values["success: bins, mean minus gaussian, paired"].holds  # no worse by a tenth
    assert not values["success: no velocities, history 4 minus no velocities, paired"].holds
    assert values[f"success: {policies.SEEING} minus {policies.BLIND}, paired"].value == pytest.approx(0.5)
    lines = {line[1]: line for line in summary.tables[0].rows}
    assert lines["chunks 8/4"][2] == pytest.approx(0.75)
    assert 0.3 < float(lines["chunks 8/4"][3]) < 0.35  # Wilson's interval of 3 of 4: [.301, .954]
    assert set(summary.plots) == {"policies"}


def test_a_cell_of_every_kind_runs(tmp_path: Path) -> None:
    def small(cell: Cell) -> Cell:
        short = {"updates": 2, "batch": 8} if cell.stage else {}
        return replace(cell, settings={**cell.settings, **short, "episodes": 1})

    wanted = (policies.DATA, policies.SEEN_DATA, "bins, mode", "no velocities, history 4", policies.SEEING)

    def cells(options: BenchOptions) -> list[Cell]:
        return [small(cell) for cell in policies.cells(options) if cell.arm in wanted]

    from rich.console import Console

    options = BenchOptions(quick=True, work=tmp_path, tasks=("drawer",))
    bench = replace(policies.BENCH, cells=cells)
    rows = run_bench("policies", options, Console(quiet=True), bench=bench)
    learned = {row["arm"]: row for row in rows if "successes" in row}
    assert set(learned) == set(wanted[2:])
    assert all(len(row["successes"]) == len(row["final_progress"]) == 1 for row in learned.values())
