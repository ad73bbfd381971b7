"""The row about killed trainings: that it counts a run that ends otherwise. The kills: test_kill.py, test_resume.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="the logs are made with the extra `ros`")

from sealegs.faults.frame import Trials
from sealegs.faults.rows import training


def test_a_run_that_ends_with_other_weights_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, Any]] = [
        {"weights_equal": 1.0, "curve_equal": 1.0, "kills": 2, "lost": 70},
        {"weights_equal": 0.0, "curve_equal": 1.0, "kills": 2, "lost": 10},
        {"weights_equal": 1.0, "curve_equal": 1.0, "kills": 0, "lost": 0},
    ]
    monkeypatch.setattr(training, "run_cell", lambda cell, context: rows[cell.seed])
    outcome = training.run_killed_training(Trials(3, tmp_path / "run", lambda done, total: None))
    assert (outcome.failures, list(outcome.values)) == (2, [70.0, 10.0, 0.0])
    assert "trial 1 (iql): 2 kills, other weights" in outcome.notes[1]
