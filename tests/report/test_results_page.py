"""The results page says what the files say: values, verdicts, tables and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sealegs.bench import BENCHES
from sealegs.cli import COMMANDS
from sealegs.results_page import about, markdown_table, results_page
from sealegs_contract.errors import ReportError

CLAIMS: list[dict[str, Any]] = [
    {"claim": "a | b", "value": 0.96831, "interval": [0.9, 0.99], "target": ">= 0.9", "holds": True},
    {"claim": "c", "value": 12.5, "interval": None, "target": "<= 10", "holds": False},
    {"claim": "not measured", "value": None, "interval": None, "target": ">= 1", "holds": False},
]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    for folder in ("results", "images/demo", "images/bench/speed"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def write(docs: Path, name: str, **content: Any) -> None:
    (docs / "results" / f"{name}.json").write_text(json.dumps({"name": name, **content}))


def test_values_verdicts_and_pictures(docs: Path) -> None:
    write(
        docs,
        "demo",
        command="sealegs demo",
        seconds=61.4,
        seeds=[0, 7],
        machine={"cpus": 2, "gpu": "H200"},
        claims=CLAIMS,
    )
    (docs / "images" / "demo" / "success.svg").write_text("<svg/>")
    page = results_page(docs / "results")
    assert "## demo\n\n`sealegs demo`, 61 s, seeds 0, 7, 2 cores, H200; [demo.json](results/demo.json)\n" in page
    assert "| a \\| b | 0.9683 | 0.9 to 0.99 | >= 0.9 | yes |" in page
    assert "| c | 12.5 |  | <= 10 | **no** |" in page
    assert "| not measured |  |  | >= 1 | open |" in page
    assert "![success](images/demo/success.svg)" in page


def test_the_overview_comes_first_and_counts_what_holds(docs: Path) -> None:
    write(docs, "bench_a", command="sealegs bench inference --quick", claims=CLAIMS[:1])
    write(docs, "demo", command="./sealegs demo", claims=CLAIMS)
    page = results_page(docs / "results")
    first = f"| [demo](#demo) | {COMMANDS['demo'][1]} | **1 of 3** |"
    second = f"| [bench_a](#bench_a) | {BENCHES['inference'][1]} | 1 of 1 |"
    assert f"{first}\n{second}\n" in page
    assert page.index(second) < page.index("## demo") < page.index("## bench_a")


def test_notes_tables_and_pictures_of_a_bench(docs: Path) -> None:
    table = {"title": "times", "columns": ["arm", "p50, us", "calls"], "rows": [["a|b", 12.3456, 12000]]}
    write(docs, "speed", command="", claims=[], notes=["One thread.", "No GPU."], tables=[table])
    (docs / "images" / "bench" / "speed" / "times.svg").write_text("<svg/>")
    page = results_page(docs / "results")
    assert "\n\n- One thread.\n- No GPU.\n\n" in page
    assert "**times**\n\n| arm | p50, us | calls |\n|---|---|---|\n| a\\|b | 12.35 | 12,000 |\n" in page
    assert "![times](images/bench/speed/times.svg)" in page
    assert "| claim |" not in page.split("## speed")[1]


@pytest.mark.parametrize("content", ["{}", "[]", "no json", '{"claims": [{"claim": "x"}]}'])
def test_a_file_without_claims_is_refused(docs: Path, content: str) -> None:
    (docs / "results" / "x.json").write_text(content)
    with pytest.raises(ReportError, match=r"x\.json: not a results file"):
        results_page(docs / "results")


def test_about_takes_the_command_line_s_words() -> None:
    assert about({"command": "sealegs judge evaluate --pairs 3"}) == COMMANDS["judge evaluate"][1]
    assert about({"command": "./sealegs demo --task drawer"}) == COMMANDS["demo"][1]
    assert about({"command": "make it so"}) == about({}) == ""


def test_an_empty_table_is_a_head() -> None:
    assert markdown_table(("a", "b"), []) == "| a | b |\n|---|---|\n"
