"""Policy cards: what is on them, that the command on them gives the run, and that they travel."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import tyro

from sealegs.commands.train import Config
from sealegs.exporting import export_checkpoint
from sealegs_contract.errors import LearningError
from sealegs_contract.robot import load_robot
from sealegs_deploy.bundle import load_bundle
from sealegs_deploy.signing import own_key
from sealegs_learning.evaluation.evaluate import evaluate
from sealegs_learning.evaluation.rollouts import roll_out
from sealegs_learning.learners.settings import BCSettings, IQLSettings, PPOSettings
from sealegs_learning.revision import revision
from sealegs_learning.train import train
from sealegs_learning.training.card import add_evaluation, commands_of, thinned
from sealegs_learning.training.checkpoint import load_checkpoint, load_policy, record_evaluation
from sealegs_learning.training.command_line import arguments_of
from sealegs_learning.training.config import TrainConfig
from sealegs_learning.training.run import read_curve
from sealegs_sim.randomize import DEFAULT_RANGES


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """BC of a few scripted reaches, evaluated twice while it trains."""
    torch.set_num_threads(1)
    config = TrainConfig(
        tmp_path_factory.mktemp("card") / "run", learner="bc", bc=BCSettings("mse"), updates=60, hidden=(16, 16),
        seed=3, log_every=20, evaluate_every=30, evaluate_episodes=2,
    )  # fmt: skip
    train(config, dataset=roll_out("reach", "scripted", 3))
    return config


def card_of(folder: Path) -> dict:
    return json.loads((folder / "card.json").read_text())


def test_a_card_repeats_its_run(config: TrainConfig, tmp_path: Path) -> None:
    card = card_of(config.out / "checkpoint")
    words = shlex.split(card["command"])
    assert words[:2] == ["sealegs", "train"]
    assert (config.out / "checkpoint" / "CARD.md").read_text().count(card["command"]) == 1
    parsed = tyro.cli(Config, args=words[2:])
    again = TrainConfig(**{name: getattr(parsed, name) for name in TrainConfig.__dataclass_fields__})
    assert again == config
    data = roll_out("reach", "scripted", 3)
    train(replace(again, out=tmp_path / "again"), dataset=data)
    assert card["data"]["dataset_fingerprint"] == data.fingerprint
    weights = [(out / "checkpoint" / "weights.safetensors").read_bytes() for out in (config.out, tmp_path / "again")]
    assert weights[0] == weights[1]


def test_a_card_says_what_a_repetition_needs(config: TrainConfig) -> None:
    card = card_of(config.out / "checkpoint")
    assert card["seeds"] == {"training": 3, "evaluation_while_training": 5000}
    assert card["versions"]["torch"] == torch.__version__
    assert card["machine"]["cpus"] >= 1
    assert card["config"]["bc"]["loss"] == "mse"
    assert "iql" not in card["config"]
    assert (card["task"], card["robot"], card["learner"]) == ("reach", "so101", "bc")
    assert card["progress"]["update"] == 60
    curve = read_curve(config.out / "train.jsonl")
    assert card["curve"] == curve
    assert [row["update"] for row in card["evaluations_while_training"]] == [30, 60]


def test_a_card_says_which_robot_source_and_data_it_was(config: TrainConfig) -> None:
    card = card_of(config.out / "checkpoint")
    assert card["robot_profile"] == {"digest": load_robot("so101").digest, "randomization": {}}
    assert card["source"] == revision()
    data = roll_out("reach", "scripted", 3)
    assert card["data"]["dataset_fingerprint"] == data.fingerprint
    assert (card["data"]["episodes"], card["data"]["rows"], card["data"]["bags"]) == (3, 600, [])
    assert card["init"] is None
    text = (config.out / "checkpoint" / "CARD.md").read_text()
    assert "| dataset | rollouts: 3 episodes, 600 rows |" in text
    assert f"| robot profile | {load_robot('so101').digest} |" in text
    assert "started from" not in text


def test_a_card_names_the_bags_of_its_dataset(reach_dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(TrainConfig(run, reach_dataset, learner="bc", updates=2, hidden=(8,), iql=IQLSettings(tau=0.9)))
    card, text = card_of(run / "checkpoint"), (run / "checkpoint" / "CARD.md").read_text()
    assert card["data"]["bags"] == [f"episode_{i:04d}" for i in range(4)]
    assert card["data"]["dataset"] == str(reach_dataset)
    assert "4 episodes, 80" in text
    assert "from 4 bags (episode_0000 to episode_0003)" in text
    # What another learner was set to, as in a sweep over learners, is not said.
    assert "iql" not in card["command"]
    assert "iql" not in card["config"]
    assert "finetune" not in card["config"]


def test_a_card_says_how_to_make_what_training_started_from(config: TrainConfig, tmp_path: Path) -> None:
    run, again = tmp_path / "ppo", tmp_path / "again"
    ppo = PPOSettings(steps=32, envs=2, horizon=16, epochs=1)
    train(TrainConfig(run, task="reach", learner="ppo", init=config.out, ppo=ppo, batch_size=16))
    first, card = card_of(config.out / "checkpoint"), card_of(run / "checkpoint")
    init = card["init"]
    assert init["weights_sha256"] == load_checkpoint(config.out).description["weights_sha256"]
    assert init["config"] == load_checkpoint(config.out).description["config"]
    assert (init["learner"], init["update"], init["unit"]) == ("bc", 60, "update")
    for name in ("command", "seeds", "data", "source", "versions", "robot_profile"):
        assert init[name] == first[name], name
    assert card["robot_profile"]["randomization"] == {k: list(pair) for k, pair in DEFAULT_RANGES.items()}
    assert "updates" not in card["config"]
    text = (run / "checkpoint" / "CARD.md").read_text()
    assert f"```\n{first['command']}\n{card['command']}\n```" in text
    assert f"BC after 60 updates, weights {init['weights_sha256']}" in text
    assert "| randomised by | geom_friction 0.8 to 1.2, body_mass 0.9 to 1.1," in text
    assert len(text.splitlines()) < 130
    # A start of a start is in it too.
    train(TrainConfig(again, task="reach", learner="ppo", init=run, ppo=ppo, batch_size=16))
    assert card_of(again / "checkpoint")["init"]["init"]["weights_sha256"] == init["weights_sha256"]
    assert commands_of(card_of(again / "checkpoint"))[:2] == [first["command"], card["command"]]


def test_a_card_of_an_older_release_takes_an_evaluation(config: TrainConfig, tmp_path: Path) -> None:
    old = {k: v for k, v in card_of(config.out / "checkpoint").items() if k not in {"robot_profile", "init", "source"}}
    old["data"] = {"dataset_fingerprint": "abc", "transitions": 5}
    (tmp_path / "card.json").write_text(json.dumps(old))
    add_evaluation(tmp_path, {"task": "reach", "mean_return": 1.0, "return_interval": [0.0, 2.0]})
    assert "| mean_return | 1 | 0 to 2 |" in (tmp_path / "CARD.md").read_text()


def test_an_evaluation_comes_onto_the_card_with_its_intervals(config: TrainConfig) -> None:
    folder = config.out / "checkpoint"
    assert "Not evaluated yet" in (folder / "CARD.md").read_text()
    result = evaluate(load_policy(folder), "reach", 4, seed=70).to_json()
    record_evaluation(config.out, result)
    card = card_of(folder)
    assert card["evaluation"]["success_interval"] == result["success_interval"]
    assert "per_episode" not in card["evaluation"]
    text = (folder / "CARD.md").read_text()
    assert "Not evaluated yet" not in text
    low, high = result["return_interval"]
    assert f"| mean_return | {result['mean_return']:.4g} | {low:.4g} to {high:.4g} |" in text


def test_the_card_travels_signed_in_the_bundle(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    export_checkpoint(config.out, tmp_path / "reach.zip")
    bundle = load_bundle(tmp_path / "reach.zip", trusted_public_keys=(own_key(None).public_key,))
    for name in ("card.json", "CARD.md"):
        assert bundle.files[name] == (config.out / "checkpoint" / name).read_bytes()


def test_the_best_policy_is_kept_and_says_how_it_was_chosen(config: TrainConfig) -> None:
    rows = [row for row in read_curve(config.out / "train.jsonl") if "evaluation_return" in row]
    best = max(rows, key=lambda row: (row["success"], row["evaluation_return"], -row["update"]))
    checkpoint = load_checkpoint(config.out / "best")
    assert checkpoint.update == best["update"]
    result = evaluate(load_policy(config.out / "best"), "reach", 2, seed=5000)
    assert result.mean_return == pytest.approx(best["evaluation_return"], rel=1e-6)
    assert "those figures flatter it" in (config.out / "best" / "CARD.md").read_text()
    assert "flatter" not in (config.out / "checkpoint" / "CARD.md").read_text()


def test_a_damaged_card_is_an_error_in_one_line(config: TrainConfig, tmp_path: Path) -> None:
    out = tmp_path / "damaged"
    train(replace(config, out=out, updates=20, evaluate_every=0), dataset=roll_out("reach", "scripted", 1))
    (out / "checkpoint" / "card.json").write_text("{")
    with pytest.raises(LearningError, match=r"card.json is damaged"):
        record_evaluation(out, {"success_rate": 1.0})


def test_command_lines_by_hand() -> None:
    config = TrainConfig(
        Path("my runs/a"), Path("d"), hidden=(32,), iql=IQLSettings(tau=0.9), tensorboard=True, learning_rate=1e-3
    )
    assert arguments_of(config) == [
        "--out", "my runs/a", "--dataset", "d", "--hidden", "32", "--learning-rate", "0.001",
        "--iql.tau", "0.9", "--tensorboard",
    ]  # fmt: skip
    assert arguments_of(replace(config, ppo=replace(config.ppo, randomise=False)))[-2] == "--ppo.no-randomise"


def test_thinning_keeps_both_ends() -> None:
    rows = [{"update": i} for i in range(1000)]
    assert [row["update"] for row in thinned(rows, 4)] == [0, 333, 666, 999]
    assert thinned(rows[:3], 4) == rows[:3]
    assert thinned([], 4) == []
