"""Episodes in a bag: the whole bag, or a session cut by markers on the topic `episode` (std_msgs/String, JSON).

A marker is {"event": "start"|"stop"|"discard"} with, optionally, "outcome", "task", "task_text", "operator", "policy"
and "seed"; what it does not say comes from the bag. A clock that jumps back by more than a second (a simulator reset)
cuts too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from sealegs_contract.episode import EpisodeInfo, Outcome
from sealegs_contract.errors import BagError
from sealegs_contract.sample import JointSample, Sample, stream_of
from sealegs_learning.data.bag import Bag, BagMessage

CLOCK_JUMP_NS = 1_000_000_000
EVENTS = ("start", "stop", "discard")
_INFO_KEYS = ("outcome", "task", "task_text", "operator", "policy", "seed")


@dataclass(slots=True)
class Episode:
    """Samples of one episode in order of arrival, after the newest one of each slow stream from before its start."""

    info: EpisodeInfo
    samples: list[Sample] = field(default_factory=list)
    discarded: bool = False


@dataclass(slots=True)
class BagCounts:
    """Messages by stream, and joint_states that lie outside of all episodes."""

    messages: Counter[str] = field(default_factory=Counter)
    outside: int = 0
    notes: list[str] = field(default_factory=list)


def cut(messages: Iterator[BagMessage], info: EpisodeInfo, name: str, counts: BagCounts) -> Iterator[Episode]:
    """Episodes of a bag, as they end. `info` is the bag's; `counts` is filled on the way.

    Raises BagError for a malformed marker.
    """
    yield from _Cutter(info, name, counts).run(messages)


class _Cutter:
    def __init__(self, info: EpisodeInfo, name: str, counts: BagCounts) -> None:
        self.info, self.name, self.counts = info, name, counts
        self.marked = False
        self.current: Episode | None = Episode(info)
        self.newest: dict[str, Sample] = {}

    def run(self, messages: Iterator[BagMessage]) -> Iterator[Episode]:
        for message in messages:
            self.counts.messages[message.stream] += 1
            if message.stream == "episode":
                yield from self._marker(message.text)
            elif message.stream == "task" and message.text and not self.info.task_text:
                self.info = self.info.model_copy(update={"task_text": message.text})
                if self.current is not None and not self.current.info.task_text:
                    self.current.info = self.current.info.model_copy(update={"task_text": message.text})
            elif message.sample is not None:
                yield from self._sample(message.sample)
        if self.marked and self.current is not None:
            self.counts.notes.append(f"{self.name}: the last episode has no stop marker; its outcome is unknown")
        yield from self._close()

    def _sample(self, sample: Sample) -> Iterator[Episode]:
        stream = stream_of(sample)
        held = self.newest.get(stream)
        if held is not None and sample.stamp_ns < held.stamp_ns - CLOCK_JUMP_NS:
            seconds = (held.stamp_ns - sample.stamp_ns) / 1e9
            self.counts.notes.append(f"{self.name}: the clock went back by {seconds:.1f} s; the episode was cut there")
            self.newest.clear()
            if self.current is not None:
                info = self.current.info
                yield from self._close(Outcome.UNKNOWN if self.marked else None)
                self.current = Episode(info)
        if held is None or sample.stamp_ns >= held.stamp_ns or stream not in self.newest:
            self.newest[stream] = sample
        if self.current is not None:
            self.current.samples.append(sample)
        elif isinstance(sample, JointSample):
            self.counts.outside += 1

    def _marker(self, text: str) -> Iterator[Episode]:
        event, said = parse_marker(text, self.name)
        if event == "start":
            if self.marked and self.current is not None:
                self.counts.notes.append(f"{self.name}: an episode was started before the last one was stopped")
                yield from self._close(Outcome.UNKNOWN)
            elif self.current is not None:  # what came before the first marker belongs to no episode
                self.counts.outside += sum(isinstance(sample, JointSample) for sample in self.current.samples)
            self.marked = True
            carried: list[Sample] = [s for s in self.newest.values() if not isinstance(s, JointSample)]
            self.current = Episode(updated(self.info, {"outcome": "unknown", **said}, self.name), carried)
        elif self.current is not None:
            self.marked = True
            self.current.info = updated(self.current.info, said, self.name)
            self.current.discarded = event == "discard"
            yield from self._close()

    def _close(self, outcome: Outcome | None = None) -> Iterator[Episode]:
        episode, self.current = self.current, None
        if episode is None:
            return
        if outcome is not None:
            episode.info = episode.info.model_copy(update={"outcome": outcome})
        if any(isinstance(sample, JointSample) for sample in episode.samples):
            yield episode


def parse_marker(text: str, source: str) -> tuple[str, dict[str, Any]]:
    """(event, what it says about the episode) of a marker; BagError when malformed."""
    try:
        marker = json.loads(text)
        event = marker["event"]
    except (ValueError, TypeError, KeyError) as error:
        raise BagError(f"{source}: malformed episode marker {text[:80]!r}; expected JSON with an event") from error
    if event not in EVENTS:
        raise BagError(f"{source}: episode marker with event {event!r}; expected one of {', '.join(EVENTS)}")
    unknown = sorted(set(marker) - {"event", *_INFO_KEYS})
    if unknown:
        known = ", ".join(_INFO_KEYS)
        raise BagError(f"{source}: episode marker with unknown key(s) {', '.join(unknown)}; known: {known}")
    return event, {key: marker[key] for key in _INFO_KEYS if key in marker}


def updated(info: EpisodeInfo, changes: dict[str, Any], source: str) -> EpisodeInfo:
    """`info` with validated changes; BagError when one does not fit."""
    try:
        return EpisodeInfo.model_validate({**info.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BagError(f"{source}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def read_episodes(
    bag: Bag, info: EpisodeInfo, counts: BagCounts, streams: Sequence[str], namespace: str | None, remap: dict[str, str]
) -> Iterator[Episode]:
    """Episodes of `bag`, reading only `streams`."""
    wanted = {*streams, "joint_states", "joint_trajectory", "task", "episode"}
    yield from cut(bag.messages(wanted, namespace, remap), info, bag.path.name, counts)
