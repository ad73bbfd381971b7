import json

import numpy as np
import pytest
import torch
from torch import nn

from sealegs_contract.errors import LearningError, SimulationError
from sealegs_learning.evaluation.evaluate import evaluate, film
from sealegs_learning.evaluation.rollouts import roll_out
from sealegs_learning.networks import GaussianActor, Normalizer
from sealegs_learning.statistics import wilson_interval
from sealegs_learning.train import train
from sealegs_learning.training.config import TrainConfig
from sealegs_learning.training.run import read_curve
from sealegs_sim.env import SealegsEnv
from sealegs_sim.policies import make_policy


class Scripted(nn.Module):
    """The simulator's scripted policy as a torch module; it has no memory, so rows are independent."""

    def __init__(self, task: str) -> None:
        super().__init__()
        self.policy = make_policy("scripted", task, "so101")

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.stack([self.policy.act(row) for row in observation.numpy()]).astype(np.float32))


def test_an_evaluation_equals_single_episodes_of_the_env():
    policy = Scripted("reach")
    result = evaluate(policy, "reach", 3, seed=70)
    env = SealegsEnv("reach")
    for i in range(3):
        observation, info = env.reset(seed=70 + i)
        total, truncated = 0.0, False
        while not truncated:
            observation, reward, _, truncated, info = env.step(policy(torch.from_numpy(observation)[None])[0].numpy())
            total += reward
        assert result.successes[i] == info["success"]
        assert result.final_progress[i] == pytest.approx(info["progress"], abs=1e-6)
        assert result.returns[i] == pytest.approx(total, abs=1e-3)


def test_episodes_are_paired_by_seed():
    policy = Scripted("reach")
    steps = []
    whole = evaluate(policy, "reach", 4, seed=10, progress=lambda step, steps_: steps.append((step, steps_)))
    part = evaluate(policy, "reach", 2, seed=12)
    assert whole.final_progress[2:] == pytest.approx(part.final_progress)
    assert whole.returns[2:] == pytest.approx(part.returns)
    assert steps[-1] == (200, 200)


def test_figures_are_consistent():
    result = evaluate(Scripted("reach"), "reach", 5, seed=1)
    content = json.loads(json.dumps(result.to_json()))
    assert result.success_rate == sum(content["per_episode"]["success"]) / 5
    assert content["success_interval"] == list(wilson_interval(sum(result.successes), 5))
    assert content["mean_final_progress"] == pytest.approx(np.mean(content["per_episode"]["final_progress"]))
    assert result.success_rate >= 0.8


