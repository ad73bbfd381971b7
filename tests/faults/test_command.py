"""`sealegs faults`: rows by number, the results file, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sealegs.cli import main
from sealegs.faults.catalogue import failure_bound


def test_rows_are_run_and_those_that_cannot_say_so(tmp_path: Path) -> None:
    assert main(["faults", "14", "39", "--quick", "--work", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "faults" / "quick" / "faults.json").read_text())
    assert content["command"] == "sealegs faults 14 39 --quick"
    measured, unverified = content["claims"]
    assert (measured["value"], measured["holds"]) == (0.0, True)
    assert measured["interval"] == pytest.approx([0.0, 3 / content["rows"][0]["trials"]])
    assert (unverified["value"], unverified["holds"]) == (None, False)
    assert "not verified at run time" in unverified["claim"]


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faults", "99", "--work", str(tmp_path)]) == 2
    assert "no row 99" in capsys.readouterr().err
    assert main(["faults", "--quick", "--publish", str(tmp_path)]) == 2
    assert "only a full run of all rows is published" in capsys.readouterr().err


def test_bound_of_the_failure_rate() -> None:
    assert failure_bound(0, 300) == pytest.approx(0.01)  # the rule of three
    assert failure_bound(0, 2) == 1.0
    assert failure_bound(1, 10) == pytest.approx(0.4042, abs=1e-4)  # Wilson's upper end of 1 in 10
