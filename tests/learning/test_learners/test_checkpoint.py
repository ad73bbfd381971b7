import json
import multiprocessing
import shutil
from dataclasses import replace

import pytest
import torch

from sealegs_contract.errors import LearningError
from sealegs_learning.files import previous_of
from sealegs_learning.learners.settings import IQLSettings
from sealegs_learning.train import train
from sealegs_learning.training.checkpoint import find_checkpoint, load_checkpoint, load_policy, record_evaluation
from sealegs_learning.training.config import TrainConfig
from sealegs_learning.training.run import read_curve


@pytest.fixture
def config(point_world, tmp_path):
    return TrainConfig(
        tmp_path / "run",
        point_world.path,
        reward="constant",
        updates=60,
        hidden=(16, 16),
        batch_size=32,
        log_every=10,
        checkpoint_every=20,
    )


class KilledError(Exception):
    pass


def kill_at(update):
    def progress(done, total, figures):
        if done >= update:
            raise KilledError

    return progress


def all_tensors(folder):
    return load_checkpoint(folder).tensors


def assert_bit_equal(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("learner", ["iql", "bc"])
def test_two_runs_and_a_resumed_run_are_bit_identical(point_world, config, tmp_path, learner):
    config = replace(config, learner=learner)
    train(config, dataset=point_world)
    train(replace(config, out=tmp_path / "again"), dataset=point_world)
    expected = all_tensors(tmp_path / "run")
    assert_bit_equal(all_tensors(tmp_path / "again"), expected)

    killed = replace(config, out=tmp_path / "killed")
    with pytest.raises(KilledError):
        train(killed, kill_at(50), dataset=point_world)
    assert load_checkpoint(tmp_path / "killed").update == 40
    train(replace(killed, resume=True), dataset=point_world)
    assert_bit_equal(all_tensors(tmp_path / "killed"), expected)
    curves = [read_curve(tmp_path / run / "train.jsonl") for run in ("run", "killed")]
    for row in (row for curve in curves for row in curve):
        row.pop("seconds")
    assert curves[0] == curves[1]
    assert [row["update"] for row in curves[1]] == [10, 20, 30, 40, 50, 60]


def test_another_seed_gives_other_weights(point_world, config, tmp_path):
    train(config, dataset=point_world)
    train(replace(config, out=tmp_path / "other", seed=1), dataset=point_world)
    name = "networks.policy.actor.0.weight"
    assert not torch.equal(all_tensors(tmp_path / "run")[name], all_tensors(tmp_path / "other")[name])


def test_logging_and_checkpoints_do_not_change_the_weights(point_world, config, tmp_path):
    train(config, dataset=point_world)
    train(replace(config, out=tmp_path / "other", log_every=7, checkpoint_every=60), dataset=point_world)
    assert_bit_equal(all_tensors(tmp_path / "run"), all_tensors(tmp_path / "other"))


def test_a_loaded_policy_acts_like_the_trained_one(point_world, config):
    report = train(config, dataset=point_world)
    policy = load_policy(config.out)
    assert find_checkpoint(config.out) == report.checkpoint
    state = torch.from_numpy(point_world.state[:50])
    mean, std = policy.normalizer.mean, policy.normalizer.std
    torch.testing.assert_close(mean, state.new_tensor(point_world.state.mean(0)), atol=1e-6, rtol=1e-6)
    x = (state - mean) / std
    tensors = all_tensors(config.out)
    for layer in (0, 2, 4):
        x = x @ tensors[f"networks.policy.actor.{layer}.weight"].T + tensors[f"networks.policy.actor.{layer}.bias"]
        x = x if layer == 4 else x.clamp_min(0)
    torch.testing.assert_close(policy(state), torch.tanh(x))
    assert policy.robot == point_world.robot
    assert policy.observation_spec == point_world.observation_spec
    assert policy.action_spec == point_world.action_spec
    assert policy.task == "point"
    assert policy.provenance["dataset_fingerprint"] == point_world.fingerprint
    assert policy.provenance["reward"]["name"] == "constant"
    record_evaluation(config.out, {"success_rate": 0.5})
    assert load_policy(config.out).metrics["evaluation"] == {"success_rate": 0.5}


@pytest.mark.parametrize("name", ["weights.safetensors", "checkpoint.json"])
def test_a_damaged_checkpoint_gives_the_one_before_it(point_world, config, tmp_path, caplog, name):
    expected = all_tensors(train(config, dataset=point_world).checkpoint)
    out = tmp_path / "damaged"
    shutil.copytree(config.out, out)
    assert sorted(folder.name for folder in out.glob("checkpoint*")) == ["checkpoint", "checkpoint.old"]
    file = out / "checkpoint" / name
    content = file.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 4
    for damaged in (content[:-9], bytes(flipped), None):
        file.unlink() if damaged is None else file.write_bytes(damaged)
        caplog.clear()
        assert find_checkpoint(out) == out / "checkpoint.old"
        assert load_policy(out).provenance["update"] == 40
        assert caplog.messages == [] or str(file) in caplog.text
    train(replace(config, out=out, resume=True), dataset=point_world)
    assert_bit_equal(all_tensors(out), expected)
    assert load_checkpoint(out).folder == out / "checkpoint"
    # The whole one stays until a newer whole one has replaced it; the damaged one never takes its place.
    assert load_checkpoint(out / "checkpoint.old").update == 40
    assert (out / "checkpoint.damaged").is_dir()


def test_the_warning_names_the_damage_and_what_is_used(point_world, config, caplog):
    folder = train(config, dataset=point_world).checkpoint
    (folder / "weights.safetensors").write_bytes(b"short")
    for _ in range(2):
        load_policy(config.out)
    (said,) = caplog.messages
    assert f"{folder}/weights.safetensors is truncated or was changed: 5 bytes" in said
    assert said.endswith(f"using the one before it, {folder}.old, of update 40")


def test_training_anew_leaves_nothing_of_the_earlier_one(point_world, config):
    train(config, dataset=point_world)
    train(replace(config, overwrite=True, updates=20), dataset=point_world)
    assert [folder.name for folder in config.out.glob("checkpoint*")] == ["checkpoint"]


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_truncated_checkpoint_is_a_clear_error(point_world, config, kept):
    config = replace(config, checkpoint_every=60)  # one alone
    weights = train(config, dataset=point_world).checkpoint / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    for use in (lambda: load_policy(config.out), lambda: train(replace(config, resume=True), dataset=point_world)):
        with pytest.raises(LearningError, match="truncated or was changed"):
            use()


def test_a_damaged_description_is_a_clear_error(point_world, config):
    config = replace(config, checkpoint_every=60)  # one alone
    path = train(config, dataset=point_world).checkpoint / "checkpoint.json"
    content = path.read_text()
    path.write_text(content[: len(content) // 2])
    with pytest.raises(LearningError, match="damaged"):
        load_policy(config.out)
    path.write_text(json.dumps(json.loads(content) | {"schema_version": 99}))
    with pytest.raises(LearningError, match="version 99"):
        load_policy(config.out)
    path.write_text(json.dumps(json.loads(content) | {"update": 61}))
    with pytest.raises(LearningError, match="was changed"):
        load_policy(config.out)
    # Earlier releases wrote version 1, without a digest of the description.
    path.write_text(json.dumps(json.loads(content) | {"schema_version": 1, "description_sha256": ""}))
    assert load_policy(config.out).task == "point"
    path.write_text(json.dumps(json.loads(content) | {"schema_version": 1, "policy": {"hidden": [16, 16]}}))
    with pytest.raises(LearningError, match="does not describe a policy"):
        load_policy(config.out)


def test_a_missing_checkpoint_is_a_clear_error(tmp_path):
    with pytest.raises(LearningError, match="no checkpoint at"):
        load_policy(tmp_path / "nothing")


def test_a_kill_between_the_two_renames_leaves_the_old_checkpoint(point_world, config):
    folder = train(config, dataset=point_world).checkpoint
    shutil.rmtree(previous_of(folder))
    folder.rename(previous_of(folder))
    assert load_policy(config.out).task == "point"
    report = train(replace(config, resume=True), dataset=point_world)
    assert report.done == 60


def test_resume_refuses_another_run(point_world, config, goal_reward):
    train(config, dataset=point_world)
    with pytest.raises(LearningError, match=r"config \(iql.tau\)"):
        train(replace(config, resume=True, iql=IQLSettings(tau=0.8)), dataset=point_world)
    point_world.action[0] += 0.01
    with pytest.raises(LearningError, match="dataset_fingerprint"):
        train(replace(config, resume=True), dataset=point_world)


def test_bad_settings_are_refused(point_world, config):
    iql = {"iql.gamma": IQLSettings(gamma=1.0), "iql.tau": IQLSettings(tau=1.5)}
    changes = {"updates": {"updates": 0}, "hidden": {"hidden": (8, 0)}} | {k: {"iql": v} for k, v in iql.items()}
    for name, change in changes.items():
        with pytest.raises(LearningError, match=name):
            train(replace(config, **change), dataset=point_world)


def test_divergence_is_reported_not_saved(point_world, config):
    with pytest.raises(LearningError, match="diverged at update 10"):
        train(replace(config, learning_rate=1e30), dataset=point_world)
    assert not (config.out / "checkpoint").exists()


def _train_elsewhere(config, data):
    train(config, dataset=data)


def test_a_subprocess_gives_the_same_weights(point_world, config, tmp_path):
    train(config, dataset=point_world)
    process = multiprocessing.get_context("fork").Process(
        target=_train_elsewhere, args=(replace(config, out=tmp_path / "sub"), point_world)
    )
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert_bit_equal(all_tensors(config.out), all_tensors(tmp_path / "sub"))


def test_tensorboard_scalars(point_world, config):
    train(replace(config, tensorboard=True), dataset=point_world)
    assert list((config.out / "tensorboard").glob("events.*"))


def test_a_training_is_not_lost_by_training_again(point_world, config):
    first = all_tensors(train(config, None, point_world).checkpoint)
    with pytest.raises(LearningError, match="--resume.*--overwrite"):
        train(config, None, point_world)
    assert all(torch.equal(first[k], v) for k, v in all_tensors(config.out / "checkpoint").items())
    train(replace(config, overwrite=True, updates=20), None, point_world)
    assert load_checkpoint(config.out / "checkpoint").update == 20
