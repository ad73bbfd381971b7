"""Labelling a dataset: pairs, both orders, ties, files, errors; and real simulated frames from bag to label."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sealegs.cli import main
from sealegs_contract.errors import DatasetError, JudgeError
from sealegs_learning.judge.base import Preference, abstention
from sealegs_learning.judge.label import LabelOptions, label_dataset
from sealegs_learning.judge.labels import read_label_report, read_labels
from sealegs_learning.judge.make import JudgeOptions, make_judge
from sealegs_learning.judge.oracle import OracleJudge


class ByRow:
    """A judge whose answer is a function of the two rows."""

    identity, prompt_version, supported_tasks, order_sensitive, paid = "by-row", "", None, True, False

    def __init__(self, answer) -> None:
        self.answer, self.asked = answer, []

    def compare_many(self, task_text, pairs):
        for i, (a, b) in enumerate(pairs):
            self.asked.append((task_text, a.index, b.index))
            yield i, self.answer(a.index, b.index)


def later_is_better(a: int, b: int) -> Preference:
    return Preference(0.9 if b > a else 0.2)


def test_labels_are_asked_in_both_orders_written_and_read(bright_dataset):
    judge = ByRow(later_is_better)
    seen = []
    result = label_dataset(
        bright_dataset, judge, LabelOptions("mine", pairs=30, seed=1), on_progress=lambda d, n: seen.append((d, n))
    )
    assert {(t, b, a) for t, a, b in judge.asked} == set(judge.asked)
    assert seen[-1] == (30, 30)
    labels = read_labels(bright_dataset, "mine")
    assert len(labels) == 30
    assert not labels.abstain.any()
    expected = np.where(labels.index_b > labels.index_a, (0.9 + 0.8) / 2, (0.2 + 0.1) / 2)
    assert labels.probability_b_better == pytest.approx(expected)
    report = read_label_report(bright_dataset, "mine")
    assert report == json.loads(result.path.with_suffix(".json").read_text())
    assert report["judge"]["identity"] == "by-row"
    assert report["counts"] == {"ok": 30}
    assert report["accuracy"] is None, "no truth is known of a task that is not simulated"
    assert report["options"]["seed"] == 1
    assert not list(result.path.parent.glob(".*"))


def test_a_second_run_costs_nothing_and_equals_the_first(bright_dataset):
    first = label_dataset(bright_dataset, ByRow(later_is_better), LabelOptions("a", pairs=20)).path.read_bytes()
    judge = ByRow(later_is_better)
    second = label_dataset(bright_dataset, judge, LabelOptions("b", pairs=20)).path.read_bytes()
    assert judge.asked == []
    assert first == second


def test_disagreement_and_abstentions_are_counted_apart(bright_dataset):
    def answer(a: int, b: int) -> Preference:
        if 0 in (a, b):
            return abstention("refusal")
        return Preference(0.9) if 1 in (a, b) else later_is_better(a, b)

    labels = label_dataset(bright_dataset, ByRow(answer), LabelOptions("x", pairs=60)).labels
    for a, b, status in zip(labels.index_a, labels.index_b, labels.status, strict=True):
        assert status == ("refusal" if 0 in (a, b) else "disagreement" if 1 in (a, b) else "ok")
    assert (labels.abstain == (labels.status != "ok")).all()
    assert (labels.probability_b_better[labels.abstain] == 0.5).all()


def test_equal_images_are_a_tie_without_asking(bright_dataset):
    bright_dataset.frames = [bright_dataset.frames[i // 6] for i in range(12)]
    judge = ByRow(lambda a, b: Preference(0.9 if b >= 6 else 0.1))
    labels = label_dataset(bright_dataset, judge, LabelOptions("x", pairs=40)).labels
    same = (labels.index_a < 6) == (labels.index_b < 6)
    assert (labels.status[same] == "tie").all()
    assert (labels.status[~same] == "ok").all()


def test_endless_abstention_is_an_error(bright_dataset):
    judge = ByRow(lambda a, b: abstention("tie"))
    with pytest.raises(JudgeError, match="the last 10 answers gave no preference"):
        label_dataset(bright_dataset, judge, LabelOptions("x", pairs=50, maximum_abstentions=10))
    judge = ByRow(lambda a, b: Preference(0.9))
    judge.identity = "always-the-second"
    with pytest.raises(JudgeError, match=r"gave no label \(disagreement 50\)"):
        label_dataset(bright_dataset, judge, LabelOptions("x", pairs=50))


def test_unsupported_tasks_are_refused_before_the_first_question(bright_dataset):
    judge = OracleJudge(np.linspace(0, 1, 12), ("open the drawer",))
    with pytest.raises(JudgeError, match="does not know the task 'make it bright'; it knows: open the drawer"):
        label_dataset(bright_dataset, judge, LabelOptions("x"))


def test_labels_of_other_data_or_damaged_ones_are_refused(bright_dataset):
    path = label_dataset(bright_dataset, ByRow(later_is_better), LabelOptions("x", pairs=5)).path
    with pytest.raises(DatasetError, match="no labels 'y'; available: x"):
        read_labels(bright_dataset, "y")
    with pytest.raises(DatasetError, match="a label set's name"):
        read_labels(bright_dataset, "../x")

    class Changed(type(bright_dataset)):
        fingerprint = "e" * 64

    with pytest.raises(DatasetError, match="were made for dataset ffffffffffff"):
        read_labels(Changed(bright_dataset.path, bright_dataset.frames), "x")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DatasetError, match="not readable|not the file"):
        read_labels(bright_dataset, "x")


def test_making_judges():
    with pytest.raises(JudgeError, match="available: embedded, endpoint, oracle, transformers"):
        make_judge("human")
    with pytest.raises(JudgeError, match="needs a dataset"):
        make_judge("oracle")
    with pytest.raises(JudgeError, match="--base-url"):
        make_judge("endpoint", JudgeOptions(model="m"))
    with pytest.raises(JudgeError, match="--model"):
        make_judge("transformers")


@pytest.fixture(scope="module")
def drawer_dataset(tmp_path_factory):
    """Three scripted drawer episodes, through the real recorder format and importer."""
    from sealegs.collect import CollectConfig, collect
    from sealegs_learning.data.dataset import Dataset
    from sealegs_learning.data.importer import import_bags

    folder = tmp_path_factory.mktemp("drawer")
    result = collect(
        CollectConfig(folder / "bags", "drawer", "scripted", 3, seed=900, cameras=("front",), jobs=1, steps=120)
    )
    import_bags(result.paths, folder / "data")
    return Dataset.open(folder / "data")


def test_the_shipped_judge_labels_simulated_logs_well(drawer_dataset):
    result = label_dataset(drawer_dataset, make_judge("embedded"), LabelOptions("embedded", pairs=300))
    apart = result.report["accuracy"]["clearly_apart"]
    assert apart["labelled"] > 75
    assert apart["accuracy"] >= 0.9
    assert sum(b["pairs"] for b in result.report["accuracy"]["bins"]) <= 300


def test_the_oracle_is_right_about_the_rows_progress(drawer_dataset):
    from sealegs_learning.judge.truth import true_progress

    progress = true_progress(drawer_dataset)
    assert progress is not None
    assert progress[drawer_dataset.rows(0)][-1] == pytest.approx(1.0)
    result = label_dataset(drawer_dataset, make_judge("oracle", dataset=drawer_dataset), LabelOptions("o", pairs=300))
    labels = result.labels
    better = progress[labels.index_b] > progress[labels.index_a]
    assert ((labels.probability_b_better > 0.5) == better)[~labels.abstain].all()
    assert result.report["accuracy"]["clearly_apart"]["accuracy"] == 1.0
    coin = make_judge("oracle", JudgeOptions(error_curve="coin"), drawer_dataset)
    report = label_dataset(drawer_dataset, coin, LabelOptions("coin", pairs=300)).report
    assert 0.35 < report["accuracy"]["clearly_apart"]["accuracy"] < 0.65


def test_the_verb(drawer_dataset, capsys):
    folder = str(drawer_dataset.path)
    assert main(["label", "--dataset", folder, "--judge", "oracle", "--pairs", "50", "--name", "verb"]) == 0
    assert "100.0%" in capsys.readouterr().out
    assert len(read_labels(drawer_dataset, "verb")) == 50
    assert main(["label", "--dataset", folder, "--judge", "endpoint"]) == 2
    assert main(["label", "--dataset", folder, "--camera", "wrist"]) == 2
    assert main(["label", "--dataset", f"{folder}/nope"]) == 2
    assert main(["label", "--dataset", folder, "--judge", "embedded", "--model", folder]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 4
    assert all(line.startswith("sealegs: error: ") for line in errors)
