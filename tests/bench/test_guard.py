"""Bench `guard`: what its claims say of known rows, that its fuzz sees a guard that does nothing, and its streams."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sealegs.bench import guard as bench
from sealegs.bench.frame import Cell, CellContext
from sealegs.bench.guard_claims import BATCH, CLIP, COST, FUZZ, GUARD, PEER, STREAMS
from sealegs.bench.options import BenchOptions
from sealegs_contract import guard as contract


def rows(us: float, violations: int) -> list[dict[str, Any]]:
    def timed(value: float) -> dict[str, Any]:
        return {"p50": value, "p99": 2 * value, "rounds_p50": [value, value]}

    callers = {GUARD: timed(us), PEER: timed(4.0), CLIP: timed(5.0)}
    return [
        {"arm": COST, "task": "noise", "seed": 0, "callers": callers, "limited": 1, "failed_peer": 3},
        {"arm": BATCH, "task": "4", "seed": 0, "size": 4, **timed(6.0)},
        {"arm": FUZZ, "task": "so101", "seed": 0, "commands": 3_000, "runs": 9, "violations": violations},
    ]


def test_claims_are_what_the_rows_say() -> None:
    good = bench.summarise(rows(12.0, 0), BenchOptions())
    assert {claim.claim: (claim.value, claim.interval, claim.holds) for claim in good.claims} == {
        "seven joints, targets noise: a command, p50, us": (12.0, (12.0, 12.0), True),
        "so101: share of 3,000 fuzzed commands that break a limit": (0.0, (0.0, 0.001), True),
    }
    assert good.tables[0].rows == [
        ["noise", GUARD, 12.0, 24.0, ""], ["noise", PEER, 4.0, 8.0, 3.0], ["noise", CLIP, 5.0, 10.0, 2.4],
    ]  # fmt: skip
    assert good.tables[1].rows == [[4, 6.0, 12.0]]
    assert any("failed on 3 targets" in note for note in good.notes)
    assert [claim.holds for claim in bench.summarise(rows(20.0, 1), BenchOptions()).claims] == [False, False]


def test_the_fuzz_finds_nothing_but_what_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = CellContext(BenchOptions(), tmp_path, {}, lambda done, total: None)
    for robot in bench.ROBOTS:
        row = bench.run_cell(Cell(FUZZ, robot, 0, {"commands": 600}), context)
        assert (row["commands"], row["violations"], row["problems"]) == (600, 0, [])
    monkeypatch.setattr(contract, "next_step", lambda x, s, c, target, before, joint, relative: (target - x, 0.0))
    problems = bench.fuzz_run(random.Random(0), bench.limits_of("so101"), 200)
    assert any("jerk exceeded" in one for one in problems)
    assert any("no stop was possible" in one for one in problems)


def test_streams_are_what_their_names_say() -> None:
    limits = bench.limits_of("seven joints")
    drawn = {one: bench.targets_of(one, np.random.default_rng(0), limits, 2_000) for one in STREAMS}
    assert {one.shape for one in drawn.values()} == {(2_000, 7)}
    assert set(drawn["between the limits"][:, 0]) == {limits.position_min[0], limits.position_max[0]}
    assert np.abs(np.diff(drawn["following"], axis=0) / bench.PERIOD_S).max() < limits.velocity_max.max()
    over = 0.05 * (limits.position_max - limits.position_min) + 1e-9
    assert (drawn["random walk"] >= limits.position_min - over).all()
    assert (drawn["random walk"] <= limits.position_max + over).all()
    with pytest.raises(ValueError, match="no stream 'jazz'; available: "):
        bench.targets_of("jazz", np.random.default_rng(0), limits, 3)


def test_batch_cells_are_timed_by_robot(tmp_path: Path) -> None:
    context = CellContext(BenchOptions(), tmp_path, {}, lambda done, total: None)
    row = bench.run_cell(Cell(BATCH, "16", 0, {"rounds": 2, "commands": 96}), context)
    assert row["size"] == 16
    assert 0.0 < row["p50"] <= row["p99"]
