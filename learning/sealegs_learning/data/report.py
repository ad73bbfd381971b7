"""What an import kept, and what it dropped and why. Every joint_states message is accounted for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from sealegs_contract.robot import FrozenModel

if TYPE_CHECKING:
    from rich.console import Group

REASONS = {
    "duplicate_stamp": "joint_states with the stamp of the one before",
    "not_finite": "a needed value is NaN or infinite",
    "decimated": "between the ticks of the chosen rate",
    "no_sample": "a needed stream had not delivered anything yet",
    "stale": "a needed stream was older than its limit",
    "no_match": "policy 'drop': no sample of the stream within half a period",
    "no_command": "before the first command",
    "short": "left over in a stretch of fewer rows than --min-rows",
    "outside": "outside the episode markers",
    "discarded": "in an episode that was discarded, or excluded by --outcomes",
    "undecodable": "the message could not be decoded",
}


class StreamReport(FrozenModel):
    """Messages of one stream over all bags. `rejected`, by reason, reached no row; newer ones superseded the rest."""

    messages: int = 0
    rejected: dict[str, int] = Field(default_factory=dict)
    reordered: int = 0


class BagReport(FrozenModel):
    """One bag. joint_states messages = rows + the sum of `dropped`."""

    path: str
    sha256: str
    episodes: int
    joint_messages: int
    rows: int
    dropped: dict[str, int]
    problems: tuple[str, ...] = ()


class ImportReport(FrozenModel):
    """The whole import. `dropped` counts rows by reason, `reason:stream` where one stream is to blame."""

    out: str
    fingerprint: str = ""
    episodes: int
    rows: int
    joint_messages: int
    dropped: dict[str, int]
    actions: dict[str, int]
    gaps_split: int
    irregular_intervals: int
    streams: dict[str, StreamReport]
    bags: tuple[BagReport, ...]
    seconds: float = 0.0

    @property
    def problems(self) -> tuple[str, ...]:
        """What was wrong with the bags, one line each."""
        return tuple(problem for bag in self.bags for problem in bag.problems)

    def accounted(self) -> bool:
        """Whether every joint_states message became a row or has a reason."""
        return self.joint_messages == self.rows + sum(self.dropped.values())

    def table(self) -> Group:
        """Rich tables for a terminal."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        head = Table(title=f"{self.rows} rows in {self.episodes} episodes from {len(self.bags)} bag(s)", box=None)
        head.add_column("joint_states")
        head.add_column("messages", justify="right")
        head.add_column("why", overflow="fold")
        head.add_row("read", str(self.joint_messages), "")
        head.add_row("kept as rows", str(self.rows), "")
        for reason, count in sorted(self.dropped.items(), key=lambda item: -item[1]):
            kind, _, stream = reason.partition(":")
            head.add_row(f"dropped: {reason}", str(count), REASONS[kind] + (f" ({stream})" if stream else ""))
        streams = Table(box=None)
        for column in ("stream", "messages", "rejected", "reordered"):
            streams.add_column(column, justify="left" if column == "stream" else "right")
        for name, stream_report in self.streams.items():
            rejected = ", ".join(f"{count} {reason}" for reason, count in stream_report.rejected.items()) or "0"
            streams.add_row(name, str(stream_report.messages), rejected, str(stream_report.reordered))
        actions = ", ".join(f"{count} {kind}" for kind, count in self.actions.items())
        notes = [Text(f"actions: {actions}; episodes split at gaps: {self.gaps_split}")]
        notes += [Text(f"! {problem}", style="yellow") for problem in self.problems]
        return Group(head, Text(), streams, *notes)
