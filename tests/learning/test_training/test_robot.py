"""Training in simulation happens on the robot that is asked for, with its limits and its randomisation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sealegs.cli import main
from sealegs.training.sweep import is_finished
from sealegs_contract.errors import DatasetError, LearningError, SimulationError
from sealegs_contract.robot import RobotProfile, load_robot
from sealegs_learning.evaluation.evaluate import evaluate
from sealegs_learning.evaluation.rollouts import RolloutDataset, roll_out
from sealegs_learning.learners.settings import FinetuneSettings, PPOSettings
from sealegs_learning.sessions.finetune import finetune_session
from sealegs_learning.sessions.online import online_session
from sealegs_learning.train import train
from sealegs_learning.training.checkpoint import load_checkpoint, load_policy
from sealegs_learning.training.config import TrainConfig
from sealegs_learning.training.robots import simulated_robot
from sealegs_learning.training.run import read_curve
from sealegs_sim.env import SealegsEnv
from sealegs_sim.randomize import DEFAULT_RANGES
from sealegs_sim.scene import build_scene

MASS = 3.0


def write_arm(file: Path, mass: float = MASS, name: str = "myarm") -> Path:
    """so101 at a third of its speed, each body `mass` times as heavy where it is randomised."""
    content: dict[str, Any] = load_robot("so101").model_dump(mode="json") | {"name": name}
    for joint in content["joints"]:
        joint["velocity_max_rad_s"] = 1.0
    content["backend"]["parameters"] = {"randomization": {"body_mass": [mass, mass]}}
    file.write_text(json.dumps(content))
    return file


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_arm(tmp_path_factory.mktemp("arm") / "myarm.json")


@pytest.fixture(scope="module")
def logs(arm: Path) -> RolloutDataset:
    return roll_out("reach", "noisy", 2, robot=str(arm))


@pytest.fixture(scope="module")
def started(logs: RolloutDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IQL of the arm's logs."""
    out = tmp_path_factory.mktemp("started") / "iql"
    train(TrainConfig(out, updates=5, hidden=(8,)), dataset=logs)
    return out


def ppo(out: Path, **changes: Any) -> TrainConfig:
    settings = PPOSettings(steps=32, envs=2, horizon=16, epochs=1)
    return TrainConfig(**{"out": out, "task": "reach", "learner": "ppo", "hidden": (8,), "batch_size": 16,
                          "ppo": settings} | changes)  # fmt: skip


def finetuning(out: Path, started: Path, **changes: Any) -> TrainConfig:
    settings = FinetuneSettings(steps=16, envs=2)
    return TrainConfig(**{"out": out, "task": "reach", "init": started, "finetune": settings, "batch_size": 16}
                       | changes)  # fmt: skip


def is_the_arm(env: Any, profile: RobotProfile) -> None:
    """The env has the profile's limits in its actions, and the profile's masses in its models."""
    assert env.robot == profile
    assert env.scene.action_spec.scale_rad == pytest.approx([0.6 * 1.0 / 50.0] * 6)
    nominal = build_scene("reach", "so101").model.body_mass
    assert env._batch.get_model(1).body_mass == pytest.approx(MASS * nominal)


def test_ppo_simulates_the_robot_that_it_is_given(arm: Path, tmp_path: Path) -> None:
    session, profile = online_session(ppo(tmp_path, robot=str(arm))), load_robot(arm)
    is_the_arm(session.collector.env, profile)
    policy: Any = session.policy
    assert policy.robot == profile
    assert policy.action_spec.scale_rad == pytest.approx([0.012] * 6)
    assert session.about["robot"] == {
        "name": "myarm", "profile_digest": profile.digest, "randomization": {"body_mass": [3.0, 3.0]},
    }  # fmt: skip
    plain = online_session(ppo(tmp_path))
    assert plain.about["robot"]["name"] == "so101"
    assert plain.about["robot"]["randomization"] == {knob: list(pair) for knob, pair in DEFAULT_RANGES.items()}
    still = online_session(ppo(tmp_path, robot=str(arm), ppo=PPOSettings(envs=2, randomise=False)))
    assert still.about["robot"]["randomization"] == {}


def test_the_robot_is_that_of_the_start_unless_it_is_named(arm: Path, started: Path, tmp_path: Path) -> None:
    is_the_arm(online_session(ppo(tmp_path, init=started)).collector.env, load_robot(arm))
    is_the_arm(online_session(ppo(tmp_path, init=started, robot=str(arm))).collector.env, load_robot(arm))


def test_finetuning_simulates_the_robot_of_its_start(
    arm: Path, started: Path, logs: RolloutDataset, tmp_path: Path
) -> None:
    session = finetune_session(finetuning(tmp_path, started), logs)
    is_the_arm(session.env, load_robot(arm))
    assert session.about["robot"]["profile_digest"] == load_robot(arm).digest


