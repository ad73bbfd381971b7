"""Every verb that writes, given a place that it cannot write: one line that says what to do, at once, and code 2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sealegs.cli import main
from sealegs.os_errors import ADVICE, advice, require_folder

# The verb and its option that names a folder; the work behind it must not have begun when the folder is refused.
WRITERS = {
    "collect": ["collect", "--episodes", "1", "--jobs", "1", "--no-images", "--out"],
    "judge train": ["judge", "train", "--quick", "--out"],
    "judge train, work": ["judge", "train", "--quick", "--out", "OTHER", "--work"],
    "judge evaluate": ["judge", "evaluate", "--work", "OTHER", "--out"],
    "judge evaluate, work": ["judge", "evaluate", "--out", "OTHER", "--work"],
    "drive": ["drive", "--record"],
    "drive, logs": ["drive", "--record", "OTHER", "--logs"],
    "demo": ["demo", "--quick", "--runs"],
}


@pytest.mark.parametrize("below", ["", "deeper/still"])
@pytest.mark.parametrize("verb", WRITERS)
def test_a_file_where_a_folder_is_needed(
    verb: str, below: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("precious")
    words = [str(tmp_path / "other") if word == "OTHER" else word for word in WRITERS[verb]]
    assert main([*words, str(tmp_path / "file" / below)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert str(tmp_path / "file") in line
    assert "name another place, or move the file away" in line
    assert (tmp_path / "file").read_text() == "precious"


def test_a_film_that_cannot_be_written_is_refused_before_the_episode(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder.gif").mkdir()
    for film, words in (("file/x.gif", "move the file away"), ("folder.gif", "is a folder; name a file")):
        assert main(["view", "--film", str(tmp_path / film)]) == 2
        output = capsys.readouterr()
        assert output.out == ""  # an episode tells its outcome
        (line,) = output.err.strip().splitlines()
        assert words in line


READERS = (
    ["import", "MISSING", "--out", "OTHER"],
    ["label", "--dataset", "MISSING", "--name", "x"],
    ["reward", "--dataset", "MISSING", "--labels", "x", "--name", "x"],
    ["train", "--dataset", "MISSING", "--out", "OTHER"],
    ["evaluate", "--policy", "MISSING"],
    ["export", "--policy", "MISSING", "--out", "OTHER"],
    ["verify", "MISSING"],
    ["info", "MISSING"],
    ["report", "MISSING"],
    ["launch", "MISSING"],
    ["drive", "--bundle", "MISSING"],
)


@pytest.mark.parametrize("words", READERS, ids=lambda words: words[0])
def test_what_is_missing_is_named_and_nothing_is_left(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"MISSING": str(tmp_path / "missing"), "OTHER": str(tmp_path / "other")}
    assert main([given.get(word, word) for word in words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert str(tmp_path / "missing") in line
    assert list(tmp_path.iterdir()) == []


def test_every_advice_names_the_path_and_a_way_out(tmp_path: Path) -> None:
    for number, words in ADVICE.items():
        assert advice(OSError(number, os.strerror(number), "/a/b")) == f"/a/b: {words}"
        assert ": " in words
    assert advice(OSError(0, "odd", "/a/b")) == "/a/b: odd"
    assert advice(OSError("no number")) == "no number"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        require_folder(tmp_path)
