import json
import math

import pytest

from sealegs_contract.errors import LearningError
from sealegs_learning.results import Claim, Results, machine, target_holds
from sealegs_learning.statistics import Interval


@pytest.mark.parametrize(
    ("value", "interval", "target", "holds"),
    [
        (0.9, None, ">= 0.9", True),
        (0.8999, None, ">= 0.9", False),
        (10.0, None, "<= 10", True),
        (0.5, Interval(0.1, 0.9), "low > 0", True),
        (0.5, Interval(-0.1, 0.9), "low > 0", False),
        (0.2, Interval(0.1, 0.4), "high < 0.4", False),
        (0.3, None, "in [0.25, 0.35]", True),
        (0.4, None, "in [0.25, 0.35]", False),
        (math.nan, None, ">= 0", False),
        (None, None, "<= 10", False),
        (None, None, "in [0, 1]", False),
        (3.0, None, "== 3", True),
        (1e-6, None, "<= 1e-5", True),
    ],
)
def test_holds_is_computed(value, interval, target, holds):
    assert target_holds(value, interval, target) is holds
    assert Claim("c", value, target, interval).to_json()["holds"] is holds


def test_a_claim_reads_as_one_line():
    assert str(Claim("success", 0.5, ">= 0.9", Interval(0.4, 0.6))) == "success: 0.5 [0.4, 0.6] (target >= 0.9)"
    assert str(Claim("p99, ms", None, "<= 10")) == "p99, ms: unknown (target <= 10)"


@pytest.mark.parametrize("target", ["about 3", ">= high", "> 1 and < 2", ""])
def test_targets_outside_the_grammar_are_refused(target):
    with pytest.raises(LearningError, match="not understood"):
        target_holds(1.0, None, target)


def test_a_target_on_a_missing_interval_is_refused():
    with pytest.raises(LearningError, match="has none"):
        target_holds(1.0, None, "low > 0")
    assert not target_holds(None, None, "low > 0")  # nothing is known, of the interval either


def test_the_file_has_the_agreed_keys(tmp_path):
    claim = Claim("success", 0.1 + 0.2, ">= 0.25", Interval(0.2, 0.4))
    Results("demo", "sealegs demo", 12.5, [1, 2], [{"arm": "judge", "rate": 0.3}], [claim]).write(tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text())
    assert list(content) == ["name", "command", "versions", "machine", "seconds", "seeds", "rows", "claims"]
    assert content["claims"][0]["value"] == 0.1 + 0.2  # full precision
    assert content["claims"][0]["holds"] is True
    assert content["versions"]["torch"].startswith("2.")
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_a_value_that_is_not_finite_is_refused(tmp_path):
    with pytest.raises(LearningError, match="not finite"):
        Results("x", "", 0.0, [], [], [Claim("c", math.nan, ">= 0")]).write(tmp_path / "r.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("script", "gpu"), [("echo NVIDIA H200", "NVIDIA H200"), ("echo A; echo B", "A, B"), ("exit 9", None), (None, None)]
)
def test_the_machine_names_its_gpu(tmp_path, monkeypatch, script, gpu):
    program = tmp_path / "nvidia-smi"
    if script is not None:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert machine().get("gpu") == gpu
    assert machine()["cpus"] >= 1
