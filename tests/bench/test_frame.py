"""A bench measures what is missing and nothing twice; its results file and pictures are what its rows say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from sealegs.bench import BENCHES, find_bench, plots
from sealegs.bench.frame import Bench, Cell, CellContext, Row, Summary, Table
from sealegs.bench.options import BenchOptions
from sealegs.bench.publish import command_of, publish, revisions_of, summed_up, write_results
from sealegs.bench.runner import read_row, run_bench, run_folder
from sealegs.cli import main
from sealegs_contract.errors import LearningError, MachineError
from sealegs_learning.files import write_json
from sealegs_learning.results import Claim

QUIET = Console(quiet=True)


class Squares:
    """Measures seed^2 after a first stage that leaves the seed in a file; remembers what it ran."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.ran: list[tuple[str, int]] = []
        self.fail_at = fail_at
        self.bench = Bench(self.cells, self.run_cell, self.summarise)

    def cells(self, options: BenchOptions) -> list[Cell]:
        seeds = options.seeds_or((2, 3))
        squares = [Cell("square", "numbers", seed, {"power": 2}, stage=1) for seed in seeds]
        return squares + [Cell("data", "numbers", seed) for seed in seeds]

    def run_cell(self, cell: Cell, context: CellContext) -> Mapping[str, Any]:
        self.ran.append((cell.arm, cell.seed))
        context.progress(1, 2)
        if cell.arm == "data":
            (context.folder / "seed.txt").write_text(str(cell.seed))
            return {"value": cell.seed}
        if cell.seed == self.fail_at:
            raise LearningError("no square today")
        assert context.row_of("data", "numbers", cell.seed)["value"] == cell.seed
        root = int((context.folder_of("data", "numbers", cell.seed) / "seed.txt").read_text())
        return {"value": root ** cell.settings["power"]}

    def summarise(self, rows: Sequence[Row], options: BenchOptions) -> Summary:
        values = {f"seed {row['seed']}": float(row["value"]) for row in rows if row["arm"] == "square"}
        figure, (axes,) = plots.panels()
        plots.bars(axes, values, {"seed 2": (3.0, 5.0)})
        claims = [Claim("largest square", max(values.values()), ">= 9")]
        return Summary(
            claims, {"squares": figure}, [Table("squares", ("seed", "value"), list(values.items()))], ["a note"]
        )


def test_stages_come_in_order_and_rows_in_the_bench_s(tmp_path: Path) -> None:
    squares = Squares()
    rows = run_bench("squares", BenchOptions(work=tmp_path), QUIET, bench=squares.bench)
    assert squares.ran == [("data", 2), ("data", 3), ("square", 2), ("square", 3)]
    assert [(row["arm"], row["task"], row["seed"], row["value"]) for row in rows] == [
        ("square", "numbers", 2, 4),
        ("square", "numbers", 3, 9),
        ("data", "numbers", 2, 2),
        ("data", "numbers", 3, 3),
    ]
    assert all(row["seconds"] >= 0.0 for row in rows)


def test_a_rerun_measures_only_what_is_missing(tmp_path: Path) -> None:
    options = BenchOptions(work=tmp_path)
    failing = Squares(fail_at=3)
    with pytest.raises(LearningError, match="no square today"):
        run_bench("squares", options, QUIET, bench=failing.bench)
    again = Squares()
    rows = run_bench("squares", options, QUIET, bench=again.bench)
    assert again.ran == [("square", 3)]
    assert len(rows) == 4
    more = Squares()
    run_bench("squares", replace(options, seeds=(3, 4)), QUIET, bench=more.bench)
    assert more.ran == [("data", 4), ("square", 4)]
    run_bench("squares", options, QUIET, fresh=True, bench=more.bench)
    assert len(more.ran) == 2 + 4


