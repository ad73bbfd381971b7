"""Early stop, several seeds, the folder's lock, and what is on the screen."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from sealegs.cli import main
from sealegs.training.live import LiveTraining, sparkline
from sealegs_contract.errors import LearningError, SimulationError
from sealegs_learning.evaluation.rollouts import roll_out
from sealegs_learning.files import clear_leftovers, locked
from sealegs_learning.train import train
from sealegs_learning.training.checkpoint import load_checkpoint
from sealegs_learning.training.config import TrainConfig
from sealegs_learning.training.early_stop import is_best, stop_reason
from sealegs_learning.training.run import read_curve


def rows(*evaluations: tuple[float, float]) -> list[dict[str, float]]:
    """A curve with a plain line before each evaluation (success, return)."""
    found: list[dict[str, float]] = []
    for success, value in evaluations:
        found += [{"loss": 1.0}, {"loss": 1.0, "success": success, "evaluation_return": value}]
    return found


def test_stopping_on_success() -> None:
    curve = rows((0.2, 1.0), (0.9, 3.0))
    assert stop_reason(curve, 0.9, 0) == "success 0.9 reached 0.9"
    assert stop_reason(curve, 0.95, 0) == ""
    assert stop_reason(curve, 0.0, 0) == ""
    assert stop_reason([{"loss": 1.0}], 0.9, 3) == ""


def test_stopping_on_a_plateau() -> None:
    rising = rows((0.1, 1.0), (0.1, 2.0), (0.2, 1.0), (0.2, 1.5))
    assert stop_reason(rising, 0.0, 2) == ""
    # Success counts before return: 9.0 with less success is no better.
    flat = [*rising, *rows((0.1, 9.0), (0.2, 1.5))]
    assert stop_reason(flat, 0.0, 2) == "no better evaluation in the last 2"
    assert stop_reason(flat, 0.0, 3) == ""
    assert stop_reason(flat[:4], 0.0, 2) == "", "two evaluations have none before them to be compared with"


def test_the_best_is_strictly_better() -> None:
    curve = rows((0.5, 1.0))
    assert is_best([], {"evaluation_return": 0.0})
    assert is_best(curve, {"success": 0.5, "evaluation_return": 1.1})
    assert not is_best(curve, {"success": 0.5, "evaluation_return": 1.0})


@pytest.fixture(scope="module")
def data() -> object:
    torch.set_num_threads(1)
    return roll_out("reach", "scripted", 6)


def test_a_run_stops_early_and_a_resume_leaves_it_so(data: object, tmp_path: Path) -> None:
    config = TrainConfig(
        tmp_path / "run", learner="bc", updates=2000, hidden=(16, 16), learning_rate=1e-9, log_every=50,
        evaluate_every=50, evaluate_episodes=1, patience=1,
    )  # fmt: skip
    # Nothing is learned, so the second evaluation is no better than the first.
    report = train(config, dataset=data)
    assert report.stopped == "no better evaluation in the last 1"
    assert report.done == 100
    assert load_checkpoint(config.out).update == 100
    again = train(replace(config, resume=True), dataset=data)
    assert (again.done, again.stopped) == (100, report.stopped)
    further = train(replace(config, resume=True, patience=2), dataset=data)
    assert further.done == 150
    assert [row["update"] for row in read_curve(config.out / "train.jsonl")] == [50, 100, 150]


def test_early_stop_needs_evaluations(data: object, tmp_path: Path) -> None:
    with pytest.raises(LearningError, match="set evaluate_every"):
        train(TrainConfig(tmp_path, patience=2), dataset=data)
    with pytest.raises(LearningError, match=r"stop_success must be in \[0, 1\], got 90"):
        train(TrainConfig(tmp_path, stop_success=90.0, evaluate_every=10), dataset=data)


def test_a_task_to_evaluate_in_is_looked_at_before_the_work(data: object, tmp_path: Path) -> None:
    config = TrainConfig(tmp_path / "run", learner="bc", updates=5, hidden=(8,), evaluate_every=5, evaluate_episodes=1)
    train(config, dataset=data)
    kept = load_checkpoint(config.out).description
    shown: list[int] = []
    for task, error, message in (
        ("nosuch", SimulationError, "unknown task 'nosuch'; available: drawer, push, reach"),
        ("drawer", LearningError, "the policy observes .* but task 'drawer' on so101 gives .*: train it on data of"),
        ("Hopper-v5", LearningError, "the policy is for robot so101, not for Hopper-v5"),
    ):
        for every in (0, 5):
            again = replace(config, task=task, evaluate_every=every, overwrite=True)
            with pytest.raises(error, match=message):
                train(again, lambda done, total, _: shown.append(done), dataset=data)
    assert not shown
    assert load_checkpoint(config.out).description == kept, "what would have been replaced is still there"


def test_overwriting_starts_anew(data: object, tmp_path: Path) -> None:
    config = TrainConfig(tmp_path, learner="bc", updates=5, hidden=(8, 8), evaluate_every=5, evaluate_episodes=1)
    train(config, dataset=data)
    short = replace(config, updates=2, overwrite=True, evaluate_every=0)
    assert train(short, dataset=data).done == 2
    assert load_checkpoint(tmp_path).update == 2
    assert not (tmp_path / "best").exists()


def test_a_folder_has_one_training_at_a_time(data: object, tmp_path: Path) -> None:
    with locked(tmp_path / "run"), pytest.raises(LearningError, match="another process works in"):
        train(TrainConfig(tmp_path / "run", learner="bc", updates=1), dataset=data)
    assert train(TrainConfig(tmp_path / "run", learner="bc", updates=1), dataset=data).done == 1


def test_only_leftovers_are_cleared(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.0a1b2c3d").mkdir()
    kept = {".lock", ".env.example1", "checkpoint", ".checkpoint.0a1b2c3"}
    for name in (".train.jsonl.deadbeef", *kept):
        (tmp_path / name).touch()
    clear_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_several_seeds_are_several_runs_and_are_evaluated_together(
    reach_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--dataset", str(reach_dataset), "--learner", "bc", "--updates", "40", "--hidden", "16", "16"]
    assert main(["train", *small, "--out", str(tmp_path / "runs"), "--seeds", "4", "5"]) == 0
    assert main(["train", *small, "--out", str(tmp_path / "alone"), "--seed", "5"]) == 0
    weights = [
        (out / "checkpoint/weights.safetensors").read_bytes() for out in (tmp_path / "runs/seed5", tmp_path / "alone")
    ]
    assert weights[0] == weights[1]
    assert main(["train", *small, "--out", str(tmp_path / "runs"), "--seeds", "4", "4"]) == 2
    assert main(["train", *small, "--out", str(tmp_path / "runs"), "--seeds", "4", "5"]) == 2
    assert "already holds a training" in capsys.readouterr().err

    elsewhere = ["--dataset", str(tmp_path / "nowhere"), *small[2:]]
    assert main(["train", *elsewhere, "--out", str(tmp_path / "runs"), "--seeds", "4", "5", "--overwrite"]) == 2
    kept = (tmp_path / "runs/seed5/checkpoint/weights.safetensors").read_bytes()
    assert kept == weights[0]  # nothing is replaced before there is something to replace it with

    out = tmp_path / "e.json"
    numbers = ["--episodes", "3", "--json", str(out)]
    assert main(["evaluate", "--policy", str(tmp_path / "runs"), *numbers, "--compare", str(tmp_path / "runs")]) == 0
    content = json.loads(out.read_text())
    assert [Path(row["policy"]).name for row in content["policies"]] == ["seed4", "seed5"]
    assert content["mean"] == pytest.approx(sum(row["success_rate"] for row in content["policies"]) / 2)
    assert content["compared_with"]["paired_by"] == "policies"
    assert content["compared_with"]["paired"]["difference"] == 0.0
    assert main(["evaluate", "--policy", str(tmp_path / "runs"), "--compare", str(tmp_path / "alone")]) == 2
    assert "pairs policies one to one: 2 given, but 1" in capsys.readouterr().err


def test_sparklines_by_hand() -> None:
    assert sparkline([0.0, 1.0, 2.0, 7.0]) == "▁▂▃█"
    assert sparkline([3.0, 3.0]) == "▁▁"
    assert sparkline([]) == ""


def test_the_screen_shows_figures_as_they_come() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=False, force_interactive=True)
    live = LiveTraining("IQL, reward true", 100, "update", console)
    for done, value in ((10, 4.0), (20, 1.0), (30, 2.0)):
        live(done, 100, {"q_loss": value, **({"success": 0.25} if done == 30 else {})})
    console.print(live.renderable())
    lines = console.file.getvalue().splitlines()
    assert "IQL, reward true" in lines[0]
    assert "30/100 updates" in lines[0]
    assert lines[2].split()[:5] == ["success", "0.25", "0.25", "0.25", "▁"]
    assert lines[3].split() == ["q_loss", "2", "1", "4", "█▁▃"]


def test_an_error_before_the_first_figure_leaves_no_empty_bar() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with pytest.raises(LearningError), LiveTraining("IQL, reward true", 100, "update", console):
        raise LearningError("no dataset")
    shown = console.file.getvalue()
    assert shown.rstrip().endswith("\x1b[2K"), "what was drawn is erased again"
