"""Rows in this process, with a few trials each; and that a controller with a defect fails them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="the simulated robot needs the extra `sim`")
pytest.importorskip("rclpy", reason="the robot loop needs the extra `ros`")

from sealegs.faults.frame import Outcome, Trials
from sealegs.faults.rows import inputs
from sealegs_contract import guard, observation
from sealegs_deploy import pilot

ROWS = {fault.row: fault for fault in inputs.FAULTS}


def outcome_of(row: int, count: int, folder: Path) -> Outcome:
    run = ROWS[row].run
    assert run is not None
    return run(Trials(count, folder, lambda done, total: None))


@pytest.mark.parametrize(("row", "count"), [(13, 60), (14, 30), (15, 6), (16, 6)])
def test_what_the_row_requires_is_seen(row: int, count: int, tmp_path: Path) -> None:
    outcome = outcome_of(row, count, tmp_path)
    assert (outcome.trials, outcome.failures) == (count, 0), outcome.notes
    assert set(outcome.values) == {13: {0.0}, 14: set(), 15: {1.0}, 16: {0.0}}[row]


def by_index(names: tuple[str, ...], values: np.ndarray, wanted: tuple[str, ...]) -> np.ndarray:
    return values[..., : len(wanted)]


def test_a_defect_is_counted_as_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation, "reorder", by_index)
    monkeypatch.setattr(pilot, "check_fits", lambda manifest, robot: None)
    mapped = outcome_of(13, 20, tmp_path)
    assert mapped.failures >= 10
    assert "mapped wrongly" in mapped.notes[0]
    assert outcome_of(14, 10, tmp_path).failures == 10


def test_a_guard_without_limits_is_counted_as_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unlimited(
        joints: object, rows: list[list[float]], kept: object, targets: list[float], relative: bool
    ) -> list[bool]:
        rows[1], rows[0] = [target - x for target, x in zip(targets, rows[0], strict=True)], list(targets)
        return [False] * len(targets)

    monkeypatch.setattr(guard, "advance", unlimited)
    fast = outcome_of(15, 3, tmp_path)
    assert fast.failures == 3
    assert min(fast.values) > 1.0
    assert outcome_of(16, 3, tmp_path).failures > 0