@pytest.fixture(scope="module")
def reach_run(tmp_path_factory):
    """BC of forty scripted reaches, evaluated while it trains."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("reach")
    config = TrainConfig(
        out, out, learner="bc", updates=800, hidden=(64, 64), learning_rate=2e-3,
        log_every=200, evaluate_every=400, evaluate_episodes=4,
    )  # fmt: skip
    train(config, dataset=roll_out("reach", "noisy", 30))
    return out


def test_training_evaluates_on_the_way(reach_run):
    rows = read_curve(reach_run / "train.jsonl")
    assert [row["update"] for row in rows] == [200, 400, 600, 800]
    assert ["success" in row for row in rows] == [False, True, False, True]
    assert rows[-1]["final_progress"] > 0.5


def test_a_policy_of_another_task_is_refused(reach_run):
    from sealegs_learning.training.checkpoint import load_policy

    policy = load_policy(reach_run)
    assert policy.task == "reach"
    with pytest.raises(LearningError, match=r"observes .*target.object_position.*'drawer'.*handle.object_position"):
        evaluate(policy, "drawer", 2)
    with pytest.raises(LearningError, match="at least 1 episode"):
        evaluate(policy, "reach", 0)


def test_a_walkers_policy_and_a_robots_do_not_swap_places(reach_run):
    from sealegs_learning.training.checkpoint import load_policy

    generator, still = torch.Generator().manual_seed(0), Normalizer(torch.zeros(11), torch.ones(11))
    hopper = GaussianActor(11, 3, (8,), still, generator, "Hopper-v5")
    sizes = "of Hopper-v5 has 11 observations and 3 actions, but task 'push' on so101 has 21 and 6"
    with pytest.raises(LearningError, match=sizes):
        evaluate(hopper, "push", 2)
    with pytest.raises(LearningError, match="is for robot so101, not for Walker2d-v5"):
        evaluate(load_policy(reach_run), "Walker2d-v5", 2)
    with pytest.raises(SimulationError, match="'nosuch'; available: HalfCheetah-v5, Hopper-v5, Walker2d-v5, drawer,"):
        evaluate(hopper, "nosuch", 2)
    with pytest.raises(SimulationError, match="unknown task 'nosuch'; available: drawer, push, reach"):
        evaluate(load_policy(reach_run), "nosuch", 2)


def test_a_place_that_cannot_be_written_is_refused_before_the_episodes(reach_run, tmp_path, capsys):
    from sealegs.cli import main

    (tmp_path / "file").write_text("precious")
    for words, message in (
        (["--json", str(tmp_path / "file" / "e.json")], "move the file away"),
        (["--json", str(tmp_path)], "this is a folder where a file is needed"),
        (["--films", str(tmp_path / "file")], "move the file away"),
    ):
        assert main(["evaluate", "--policy", str(reach_run), "--episodes", "2", *words]) == 2
        output = capsys.readouterr()
        assert "success" not in output.out
        assert message in output.err


def test_a_film_is_an_animated_gif(reach_run, tmp_path):
    from PIL import Image

    from sealegs_learning.training.checkpoint import load_policy

    film(load_policy(reach_run), "reach", 5, tmp_path / "reach.gif", every=50)
    with Image.open(tmp_path / "reach.gif") as image:
        assert image.n_frames == 5
        assert image.size == (160, 120)
        assert image.info["duration"] == 1000


def test_the_verb_evaluates_records_and_compares(reach_run, tmp_path, capsys):
    from sealegs.cli import main

    out = tmp_path / "e.json"
    arguments = ["--policy", str(reach_run), "--episodes", "3", "--seed", "5", "--json", str(out), "--record"]
    assert main(["evaluate", *arguments, "--compare", str(reach_run)]) == 0
    printed = capsys.readouterr().out
    assert "/3 =" in printed
    assert "paired difference in success +0.000" in printed
    content = json.loads(out.read_text())
    assert content["compared_with"]["policies"][0]["per_episode"] == content["per_episode"]
    recorded = json.loads((reach_run / "checkpoint" / "evaluation.json").read_text())
    assert recorded["evaluation"]["success_rate"] == content["success_rate"]


def test_policies_that_agree_leave_wilson_s_interval_over_all_episodes(reach_run, tmp_path, capsys):
    from sealegs.cli import main

    out = tmp_path / "e.json"
    arguments = ["--episodes", "2", "--seed", "5", "--json", str(out)]
    assert main(["evaluate", "--policy", str(reach_run), str(reach_run), *arguments]) == 0
    content = json.loads(out.read_text())
    successes = [sum(one["per_episode"]["success"]) for one in content["policies"]]
    assert successes[0] == successes[1]
    assert content["interval"] == list(wilson_interval(sum(successes), 4))
    assert content["interval_is"] == "hull of Student's over policies and Wilson's over all 4 episodes"
    assert f"({content['interval_is']})" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--policy", "/nowhere"], "no checkpoint at /nowhere"),
        (["train", "--dataset", "/nowhere", "--out", "/tmp/never"], "/nowhere"),
        (["reward", "--dataset", "/nowhere", "--labels", "x", "--name", "y"], "/nowhere"),
        (["train", "--dataset", "/nowhere", "--out", "/tmp/never", "--iql.gamma", "1.5"], "gamma must be in [0, 1)"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys):
    from sealegs.cli import main

    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
