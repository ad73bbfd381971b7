"""timing.json: what a policy node measured of its own loop, as a file that simulation can draw delays from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, ValidationError, model_validator

from sealegs_contract.errors import ControllerError, available
from sealegs_contract.robot import FrozenModel, Positive

SCHEMA_VERSION = 1
KIND = "policy_timing"
MAXIMUM_BYTES = 4 * 1024 * 1024
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class Histogram(FrozenModel):
    """Counts (B,) between edges (B + 1,) in ms. The last bin also holds the tail beyond its edge."""

    edges_ms: tuple[NonNegative, ...]
    counts: tuple[NonNegativeInt, ...]

    @model_validator(mode="after")
    def _sound(self) -> Histogram:
        if not self.counts or len(self.edges_ms) != len(self.counts) + 1:
            raise ValueError(f"{len(self.counts)} counts with {len(self.edges_ms)} edges: there must be one edge more")
        if any(high <= low for low, high in zip(self.edges_ms, self.edges_ms[1:], strict=False)):
            raise ValueError("edges must increase")
        if not any(self.counts):
            raise ValueError("all counts are zero")
        return self


class Tail(FrozenModel):
    """How many values lay beyond the last edge, and the largest."""

    count: NonNegativeInt
    max_ms: NonNegative


class TimingReport(FrozenModel):
    """The part of a timing.json that others build on; see LoopTiming for what each quantity is."""

    period_ms: Positive
    histograms: Mapping[str, Histogram]
    tails: Mapping[str, Tail] = Field(default_factory=dict)
    late_ticks: NonNegativeInt = 0
    late_inference: NonNegativeInt = 0

    @model_validator(mode="after")
    def _counted(self) -> TimingReport:
        for name, tail in self.tails.items():
            if name not in self.histograms or tail.count > self.histograms[name].counts[-1]:
                raise ValueError(f"the tail of {name} is not in its histogram")
        return self

    def histogram(self, name: str) -> Histogram:
        """Of one quantity. ControllerError where the node measured none: it was never armed."""
        if name not in self.histograms:
            raise ControllerError(f"this timing has no {name}, the policy never acted; {available(self.histograms)}")
        return self.histograms[name]


class _File(TimingReport):
    schema_version: Literal[1]
    kind: Literal["policy_timing"]


def read_timing(path: Path | str) -> TimingReport:
    """What a policy node wrote to `timing_path`. ControllerError for a file that is damaged or something else."""
    path = Path(path)
    content = _json(path)
    if content.get("kind") != KIND:
        hint = "the robot node's" if "round_trip" in content else "something else or of an earlier release"
        raise ControllerError(f"{path} is not the timing of a policy node, but {hint}: expected kind {KIND!r}")
    if content.get("schema_version") != SCHEMA_VERSION:
        version = content.get("schema_version")
        raise ControllerError(f"{path} has timing schema version {version!r}; this release reads {SCHEMA_VERSION}")
    try:
        return _File.model_validate({name: content[name] for name in _File.model_fields if name in content})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise ControllerError(f"{path} is damaged: {where}: {first['msg']}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        if size > MAXIMUM_BYTES:
            raise ControllerError(f"{path} is no timing.json: {size} bytes; expected at most {MAXIMUM_BYTES}")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ControllerError(f"cannot read the timing {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ControllerError(f"{path} is damaged, or no timing.json: {type(error).__name__}: {error}") from error
    if not isinstance(content, dict):
        raise ControllerError(f"{path} is no timing.json: it holds a {type(content).__name__}, expected an object")
    return content
