"""Rows about streams, time and relays, each with a trial or two on real nodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the fault rows need the extra `ros`")
pytest.importorskip("mujoco", reason="the simulated robot needs the extra `sim`")

from sealegs.faults.frame import Outcome, Trials
from sealegs.faults.rows import relays, streams
from sealegs_contract.robot import load_robot
from sealegs_contract.sample import CommandSample

ROWS = {fault.row: fault for fault in (*streams.FAULTS, *relays.FAULTS)}
LEGAL_STEP_RAD = 3.0 * 0.02  # velocity limit times period


def outcome_of(row: int, count: int, folder: Path) -> Outcome:
    run = ROWS[row].run
    assert run is not None
    return run(Trials(count, folder, lambda done, total: None))


@pytest.mark.parametrize(
    ("row", "count", "low", "high"),
    [(1, 3, 1, 400), (2, 1, 1, 400), (10, 1, 0, 0), (11, 1, 0, 1000), (12, 2, 1e-4, LEGAL_STEP_RAD)],
)
def test_what_the_row_requires_is_seen(
    row: int, count: int, low: float, high: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HOGGED_S", 1.0)
    outcome = outcome_of(row, count, tmp_path)
    assert (outcome.trials, outcome.failures) == (count, 0), outcome.notes
    assert len(outcome.values) == count
    assert low <= min(outcome.values) <= max(outcome.values) <= high


def test_relays_that_lose_and_reorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "TRIAL_S", 3.0)
    outcome = outcome_of(3, 1, tmp_path)
    assert outcome.failures == 0, outcome.notes
    (refused,) = (note for note in outcome.notes if note.startswith("older commands"))
    assert float(refused.rsplit(" ", 1)[1]) > 0, "the relay reordered nothing"


def test_what_counts_as_stale() -> None:
    assert relays.records([10, 20, 20, 15, 30, 25, 40]) == 4
    robot = load_robot("so101")

    def command(number: int) -> CommandSample:
        position = relays.coded_pose()
        position[robot.joint_names.index(relays.CODED)] += relays.STEP_RAD * number
        return CommandSample(number, robot.joint_names, position[None], (1,))

    assert relays.backward_steps([command(n) for n in (0, 1, 4, 4, 9)]) == 0
    assert relays.backward_steps([command(n) for n in (0, 3, 2, 5, 4)]) == 2


def test_a_channel_loses_doubles_and_reorders_alike_for_a_seed() -> None:
    def run(seed: int) -> list[int]:
        sent: list[int] = []
        channel = relays.Channel(sent.append, seed)
        for number in range(2000):
            channel.take(number)
        return sent

    sent = run(1)
    assert sent == run(1) != run(2)
    # At once: those neither lost nor late, and the doubled ones among them.
    assert len(sent) == pytest.approx(2000 * 0.7 * 1.1 * 0.7, rel=0.1)
    assert (np.diff(sent) == 0).any()
