"""A policy with a camera, history and chunks, driven over ROS by the verb that users call."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sealegs.cli import main
from sealegs_contract.robot import load_robot
from sealegs_contract.selection import select_fields
from sealegs_contract.spec import ImageField
from sealegs_contract.temporal import TemporalSpec
from sealegs_deploy.export import ExportRequest, export_bundle
from sealegs_deploy.manifest import Provenance
from sealegs_deploy.signing import own_key
from sealegs_learning.networks import Normalizer
from sealegs_learning.policies.cloned import ClonedPolicy
from sealegs_sim.tasks import get_task

ROBOT, TASK = load_robot("so101"), get_task("reach")
TEMPORAL = TemporalSpec(history=2, chunk=8, execute=4, image_delay=1)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An untrained policy from joints and the front camera, signed."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    torch.set_num_threads(1)
    image = ImageField(camera="front", height=30, width=40)
    seen = select_fields(TASK.observation_spec(ROBOT), ("joint_position", "joint_velocity"), (image,))
    size = TEMPORAL.history * seen.size
    empty = Normalizer(torch.zeros(size), torch.ones(size))
    policy = ClonedPolicy(
        ROBOT, seen, TASK.action_spec(ROBOT), empty, (16,), torch.Generator().manual_seed(0), "reach", TEMPORAL, bins=11
    )
    request = ExportRequest(
        name="seeing", robot=ROBOT, observation=seen, action=TASK.action_spec(ROBOT), temporal=TEMPORAL,
        provenance=Provenance(task="reach"),
    )  # fmt: skip
    export_bundle(policy.eval(), request, tmp_path / "bundle", own_key())
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
