"""A configuration as the command line that gives it: what a policy card says, and what a sweep starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Set
from typing import Any


def arguments_of(config: Any, leave_out: Set[str] = frozenset(), prefix: str = "") -> list[str]:
    """Options of a (nested) configuration dataclass, without those that have their default: ["--iql.tau", "0.9"]."""
    return [word for words in _options(config, leave_out, prefix) for word in words]


def _options(config: Any, leave_out: Set[str], prefix: str) -> Iterator[list[str]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in leave_out or value == _default(field):
            continue
        name = prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            yield from _options(value, frozenset(), f"{name}.")
        elif isinstance(value, bool):
            yield [f"--{name}" if value else f"--{prefix}no-{field.name.replace('_', '-')}"]
        elif isinstance(value, tuple):
            yield [f"--{name}", *map(str, value)]
        else:
            yield [f"--{name}", str(value)]


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
