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
    for arms, seeds in ((policies.ARMS, {0, 1, 2, 3, 4}), (policies.SEEN_ARMS, {0, 1, 2})):
        found = [cell for cell in cells if cell.arm in arms]
        assert len({tuple(sorted(cell.settings.items())) for cell in found}) == 1
        assert {cell.arm for cell in found} == set(arms)
        assert {cell.seed for cell in found} == seeds
        assert all(cell.stage == 1 for cell in found)
    asked = find_bench("policies").cells(BenchOptions(seeds=(9, 7)))
    assert {cell.seed for cell in asked if cell.stage == 1} == {7, 9}
    assert {cell.seed for cell in asked if cell.stage == 0} == {7}  # makes the logs of all


def rows_of(outcomes: dict[str, list[list[int]]], task: str = "drawer") -> list[dict[str, Any]]:
    """Rows of every arm: successes by seed and episode."""
    return [
        {"arm": arm, "task": task, "seed": seed, "successes": found, "final_progress": [0.5] * len(found)}
        for arm, by_seed in outcomes.items()
        for seed, found in enumerate(by_seed)
    ]


def test_claims_by_hand() -> None:
    """Two seeds; a control that fails half the time, and arms that add successes, by seed alike or by chance."""
    half = [0, 1, 0, 1]
    outcomes = {arm: [half, half] for arm in policies.ARMS | policies.SEEN_ARMS}
    outcomes |= {"chunks 8/4": [[1, 1, 0, 1], [1, 1, 0, 1]], policies.SEEING: [[1, 1, 1, 1], half]}
    summary = policies.summarise(rows_of(outcomes), BenchOptions())
    values = {claim.claim: claim for claim in summary.claims}
    chunks = values["success: chunks 8/4 minus gaussian, paired by seed"]
    assert (chunks.value, *(chunks.interval or ())) == pytest.approx((0.25, 0.25, 0.25))
    assert values["success: bins, mean minus gaussian, paired by seed"].value == 0.0
    assert values["success: bins, mean minus gaussian, paired by seed"].holds  # no worse by a tenth
    assert not values["success: no velocities, history 4 minus no velocities, paired by seed"].holds
    seeing = values[f"success: {policies.SEEING} minus {policies.BLIND}, paired by seed"]
    # Seeds differ by .5 and 0: s / sqrt(2) = .25, t_1(.975) = 12.7062: .25 +- 3.18, cut to what a difference can be.
    assert (seeing.value, *(seeing.interval or ())) == pytest.approx((0.25, -1.0, 1.0))
    assert not seeing.holds
    lines = {line[1]: line for line in summary.tables[0].rows}
    # Seeds agree, so Wilson's of 6 in 8: (.75 + z^2/16 -+ z sqrt(.1875/8 + z^2/256)) / (1 + z^2/8), z = 1.959964.
    assert lines["chunks 8/4"][2:6] == pytest.approx([0.75, 0.409275, 0.928522, 2], abs=1e-5)
    assert lines[policies.SEEING][2:6] == pytest.approx([0.75, 0.0, 1.0, 2])  # cut to what a share can be
    assert set(summary.plots) == {"policies"}
    assert "2 seed(s) leave wide intervals" in summary.notes[-1]


def test_a_task_that_got_worse_is_shown_beside_the_mean() -> None:
    up, down = [[1, 1], [1, 1]], [[0, 1], [0, 1]]
    arms = policies.ARMS | policies.SEEN_ARMS
    rows = rows_of({arm: up if arm == "bins, mean" else [[0, 0], [0, 0]] for arm in arms})
    rows += rows_of({arm: down if arm == "bins, mean" else up for arm in policies.ARMS}, "reach")
    table = policies.summarise(rows, BenchOptions()).tables[1]
    lines = {line[2]: line[3] for line in table.rows if line[0] == "bins, mean"}
    assert lines == {"drawer": 1.0, "reach": -0.5, "mean of tasks": 0.25}


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
