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
from sealegs_deploy.bundle import load_bundle
from sealegs_deploy.signing import own_key
from sealegs_learning.evaluation.evaluate import evaluate
from sealegs_learning.evaluation.rollouts import roll_out
from sealegs_learning.learners.settings import BCSettings, IQLSettings
from sealegs_learning.train import train
from sealegs_learning.training.card import thinned
from sealegs_learning.training.checkpoint import load_checkpoint, load_policy, record_evaluation
from sealegs_learning.training.command_line import arguments_of
from sealegs_learning.training.config import TrainConfig
from sealegs_learning.training.run import read_curve


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
