"""Bags to a dataset: `sealegs import`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sealegs_contract.episode import EpisodeInfo, Outcome
from sealegs_contract.errors import BagError, SpecError, available
from sealegs_contract.robot import RobotProfile, load_robot
from sealegs_contract.spec import ActionSpec, ObservationSpec
from sealegs_learning.data import schema
from sealegs_learning.data.align import Aligned, AlignOptions, Policy, align
from sealegs_learning.data.bag import Bag, find_bags
from sealegs_learning.data.episodes import BagCounts, Episode, read_episodes
from sealegs_learning.data.report import BagReport, ImportReport, StreamReport
from sealegs_learning.data.specs import choose_specs, image_size
from sealegs_learning.data.writer import DatasetWriter

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class ImportOptions:
    """What the bags do not say, and how to align. None means: as the bags, or the task, say."""

    robot: str | None = None
    task: str | None = None
    task_text: str | None = None
    objects: tuple[str, ...] | None = None
    cameras: tuple[str, ...] | None = None
    rate_hz: float | None = None
    align: Mapping[str, Policy] = field(default_factory=dict)
    before_first_command: Literal["drop", "measured"] = "drop"
    outcomes: tuple[str, ...] = ()
    minimum_rows: int = 2
    split_gap_periods: float = 2.5
    namespace: str | None = None
    remap: Mapping[str, str] = field(default_factory=dict)
    overwrite: bool = False


@dataclass(slots=True)
class _Source:
    bag: Bag
    info: EpisodeInfo
    profile: RobotProfile
    sha256: str = ""


def import_bags(
    bags: Sequence[Path | str], out: Path | str, options: ImportOptions | None = None, progress: Progress | None = None
) -> ImportReport:
    """Write the dataset `out` from `bags` (bag folders, .mcap files, or folders of bags) and report what was dropped.

    progress: called with (bags done, bags in all, name of the bag).
    A bag that cannot be read is skipped, with the reason in the report, as long as others can.
    Raises BagError (missing, none readable, mixed robots, no rows), DatasetError (`out` exists), ProfileError,
    SpecError.
    """
    options, out = options or ImportOptions(), Path(out)
    start = time.monotonic()
    sources, unusable = _open_all(find_bags([Path(bag) for bag in bags]), options)
    robot = _one_robot(sources)
    spec, actions = choose_specs(robot, [s.info.task for s in sources], [s.bag for s in sources], options)
    features = _features(robot, spec, sources, options)
    rate = options.rate_hz or robot.control_rate_hz
    alignment = AlignOptions(
        spec, robot.joint_names, rate, options.align, options.before_first_command, options.split_gap_periods,
        options.minimum_rows,
    )  # fmt: skip
    _check_streams(options.align, spec)
    with DatasetWriter(out, features, rate, options.overwrite) as writer:
        total = _Total(bags=unusable)
        for number, source in enumerate(sources):
            if progress:
                progress(number, len(sources), source.bag.path.name)
            _import_bag(source, alignment, options, writer, total)
        if progress:
            progress(len(sources), len(sources), "writing")
        if not writer.rows:
            raise BagError(f"no rows in {len(sources)} bag(s): {_why_nothing(total)}")
        vector_spec = spec.model_copy(update={"images": ()})
        return _finish(writer, robot, vector_spec, actions, sources, options, total, start)


@dataclass(slots=True)
class _Total:
    bags: list[BagReport] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    rejected: dict[str, Counter[str]] = field(default_factory=dict)
    reordered: Counter[str] = field(default_factory=Counter)
    joints: int = 0
    gaps: int = 0
    irregular: int = 0


def _open_all(paths: Sequence[Path], options: ImportOptions) -> tuple[list[_Source], list[BagReport]]:
    """The bags that can be read, and a report of each that cannot. BagError where none can."""
    sources: list[_Source] = []
    unusable: list[BagReport] = []
    for path in paths:
        try:
            bag = Bag(path)
            info, profile = bag.metadata()
        except BagError as error:
            if len(paths) == 1:
                raise
            unusable.append(BagReport(path=str(path), sha256="", episodes=0, joint_messages=0, rows=0, dropped={},
                                      problems=(f"skipped: {error}",)))  # fmt: skip
            continue
        sources.append(_source(bag, info, profile, options))
    if not sources:
        raise BagError(f"none of {len(paths)} bags can be read; the first: {unusable[0].problems[0]}")
    return sources, unusable


def _source(bag: Bag, info: EpisodeInfo | None, profile: RobotProfile | None, options: ImportOptions) -> _Source:
    path = bag.path
    given = load_robot(options.robot) if options.robot else None
    if profile is None and given is None:
        raise BagError(f"{path} does not say which robot it is from; name it with --robot (a shipped name or a file)")
    if profile is not None and given is not None and profile.digest != given.digest:
        raise BagError(
            f"{path} was recorded with another profile of {profile.name} (digest {profile.digest[:12]}) "
            f"than --robot {options.robot} (digest {given.digest[:12]})"
        )
    robot = profile or given
    if robot is None:
        raise BagError(f"{path}: no robot")
    if info is None:
        info = EpisodeInfo(task=options.task or "unnamed", task_text=options.task_text or "", origin="real",
                           robot=robot.name, profile_digest=robot.digest)  # fmt: skip
    changes = {"task": options.task, "task_text": options.task_text}
    return _Source(bag, info.model_copy(update={k: v for k, v in changes.items() if v is not None}), robot)


def _one_robot(sources: Sequence[_Source]) -> RobotProfile:
    digests = {source.profile.digest: source for source in sources}
    if len(digests) > 1:
        listed = "; ".join(f"{s.profile.name} {d[:12]} in {s.bag.path.name}" for d, s in digests.items())
        raise BagError(f"these bags come from different robot profiles, which one dataset cannot mix: {listed}")
    return sources[0].profile


def _features(
    robot: RobotProfile, spec: ObservationSpec, sources: Sequence[_Source], options: ImportOptions
) -> dict[str, dict[str, Any]]:
    cameras = {}
    for image in spec.images:
        size = image_size(image.camera, [source.bag for source in sources], options.remap)
        cameras[image.camera] = size or (image.height, image.width)
    known = all(source.info.outcome != Outcome.UNKNOWN for source in sources)
    return schema.features(spec, robot.joint_names, cameras, known)


def _check_streams(policies: Mapping[str, Policy], spec: ObservationSpec) -> None:
    wrong = [stream for stream in policies if stream not in spec.streams]
    if wrong:
        raise SpecError(
            f"--align names {', '.join(wrong)}, which the observation does not use; {available(spec.streams)}"
        )


def _import_bag(
    source: _Source, alignment: AlignOptions, options: ImportOptions, writer: DatasetWriter, total: _Total
) -> None:
    counts, dropped = BagCounts(), Counter[str]()
    rows_before, episodes_before, joints = writer.rows, len(writer.episodes), 0
    streams = alignment.spec.streams
    for episode in read_episodes(source.bag, source.info, counts, streams, options.namespace, dict(options.remap)):
        try:
            aligned = align(episode.samples, alignment)
        except (BagError, SpecError) as error:
            raise BagError(f"{source.bag.path}: {error}") from error
        joints += aligned.joint_messages
        total.reordered += aligned.reordered
        for stream, reasons in aligned.rejected.items():
            total.rejected.setdefault(stream, Counter()).update(reasons)
        if episode.discarded or (options.outcomes and episode.info.outcome not in options.outcomes):
            dropped["discarded"] += aligned.joint_messages
            continue
        dropped += aligned.dropped
        _write(episode, aligned, source, writer, total)
    dropped["outside"] += counts.outside
    problems = source.bag.problems
    dropped["undecodable"] += problems.undecodable["joint_states"]
    joints += counts.outside + problems.undecodable["joint_states"]
    for stream, count in problems.undecodable.items():
        total.rejected.setdefault(stream, Counter())["undecodable"] += count
        counts.messages[stream] += count
        why = problems.first_error[stream]
        counts.notes.append(f"{source.bag.path.name}: {count} message(s) of {stream} undecodable: {why}")
    source.sha256 = source.bag.sha256()
    dropped = +dropped
    total.bags.append(
        BagReport(
            path=str(source.bag.path), sha256=source.sha256, episodes=len(writer.episodes) - episodes_before,
            joint_messages=joints, rows=writer.rows - rows_before, dropped=dict(dropped),
            problems=(*problems.damage, *counts.notes),
        )
    )  # fmt: skip
    total.dropped += dropped
    total.messages += counts.messages
    total.joints += joints


def _write(episode: Episode, aligned: Aligned, source: _Source, writer: DatasetWriter, total: _Total) -> None:
    info = episode.info
    total.actions += aligned.actions
    total.irregular += aligned.irregular
    total.gaps += max(len(aligned.segments) - 1, 0)
    for number, segment in enumerate(aligned.segments):
        # Only the last stretch of a split episode led to the outcome.
        last = number == len(aligned.segments) - 1
        writer.add_episode(
            segment,
            schema.EpisodeRow(
                index=0, start=0, length=0, task=info.task, task_text=info.task_text or info.task,
                outcome=str(info.outcome) if last else str(Outcome.UNKNOWN), operator=info.operator, policy=info.policy,
                origin=info.origin, seed=info.seed, source=source.bag.path.name, segment=number,
            ),
        )  # fmt: skip


def _finish(
    writer: DatasetWriter, robot: RobotProfile, spec: ObservationSpec, actions: ActionSpec, sources: Sequence[_Source],
    options: ImportOptions, total: _Total, start: float,
) -> ImportReport:  # fmt: skip
    fingerprint = writer.fingerprint(schema.specification(robot, spec, actions))
    streams = {
        name: StreamReport(
            messages=count, rejected=dict(total.rejected.get(name, {})), reordered=total.reordered.get(name, 0)
        )
        for name, count in sorted(total.messages.items())
    }
    report = ImportReport(
        out=str(writer.out), fingerprint=fingerprint, episodes=len(writer.episodes), rows=writer.rows,
        joint_messages=total.joints, dropped=dict(total.dropped), actions=dict(total.actions), gaps_split=total.gaps,
        irregular_intervals=total.irregular, streams=streams, bags=tuple(total.bags), seconds=time.monotonic() - start,
    )  # fmt: skip
    writer.finish(
        robot.name,
        schema.SealegsMeta(
            robot=robot, profile_digest=robot.digest, observation_spec=spec, action_spec=actions,
            cameras=writer.cameras, episodes=tuple(writer.episodes),
            sources=tuple(schema.SourceBag(path=str(s.bag.path), sha256=s.sha256) for s in sources),
            options=_options_json(options), report=report, images_digest=writer.images_digest.hexdigest(),
            fingerprint=fingerprint,
        ),
    )  # fmt: skip
    return report


def _options_json(options: ImportOptions) -> dict[str, Any]:
    return {
        **{k: list(v) if isinstance(v, tuple) else v for k, v in vars(options).items() if k not in {"align", "remap"}},
        "align": {stream: str(policy) for stream, policy in options.align.items()},
        "remap": dict(options.remap),
    }


def _why_nothing(total: _Total) -> str:
    dropped = ", ".join(f"{count} dropped for {reason}" for reason, count in total.dropped.most_common(4))
    damage = [problem for bag in total.bags for problem in bag.problems]
    return "; ".join([dropped if total.joints else "no joint_states in them", *damage[:1]])
