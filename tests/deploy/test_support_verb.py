"""`sealegs export` fits the support guard where it knows the training data, and says why where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from sealegs.cli import main
from sealegs_deploy.bundle import load_bundle
from sealegs_deploy.manifest import SupportInfo
from sealegs_deploy.support import load_support
from sealegs_learning.data.dataset import Dataset


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset and a policy that was trained on it."""
    folder = tmp_path_factory.mktemp("run")
    arguments = ["--task", "reach", "--policy", "noisy", "--episodes", "20", "--no-images", "--jobs", "1"]
    assert main(["collect", "--out", str(folder / "bags"), *arguments]) == 0
    assert main(["import", str(folder / "bags"), "--out", str(folder / "dataset")]) == 0
    training = ["--learner", "bc", "--updates", "20", "--hidden", "32"]
    assert main(["train", "--dataset", str(folder / "dataset"), "--out", str(folder / "bc"), *training]) == 0
    return folder


def exported(run: Path, out: Path, *options: str) -> SupportInfo | None:
    assert main(["export", "--policy", str(run / "bc"), "--out", str(out), *options]) == 0
    bundle = load_bundle(out)
    assert (load_support(bundle) is None) == (bundle.manifest.support is None)
    return bundle.manifest.support


def test_it_is_fitted_on_the_data_of_the_card(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = exported(run, tmp_path / "bundle", "--false-alarms", "0.1", "--support-simulated", "12")
    assert info is not None
    assert info.episodes == (8, 4, 20)
    # k = ceil(9 x 0.9) = 9, but there are 8: 1 - 8/9. Of its own 12: k = ceil(13 x 0.9) = 12, 1 - 12/13.
    assert [one.episodes for one in info.calibrations] == [8, 12]
    assert [one.false_alarms for one in info.calibrations] == pytest.approx([1 / 9, 1 / 13])
    assert info.false_alarms == pytest.approx(1 / 9)
    assert info.dataset_fingerprint == Dataset.open(run / "dataset").fingerprint
    out = capsys.readouterr().out
    assert "at most 0.11 of episodes like 8 held-out episodes of the logs" in out
    assert "(0.31 with 95% confidence); for 0.1 it takes 9 such episodes" in out
    assert "at most 0.077 of episodes like 12 own runs in simulation" in out
    assert main(["info", str(tmp_path / "bundle")]) == 0
    assert "support.hold" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "bundle")]) == 0
    assert "combined, fitted on 8 episodes" in capsys.readouterr().out


def test_without_data_it_says_why_there_is_none(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exported(run, tmp_path / "a", "--no-support") is None
    assert "support guard: none: not wanted" in capsys.readouterr().out
    (run / "dataset").rename(run / "elsewhere")
    try:
        assert exported(run, tmp_path / "b") is None
        assert f"not at {run / 'dataset'} any more; give --support-data" in capsys.readouterr().out
    finally:
        (run / "elsewhere").rename(run / "dataset")
    for options, reason in (
        (("--no-support", "--support-data", str(run / "dataset")), "leave out one of them"),
        (("--false-alarms", "1.5"), "between 0 and 1"),
        (("--support-data", str(tmp_path / "nowhere")), "nowhere"),
    ):
        assert main(["export", "--policy", str(run / "bc"), "--out", str(tmp_path / "c"), *options]) == 2
        assert reason in " ".join(capsys.readouterr().err.split())
