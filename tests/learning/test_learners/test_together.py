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
from sealegs_learning.training.checkpoint import load_policy
from sealegs_learning.training.config import TrainConfig


@pytest.fixture
def dataset(point_world, goal_reward, monkeypatch):
    values = goal_reward(point_world.state)
    monkeypatch.setattr(offline, "read_reward", lambda data, name: Reward(values, np.zeros_like(values)))
    monkeypatch.setattr(offline, "describe_reward", lambda data, name: {"name": name})
    return point_world


def settings(out: Path, seed: int, **values) -> TrainConfig:
    iql = IQLSettings(gamma=0.9, tau=0.6 + 0.1 * seed)
    return TrainConfig(out / str(seed), hidden=(32, 32), updates=60, log_every=20, seed=seed, iql=iql, **values)


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
        (replace(second, learning_rate=1.0), "may differ in seed"),
        (replace(second, learner="bc"), "only IQL"),
        (replace(second, finetune=FinetuneSettings(steps=1000), init=tmp_path), "from data alone"),
        (replace(second, evaluate_every=10), "neither evaluated"),
        (replace(second, iql=IQLSettings(polyak=0.5)), "polyak"),
    ):
        with pytest.raises(LearningError, match=words):
            train_together([first, config], dataset=dataset)
    train_together([first, second], dataset=dataset)
    with pytest.raises(LearningError, match="resumed"):
        train_together([replace(first, resume=True)], dataset=dataset)
