"""A grid of settings: `iql.tau=0.7,0.9 iql.beta=1,3` around a TrainConfig gives four configurations. No torch."""

from __future__ import annotations

import dataclasses
import itertools
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sealegs_contract.errors import LearningError, available
from sealegs_learning.training.config import TrainConfig, unused

# What names a run rather than decides it, and what has an option of its own.
_NOT_SWEPT = {"out", "seed", "resume", "overwrite", "tensorboard"}


@dataclass(frozen=True)
class Setting:
    """One point of the grid: its values by dotted name, and the configuration with them, still of the base's seed."""

    values: Mapping[str, str]
    config: TrainConfig

    @property
    def name(self) -> str:
        """`iql.tau=0.7,iql.beta=3`; `base` for an empty grid."""
        return ",".join(f"{name}={value}" for name, value in self.values.items()) or "base"

    @property
    def folder(self) -> str:
        """The name as a folder's."""
        return re.sub(r"[^\w.,=+-]+", "_", self.name)


def expand(base: TrainConfig, axes: Sequence[str]) -> list[Setting]:
    """All combinations of the axes `NAME=VALUE,VALUE`; several numbers in one value: hidden=64x64,256x256.

    A combination whose run would be the same as an earlier one's (a setting of another learner) is left out.
    LearningError on an unknown name or a value of the wrong kind.
    """
    parsed = [_axis(axis) for axis in axes]
    names = [name for name, _ in parsed]
    if len(set(names)) != len(names):
        raise LearningError(f"a setting comes twice in the grid: {', '.join(names)}")
    settings: dict[tuple[tuple[str, str], ...], Setting] = {}
    for values in itertools.product(*(values for _, values in parsed)):
        chosen = dict(zip(names, values, strict=True))
        config = base
        for name, value in chosen.items():
            config = _with(config, name.split("."), value, name)
        relevant = {name: value for name, value in chosen.items() if _matters(name, config)}
        settings.setdefault(tuple(relevant.items()), Setting(relevant, config))
    unused = [name for name in names if not any(name in setting.values for setting in settings.values())]
    if unused:
        raise LearningError(f"{', '.join(unused)}: no run of this grid uses it (learner {base.learner})")
    return list(settings.values())


def settable() -> list[str]:
    """Dotted names of what a grid may vary."""
    return [name for name in _names(TrainConfig, "") if name not in _NOT_SWEPT]


def _names(kind: type, prefix: str) -> Iterator[str]:
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        inner = hints[field.name]
        if dataclasses.is_dataclass(inner) and isinstance(inner, type):
            yield from _names(inner, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def _axis(text: str) -> tuple[str, list[str]]:
    name, found, values = text.partition("=")
    name, listed = name.strip().replace("-", "_"), [value.strip() for value in values.split(",")]
    if not found or not all(listed):
        raise LearningError(f"grid {text!r} is not NAME=VALUE,VALUE")
    if name not in settable():
        raise LearningError(f"no setting {name!r} to vary; {available(settable())}")
    if len(set(listed)) != len(listed):
        raise LearningError(f"a value comes twice in grid {text!r}")
    return name, listed


def _with(config: Any, path: Sequence[str], text: str, name: str) -> Any:
    """`config` with the value at `path` replaced; frozen dataclasses all the way down."""
    head, *rest = path
    if rest:
        return dataclasses.replace(config, **{head: _with(getattr(config, head), rest, text, name)})
    return dataclasses.replace(config, **{head: _value(text, get_type_hints(type(config))[head], name)})


def _matters(name: str, config: TrainConfig) -> bool:
    """Whether a run with `config` looks at this setting: settings of other learners decide nothing."""
    return name.partition(".")[0] not in unused(config)


def _value(text: str, annotation: Any, name: str) -> Any:
    """`text` as a value of this type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in {Union, types.UnionType}:
        return _value(text, next(one for one in arguments if one is not type(None)), name)
    if origin is Literal:
        return _one_of(text, arguments, name)
    if origin is tuple:
        return _values(text, arguments, name)
    if annotation is bool:
        return _one_of(text, ("yes", "no"), name) == "yes"
    try:
        return {int: int, float: float, str: str, Path: Path}[annotation](text)
    except ValueError as error:
        raise LearningError(f"{name}={text}: expected {annotation.__name__}") from error


def _values(text: str, arguments: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    """A list: numbers as 64x64 or `64 64`, words with spaces between (names may have an x in them)."""
    kind, count = arguments[0], 0 if Ellipsis in arguments else len(arguments)
    if kind not in {int, float}:
        return tuple(_value(word, kind, name) for word in text.split())
    words = re.split(r" *x *| +", text)
    try:
        found = tuple(kind(word) for word in words)
    except ValueError:
        found = ()
    if not found or count not in {0, len(found)}:
        example = "x".join(["64"] * (count or 2))
        raise LearningError(f"{name}={text}: expected {count or 'one or more'} of {kind.__name__}, as {example}")
    return found


def _one_of(text: str, choices: Iterable[str], name: str) -> str:
    if text not in choices:
        raise LearningError(f"{name}={text}: {available(choices)}")
    return text
