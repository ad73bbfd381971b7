"""Samples of one episode to rows at the control rate, by message time.

Row t is a joint_states message: its observation is assembled at its stamp from the newest samples with stamps <= t;
its action is the newest command with a stamp in [t, t_next), else the last command goes on.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import BagError, ObservationError
from sealegs_contract.observation import Observation, ObservationAssembler
from sealegs_contract.sample import CommandSample, ImageSample, JointSample, Sample, reorder, stream_of
from sealegs_contract.spec import ObservationSpec


class Policy(StrEnum):
    """What a row takes from a stream.

    asof: the newest sample, if it is not older than the spec's limit; else the row is dropped.
    hold: the newest sample, however old.
    drop: a sample within half a period of the row; else the row is dropped.
    """

    ASOF = "asof"
    HOLD = "hold"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class AlignOptions:
    """How rows are made. `spec` may hold images; joints are those of the robot, in its order."""

    spec: ObservationSpec
    joints: tuple[str, ...]
    rate_hz: float
    policies: Mapping[str, Policy] = field(default_factory=dict)
    before_first_command: str = "drop"
    split_gap_periods: float = 2.5
    minimum_rows: int = 2

    @property
    def period_ns(self) -> int:
        """Control period in ns."""
        return round(1e9 / self.rate_hz)

    def policy(self, stream: str) -> Policy:
        """Policy of a stream; asof unless said otherwise."""
        return self.policies.get(stream, Policy.ASOF)


@dataclass(slots=True)
class Segment:
    """Consecutive rows: stamps (T,) ns, state (T, D) float32, action (T, J) rad, images by camera (T,)."""

    stamp_ns: list[int] = field(default_factory=list)
    state: list[NDArray[np.float32]] = field(default_factory=list)
    action: list[NDArray[np.float64]] = field(default_factory=list)
    images: dict[str, list[ImageSample]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.stamp_ns)


@dataclass(slots=True)
class Aligned:
    """Rows of one episode, and what became of everything else."""

    segments: list[Segment]
    joint_messages: int
    dropped: Counter[str]
    actions: Counter[str]
    rejected: dict[str, Counter[str]]
    reordered: Counter[str]
    irregular: int = 0

    @property
    def rows(self) -> int:
        """Rows in all segments."""
        return sum(map(len, self.segments))


def align(samples: Sequence[Sample], options: AlignOptions) -> Aligned:
    """Rows from the samples of one episode, given in order of arrival.

    Raises BagError when joint_states are slower than the rate, SpecError when joints are missing by name.
    """
    rejected: dict[str, Counter[str]] = {}
    reordered = _reorderings(samples)
    commands, ordered = _sorted_by_stamp(samples, options, rejected)
    ticks = [s for s in ordered if isinstance(s, JointSample)]
    joints = sum(isinstance(sample, JointSample) for sample in samples)
    result = Aligned([], joints, Counter(), Counter(), rejected, reordered)
    result.dropped["not_finite:joint_states"] = rejected.get("joint_states", Counter())["not_finite"]
    kept = _ticks(ticks, options, result.dropped)
    _rows(ordered, kept, commands, options, result)
    short = [segment for segment in result.segments if len(segment) < options.minimum_rows]
    result.dropped["short"] = sum(map(len, short))
    result.segments = [segment for segment in result.segments if len(segment) >= options.minimum_rows]
    result.dropped = +result.dropped
    return result


def _reorderings(samples: Sequence[Sample]) -> Counter[str]:
    """How many samples of each stream arrived after a newer one."""
    newest: dict[str, int] = {}
    count: Counter[str] = Counter()
    for sample in samples:
        stream = stream_of(sample)
        count[stream] += sample.stamp_ns < newest.get(stream, sample.stamp_ns)
        newest[stream] = max(newest.get(stream, sample.stamp_ns), sample.stamp_ns)
    return +count


def _sorted_by_stamp(
    samples: Sequence[Sample], options: AlignOptions, rejected: dict[str, Counter[str]]
) -> tuple[list[CommandSample], list[Sample]]:
    """Commands, and observed samples, each by stamp (arrival order where stamps are equal), without invalid ones."""
    assembler = ObservationAssembler(options.spec)
    commands: list[CommandSample] = []
    observed: list[Sample] = []
    needed = set(options.spec.streams) | {"joint_states"}
    for sample in samples:
        stream = stream_of(sample)
        if isinstance(sample, CommandSample):
            sample = CommandSample(
                sample.stamp_ns, options.joints, reorder(sample.names, sample.position, options.joints), sample.until_ns
            )
            if np.isfinite(sample.position).all():
                commands.append(sample)
                continue
        elif stream not in needed:
            continue
        else:
            assembler.reset()
            try:
                assembler.push(sample)
                observed.append(sample)
                continue
            except ObservationError:
                pass
        rejected.setdefault(stream, Counter())["not_finite"] += 1
    commands.sort(key=lambda sample: sample.stamp_ns)
    observed.sort(key=lambda sample: sample.stamp_ns)
    return commands, observed


def _ticks(ticks: Sequence[JointSample], options: AlignOptions, dropped: Counter[str]) -> list[int]:
    """Stamps of the rows: every joint_states, or those nearest after each tick of a slower rate."""
    stamps: list[int] = []
    for tick in ticks:
        if stamps and tick.stamp_ns == stamps[-1]:
            dropped["duplicate_stamp"] += 1
        else:
            stamps.append(tick.stamp_ns)
    if len(stamps) < 2:
        return stamps
    interval = float(np.median(np.diff(stamps)))
    if interval > 1.5 * options.period_ns:
        raise BagError(
            f"joint_states come at {1e9 / interval:.1f} Hz, slower than the rate of {options.rate_hz:g} Hz; "
            f"pass --rate {1e9 / interval:.0f} or lower"
        )
    if interval > 0.75 * options.period_ns:
        return stamps
    kept = [stamps[0]]
    for stamp in stamps[1:]:
        # Ticks lie on a grid from the first row; half an interval of slack takes the sample nearest to each.
        due = stamps[0] + (round((kept[-1] - stamps[0]) / options.period_ns) + 1) * options.period_ns
        if stamp >= due - interval / 2:
            kept.append(stamp)
    dropped["decimated"] += len(stamps) - len(kept)
    return kept


def _rows(
    ordered: Sequence[Sample],
    ticks: Sequence[int],
    commands: Sequence[CommandSample],
    options: AlignOptions,
    result: Aligned,
) -> None:
    assembler = ObservationAssembler(options.spec)
    stamps_by_stream: dict[str, list[int]] = {}
    for sample in ordered:
        stamps_by_stream.setdefault(stream_of(sample), []).append(sample.stamp_ns)
    command_stamps = [command.stamp_ns for command in commands]
    position, previous_tick = 0, None
    ends = [*ticks[1:], ticks[-1] + options.period_ns] if ticks else []
    for tick, following in zip(ticks, ends, strict=True):
        while position < len(ordered) and ordered[position].stamp_ns <= tick:
            assembler.push(ordered[position])
            position += 1
        reason, observation = _observe(assembler, tick, options, stamps_by_stream)
        held, action = _action(tick, following, commands, command_stamps, assembler, options)
        if observation is None or action is None:
            result.dropped[reason or "no_command"] += 1
            continue
        result.actions[held] += 1
        gap = None if previous_tick is None else (tick - previous_tick) / options.period_ns
        if gap is None or gap > options.split_gap_periods:
            result.segments.append(Segment())
        elif not 0.5 < gap < 1.5:
            result.irregular += 1
        previous_tick = tick
        segment = result.segments[-1]
        segment.stamp_ns.append(tick)
        segment.state.append(observation.vector)
        segment.action.append(action)
        for camera, image in observation.images.items():
            segment.images.setdefault(camera, []).append(image)


def _observe(
    assembler: ObservationAssembler, tick: int, options: AlignOptions, stamps: Mapping[str, list[int]]
) -> tuple[str, Observation | None]:
    """("", observation), or the reason why this row has none."""
    if assembler.missing:
        return f"no_sample:{assembler.missing[0]}", None
    observation = assembler.assemble(tick)
    for stream in options.spec.streams:
        match options.policy(stream):
            case Policy.ASOF if stream in observation.stale:
                return f"stale:{stream}", None
            case Policy.DROP if _distance(stamps[stream], tick) > options.period_ns / 2:
                return f"no_match:{stream}", None
    return "", observation


def _distance(stamps: Sequence[int], tick: int) -> int:
    """From `tick` to the newest stamp that is not after it; stamps are sorted and one such exists."""
    return tick - stamps[bisect_right(stamps, tick) - 1]


def _action(
    tick: int,
    following: int,
    commands: Sequence[CommandSample],
    stamps: Sequence[int],
    assembler: ObservationAssembler,
    options: AlignOptions,
) -> tuple[str, NDArray[np.float64] | None]:
    """How the action was found (commanded, held, expired, measured), and the target (J,) rad; None before the first."""
    index = bisect_left(stamps, following) - 1
    if index < 0:
        if options.before_first_command == "measured" and "joint_states" not in assembler.missing:
            return "measured", assembler.joint_position(options.joints)
        return "no_command", None
    command = commands[index]
    target = command.target_at(max(tick, command.stamp_ns))
    if target is None:
        return "expired", command.position[-1]
    return ("commanded" if command.stamp_ns >= tick else "held"), target