def test_other_settings_are_another_cell_and_other_stages_are_not() -> None:
    cell = Cell("arm one", "a/b", 1, {"steps": 10})
    assert cell.key.startswith("arm_one-a_b-1-")
    assert replace(cell, settings={"steps": 11}).key != cell.key
    assert replace(cell, stage=1).key == cell.key


def test_quick_runs_are_kept_apart(tmp_path: Path) -> None:
    quick = BenchOptions(work=tmp_path, quick=True)
    assert len(run_bench("squares", quick, QUIET, bench=Squares().bench)) == 2
    assert run_folder("squares", quick) != run_folder("squares", BenchOptions(work=tmp_path))


def test_results_and_pictures_are_published(tmp_path: Path) -> None:
    options = BenchOptions(work=tmp_path / "work", seeds=(3,))
    bench = Squares().bench
    rows = run_bench("squares", options, QUIET, bench=bench)
    path = write_results("squares", options, rows, bench.summarise(rows, options), run_folder("squares", options))
    (tmp_path / "docs").mkdir()
    written = publish(path, tmp_path / "docs")
    assert [p.relative_to(tmp_path / "docs").as_posix() for p in written] == [
        "results/squares.json",
        "images/bench/squares/squares.svg",
    ]
    content = json.loads(written[0].read_text())
    assert content["command"] == "sealegs bench squares --seeds 3"
    assert content["seeds"] == [3]
    assert content["claims"] == [
        {"claim": "largest square", "value": 9.0, "interval": None, "target": ">= 9", "holds": True}
    ]
    assert content["tables"] == [{"title": "squares", "columns": ["seed", "value"], "rows": [["seed 3", 9.0]]}]
    assert content["notes"] == ["a note"]
    assert sum(content["revisions"].values()) == len(rows)
    first = written[1].read_bytes()
    write_results("squares", options, rows, bench.summarise(rows, options), tmp_path)
    assert (tmp_path / "squares" / "squares.svg").read_bytes() == first
    with pytest.raises(MachineError, match="no folder"):
        publish(path, tmp_path / "nowhere")


def test_a_devices_results_stand_beside_the_cpus(tmp_path: Path) -> None:
    bench = Squares().bench
    rows = run_bench("squares", BenchOptions(work=tmp_path), QUIET, bench=bench)
    paths = []
    for device in ("cpu", "cuda"):
        options = BenchOptions(device=device)
        paths.append(write_results("squares", options, rows, bench.summarise(rows, options), tmp_path))
    assert [path.name for path in paths] == ["squares.json", "squares_cuda.json"]
    assert [json.loads(path.read_text())["name"] for path in paths] == ["squares", "squares_cuda"]
    assert (tmp_path / "squares_cuda" / "squares.svg").is_file()


def test_rows_name_their_revision_and_a_mixture_is_a_note(tmp_path: Path) -> None:
    bench, options = Squares().bench, BenchOptions(work=tmp_path)
    rows = run_bench("squares", options, QUIET, bench=bench)
    (own,) = revisions_of(rows)
    assert own.startswith(("commit ", "version "))
    assert summed_up(bench, rows, options).notes == ["a note"]
    old = [{name: value for name, value in rows[0].items() if name != "revision"}, *rows[1:]]
    assert revisions_of(old) == {"unknown": 1, own: 3}
    assert summed_up(bench, old, options).notes[-1].endswith(f"unknown (1 of 4 rows), {own} (3 of 4 rows).")
    known = [{**row, "revision": {"commit": "ab" * 20, "dirty": k == 0}} for k, row in enumerate(rows)]
    assert revisions_of(known) == {"commit abababababab with changes": 1, "commit abababababab": 3}


def test_rows_that_json_cannot_hold_and_damaged_ones_are_named(tmp_path: Path) -> None:
    bench = Bench(lambda options: [Cell("nan")], lambda cell, context: {"value": float("nan")}, Squares().summarise)
    with pytest.raises(LearningError, match="cell nan-all-0.*finite"):
        run_bench("nan", BenchOptions(work=tmp_path), QUIET, bench=bench)
    (tmp_path / "row.json").write_text("{")
    with pytest.raises(LearningError, match=r"row\.json is damaged"):
        read_row(tmp_path)
    assert read_row(tmp_path / "unfinished") is None


