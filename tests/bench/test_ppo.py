"""Bench `ppo`: both sides get the same settings, claims are what the rows say, and our side runs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sealegs.bench import find_bench, ppo
from sealegs.bench.frame import Cell, CellContext
from sealegs.bench.options import BenchOptions

FULL = BenchOptions()


def row(arm: str, task: str, seed: int, final: float, seconds: float, success: bool = True) -> dict[str, Any]:
    curve = [[2048, 0.0], [4096, final]]
    return {
        "arm": arm, "task": task, "seed": seed, "steps": 4096, "train_seconds": seconds, "cpu_seconds": seconds,
        "curve": curve, "returns": [final, final], "successes": [success, True], "seconds": seconds,
    }  # fmt: skip


def test_arms_differ_only_in_what_they_are_named_for() -> None:
    cells = find_bench("ppo").cells(FULL)
    assert {cell.seed for cell in cells} == {0, 1, 2}
    for task in ("HalfCheetah-v5", "Hopper-v5", "reach", ppo.LARGE_TASK):
        arms = {cell.arm: dict(cell.settings) for cell in cells if cell.task == task and cell.seed == 1}
        assert arms[ppo.OURS] == arms[ppo.PEER]
        assert arms[ppo.OURS]["envs"] == 8
    cheetah = {cell.arm: dict(cell.settings) for cell in cells if cell.task == "HalfCheetah-v5" and cell.seed == 0}
    assert cheetah[ppo.ADAPTIVE] == {**cheetah[ppo.OURS], "target_kl": 0.01}
    assert cheetah[ppo.TWO_THREADS] == {**cheetah[ppo.OURS], "threads": 2}
    assert {cell.task for cell in cells} >= {"reach", "push", "drawer"}


def test_arms_stand_side_by_side() -> None:
    cells = ppo.cells(FULL)
    for first, second in pairwise(cells):
        if second.arm == ppo.PEER:
            assert (first.arm, first.task, first.seed) == (ppo.OURS, second.task, second.seed)


def test_claims_by_hand() -> None:
    rows = [
        row(ppo.OURS, "HalfCheetah-v5", 0, 1200.0, 1.0),
        row(ppo.PEER, "HalfCheetah-v5", 0, 1000.0, 4.0),
        row(ppo.OURS, "HalfCheetah-v5", 1, 1000.0, 1.0),
        row(ppo.PEER, "HalfCheetah-v5", 1, 1000.0, 2.0),
        row(ppo.OURS, "drawer", 0, 150.0, 1.0),
        row(ppo.OURS, "drawer", 1, 150.0, 1.0, success=False),
    ]
    summary = ppo.summarise(rows, FULL)
    final, no_worse, area, _, speed, of_cpu, success = summary.claims
    assert final.value == pytest.approx(0.1)  # (200 + 0) / 2 over 1000
    assert area.value == pytest.approx(0.1)
    assert speed.value == pytest.approx(3.0)
    assert not speed.holds  # of two seeds that differ by 2 the low end is far below 3
    assert of_cpu.value == pytest.approx(3.0)
    assert success.value == pytest.approx(0.75)
    assert not success.holds
    # Student's interval of 0.2 and 0: 0.1 +- 12.706 * 0.1414 / sqrt(2)
    assert tuple(final.interval or ()) == pytest.approx((0.1 - 1.2706, 0.1 + 1.2706), abs=1e-3)
    assert final.holds
    assert (no_worse.value, no_worse.interval, no_worse.holds) == (final.value, final.interval, False)
    assert set(summary.plots) == {"learning", "speed"}
    assert [line[:2] for line in summary.tables[0].rows] == [
        ["HalfCheetah-v5", ppo.OURS], ["HalfCheetah-v5", ppo.PEER], ["drawer", ppo.OURS]
    ]  # fmt: skip


def test_one_seed_leaves_what_needs_an_interval_open() -> None:
    rows = [row(arm, "HalfCheetah-v5", 0, 1000.0, seconds) for arm, seconds in ((ppo.OURS, 1.0), (ppo.PEER, 4.0))]
    *gains, speed, _ = ppo.summarise(rows, FULL).claims
    assert [(gain.value, gain.holds) for gain in gains] == [(None, False)] * 4
    assert (speed.value, speed.interval) == (pytest.approx(4.0), None)


def test_five_percent_less_on_every_seed_is_worse_but_not_by_a_tenth() -> None:
    rows = [
        row(arm, "HalfCheetah-v5", seed, final, seconds)
        for seed in (0, 1)
        for arm, final, seconds in ((ppo.OURS, 950.0, 1.0), (ppo.PEER, 1000.0, 3.5))
    ]
    claims = ppo.summarise(rows, FULL).claims
    assert [(claim.target, claim.holds) for claim in claims] == [
        (">= 0", False), ("low > -0.1", True), (">= 0", False), ("low > -0.1", True), ("low >= 3", True),
        ("low >= 3", True),
    ]  # fmt: skip


def test_the_large_minibatch_alone_is_a_comparison_of_speed() -> None:
    rows = [row(arm, ppo.LARGE_TASK, 0, 1.0, seconds) for arm, seconds in ((ppo.OURS, 1.0), (ppo.PEER, 3.5))]
    summary = ppo.summarise(rows, FULL)
    assert [claim.value for claim in summary.claims] == pytest.approx([3.5, 3.5])
    assert set(summary.plots) == {"speed"}


def test_our_side_runs(tmp_path: Path) -> None:
    settings = {**ppo.SHARED, "env": "Hopper-v5", "steps": 1024, "horizon": 64, "hidden": [8, 8]}
    told: list[tuple[int, int]] = []
    options = BenchOptions(work=tmp_path)
    context = CellContext(options, tmp_path, {}, lambda done, total: told.append((done, total)))
    found = ppo.run_cell(Cell(ppo.OURS, "Hopper-v5", 0, settings), context)
    assert found["steps"] == 1024
    assert len(found["returns"]) == ppo.EVALUATION_EPISODES
    assert [step for step, _ in found["curve"]] == [512, 1024]
    assert told[-1] == (1024, 1024)
