"""`python -m sealegs.reference`: writes docs/cli.md from the commands' own code, and docs/results.md from docs/results.

`python -m sealegs.reference --check` writes nothing and exits with 1 where a file is out of date.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import json
import sys
import textwrap
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from sealegs.cli import COMMANDS
from sealegs_contract.errors import ReportError

DOCS = Path(__file__).resolve().parents[2] / "docs"


@dataclass(frozen=True)
class Option:
    """One option of a verb as the reference shows it; `flag` is `--name`, or the upper-case name of an argument."""

    flag: str
    values: str
    default: str
    text: str
    positional: bool


def field_texts(kind: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, by field name, its bases included."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, after in itertools.pairwise(statements):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
                texts[field.target.id] = str(ast.literal_eval(after.value))
    return {name: " ".join(text.split()) for name, text in texts.items()}


def value_text(annotation: Any) -> str:
    """What may be typed for an annotation: `INT`, `PATH`, `a|b`, `STR ...`; empty for a switch."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return value_text(arguments[0])
    if origin is Literal:
        return "|".join(str(one) for one in arguments)
    if origin in {Union, types.UnionType}:
        return "|".join(dict.fromkeys(value_text(one) for one in arguments if one is not type(None)))
    if origin in {tuple, list} or (isinstance(origin, type) and issubclass(origin, Sequence)):
        inner = [value_text(one) for one in arguments if one is not Ellipsis]
        return (
            f"{inner[0]} ..."
            if len(set(inner)) == 1 and (len(inner) == 1 or Ellipsis in arguments)
            else " ".join(inner)
        )
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "KEY VALUE ..."
    if annotation is bool:
        return ""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "|".join(str(one.name).lower() for one in annotation)
    return getattr(annotation, "__name__", str(annotation)).upper()


def default_text(field: dataclasses.Field[Any]) -> str:
    """The default as one would type it; empty where there is none."""
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    elif field.default is dataclasses.MISSING:
        return "required"
    else:
        value = field.default
    if value is None or value == () or value == []:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (tuple, list)):
        return " ".join(str(one) for one in value)
    return str(value)


def options_of(kind: type, prefix: str = "") -> Iterator[Option]:
    """Options of a Config dataclass in order; a dataclass inside it gives `--outer.inner`, without a name `--inner`."""
    import tyro

    texts, hints = field_texts(kind), get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        annotation = hints[field.name]
        markers = annotation.__metadata__ if get_origin(annotation) is Annotated else ()
        bare = get_args(annotation)[0] if markers else annotation
        names = [marker.name for marker in markers if getattr(marker, "name", None) is not None]
        name = names[0] if names else field.name.replace("_", "-")
        if dataclasses.is_dataclass(bare) and isinstance(bare, type):
            yield from options_of(bare, f"{prefix}{name}." if name else prefix)
            continue
        positional = tyro.conf.Positional in markers
        shown = next((marker.metavar for marker in markers if getattr(marker, "metavar", None)), "")
        if positional:
            flag = shown.removesuffix(" ...") or name.upper()
        else:
            spellings = [alias for marker in markers for alias in getattr(marker, "aliases", None) or ()]
            spellings.append(f"--{prefix}{name}")
            if bare is bool and tyro.conf.FlagCreatePairsOff not in markers:
                spellings.append(f"--{prefix}no-{name}")
            flag = ", ".join(spellings)
        values = value_text(bare) if positional or not shown else shown
        yield Option(flag, values, default_text(field), texts.get(field.name, ""), positional)


def verb_reference(verb: str) -> str:
    """The section of one verb: what it does, how it is called, its options."""
    module = importlib.import_module(f"sealegs.commands.{COMMANDS[verb][0]}")
    options = list(options_of(module.Config))
    required = [o for o in options if not o.positional and o.default == "required"]
    words = ["sealegs", verb, *(o.flag + (" ..." if o.values.endswith("...") else "") for o in options if o.positional)]
    words += [f"{o.flag} {o.values}".strip() for o in required]
    words += ["[options]"] if len(options) > len(required) + sum(o.positional for o in options) else []
    rows = [f"| {_code(o.flag)} | {_code(o.values)} | {_default(o)} | {_cell(o.text)} |" for o in options]
    table = "\n".join(["| option | value | default | |", "|---|---|---|---|", *rows]) if rows else "No options."
    text = inspect.cleandoc(module.__doc__ or COMMANDS[verb][1])
    return f"## sealegs {verb}\n\n{text}\n\n```\n{' '.join(words)}\n```\n\n{table}\n"


