"""`python -m sealegs.reference`: writes docs/cli.md from the commands' own code, and docs/results.md from docs/results.

`python -m sealegs.reference --check` writes nothing and exits with 1 where a file is out of date.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import sys
import textwrap
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from sealegs.cli import COMMANDS
from sealegs.results_page import cell, results_page
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
    rows = [f"| {_code(o.flag)} | {_code(o.values)} | {_default(o)} | {cell(o.text)} |" for o in options]
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
        "Every verb takes `--debug` (show tracebacks). Exit codes: 0 fine, 1 our fault (of `gate`: refused), 2 "
        "something you can mend, 130 interrupted.\n\n"
    )
    return f"{head}| verb | |\n|---|---|\n{index}\n\n" + "\n".join(verb_reference(verb) for verb in COMMANDS)


def _default(option: Option) -> str:
    return option.default if option.default == "required" else _code(option.default)


def _code(text: str) -> str:
    return f"`{cell(text)}`" if text else ""


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
