"""Rows of bad actions in this process, with a few trials each; and that a defect of the product fails them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="the simulated robot needs the extra `sim`")
pytest.importorskip("rclpy", reason="the robot loop needs the extra `ros`")

from sealegs.faults.frame import Outcome, Trials
from sealegs.faults.rows import guarding
from sealegs_contract import guard, guard_joint
from sealegs_contract.action import ActionDecoder

ROWS = {fault.row: fault for fault in guarding.FAULTS}


def outcome_of(row: int, count: int, folder: Path) -> Outcome:
    run = ROWS[row].run
    assert run is not None
    return run(Trials(count, folder, lambda done, total: None))


@pytest.mark.parametrize(("row", "count"), [(4, 250), (5, 4000), (6, 3)])
def test_what_the_row_requires_is_seen(row: int, count: int, tmp_path: Path) -> None:
    outcome = outcome_of(row, count, tmp_path)
    assert outcome.trials >= count
    assert outcome.failures == 0, outcome.notes
    if row == 6:
        assert len(set(outcome.values)) == 3
        assert 0.0 < max(outcome.values) < 200.0  # mrad: a servo without integral part gives way
    else:
        assert outcome.values == [0.0]


def test_values_that_are_let_pass_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActionDecoder, "decode", lambda self, output, previous, measured: np.nan_to_num(measured))
    decoded = outcome_of(4, 8, tmp_path)
    assert decoded.failures == 8
    assert "the decoder made a target of it" in decoded.notes[0]


def test_a_guard_that_clamps_first_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "isfinite", lambda value: True)
    clamped = outcome_of(4, 40, tmp_path)
    assert clamped.failures > 10
    assert "the guard followed it" in clamped.notes[0]


def test_commands_beyond_the_limits_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_joint, "safe_change", lambda c, x, s, low, high, joint: min(max(c, low), high))
    assert outcome_of(5, 4000, tmp_path).failures > 0
    monkeypatch.setattr(guard, "next_step", lambda x, s, c, target, before, joint, relative: (target - x, 0.0))
    harmed = outcome_of(6, 2, tmp_path)
    assert harmed.failures == 2
    assert "exceeded" in harmed.notes[0] or "failed" in harmed.notes[0] or "bounds" in harmed.notes[0]
