"""The reference says what the command line really takes, and the committed pages are what it writes."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from sealegs import reference
from sealegs.cli import COMMANDS, main

MISSING = [v for v, (module, _) in COMMANDS.items() if importlib.util.find_spec(f"sealegs.commands.{module}") is None]


@dataclass(frozen=True)
class Inner:
    steps: int = 3
    """How many."""


@dataclass(frozen=True)
class Other:
    depth: int = 2
    """How deep."""


@dataclass(frozen=True)
class Config:
    bags: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Bags
    to read."""
    out: Path
    """Where | to write."""
    mode: Literal["fast", "slow"] = "fast"
    name: str | None = None
    """A name."""
    force: bool = False
    """Overwrite."""
    ratios: tuple[float, ...] = (0.5, 1.0)
    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(aliases=["-q"])] = False
    """Say less."""
    port: Annotated[str, tyro.conf.arg(metavar="DEVICE", name="device")] = "/dev/ttyACM0"
    """Where the robot is."""
    inner: Inner = field(default_factory=Inner)
    bare: Annotated[Other, tyro.conf.arg(name="")] = field(default_factory=Other)


def test_options_of_a_config() -> None:
    found = [(o.flag, o.values, o.default, o.text) for o in reference.options_of(Config)]
    assert found == [
        ("BAGS", "PATH ...", "required", "Bags to read."),
        ("--out", "PATH", "required", "Where | to write."),
        ("--mode", "fast|slow", "fast", ""),
        ("--name", "STR", "", "A name."),
        ("--force, --no-force", "", "no", "Overwrite."),
        ("--ratios", "FLOAT ...", "0.5 1.0", ""),
        ("-q, --quiet", "", "no", "Say less."),
        ("--device", "DEVICE", "/dev/ttyACM0", "Where the robot is."),
        ("--inner.steps", "INT", "3", "How many."),
        ("--depth", "INT", "2", "How deep."),
    ]


@pytest.mark.parametrize("verb", [verb for verb in COMMANDS if verb not in MISSING])
def test_every_flag_of_the_reference_is_in_the_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*verb.split(), "--help"])
    assert stop.value.code == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    module = importlib.import_module(f"sealegs.commands.{COMMANDS[verb][0]}")
    options = list(reference.options_of(module.Config))
    flags = {flag for option in options if not option.positional for flag in option.flag.split(", ")}
    assert {flag for flag in flags if flag not in shown} == set()
    assert [o.flag for o in options if not o.text] == []
    listed = re.findall(r"^[│ ] (-{1,2}[a-zA-Z][^\s,]*(?:, -[^\s,]+)*)", shown, re.MULTILINE)
    assert {flag for line in listed for flag in line.split(", ")} - flags == {"-h", "--help"}


@pytest.mark.skipif(bool(MISSING), reason=f"these verbs do not exist yet: {', '.join(MISSING)}")
def test_the_committed_pages_are_up_to_date() -> None:
    stale = [path.name for path, content in reference.pages().items() if path.read_text(encoding="utf-8") != content]
    assert stale == [], "run: python -m sealegs.reference"
