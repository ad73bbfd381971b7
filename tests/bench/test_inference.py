"""The inference bench measures the same action by every caller, and its claims are what the times say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sealegs.bench import inference
from sealegs.bench.frame import Cell, CellContext
from sealegs.bench.options import BenchOptions
from sealegs.bench.runner import run_folder
from sealegs.cli import main
from sealegs_learning.files import write_json

SETTINGS = {"rounds": 3, "calls": 4, "warm_up": 2, "callers": list(inference.CALLERS)}


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        yield


def measure(arm: str, model: str, folder: Path) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    context = CellContext(BenchOptions(), folder, {}, lambda done, total: told.append((done, total)))
    row = inference.run_cell(Cell(arm, model, 0, SETTINGS), context)
    return {"arm": arm, "task": model, "seed": 0, "seconds": 1.0, **row}, told


def test_a_cell_measures_every_caller_on_the_same_action(tmp_path: Path) -> None:
    row, told = measure("cpu", "mlp", tmp_path)
    assert row["runs"]
    assert set(row["callers"]) == set(inference.CALLERS)
    assert 0.0 <= row["max_difference_rad"] <= 1e-5
    observed, moved = 6 + 6 + 3 + 3, 6
    assert row["parameters"] == observed * 256 + 256 + 256 * 256 + 256 + 256 * moved + moved
    for times in row["callers"].values():
        assert len(times["rounds_p50"]) == 3
        assert min(times["rounds_p50"]) > 0.0
        assert 0.0 < times["p50"] <= times["p99"]
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert not (tmp_path / "config").exists(), "the bench signs with a key of its own"


def test_a_provider_that_is_not_here_is_a_note_and_no_figure(tmp_path: Path) -> None:
    row, _ = measure("cuda", "mlp", tmp_path)
    assert not row["runs"]
    summary = inference.summarise([row], BenchOptions())
    assert summary.claims == []
    assert any(note == "Not measured on cuda: not in this onnxruntime." for note in summary.notes)


def rows_of(times: dict[str, float]) -> list[dict[str, Any]]:
    callers = {
        name: {"p50": p50, "p99": 3 * p50, "mean": p50, "rounds_p50": [p50] * 5 + [1000.0]}
        for name, p50 in times.items()
    }
    row = {"arm": "cpu", "task": "mlp", "runs": True, "max_difference_rad": 2e-6, "callers": callers}
    return [row | {"seed": seed} for seed in (0, 1)]


def test_claims_are_differences_of_the_medians() -> None:
    summary = inference.summarise(
        rows_of({inference.SEALEGS: 9.0, inference.BARE: 7.0, inference.BOUND: 6.0, inference.EAGER: 40.0}),
        BenchOptions(),
    )
    values = {claim.claim: (claim.value, claim.holds) for claim in summary.claims}
    assert values == {
        "mlp on cpu: infer over the bare onnxruntime call, p50, us": (2.0, True),
        "mlp on cpu: infer over the bare onnxruntime call, p50, share of the latter": (pytest.approx(2.0 / 7.0), True),
        "mlp on cpu: infer over onnxruntime with bound buffers, p50, us": (3.0, True),
        "mlp on cpu: torch eager over infer, p50, us": (31.0, True),
        "mlp on cpu: largest difference between the callers, rad": (2e-6, True),
    }
    slow = inference.summarise(
        rows_of({inference.SEALEGS: 49.0, inference.BARE: 7.0, inference.BOUND: 6.0, inference.EAGER: 40.0}),
        BenchOptions(),
    )
    assert [claim.holds for claim in slow.claims] == [False, False, False, False, True]
    assert summary.tables[0].rows[0] == ["mlp", "cpu", inference.SEALEGS, 9.0, 27.0, 9.0]


def test_the_verb_writes_results_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The CPU's cells are on record, so that only those of absent GPUs are measured here."""
    options = BenchOptions(quick=True, tasks=("mlp",), seeds=(5,), work=tmp_path)
    (cell,) = (cell for cell in inference.cells(options) if cell.arm == "cpu")
    (row, _) = rows_of({inference.SEALEGS: 9.0, inference.BARE: 7.0, inference.BOUND: 6.0, inference.EAGER: 40.0})
    folder = run_folder("inference", options)
    write_json(folder / cell.key / "row.json", row | {"seed": 5, "seconds": 1.5})
    assert main(["bench", "inference", "--quick", "--tasks", "mlp", "--seeds", "5", "--work", str(tmp_path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "3 cells, 1 on record" in printed
    assert "holds: mlp on cpu: infer over the bare onnxruntime call, p50, us: 2 [2, 2] (target <= 10)" in printed
    results = json.loads((folder / "inference.json").read_text())
    assert results["command"] == "sealegs bench inference --quick --seeds 5 --tasks mlp"
    assert [claim["holds"] for claim in results["claims"]] == [True] * 5
    assert results["tables"][0]["rows"][1] == ["mlp", "cpu", inference.BARE, 7.0, 21.0, 7.0]
    picture = (folder / "inference" / "latency.svg").read_text()
    assert "mlp on cpu" in picture
    assert "torch eager" in picture


def test_figures_of_known_times() -> None:
    found = inference.figures(np.array([[1_000, 2_000, 3_000], [4_000, 5_000, 9_000]]))
    assert (found["p50"], found["mean"], found["rounds_p50"]) == (3.5, 4.0, [2.0, 5.0])
    assert found["p99"] == pytest.approx(5.0 + 0.95 * 4.0)


def test_callers_take_turns() -> None:
    order: list[str] = []
    callers = {name: (lambda name=name: order.append(name)) for name in "abc"}
    context = CellContext(BenchOptions(), Path(), {}, lambda done, total: None)
    times = inference.interleaved(callers, context, rounds=3, calls=2, warm_up=1)
    assert "".join(order) == "abc" + "aabbcc" + "bbccaa" + "ccaabb"
    assert all(values.shape == (3, 2) and np.all(values >= 0) for values in times.values())