def test_the_robot_is_the_datasets_where_nothing_else_says(reach_dataset: Path, tmp_path: Path) -> None:
    meta = json.loads((reach_dataset / "meta" / "sealegs.json").read_text())
    changed = tmp_path / "data" / "meta"
    changed.mkdir(parents=True)
    meta["robot"]["name"] = "theirs"
    (changed / "sealegs.json").write_text(json.dumps(meta))
    (changed / "info.json").write_bytes((reach_dataset / "meta" / "info.json").read_bytes())
    assert simulated_robot(ppo(tmp_path, dataset=changed.parent)).name == "theirs"
    assert simulated_robot(ppo(tmp_path)).name == "so101"
    with pytest.raises(DatasetError, match="no dataset at"):
        simulated_robot(ppo(tmp_path, dataset=tmp_path / "nowhere"))


def test_a_start_of_another_robot_is_refused_with_what_differs(arm: Path, started: Path, tmp_path: Path) -> None:
    mine, shipped = load_robot(arm).digest[:12], load_robot("so101").digest[:12]
    message = (
        rf"the checkpoint's policy is for robot myarm \(profile {mine}\), but the robot here is so101 \({shipped}\): "
        r".*randomization is .*3\.0.* there, None here; joints\.0\.velocity_max_rad_s is 1\.0 there, 3\.0 here"
    )
    others = roll_out("reach", "still", 1)
    for config, data in ((ppo(tmp_path, init=started), None), (finetuning(tmp_path, started), others)):
        with pytest.raises(LearningError, match=message):
            train(replace(config, robot="so101"), dataset=data)
    # Nothing but the masses differs, so that observations and actions mean the same.
    heavier = write_arm(tmp_path / "heavier.json", 4.0)
    with pytest.raises(LearningError, match=r"body_mass\.0 is 3\.0 there, 4\.0 here; .*body_mass\.1"):
        train(ppo(tmp_path, init=started, robot=str(heavier)))


def test_logs_of_another_robot_are_refused(logs: RolloutDataset, arm: Path, tmp_path: Path) -> None:
    config = TrainConfig(tmp_path / "bc", learner="bc", updates=2, hidden=(8,), robot="so101")
    with pytest.raises(LearningError, match="dataset rollouts is for robot myarm .* robot here is so101"):
        train(config, dataset=logs)
    train(replace(config, robot=str(arm)), dataset=logs)
    with pytest.raises(LearningError, match="Hopper-v5 is a walker of its own"):
        train(ppo(tmp_path / "hopper", task="Hopper-v5", robot=str(arm)))


def test_a_profile_that_was_edited_is_not_gone_on_with(tmp_path: Path) -> None:
    arm = write_arm(tmp_path / "arm.json")
    config = ppo(tmp_path / "run", robot=str(arm))
    train(config)
    assert load_checkpoint(config.out).description["robot"]["profile_digest"] == load_robot(arm).digest
    assert is_finished(config)
    train(replace(config, resume=True))
    with pytest.raises(LearningError, match=r"its robot \(name, profile_digest, randomization\..*\) differs"):
        train(replace(config, resume=True, robot=""))
    write_arm(arm, 5.0)
    assert not is_finished(config)
    with pytest.raises(LearningError, match=r"its robot \(profile_digest, randomization\.body_mass\) differs"):
        train(replace(config, resume=True))


def test_evaluations_simulate_the_policys_own_robot(arm: Path, tmp_path: Path, capsys: Any) -> None:
    run = tmp_path / "run"
    words = ["train", "--learner", "ppo", "--task", "reach", "--robot", str(arm), "--out", str(run), "--hidden", "8"]
    small = ["--batch-size", "16", "--ppo.envs", "2", "--ppo.horizon", "16", "--ppo.steps", "32", "--ppo.epochs", "1"]
    assert main([*words, *small, "--evaluate-every", "32", "--evaluate-episodes", "1", "--evaluate-seed", "8"]) == 0
    policy, env = load_policy(run), SealegsEnv("reach", load_robot(arm))
    observation, _ = env.reset(seed=8)
    total, ended = 0.0, False
    while not ended:
        with torch.no_grad():
            action = policy(torch.from_numpy(observation)[None])[0].numpy()
        observation, reward, _, ended, _ = env.step(np.asarray(action))
        total += reward
    assert read_curve(run / "train.jsonl")[-1]["evaluation_return"] == pytest.approx(total, abs=1e-3)
    assert evaluate(policy, "reach", 1, 8).returns[0] == pytest.approx(total, abs=1e-3)
    out = tmp_path / "e.json"
    assert main(["evaluate", "--policy", str(run), "--episodes", "1", "--seed", "8", "--json", str(out)]) == 0
    assert json.loads(out.read_text())["per_episode"]["return"][0] == pytest.approx(total, abs=1e-3)


def test_a_misspelt_knob_is_an_error_wherever_the_robot_is_simulated(arm: Path, tmp_path: Path, capsys: Any) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text(arm.read_text().replace('"body_mass"', '"body_mas"'))
    known = "unknown randomization knob 'body_mas'; available: body_mass, effort_limits, geom_friction"
    for words in (
        ["collect", "--task", "reach", "--episodes", "1", "--no-images", "--out", str(tmp_path / "bags")],
        ["train", "--learner", "ppo", "--task", "reach", "--out", str(tmp_path / "run")],
    ):
        assert main([*words, "--robot", str(wrong)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert known in line
    assert not (tmp_path / "bags").exists()
    with pytest.raises(SimulationError, match=known):
        SealegsEnv("reach", str(wrong))
