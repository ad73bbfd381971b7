"""The rows about datasets, with a handful of trials; and that each of them can fail."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the bags are made with the extra `ros`")

from sealegs.faults.frame import Trials
from sealegs.faults.hostile import payloads as hostile
from sealegs.faults.rows import data
from sealegs.faults.tools.children import answer


def trials(folder: Path, count: int) -> Trials:
    return Trials(count, folder, lambda done, total: None)


def test_killed_imports_leave_the_old_or_the_new_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = data.run_killed_import(trials(tmp_path / "a", 6))
    assert (outcome.failures, list(outcome.values)) == (0, [0.0] * 6), outcome.notes
    monkeypatch.setattr(data, "opened", lambda path: ("read", "of something else"))
    outcome = data.run_killed_import(trials(tmp_path / "b", 1))
    assert (outcome.failures, list(outcome.values)) == (1, [1.0])


def test_hostile_datasets_are_refused(tmp_path: Path) -> None:
    count = len(hostile.SPOILS)
    outcome = data.run_hostile(trials(tmp_path, count))
    assert (outcome.trials, outcome.failures, len(outcome.values)) == (count, 0, count), outcome.notes
    assert 0 < max(outcome.values) < data.LIMIT_MIB


def test_other_content_and_a_sign_outside_are_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    data.import_([str(data.make_bag(tmp_path / "bag", 9))], str(other))

    def exchange(dataset: Path, outside: Path, rng: np.random.Generator) -> None:
        shutil.rmtree(dataset)
        shutil.copytree(other, dataset)

    monkeypatch.setattr(hostile, "SPOILS", (exchange,))
    outcome = data.run_hostile(trials(tmp_path / "run", 1))
    assert outcome.failures == 1
    assert "another content" in outcome.notes[1]


def test_an_error_of_no_type_and_too_much_memory_are_seen() -> None:
    assert answer(int, "x", limit_mib=64).error.startswith("ValueError")
    assert answer(bytes, 1 << 30, limit_mib=64).error.startswith("MemoryError")
    found = answer(len, bytes(1 << 20), limit_mib=64)
    assert (found.value, found.error) == (1 << 20, "")
