"""The row about damaged checkpoints: that nothing is lost, and that a loss would be counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from sealegs.faults.frame import Trials
from sealegs.faults.rows import checkpoints
from sealegs_learning.training import checkpoint


def trials(count: int, folder: Path) -> Trials:
    return Trials(count, folder / "run", lambda done, total: None)


def test_the_newest_whole_checkpoint_is_always_found(tmp_path: Path) -> None:
    outcome = checkpoints.damage_checkpoints(trials(8, tmp_path))
    assert outcome.failures == 0, outcome.notes
    assert 1 <= sum(outcome.values) <= 4


def test_what_a_product_without_a_second_checkpoint_loses_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "previous_of", lambda path: path.with_name("nowhere"))
    outcome = checkpoints.damage_checkpoints(trials(6, tmp_path))
    assert outcome.failures >= 1
    assert "LearningError" in outcome.notes[1]
