"""Rows about processes, each with a trial or two on real nodes. A busy machine may hold early."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="the fault rows need the extra `ros`")
pytest.importorskip("mujoco", reason="the simulated robot needs the extra `sim`")

from sealegs.faults.frame import Outcome, Trials
from sealegs.faults.rows.processes import FAULTS

ROWS = {fault.row: fault for fault in FAULTS}


def outcome_of(row: int, count: int, folder: Path) -> Outcome:
    done: list[int] = []
    run = ROWS[row].run
    assert run is not None
    outcome = run(Trials(count, folder, lambda finished, _: done.append(finished)))
    assert (outcome.trials, done[-1]) == (count, count)
    return outcome


@pytest.mark.parametrize(
    ("row", "count", "low", "high"),
    [(7, 1, 1, 400), (8, 2, 1, 400), (9, 2, 1, 1000), (17, 2, 1, 400), (18, 3, 0, 0), (40, 2, 1, 1000)],
)
def test_what_the_row_requires_is_seen(row: int, count: int, low: float, high: float, tmp_path: Path) -> None:
    outcome = outcome_of(row, count, tmp_path)
    assert outcome.failures == 0, outcome.notes
    assert len(outcome.values) == count
    assert low <= min(outcome.values) <= max(outcome.values) <= high