def test_the_command_names_what_was_chosen(tmp_path: Path) -> None:
    options = BenchOptions(quick=True, seeds=(1, 2), tasks=("a", "b"), device="cuda", work=tmp_path)
    assert command_of("x", options) == "sealegs bench x --quick --seeds 1 2 --tasks a b --device cuda"


def test_the_verb_lists_benches_and_refuses_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench"]) == 0
    assert [line.split("  ")[0].strip() for line in capsys.readouterr().out.splitlines() if line] == list(BENCHES)
    assert main(["bench", "none_such"]) == 2
    assert "no bench 'none_such'; available:" in capsys.readouterr().err
    assert main(["bench", "none_such", "--quick", "--publish", "docs"]) == 2
    assert "not published" in capsys.readouterr().err


def test_a_device_is_refused_before_anything_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = ["--fresh", "--work", str(tmp_path)]
    assert main(["bench", "ppo", "--device", "cuda", *work]) == 2
    assert "bench ppo takes no --device, got 'cuda': leave it out; benches that take it: iql" in capsys.readouterr().err
    for device, words in (("quantum", "expected cpu or cuda"), ("cpu:0", "expected cpu or cuda")):
        assert main(["bench", "iql", "--device", device, *work]) == 2
        assert words in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert main(["bench", "iql", "--device", "cuda", *work]) == 2
        assert "sees no CUDA GPU here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", BENCHES)
def test_every_registered_bench_has_cells(name: str) -> None:
    bench = find_bench(name)
    for options in (BenchOptions(quick=True), BenchOptions()):
        cells = bench.cells(options)
        assert cells
        assert len({cell.key for cell in cells}) == len(cells)
    assert BENCHES[name][1]


def test_cells_run_in_processes_of_their_own(tmp_path: Path) -> None:
    """The inference bench on a machine without a GPU: its GPU cells are quick, the others are on record."""
    options = BenchOptions(quick=True, tasks=("mlp",), jobs=2, work=tmp_path)
    cells = find_bench("inference").cells(options)
    (on_cpu,) = (cell for cell in cells if cell.arm == "cpu")
    write_json(run_folder("inference", options) / on_cpu.key / "row.json", {"arm": "cpu", "value": 7})
    rows = {row["arm"]: row for row in run_bench("inference", options, QUIET)}
    assert rows["cpu"]["value"] == 7
    assert [rows[arm]["why"] for arm in ("cuda", "tensorrt")] == ["not in this onnxruntime"] * 2


def test_an_error_in_a_process_ends_the_run(tmp_path: Path) -> None:
    options = BenchOptions(quick=True, tasks=("no_such_model",), jobs=2, work=tmp_path)
    with pytest.raises(LearningError, match="no model 'no_such_model'; available: cnn, ensemble, mlp"):
        run_bench("inference", options, QUIET)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.8684, "-0.868"), (12.34, "12.3"), (999.0, "999"), (5512.3, "5,512"), (1_250_000.0, "1.25M")],
)
def test_numbers_on_bars_are_short(value: float, text: str) -> None:
    assert plots.short(value) == text


def test_long_axes_count_in_thousands(tmp_path: Path) -> None:
    figure, (axes,) = plots.panels()
    plots.curve(axes, [0, 10_000, 20_000], [[1.0, 2.0, 4.0], [3.0, 4.0, 6.0]], "a", plots.COLOURS[0])
    axes.legend()
    plots.save_svg(figure, tmp_path / "curve.svg")
    picture = (tmp_path / "curve.svg").read_text()
    assert ">20k<" in picture
    assert ">20000<" not in picture
    (line,) = axes.get_lines()
    assert list(line.get_ydata()) == [2.0, 3.0, 5.0]
