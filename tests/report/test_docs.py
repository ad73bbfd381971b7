"""What the documentation says works: links lead somewhere, commands parse, Python runs, generated files are current."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import tyro

from sealegs.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _blocks(language: str) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for found, content in FENCE.findall(page.read_text(encoding="utf-8")):
            if found == language:
                yield str(page.relative_to(ROOT)), content


def _commands() -> Iterator[tuple[str, list[str]]]:
    for page, content in _blocks(""):
        for line in content.splitlines():
            if not (page == "docs/cli.md" or line.startswith("#")) and "sealegs " in line:
                words = shlex.split(line, comments=True)
                if words and words[0] in {"sealegs", "./sealegs"}:
                    yield page, words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    published = (ROOT / "docs" / "results" / "demo.json").is_file()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")) or ("images/demo/" in target and not published):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name) if name else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_there_are_commands_to_check() -> None:
    verbs = {words[0] for _, words in _commands()}
    assert {"demo", "collect", "import", "label", "reward", "train", "evaluate", "export", "verify", "drive"} <= verbs


@pytest.mark.parametrize(
    ("page", "words"), list(_commands()), ids=lambda value: value if isinstance(value, str) else None
)
def test_commands_parse(page: str, words: list[str]) -> None:
    count = 2 if " ".join(words[:2]) in COMMANDS else 1
    verb, arguments = " ".join(words[:count]), words[count:]
    module = importlib.import_module(f"sealegs.commands.{COMMANDS[verb][0]}")
    if "--help" in arguments:
        return
    try:
        tyro.cli(module.Config, args=arguments)
    except SystemExit as stop:
        pytest.fail(f"{page}: sealegs {' '.join(words)} does not parse: {stop.code}")


@pytest.mark.parametrize(("page", "code"), list(_blocks("python")), ids=lambda value: value[:24].replace("\n", " "))
def test_python_runs(page: str, code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "my_arm.yaml").write_bytes((ROOT / "deploy/sealegs_contract/robots/so101.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {})


def test_the_sketched_backend_offers_what_the_protocol_asks() -> None:
    from sealegs_contract.backend import RobotBackend

    sketch = next(code for _, code in _blocks("python") if "class MyArm" in code)
    wanted = {name for name in vars(RobotBackend) if not name.startswith("_")} - {"profile", "simulated"}
    assert set(re.findall(r"def (\w+)\(", sketch)) - {"__init__"} == wanted
