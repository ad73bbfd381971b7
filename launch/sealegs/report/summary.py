"""What a run measured: the schema of `summary.json`, from which the page is written.

Every part but the head is optional, so that an interrupted run has a report too. Fractions lie in [0, 1]; an interval
is (low, high), 95%; file paths are relative to the run folder. Numbers are finite: leave out what is not known.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, ValidationError, model_validator

from sealegs_contract.errors import ReportError
from sealegs_contract.robot import Finite, FrozenModel
from sealegs_learning.results import Claim

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Plain = bool | int | Finite | str | None
Numbers = tuple[Finite, ...]
Interval = tuple[Finite, Finite]


def _inside_the_run(path: str) -> str:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\\" in path or not path:
        raise ValueError(f"expected a path relative to the run folder, got {path!r}")
    return path


def _without_verdict(claim: Any) -> Any:
    return {key: value for key, value in claim.items() if key != "holds"} if isinstance(claim, dict) else claim


RunFile = Annotated[str, AfterValidator(_inside_the_run)]
# Written as the results format has it. Whether it holds is computed anew when it is read.
WrittenClaim = Annotated[Claim, BeforeValidator(_without_verdict), PlainSerializer(Claim.to_json)]


class Stage(FrozenModel):
    """One step of the run, and how long it took."""

    name: str
    seconds: Seconds
    details: Mapping[str, Plain] = Field(default_factory=dict)


class DataSummary(FrozenModel):
    """What the dataset holds. `outcomes` and `operators` (who drove: a person or a behaviour policy) count episodes."""

    bags: Count
    episodes: Count
    rows: Count
    recorded_live: Count = 0
    success_rate: Fraction
    outcomes: Mapping[str, Count] = Field(default_factory=dict)
    operators: Mapping[str, Count] = Field(default_factory=dict)


class LabelBin(FrozenModel):
    """Pairs whose true progress differs by `low` to `high`. `accuracy` is over the `pairs` that got an answer."""

    low: Finite
    high: Finite
    pairs: Count
    abstained: Count = 0
    accuracy: Fraction | None = None
    interval: Interval | None = None


class LabelSummary(FrozenModel):
    """How often the judge was right: of `pairs` asked, `abstained` got no answer.

    `accuracy` is over answered pairs whose true progress differs by more than `minimum_difference`; pairs that do not
    differ have no right answer.
    """

    judge: str
    pairs: Count
    abstained: Count = 0
    accuracy: Fraction | None = None
    interval: Interval | None = None
    minimum_difference: Fraction = 0.1
    bins: tuple[LabelBin, ...] = ()


class Strip(FrozenModel):
    """The learned reward over one episode (T,): mean and spread against `times_s`, beside true progress in [0, 1].

    `frames` are camera images, in time order, evenly spread over the episode, or taken at `frame_times_s`.
    """

    episode: Count
    outcome: str
    times_s: Numbers
    reward: Numbers
    spread: Numbers = ()
    progress: Numbers = ()
    frames: tuple[RunFile, ...] = ()
    frame_times_s: Numbers = ()

    @model_validator(mode="after")
    def _same_length(self) -> Strip:
        length = len(self.times_s)
        for name, values in (("reward", self.reward), ("spread", self.spread), ("progress", self.progress)):
            if values and len(values) != length:
                raise ValueError(f"episode {self.episode}: {len(values)} {name} values for {length} times")
        if self.frame_times_s and len(self.frame_times_s) != len(self.frames):
            raise ValueError(f"episode {self.episode}: {len(self.frame_times_s)} times for {len(self.frames)} frames")
        return self


class RewardSummary(FrozenModel):
    """The learned reward. Correlations are with true progress over the whole dataset; accuracy on held-out pairs."""

    name: str
    members: Count
    held_out_accuracy: Fraction | None = None
    spearman: Finite | None = None
    pearson: Finite | None = None
    strips: tuple[Strip, ...] = ()


class Arm(FrozenModel):
    """One policy: how it was trained, and its success over `episodes` in process with the interval (Wilson).

    `curve` has a row per logged update: {"update": n, "success": fraction (optional), any other metric: value}.
    """

    name: str
    learner: str
    reward: str = ""
    updates: Count = 0
    seconds: Seconds = 0.0
    curve: tuple[Mapping[str, Finite], ...] = ()
    successes: Count
    episodes: Annotated[int, Field(ge=1)]
    rate: Fraction
    interval: Interval

    @model_validator(mode="after")
    def _consistent(self) -> Arm:
        _check_rate(self.name, self.successes, self.episodes, self.rate)
        if any("update" not in row for row in self.curve):
            raise ValueError(f"arm {self.name}: every row of the curve needs an `update`")
        return self


class BundleSummary(FrozenModel):
    """The exported policy. `export_difference` (rad): largest of torch against ONNX Runtime over `export_inputs`."""

    path: str
    digest: str
    key_id: str = ""
    size_bytes: Count = 0
    export_difference: Finite | None = None
    export_inputs: Count = 0


class Histogram(FrozenModel):
    """Counts (N,) between ascending edges (N + 1,), in ms."""

    edges_ms: Numbers
    counts: tuple[Count, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Histogram:
        if len(self.edges_ms) != len(self.counts) + 1 or not self.counts:
            raise ValueError(f"{len(self.counts)} counts need {len(self.counts) + 1} edges, got {len(self.edges_ms)}")
        if any(high <= low for low, high in zip(self.edges_ms, self.edges_ms[1:], strict=False)):
            raise ValueError("a histogram's edges must increase")
        return self


class Timing(FrozenModel):
    """A measured delay, ms, over `count` control ticks."""

    count: Count
    p50_ms: Finite
    p99_ms: Finite
    max_ms: Finite
    histogram: Histogram | None = None

    @classmethod
    def of(cls, values_ms: Sequence[float] | np.ndarray, bins: int = 40) -> Timing:
        """Percentiles (linear) and a histogram of raw values; the last bin also holds the tail above p99.9."""
        values = np.asarray(values_ms, dtype=np.float64)
        if values.size == 0 or not np.isfinite(values).all():
            raise ReportError(f"a timing needs finite values, got {values.size} value(s)")
        p50, p99, top = np.percentile(values, [50.0, 99.0, 99.9])
        low = min(0.0, float(values.min()))
        edges = np.linspace(low, max(float(top), low + 1e-3), bins + 1)
        counts, _ = np.histogram(np.minimum(values, edges[-1]), edges)
        histogram = Histogram(edges_ms=tuple(edges.tolist()), counts=tuple(counts.tolist()))
        return cls(count=values.size, p50_ms=p50, p99_ms=p99, max_ms=float(values.max()), histogram=histogram)


class Film(FrozenModel):
    """An episode to look at: images in order (JPEG or PNG, or one animated GIF), shown at `rate_hz`."""

    frames: Annotated[tuple[RunFile, ...], Field(min_length=1)]
    rate_hz: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 10.0
    caption: str = ""


class RosSummary(FrozenModel):
    """Closed-loop episodes through real nodes: robot node, policy node, messages between them.

    `in_process`: successes of the same policy from the same starts in process; `agreeing`: episodes with one outcome.
    """

    episodes: Annotated[int, Field(ge=1)]
    successes: Count
    rate: Fraction
    interval: Interval
    in_process: Count | None = None
    agreeing: Count | None = None
    control_rate_hz: Finite | None = None
    command_latency: Timing | None = None
    observation_age: Timing | None = None
    inference: Timing | None = None
    films: tuple[Film, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> RosSummary:
        _check_rate("ros", self.successes, self.episodes, self.rate)
        return self


class Summary(FrozenModel):
    """One run. `status` is `complete`, or `partial` where it was interrupted."""

    schema_version: Literal[1] = 1
    name: str
    version: str
    started: str
    command: str = ""
    status: Literal["complete", "partial"] = "complete"
    seconds: Seconds = 0.0
    robot: str = ""
    task: str = ""
    task_text: str = ""
    arguments: Mapping[str, Plain] = Field(default_factory=dict)
    machine: Mapping[str, Plain] = Field(default_factory=dict)
    versions: Mapping[str, str] = Field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    data: DataSummary | None = None
    labels: LabelSummary | None = None
    reward: RewardSummary | None = None
    arms: tuple[Arm, ...] = ()
    bundle: BundleSummary | None = None
    ros: RosSummary | None = None
    claims: tuple[WrittenClaim, ...] = ()

    @model_validator(mode="after")
    def _unique_arms(self) -> Summary:
        names = [arm.name for arm in self.arms]
        if len(set(names)) != len(names):
            raise ValueError(f"arm names must be unique, got {names}")
        return self


def _check_rate(name: str, successes: int, episodes: int, rate: float) -> None:
    if successes > episodes or abs(rate - successes / episodes) > 1e-6:
        raise ValueError(f"{name}: {successes} of {episodes} episodes is not a rate of {rate}")


def parse_summary(content: Any, source: str) -> Summary:
    """A summary from decoded JSON; `source` names where it came from in errors. Raises ReportError."""
    try:
        return Summary.model_validate(content)
    except ValidationError as error:
        raise ReportError(f"{source}: {first_problem(error)}") from error


def read_summary(path: Path) -> Summary:
    """The summary at `path`. Raises ReportError where it is missing or malformed."""
    if not path.is_file():
        raise ReportError(f"no {path.name} in {path.parent}; `sealegs demo` writes one in the run folder it prints")
    try:
        return Summary.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ReportError(f"{path}: {first_problem(error)}") from error


def write_summary(summary: Summary, path: Path) -> None:
    """Write atomically: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(summary.model_dump_json(indent=1, exclude_none=True) + "\n", encoding="utf-8")
    os.replace(part, path)


def first_problem(error: ValidationError) -> str:
    """`where: what (n problems in all)` of a pydantic error."""
    first = error.errors(include_url=False)[0]
    where = ".".join(_parts(first["loc"])) or "summary"
    return f"{where}: {first['msg']} ({error.error_count()} problem(s) in all)"


def _parts(location: Iterable[int | str]) -> list[str]:
    return [str(part) for part in location]