def cli_reference() -> str:
    """The whole docs/cli.md."""
    index = "\n".join(
        f"| [`{verb}`](#sealegs-{verb.replace(' ', '-')}) | {summary} |" for verb, (_, summary) in COMMANDS.items()
    )
    head = (
        "# Command line\n\n<!-- Written by `python -m sealegs.reference`; do not edit. -->\n\n"
        "`./sealegs VERB` from a checkout, `sealegs VERB` from an installation. `sealegs VERB --help` shows the same.\n"
        "Every verb takes `--debug` (show tracebacks). Exit codes: 0 fine, 1 our fault, 2 something you can mend, "
        "130 interrupted.\n\n"
    )
    return f"{head}| verb | |\n|---|---|\n{index}\n\n" + "\n".join(verb_reference(verb) for verb in COMMANDS)


def results_page(folder: Path) -> str:
    """The whole docs/results.md, from every results file in `folder`. Raises ReportError for one without claims."""
    parts = [
        "# Results\n\n<!-- Written by `python -m sealegs.reference`; do not edit. -->\n\n"
        "Every table comes from a file in `docs/results/`. A claim's target was fixed before the run, and whether it "
        "holds is\ncomputed. What does not hold stays in the table. Intervals are 95 %.\n"
    ]
    parts += [_results_section(path) for path in sorted(folder.glob("*.json"))]
    return "\n".join(parts)


def _results_section(path: Path) -> str:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        claims = [(c["claim"], c["value"], c.get("interval"), c["target"], c["holds"]) for c in content["claims"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ReportError(f"{path}: not a results file ({error!r}); expected name, command, claims") from error
    rows = [
        f"| {_cell(str(claim))} | {_figure(value)} | {_range(interval)} | {_cell(str(target))} | "
        f"{'yes' if holds else '**no**'} |"
        for claim, value, interval, target, holds in claims
    ]
    facts = [f"`{content['command']}`"] if content.get("command") else []
    facts += [f"{content['seconds']:.0f} s"] if content.get("seconds") else []
    machine = content.get("machine") or {}
    facts += [str(machine[key]) + (" cores" if key == "cpus" else "") for key in ("cpu", "cpus") if machine.get(key)]
    head = f"## {content.get('name', path.stem)}\n\n{', '.join(facts)}; [{path.name}](results/{path.name})\n"
    parts = [head, *(f"{_cell(note)}\n" for note in content.get("notes", ()))]
    parts += ["| claim | value | interval | target | holds |", "|---|---|---|---|---|", *rows, ""]
    parts += [_table(table) for table in content.get("tables", ())]
    return "\n".join([*parts, *(f"![{Path(name).stem}]({name})\n" for name in _pictures(path))])


def _table(table: Mapping[str, Any]) -> str:
    """A results file's own table: {"title", "columns", "rows"}."""
    columns = [_cell(str(column)) for column in table["columns"]]
    lines = ["| " + " | ".join(_figure(value) for value in row) + " |" for row in table["rows"]]
    head = [f"**{_cell(table['title'])}**\n", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join([*head, *lines, ""])


def _pictures(path: Path) -> list[str]:
    """Pictures of a results file, relative to docs: NAME.png beside it, those in images/NAME and images/bench/NAME."""
    docs = path.parents[1]
    folders = [docs / "images" / path.stem, docs / "images" / "bench" / path.stem]
    found = [path.with_suffix(".png"), *(picture for folder in folders for picture in sorted(folder.glob("*.svg")))]
    return [picture.relative_to(docs).as_posix() for picture in found if picture.is_file()]


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else "" if value is None else _cell(str(value))


def _range(interval: Any) -> str:
    return f"{interval[0]:.4g} to {interval[1]:.4g}" if interval else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _default(option: Option) -> str:
    return option.default if option.default == "required" else _code(option.default)


def _code(text: str) -> str:
    return f"`{_cell(text)}`" if text else ""


def pages(docs: Path = DOCS) -> dict[Path, str]:
    """The generated pages: file and content."""
    return {docs / "cli.md": cli_reference(), docs / "results.md": results_page(docs / "results")}


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or with `--check` only compare them."""
    if not DOCS.is_dir():
        raise ReportError(f"no folder {DOCS}: the reference is written in a checkout, not in an installation")
    written = pages()
    stale = [path for path, content in written.items() if not path.is_file() or path.read_text("utf-8") != content]
    if "--check" in arguments:
        print("\n".join(f"out of date: {path}" for path in stale) or "up to date")
        return int(bool(stale))
    for path in stale:
        path.write_text(written[path], encoding="utf-8")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
