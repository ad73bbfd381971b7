import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sealegs_contract.errors import LearningError
from sealegs_learning.learners.settings import FinetuneSettings, IQLSettings
from sealegs_learning.reward.sidecar import Reward
from sealegs_learning.sessions import offline
from sealegs_learning.together import train_together
from sealegs_learning.train import train
from sealegs_learning.training.checkpoint import load_checkpoint, load_policy
from sealegs_learning.training.config import TrainConfig


@pytest.fixture
def dataset(point_world, goal_reward, monkeypatch):
    values = goal_reward(point_world.state)
    monkeypatch.setattr(offline, "read_reward", lambda data, name: Reward(values, np.zeros_like(values)))
    monkeypatch.setattr(offline, "describe_reward", lambda data, name: {"name": name})
    return point_world


def settings(out: Path, seed: int, **values) -> TrainConfig:
    iql = IQLSettings(gamma=0.9, tau=0.6 + 0.1 * seed)
    values = {"hidden": (32, 32), "updates": 60, "log_every": 20, "learning_rate": 3e-4 * (1 + seed)} | values
    return TrainConfig(out / str(seed), seed=seed, iql=iql, **values)


def test_each_run_has_its_folder_as_if_by_itself(dataset, tmp_path):
    alone = [train(settings(tmp_path / "alone", seed), dataset=dataset) for seed in range(3)]
    together = train_together([settings(tmp_path / "together", seed) for seed in range(3)], dataset=dataset)
    x = torch.from_numpy(dataset.state[:50])
    policies = [load_policy(report.checkpoint) for report in together]
    for policy, one, report in zip(policies, alone, together, strict=True):
        torch.testing.assert_close(policy(x), load_policy(one.checkpoint)(x), atol=1e-3, rtol=1e-3)
        curves = [r.checkpoint.parent / "train.jsonl" for r in (one, report)]
        rows = [[json.loads(line) for line in curve.read_text().splitlines()] for curve in curves]
        assert [row["update"] for row in rows[1]] == [20, 40, 60]
        for expected, found in zip(*rows, strict=True):
            assert found["q_loss"] == pytest.approx(expected["q_loss"], rel=1e-2)
    assert (policies[0](x) - policies[1](x)).abs().max() > 1e-2  # they are not all the first one's


def test_what_does_not_fit_is_refused(dataset, tmp_path):
    first, second = settings(tmp_path, 0), settings(tmp_path, 1)
    for config, words in (
        (replace(second, hidden=(8,), batch_size=9), "share their batch_size, hidden; what may differ is .*iql.tau"),
        (replace(second, iql=IQLSettings(precision="bfloat16")), "share their iql.precision"),
        (replace(second, learner="bc"), "only IQL"),
        (replace(second, finetune=FinetuneSettings(steps=1000), init=tmp_path), "from data alone"),
    ):
        with pytest.raises(LearningError, match=words):
            train_together([first, config], dataset=dataset)


@pytest.mark.parametrize("apart", [False, True])
def test_a_killed_model_goes_on_from_its_members_checkpoints(dataset, tmp_path, apart):
    """To the last bit; up to rounding where the kill struck between two members' checkpoints."""

    def kill(done: int, total: int, figures) -> None:
        if done == 40:
            raise KeyboardInterrupt

    whole, killed = (
        [settings(tmp_path / name, seed, checkpoint_every=20) for seed in range(3)] for name in ("whole", "killed")
    )
    train_together(whole, dataset=dataset)
    with pytest.raises(KeyboardInterrupt):
        train_together(killed, kill, dataset)
    assert [load_checkpoint(one.out).update for one in killed] == [20, 20, 20]
    going = [replace(one, resume=True) for one in killed]
    if apart:
        train(going[2], dataset=dataset)  # a member's checkpoint is one of the run by itself
    assert [report.done for report in train_together(going, dataset=dataset)] == [60, 60, 60]
    close = {"atol": 1e-3, "rtol": 1e-2} if apart else {"atol": 0.0, "rtol": 0.0}
    for one, other in zip(whole, killed, strict=True):
        expected, found = load_checkpoint(one.out).tensors, load_checkpoint(other.out).tensors
        assert {"networks.q.weights.0", "optimizer.1.exp_avg_sq", "batches.generator"} <= expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, **close)


def test_a_member_that_diverges_stops_no_other(dataset, tmp_path):
    first, second = settings(tmp_path, 0), settings(tmp_path, 1, learning_rate=1e30)
    good, bad = train_together([first, second], dataset=dataset)
    assert good.done == 60
    assert isinstance(bad, LearningError)
    assert "diverged" in str(bad)
