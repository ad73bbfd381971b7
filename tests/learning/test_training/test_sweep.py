"""Grids, ranking, and a small sweep run for real, on processes of its own."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sealegs.cli import main
from sealegs.training.jobs import Job, run_jobs
from sealegs.training.sweep import Sweep, Table, markdown
from sealegs_contract.errors import LearningError
from sealegs_learning.evaluation.ranking import rank
from sealegs_learning.learners.settings import FinetuneSettings
from sealegs_learning.statistics import success_interval, t_interval, wilson_interval
from sealegs_learning.train import train
from sealegs_learning.training.checkpoint import load_checkpoint
from sealegs_learning.training.config import TrainConfig, decisive
from sealegs_learning.training.grid import expand, settable
from sealegs_learning.training.run import read_curve

BASE = TrainConfig(Path("out"))


def test_a_grid_is_all_combinations() -> None:
    settings = expand(BASE, ["iql.tau=0.7,0.9", "hidden=64 64,128"])
    assert [(s.config.iql.tau, s.config.hidden) for s in settings] == [
        (0.7, (64, 64)), (0.7, (128,)), (0.9, (64, 64)), (0.9, (128,)),
    ]  # fmt: skip
    assert [s.name for s in settings][1] == "iql.tau=0.7,hidden=128"
    assert settings[0].folder == "iql.tau=0.7,hidden=64_64"
    assert settings[0].config.iql.beta == BASE.iql.beta
    assert [s.name for s in expand(BASE, [])] == ["base"]


def test_an_x_parts_the_numbers_of_one_value() -> None:
    settings = expand(BASE, ["hidden=16,32", "inputs.image_size=60x80"])
    assert [s.config.hidden for s in settings] == [(16,), (32,)]
    assert {s.config.inputs.image_size for s in settings} == {(60, 80)}
    settings = expand(BASE, ["hidden=16x16,32x16x8,64 64"])
    assert [s.config.hidden for s in settings] == [(16, 16), (32, 16, 8), (64, 64)]
    assert settings[0].folder == settings[0].name == "hidden=16x16"
    # Names may have an x in them: lists of words are parted by spaces alone.
    found = expand(BASE, ["inputs.fields=box.position joint_position,joint_position"])
    assert [s.config.inputs.fields for s in found] == [("box.position", "joint_position"), ("joint_position",)]


def test_settings_of_another_learner_make_no_runs_of_their_own() -> None:
    settings = expand(BASE, ["learner=iql,bc", "iql.tau=0.7,0.9"])
    assert [s.name for s in settings] == ["learner=iql,iql.tau=0.7", "learner=iql,iql.tau=0.9", "learner=bc"]


def test_updates_make_no_runs_where_steps_are_counted() -> None:
    settings = expand(BASE, ["learner=bc,ppo", "updates=5,9"])
    assert [s.name for s in settings] == ["learner=bc,updates=5", "learner=bc,updates=9", "learner=ppo"]
    assert "updates" not in decisive(replace(BASE, learner="ppo"))
    assert "updates" not in decisive(replace(BASE, finetune=FinetuneSettings(steps=1)))
    assert {"updates", "unio4", "ppo"} <= decisive(replace(BASE, learner="unio4")).keys()


def test_what_does_not_decide_the_weights_is_varied_all_the_same() -> None:
    assert [str(s.config.dataset) for s in expand(BASE, ["dataset=logs/a,logs/b"])] == ["logs/a", "logs/b"]
    assert [s.config.patience for s in expand(BASE, ["patience=1,2"])] == [1, 2]
    assert len({s.folder for s in expand(BASE, ["dataset=logs/a,logs/b"])}) == 2


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ("iql.tau", "is not NAME=VALUE"),
        ("iql.tau=0.7,", "is not NAME=VALUE"),
        ("tau=0.7", "no setting 'tau' to vary; .*iql.tau"),
        ("seed=1,2", "no setting 'seed'"),
        ("iql.tau=high", "iql.tau=high: expected float"),
        ("hidden=16x,32", "hidden=16x: expected one or more of int, as 64x64"),
        ("hidden=16-16", "hidden=16-16: expected one or more of int"),
        ("inputs.image_size=60", "inputs.image_size=60: expected 2 of int, as 64x64"),
        ("inputs.image_size=60x80x3", "expected 2 of int"),
        ("learner=iql,sac", "learner=sac: .*ppo"),
        ("bc.loss=mse,gaussian", "no run of this grid uses it"),
        ("iql.tau=0.7,0.7", "comes twice"),
    ],
)
def test_a_wrong_grid_is_refused(axis: str, message: str) -> None:
    with pytest.raises(LearningError, match=message):
        expand(BASE, [axis])


def test_every_setting_can_be_set_from_its_own_default() -> None:
    def value_of(name: str) -> object:
        value: object = BASE
        for part in name.split("."):
            value = getattr(value, part)
        return value

    for name in settable():
        value = value_of(name)
        text = "yes" if value is True else "no" if value is False else value
        text = " ".join(map(str, value)) if isinstance(value, tuple) else str(text)
        if text not in {"", "None"} and ("." not in name or name.split(".")[0] in decisive(BASE)):
            assert expand(BASE, [f"{name}={text}"])[0].config == BASE


def test_student_interval_by_hand() -> None:
    # n = 3, mean 2, s = 1: t_2(0.975) = 4.302653, half = 4.302653 / sqrt(3)
    low, high = t_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-5)
    with pytest.raises(LearningError, match="at least 2"):
        t_interval([1.0])


def test_ranking_is_paired_by_seed() -> None:
    # b is always 0.25 below a, however different the seeds are.
    a = {0: [1, 1, 1, 1], 1: [1, 1, 0, 0], 2: [1, 0, 0, 0]}
    b = {seed: [x - 0.25 for x in values] for seed, values in a.items()}
    first, second = rank({"b": b, "a": a}, "return")
    assert (first.name, second.name) == ("a", "b")
    assert first.mean == pytest.approx((1 + 0.5 + 0.25) / 3)
    assert (second.behind, *second.behind_interval) == pytest.approx((0.25, 0.25, 0.25))
    assert second.apart
    assert not first.apart
    # Unpaired, the intervals of the means overlap widely.
    assert first.interval.overlaps(second.interval)


def test_one_seed_is_ranked_over_its_episodes() -> None:
    first, second = rank({"a": {5: [1, 1, 1, 0]}, "b": {5: [1, 0, 0, 0]}}, "success")
    assert first.interval == wilson_interval(3, 4)
    assert second.behind == pytest.approx(0.5)
    assert 0.0 <= second.behind_interval.low <= 0.5 <= second.behind_interval.high


def test_success_over_seeds_is_never_surer_than_episodes_or_seeds_alone() -> None:
    # All fail: Student's has no width, Wilson's of 0 in 30 ends at z^2 / (30 + z^2) = 3.841459 / 33.841459.
    assert success_interval([0, 0, 0], 10) == pytest.approx((0.0, 0.113513), abs=1e-6)
    # 9, 5, 7 of 10: Student's 0.7 +- 4.302653 * 0.2 / sqrt(3), cut to 1; Wilson's of 21 in 30 is [0.521, 0.833].
    assert success_interval([9, 5, 7], 10) == pytest.approx((0.7 - 0.496828, 1.0), abs=1e-6)
    # 71, 70, 69 of 100: Student's is 0.7 -+ 0.0248, Wilson's of 210 in 300 wider.
    assert success_interval([71, 70, 69], 100) == wilson_interval(210, 300)
    assert success_interval([3], 4) == wilson_interval(3, 4)


def test_equal_settings_share_a_place() -> None:
    half, none = {0: [1, 0], 1: [0, 1]}, {0: [0, 0], 1: [0, 0]}
    found = rank({"a": none, "b": half, "c": half, "d": half, "e": {0: [0, 0], 1: [1, 0]}}, "success")
    assert [(one.name, one.place) for one in found] == [("b", 1), ("c", 1), ("d", 1), ("e", 4), ("a", 5)]
    assert found[0].interval == wilson_interval(2, 4)
    # e is behind by 0.5 and 0: 0.25 +- 12.7062 * 0.25, cut to what the difference of two shares can be.
    assert (found[3].behind, *found[3].behind_interval) == pytest.approx((0.25, -1.0, 1.0))
    text = markdown(Sweep(BASE, (), (0, 1), 2, 5, "success", "last"), Table("success", found, []))
    assert "| 1 | b | 0.5 | 0.15 to 0.85 |  |  |" in text
    assert "| 1 | d | 0.5 | 0.15 to 0.85 | 0 [0, 0] | no |" in text
    assert "| 4 | e |" in text
    assert "the hull of\nStudent's over the seeds and Wilson's over all episodes" in text
    assert rank({"a": half}, "return")[0].interval == (0.5, 0.5)


def test_settings_on_other_seeds_are_not_compared() -> None:
    with pytest.raises(LearningError, match="same seeds"):
        rank({"a": {0: [1.0]}, "b": {1: [1.0]}}, "return")


@pytest.fixture(scope="module")
def sweep(reach_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """A sweep of two learning rates, one of which learns nothing, with one seed each."""
    out = tmp_path_factory.mktemp("sweep")
    arguments = [
        "sweep", "--dataset", str(reach_dataset), "--out", str(out), "--learner", "bc", "--updates", "300",
        "--hidden", "32", "32", "--log-every", "100", "--grid", "learning_rate=1e-9,3e-3", "--seeds", "7",
        "--rank-episodes", "4", "--rank-by", "final_progress",
    ]  # fmt: skip
    assert main(arguments) == 0
    return arguments, out


def test_a_sweep_ranks_and_writes_everything(sweep: tuple[list[str], Path]) -> None:
    _, out = sweep
    content = json.loads((out / "sweep.json").read_text())
    assert [place["name"] for place in content["ranking"]] == ["learning_rate=3e-3", "learning_rate=1e-9"]
    assert content["ranking"][0]["mean"] > content["ranking"][1]["mean"]
    assert content["claims"] == []
    assert content["seeds"] == [7]
    for row in content["rows"]:
        run = out / "runs" / row["setting"] / "seed7"
        recorded = json.loads((run / "checkpoint" / "evaluation.json").read_text())["evaluation"]
        assert recorded["mean_final_progress"] == row["mean_final_progress"]
        assert recorded["seed"] == 2_000_000
        assert read_curve(run / "train.jsonl")[-1]["update"] == row["update"] == 300
        assert f"learning_rate={float(row['values']['learning_rate'])}" in f"learning_rate={_rate(run)}"
    text = (out / "sweep.md").read_text()
    assert text.index("learning_rate=3e-3") < text.index("| 2 | learning_rate=1e-9")


def _rate(run: Path) -> float:
    rate: float = json.loads((run / "checkpoint" / "checkpoint.json").read_text())["config"]["learning_rate"]
    return rate


def test_a_sweep_started_again_does_only_what_is_missing(sweep: tuple[list[str], Path]) -> None:
    arguments, out = sweep
    before = json.loads((out / "sweep.json").read_text())
    kept, lost = (out / "runs" / name / "seed7" for name in ("learning_rate=1e-9", "learning_rate=3e-3"))
    time = os.stat(kept / "checkpoint" / "weights.safetensors").st_mtime_ns
    weights = (lost / "checkpoint" / "weights.safetensors").read_bytes()
    shutil.rmtree(lost)
    assert main(arguments) == 0
    assert os.stat(kept / "checkpoint" / "weights.safetensors").st_mtime_ns == time
    assert (lost / "checkpoint" / "weights.safetensors").read_bytes() == weights
    after = json.loads((out / "sweep.json").read_text())
    assert after["ranking"] == before["ranking"]


def test_a_failed_job_is_named_with_what_it_said_last_and_the_others_go_on(tmp_path: Path) -> None:
    good, bad = (
        Job(name, (("--version",), command), tmp_path / name / "log", lambda: 0, 5)
        for name, command in (("good", ("--help",)), ("bad", ("verify", str(tmp_path / "nothing"))))
    )
    shown: dict[str, int] = {}
    failed = run_jobs([bad, good], 1, lambda job, done: shown.update({job.name: done}))
    assert list(failed) == ["bad"]
    assert failed["bad"].startswith(f"sealegs: error: no bundle at {tmp_path / 'nothing'}")
    assert shown == {"bad": 0, "good": 5}
    assert good.log.read_text().startswith("sealegs ")
    assert "usage: sealegs VERB" in good.log.read_text()


def test_a_sweep_trains_together_what_is_missing_and_ranks_it(
    reach_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, axes = tmp_path / "sweep", ["iql.tau=0.6,0.9", "learning_rate=3e-3"]
    arguments = [
        "sweep", "--dataset", str(reach_dataset), "--out", str(out), "--updates", "30", "--hidden", "8", "--seeds", "3",
        "--rank-episodes", "1", "--rank-by", "final_progress", "--together", "--grid", *axes,
    ]  # fmt: skip
    assert main([*arguments, "batch_size=64,128"]) == 2
    said = capsys.readouterr().err
    assert "share their batch_size; what may differ is the seed and learning_rate, iql.gamma, iql.tau" in said
    assert not out.exists()

    assert main(arguments) == 0
    assert "ranked by final_progress" in capsys.readouterr().out
    content = json.loads((out / "sweep.json").read_text())
    settings = expand(replace(BASE, dataset=reach_dataset, updates=30, hidden=(8,), seed=3), axes)
    assert {place["name"] for place in content["ranking"]} == {setting.name for setting in settings}
    assert "--together" in content["command"]
    first, second = (out / "runs" / setting.folder / "seed3" for setting in settings)
    alone = load_checkpoint(train(replace(settings[1].config, out=tmp_path / "alone")).checkpoint)
    made = load_checkpoint(second)
    assert made.description["config"] == alone.description["config"]
    for name, tensor in alone.tensors.items():
        torch.testing.assert_close(made.tensors[name], tensor, atol=1e-4, rtol=1e-3)

    kept = os.stat(first / "checkpoint" / "weights.safetensors").st_mtime_ns
    shutil.rmtree(second)
    assert main(arguments) == 0
    assert os.stat(first / "checkpoint" / "weights.safetensors").st_mtime_ns == kept
    assert json.loads((out / "sweep.json").read_text())["ranking"][0]["name"] == content["ranking"][0]["name"]


def test_incomplete_settings_are_not_ranked(sweep: tuple[list[str], Path]) -> None:
    _, out = sweep
    base = TrainConfig(out, learner="bc")
    found = Sweep(base, ("learning_rate=1e-9,3e-3",), (7,), 4, 2_000_000, "final_progress", "last")
    evaluation = out / "runs" / "learning_rate=1e-9" / "seed7" / "checkpoint" / "evaluation.json"
    content = evaluation.read_bytes()
    evaluation.unlink()
    assert [standing.name for standing in found.ranking().standings] == ["learning_rate=3e-3"]
    evaluation.write_bytes(content)
    assert len(found.ranking().standings) == 2
    with pytest.raises(LearningError, match="no setting has all of its runs"):
        replace(found, seeds=(7, 8)).ranking()
