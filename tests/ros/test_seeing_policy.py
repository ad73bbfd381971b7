"""A policy with a camera, history and chunks, driven over ROS by the verb that users call."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from sealegs.cli import main
from sealegs.faults.live.nodes import patient
from sealegs_contract.robot import load_robot
from sealegs_contract.selection import select_fields
from sealegs_contract.spec import ImageField
from sealegs_contract.temporal import TemporalSpec
from sealegs_deploy.export import ExportRequest, export_bundle
from sealegs_deploy.manifest import Provenance
from sealegs_deploy.signing import own_key
from sealegs_learning.networks import Normalizer
from sealegs_learning.policies.acting import PolicyActor
from sealegs_learning.policies.cloned import ClonedPolicy
from sealegs_ros import conversions, qos
from sealegs_sim.env import SealegsEnv
from sealegs_sim.tasks import get_task

ROBOT, TASK = load_robot("so101"), get_task("reach")
TEMPORAL = TemporalSpec(history=2, chunk=8, execute=4, image_delay=1)


SEED, TICKS = 5, 60


@pytest.fixture
def policy() -> ClonedPolicy:
    """An untrained one from joints and the front camera; larger weights make it move."""
    torch.set_num_threads(1)
    image = ImageField(camera="front", height=30, width=40)
    seen = select_fields(TASK.observation_spec(ROBOT), ("joint_position", "joint_velocity"), (image,))
    size = TEMPORAL.history * seen.size
    empty = Normalizer(torch.zeros(size), torch.ones(size))
    made = ClonedPolicy(
        ROBOT, seen, TASK.action_spec(ROBOT), empty, (16,), torch.Generator().manual_seed(0), "reach", TEMPORAL, bins=11
    )
    for weights in made.parameters():
        weights.data *= 3.0
    return made.eval()


@pytest.fixture
def bundle(policy: ClonedPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The policy, signed."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    request = ExportRequest(
        name="seeing", robot=ROBOT, observation=policy.observation_spec, action=policy.action_spec, temporal=TEMPORAL,
        provenance=Provenance(task="reach"),
    )  # fmt: skip
    export_bundle(policy, request, tmp_path / "bundle", own_key())
    return tmp_path / "bundle"


def test_drive_runs_a_bundle_that_sees(bundle: Path, tmp_path: Path):
    out, logs = tmp_path / "outcome.json", tmp_path / "logs"
    arguments = ["--bundle", str(bundle), "--task", "reach", "--episodes", "1", "--out", str(out), "--logs", str(logs)]
    assert main(["drive", *arguments]) == 0
    outcome = json.loads(out.read_text())
    (episode,) = outcome["episodes"]
    timing = outcome["timing"]
    assert episode["steps"] >= 150
    assert timing["commands"] >= 150
    assert timing["malformed"] == 0
    asked, commands = timing["inference"]["count"], timing["commands"]
    assert commands / 4 <= asked <= commands / 4 + 0.2 * commands, "the policy is asked once in four periods"
    text = "".join(path.read_text(errors="replace") for path in logs.rglob("policy_node*.log"))
    assert "sample refused" not in text
    assert "HOLD" not in text


def states_in_process(policy: ClonedPolicy) -> np.ndarray:
    """Joint positions and velocities (TICKS, 12) of the episode from SEED."""
    env = SealegsEnv(TASK, ROBOT)
    actor = PolicyActor(policy, env)
    observation, _ = env.reset(seed=SEED)
    states = [observation]
    while len(states) < TICKS:
        states.append(env.step(actor.act(states[-1][None])[0])[0])
    actor.close()
    env.close()
    return np.stack(states)[:, :12]


def states_served(client: Any) -> np.ndarray:
    """The same over ROS: reset, an arbitrary while until it is armed, then counted from what the first command answers.

    In lockstep, so that a slow machine changes nothing.
    """
    joints: list[JointState] = client.collect(JointState, "joint_states", qos.RECORD)
    commands: list[JointTrajectory] = client.collect(JointTrajectory, "joint_trajectory", qos.RECORD)
    assert client.call(Trigger, "/robot_node/reset").success
    client.spin_for(0.3)
    commands.clear()
    client.spin_until(lambda: client.call(Trigger, "/policy_node/arm").success, what="the streams, then armed")

    def episode() -> list[JointState]:
        began = conversions.to_ns(commands[0].header.stamp) if commands else 2**62
        return [message for message in joints if conversions.to_ns(message.header.stamp) >= began]

    client.spin_until(lambda: len(episode()) >= TICKS, what="the episode")
    assert client.call(Trigger, "/policy_node/disarm").success
    return np.array([[*message.position, *message.velocity] for message in episode()[:TICKS]])


def test_served_episode_is_the_in_process_one_tick_by_tick(
    policy: ClonedPolicy, bundle: Path, client: Any, start_node: Callable[..., Any], tmp_path: Path
) -> None:
    start_node("robot_node", robot=patient(ROBOT, tmp_path), task="reach", seed=SEED, lockstep=True)
    start_node("policy_node", policy_path=bundle, autostart=True, use_sim_time=True)
    expected = states_in_process(policy)
    assert np.abs(expected - expected[0]).max() > 0.5, "the arm should move"
    served = states_served(client)
    np.testing.assert_array_equal(served[0].astype(np.float32), expected[0])
    np.testing.assert_allclose(served, expected, rtol=0, atol=1e-4)
