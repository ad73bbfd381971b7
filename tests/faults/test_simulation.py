"""The simulator is driven apart, and a simulator that does not notice fails the row."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("mujoco", reason="diverges in the simulator")
pytest.importorskip("rclpy", reason="writes bags")

from sealegs.faults.frame import Outcome, Trials
from sealegs.faults.rows import simulation


def outcome(count: int, folder: Path) -> Outcome:
    fault = next(fault for fault in simulation.FAULTS if fault.row == 20)
    assert fault.run is not None
    return fault.run(Trials(count, folder, lambda done, total: None))


def test_a_divergence_stops_the_episode_and_stores_nothing_of_it(tmp_path: Path) -> None:
    found = outcome(4, tmp_path)
    assert (found.trials, found.failures, list(found.values)) == (4, 0, [0.0] * 4)
    assert not list(tmp_path.iterdir())


def test_rows_of_a_divergence_that_stay_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sealegs_ros.bag.BagWriter.discard", lambda writer: writer.close())
    found = outcome(1, tmp_path / "kept")
    assert (found.failures, found.notes[0]) == (1, "in 1 of 1 trials: the folder holds episode_0000, episode_0001")
    monkeypatch.setattr("sealegs_sim.simulation.diverged", lambda qpos, qvel: False)
    found = outcome(1, tmp_path / "unnoticed")
    assert (found.failures, found.notes[0]) == (1, "in 1 of 1 trials: bad rows were stored")
    assert min(found.values) > 0
