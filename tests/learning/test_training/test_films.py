"""Evaluations: which episodes are filmed, what the films show, and benchmarks against gymnasium."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from PIL import Image

from sealegs.cli import main
from sealegs_contract.errors import LearningError
from sealegs_learning.evaluation.evaluate import Evaluation, evaluate
from sealegs_learning.evaluation.rollouts import roll_out
from sealegs_learning.networks import GaussianActor, Normalizer
from sealegs_learning.train import train
from sealegs_learning.training.checkpoint import load_actor, load_policy
from sealegs_learning.training.config import TrainConfig


def test_best_median_and_worst_by_hand() -> None:
    result = Evaluation("reach", 5, 10, (True,) * 5, (0.0,) * 5, (3.0, 9.0, 1.0, 5.0, 9.0), 0.0)
    assert result.spread_out() == {"best": 1, "median": 3, "worst": 2}
    even = Evaluation("reach", 2, 10, (True,) * 2, (0.0,) * 2, (1.0, 2.0), 0.0)
    assert even.spread_out() == {"best": 1, "median": 1, "worst": 0}
    one = Evaluation("reach", 1, 10, (True,), (0.0,), (1.0,), 0.0)
    assert one.spread_out() == {"best": 0, "median": 0, "worst": 0}


def test_the_verb_films_the_episodes_that_it_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    run = tmp_path / "run"
    train(TrainConfig(run, learner="bc", updates=150, hidden=(32, 32)), dataset=roll_out("reach", "scripted", 4))
    films, out = tmp_path / "films", tmp_path / "e.json"
    arguments = ["--policy", str(run), "--episodes", "5", "--seed", "20"]
    assert main(["evaluate", *arguments, "--films", str(films), "--json", str(out)]) == 0
    returns = json.loads(out.read_text())["per_episode"]["return"]
    shown = json.loads((films / "films.json").read_text())["films"]
    order = np.argsort(returns)
    assert [shown[name]["seed"] - 20 for name in ("worst", "median", "best")] == [order[0], order[2], order[4]]
    for one in shown.values():
        # The film is of the very episode: the same return, in the env that renders.
        assert one["return_in_the_film"] == pytest.approx(one["return"], abs=1e-3)
        with Image.open(films / one["file"]) as image:
            assert image.n_frames > 60
            image.seek(image.n_frames - 1)
            assert np.asarray(image.convert("RGB")).std() > 5.0
    assert "worst return" in capsys.readouterr().out
    assert load_policy(run).task == "reach"


@pytest.fixture
def walker() -> GaussianActor:
    """An actor for Hopper-v5 with weights of chance."""
    generator = torch.Generator().manual_seed(1)
    return GaussianActor(11, 3, (8,), Normalizer(torch.zeros(11), torch.ones(11)), generator, "Hopper-v5")


def chosen(policy: GaussianActor, observation: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return policy(torch.from_numpy(observation.astype(np.float32))[None])[0].numpy()


def test_benchmarks_are_evaluated_as_gymnasium_has_them(walker: GaussianActor) -> None:
    result = evaluate(walker, "Hopper-v5", 3, seed=40)
    assert result.successes == ()
    env = gymnasium.make("Hopper-v5")
    for i in range(3):
        observation, _ = env.reset(seed=40 + i)
        total, ended = 0.0, False
        while not ended:
            observation, reward, terminated, truncated, _ = env.step(chosen(walker, observation))
            total, ended = total + reward, terminated or truncated
        assert result.returns[i] == pytest.approx(total, rel=1e-6)
    content = json.loads(json.dumps(result.to_json()))
    assert set(content["per_episode"]) == {"return"}
    assert "success_rate" not in content
    assert result.figures() == {"evaluation_return": pytest.approx(np.mean(result.returns))}


def test_a_benchmark_needs_an_actor_of_its_sizes(walker: GaussianActor) -> None:
    with pytest.raises(LearningError, match="11 observations and 3 actions, but HalfCheetah-v5 has 17 and 6"):
        evaluate(walker, "HalfCheetah-v5", 1)


def test_a_benchmark_policy_is_loaded_but_not_as_a_robots(tmp_path: Path) -> None:
    arguments = ["--learner", "ppo", "--task", "Hopper-v5", "--ppo.steps", "64", "--ppo.envs", "2", "--hidden", "8"]
    assert main(["train", *arguments, "--ppo.horizon", "32", "--batch-size", "32", "--out", str(tmp_path)]) == 0
    assert load_actor(tmp_path).task == "Hopper-v5"
    with pytest.raises(LearningError, match="has no robot"):
        load_policy(tmp_path)
    assert main(["evaluate", "--policy", str(tmp_path), "--episodes", "2", "--record"]) == 0
    assert "| mean_return |" in (tmp_path / "checkpoint" / "CARD.md").read_text()
