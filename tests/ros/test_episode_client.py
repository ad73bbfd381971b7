"""The client that runs episodes waits for a slow robot, and says why when it stands still."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sealegs import episode_client as client_module
from sealegs.commands.drive import _too_slow
from sealegs.drive import DriveOutcome, episode_client, last_complaint
from sealegs_contract.errors import BackendError, LaunchError
from sealegs_contract.robot import load_robot
from sealegs_sim.tasks import get_task

PATIENCE_S = 5.0
SLOWNESS = 0.18


def test_a_slow_robot_is_waited_for_and_one_that_stands_still_is_named(
    start_node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    robot, task = load_robot("so101"), get_task("reach")
    monkeypatch.setattr(client_module, "STREAM_TIMEOUT_S", PATIENCE_S)
    node = start_node("robot_node", task="reach", images=False, real_time_factor=SLOWNESS)
    nominal_s = task.horizon_steps / robot.control_rate_hz
    assert nominal_s / SLOWNESS > 2.0 * nominal_s + PATIENCE_S, "slow enough for the test to mean anything"
    gone: list[str] = []

    def check() -> None:
        if gone:
            raise LaunchError(gone[0])

    with episode_client(robot, task, None, check) as client:
        result = client.run_episode(3, lambda: None, lambda: None)
        assert (result.seed, result.steps, result.ended) == (3, task.horizon_steps, "horizon")
        try:
            with pytest.raises(BackendError, match=r"stands still at step \d+ of 200: no joint_states for 5 s"):
                client.run_episode(4, lambda: node.process.send_signal(signal.SIGSTOP), lambda: None)
            gone.append("process policy_node-2 ended with code 2")
            with pytest.raises(LaunchError, match="policy_node-2 ended"):
                client.trigger("policy_node/arm")
        finally:
            os.kill(node.process.pid, signal.SIGCONT)


def test_the_newest_complaint_of_a_node(tmp_path: Path):
    assert last_complaint(tmp_path, "robot_node") == ""
    lines = ("[INFO] [1.0] [robot_node]: ready", "[WARN] [2.0] [robot_node]: command ignored: expired", "more")
    (tmp_path / "robot_node-1.log").write_text("\n".join(lines))
    (tmp_path / "policy_node-2.log").write_text("[ERROR] [3.0] [policy_node]: not configured: no bundle")
    assert last_complaint(tmp_path, "robot_node") == "command ignored: expired"
    assert last_complaint(tmp_path, "policy_node") == "not configured: no bundle"


def test_commands_that_came_too_late_are_told_with_the_figures():
    assert _too_slow(DriveOutcome(())) == []
    assert _too_slow(DriveOutcome((), robot_timing={"commands_accepted": 999, "commands_expired": 1})) == []
    (line,) = _too_slow(DriveOutcome((), robot_timing={"commands_accepted": 60, "commands_expired": 40}))
    assert "40 of 100 commands came too late" in line
    (line,) = _too_slow(DriveOutcome((), robot_timing={"commands_accepted": 200, "commands_late": 3}))
    assert "3 of 200 commands came after their tick" in line
