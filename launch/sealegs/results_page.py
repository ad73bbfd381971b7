"""docs/results.md, written from the results files: an overview, and for each file its claims, tables and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sealegs.bench import BENCHES
from sealegs.cli import COMMANDS
from sealegs_contract.errors import ReportError

HEAD = """# Results

<!-- Written by `python -m sealegs.reference`; do not edit. -->

Every table comes from a file in `docs/results/`. A claim's target was fixed before the run, and whether it holds is
computed. What does not hold stays in the table; a claim that was not measured is open. Intervals are 95 %. To repeat
a run: [Benches](concepts/benches.md).
"""
FIRST = "demo"
CLAIM = ("claim", "value", "interval", "target", "holds")


def results_page(folder: Path) -> str:
    """The whole page, from every results file in `folder`. Raises ReportError for one without claims."""
    paths = sorted(folder.glob("*.json"), key=lambda path: (path.stem != FIRST, path.stem))
    contents = {path: _read(path) for path in paths}
    overview = [
        [f"[{content['name']}](#{content['name']})", about(content), _held(content)] for content in contents.values()
    ]
    table = markdown_table(("results", "what was measured", "claims that hold"), overview)
    return "\n".join([HEAD, table, *(_section(path, content) for path, content in contents.items())])


def about(content: Mapping[str, Any]) -> str:
    """What the command of a results file does, in the command line's own words."""
    words = [word for word in str(content.get("command", "")).split() if not word.endswith("sealegs")]
    if words[:1] == ["bench"] and words[1:] and words[1] in BENCHES:
        return BENCHES[words[1]][1]
    verb = next((verb for verb in (" ".join(words[:2]), " ".join(words[:1])) if verb in COMMANDS), "")
    return COMMANDS[verb][1] if verb else ""


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table with an empty line behind it; numbers with four significant digits."""
    lines = ["| " + " | ".join(figure(value) for value in row) + " |" for row in rows]
    return "\n".join([f"| {' | '.join(map(cell, columns))} |", "|" + "---|" * len(columns), *lines, ""])


def figure(value: Any) -> str:
    """A value as a table shows it."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return "" if value is None else cell(str(value))


def cell(text: str) -> str:
    """Text that cannot break out of a table's cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content["claims"] = [
            (c["claim"], c["value"], c.get("interval"), c["target"], c["holds"]) for c in content["claims"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ReportError(f"{path}: not a results file ({error!r}); expected name, command, claims") from error
    return {"name": path.stem, **content}


def _held(content: Mapping[str, Any]) -> str:
    held = sum(bool(holds) for *_, holds in content["claims"])
    text = f"{held} of {len(content['claims'])}"
    return text if held == len(content["claims"]) else f"**{text}**"


def _section(path: Path, content: Mapping[str, Any]) -> str:
    parts = [f"## {content['name']}\n", f"{_facts(path, content)}\n"]
    parts += ["\n".join(f"- {note}" for note in content["notes"]) + "\n"] if content.get("notes") else []
    rows = [
        (claim, value, _range(interval), target, "yes" if holds else "open" if value is None else "**no**")
        for claim, value, interval, target, holds in content["claims"]
    ]
    parts += [markdown_table(CLAIM, rows)] if rows else []
    parts += [f"![{Path(name).stem}]({name})\n" for name in _pictures(path)]
    for table in content.get("tables", ()):
        parts += [f"**{cell(table['title'])}**\n", markdown_table(table["columns"], table["rows"])]
    return "\n".join(parts)


def _facts(path: Path, content: Mapping[str, Any]) -> str:
    """How it was run and on what, in one line."""
    machine = content.get("machine") or {}
    seeds = content.get("seeds")
    seeds = seeds if isinstance(seeds, list) else []
    facts = [f"`{content['command']}`"] if content.get("command") else []
    facts += [f"{content['seconds']:.0f} s"] if content.get("seconds") else []
    facts += [f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"] if 0 < len(seeds) <= 10 else []
    facts += [str(machine["cpu"])] if machine.get("cpu") else []
    facts += [f"{machine['cpus']} cores"] if machine.get("cpus") else []
    facts += [str(machine["gpu"])] if machine.get("gpu") else []
    return f"{', '.join(facts)}; [{path.name}](results/{path.name})"


def _pictures(path: Path) -> list[str]:
    """Pictures of a results file, relative to docs: NAME.png beside it, those in images/NAME and images/bench/NAME."""
    docs = path.parents[1]
    folders = [docs / "images" / path.stem, docs / "images" / "bench" / path.stem]
    found = [path.with_suffix(".png"), *(picture for folder in folders for picture in sorted(folder.glob("*.svg")))]
    return [picture.relative_to(docs).as_posix() for picture in found if picture.is_file()]


def _range(interval: Any) -> str:
    return f"{interval[0]:.4g} to {interval[1]:.4g}" if interval else ""
