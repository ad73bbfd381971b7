"""`sealegs export` and `sealegs verify`, from a checkpoint as learning writes it to a bundle as the robot reads it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sealegs.cli import main
from sealegs.exporting import default_name, export_checkpoint, metrics_of, task_text, training_statistics
from sealegs_contract.errors import BundleError, LearningError
from sealegs_contract.robot import load_robot
from sealegs_deploy.bundle import load_bundle
from sealegs_deploy.runtime import PolicyRuntime
from sealegs_learning.networks import Normalizer, Policy
from sealegs_learning.training.checkpoint import describe_policy, load_policy, save_checkpoint
from sealegs_sim.tasks import get_task

EVALUATION = {
    "episodes": 100,
    "seed": 5000,
    "success_rate": 0.9,
    "success_interval": [0.83, 0.95],
    "mean_final_progress": 0.97,
    "final_progress_interval": [0.9, 0.99],
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    robot, task = load_robot("so101"), get_task("drawer")
    observed, moved = task.observation_spec(robot), task.action_spec(robot)
    generator = torch.Generator().manual_seed(3)
    normalizer = Normalizer(
        torch.randn(observed.size, generator=generator), torch.rand(observed.size, generator=generator) + 0.05
    )
    policy = Policy(robot, observed, moved, normalizer, (256, 256), generator, "drawer")
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    description = {
        "config": {"learner": "iql", "seed": 4, "reward": "judge"},
        "dataset_fingerprint": "ab" * 32,
        "reward": {"name": "judge", "parquet_sha256": "cd" * 32},
        "update": 10,
        "metrics": {"evaluation": EVALUATION},
        "policy": describe_policy(policy),
    }
    save_checkpoint(folder, description, {f"networks.policy.{k}": v for k, v in policy.state_dict().items()})
    return folder


@pytest.fixture(scope="module")
def exported_by_verb(checkpoint: Path, own_configuration: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "drawer.zip"
    # The run's folder works as well as the checkpoint in it.
    assert main(["export", "--policy", str(checkpoint.parent), "--out", str(out)]) == 0
    return out


def test_the_bundle_drives_as_the_checkpoint_does(checkpoint: Path, exported_by_verb: Path):
    policy = load_policy(checkpoint)
    bundle = load_bundle(exported_by_verb)
    inputs = np.random.default_rng(0).normal(size=(100, policy.observation_spec.size)).astype(np.float32)
    with torch.no_grad():
        expected = policy(torch.from_numpy(inputs)).double().numpy() * np.array(policy.action_spec.scale_rad)
    runtime = PolicyRuntime(bundle)
    np.testing.assert_allclose(np.stack([runtime.infer(row) for row in inputs]), expected, atol=1e-5)


def test_the_manifest_carries_where_it_came_from(exported_by_verb: Path):
    manifest = load_bundle(exported_by_verb).manifest
    origin = manifest.provenance
    assert manifest.name == "drawer-iql"
    assert (origin.task, origin.task_text, origin.learner) == ("drawer", get_task("drawer").text, "iql")
    assert (origin.dataset_fingerprint, origin.reward_fingerprint) == ("ab" * 32, "cd" * 32)
    assert origin.training["seed"] == 4
    generator = torch.Generator().manual_seed(3)
    said = manifest.input_statistics
    np.testing.assert_array_equal(said.mean, torch.randn(len(said.mean), generator=generator))
    np.testing.assert_array_equal(said.std, torch.rand(len(said.mean), generator=generator) + 0.05)
    assert [(m.name, m.value, m.interval, m.episodes) for m in manifest.metrics] == [
        ("success_rate", 0.9, (0.83, 0.95), 100),
        ("mean_final_progress", 0.97, (0.9, 0.99), 100),
    ]


def test_numbers_that_were_swapped_after_training_are_not_the_manifests(checkpoint: Path):
    policy = load_policy(checkpoint)
    trained = [values.copy() for values in training_statistics(policy)]
    policy.normalizer.set(policy.normalizer.mean + 1.0, policy.normalizer.std)
    np.testing.assert_array_equal(training_statistics(policy), trained)
    policy.provenance = {}  # of an earlier release
    np.testing.assert_allclose(training_statistics(policy)[0], trained[0] + 1.0)


def test_verify_says_what_it_is_and_refuses_what_was_changed(
    exported_by_verb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["verify", str(exported_by_verb), "--robot", "so101"]) == 0
    text = capsys.readouterr().out
    for part in ("verified", "drawer-iql", "trusted here", "so101, 50 Hz", "0.9 [0.83, 0.95] over 100 episodes"):
        assert part in text
    changed = tmp_path / "changed.zip"
    data = bytearray(exported_by_verb.read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    assert main(["verify", str(changed)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "changed.zip" in captured.err


def test_verify_refuses_an_unknown_signer_until_told_to_trust_it(
    exported_by_verb: Path, own_configuration: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert main(["verify", str(exported_by_verb)]) == 2
    assert "not trusted here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir()), "verifying must not make keys"
    public = own_configuration / "sealegs" / "keys" / "signing.pub"
    assert main(["verify", str(exported_by_verb), "--trust", str(public)]) == 0


def test_verify_checks_the_robot(exported_by_verb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = load_robot("so101").model_dump(mode="json")
    data["control_rate_hz"] = 100.0
    profile = tmp_path / "fast.json"
    profile.write_text(json.dumps(data))
    assert main(["verify", str(exported_by_verb), "--robot", str(profile)]) == 2
    assert "runs at 50 Hz, but robot so101 at 100 Hz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "absent", "--out", "x"], "no checkpoint at absent"),
        (["--policy", "CHECKPOINT", "--out", "x", "--key", "absent.pem"], "no signing key at absent.pem"),
        (["--policy", "CHECKPOINT", "--out", "CHECKPOINT"], "is no bundle"),
        (["--policy", "CHECKPOINT", "--out", "x", "--name", "a b"], "no name for a bundle"),
    ],
)
def test_bad_input_costs_one_line(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
):
    monkeypatch.chdir(tmp_path)
    assert main(["export", *(str(checkpoint) if word == "CHECKPOINT" else word for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert sorted(path.name for path in checkpoint.iterdir()) == ["checkpoint.json", "weights.safetensors"]
    assert not (tmp_path / "x").exists()


def test_a_damaged_checkpoint_is_not_replaced_by_the_one_before_it_unasked(
    checkpoint: Path, own_configuration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    older = json.loads((checkpoint / "checkpoint.json").read_text())
    tensors = load_file(checkpoint / "weights.safetensors")
    run, out = tmp_path / "run", tmp_path / "out"
    save_checkpoint(run / "checkpoint", older, tensors)
    save_checkpoint(run / "checkpoint", older | {"update": 20}, {k: v + 0.01 for k, v in tensors.items()})
    weights = run / "checkpoint" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    command = ["export", "--policy", str(run), "--out", str(out)]
    assert main(command) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert f"{weights} is truncated or was changed" in error
    assert f"the one before it, {run}/checkpoint.old, of update 10, is whole" in error
    shutil.rmtree(run / "checkpoint")
    assert main(command) == 2
    assert "no newest checkpoint any more" in capsys.readouterr().err
    assert not out.exists()
    save_checkpoint(run / "checkpoint", older, tensors)
    weights.write_bytes(b"")
    with pytest.raises(LearningError, match="give its folder"):
        export_checkpoint(run, out)
    assert main([*command, "--previous-if-damaged"]) == 0
    assert f"of {run}/checkpoint.old, the checkpoint before the newest one" in capsys.readouterr().out
    assert load_bundle(out).manifest.provenance.training["updates"] == 10


def test_names_and_metrics_that_do_not_exist():
    assert default_name("iql", "") == "iql"
    assert default_name("my learner/2", "open it") == "open-it-my-learner-2"
    assert task_text("unknown task") == ""
    assert metrics_of({}) == []
    with pytest.raises(BundleError, match="evaluation cannot be read"):
        metrics_of({"evaluation": {"episodes": "many"}})
