"""The rows about the recorder, with a handful of trials; and that each of them can fail."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="the recorder needs the extra `ros`")

from mcap.exceptions import EndOfFile, McapError
from mcap.records import Message
from mcap.stream_reader import StreamReader

from sealegs.faults.frame import Trials
from sealegs.faults.rows import recording
from sealegs.faults.tools import stream
from sealegs_learning.data.bag import Bag
from sealegs_learning.data.mcap_file import McapFile


def trials(folder: Path, count: int) -> Trials:
    return Trials(count, folder, lambda done, total: None)


def test_killed_writers_leave_what_an_independent_reader_reads(tmp_path: Path) -> None:
    outcome = recording.run_kills(trials(tmp_path, 3))
    assert (outcome.trials, outcome.failures, len(outcome.values)) == (3, 0, 3), outcome.notes
    for trial in range(3):
        found: list[bytes] = []
        path = tmp_path / f"killed{trial}" / f"killed{trial}_0.mcap"
        with path.open("rb") as file, contextlib.suppress(EndOfFile, McapError):
            found.extend(record.data for record in StreamReader(file).records if isinstance(record, Message))
        sent = [data for _, (_, _, _, data) in zip(found, stream.messages(trial), strict=False)]
        assert found == sent
        assert len(found) == recording.read_prefix(tmp_path / f"killed{trial}", trial).messages


def test_a_recorder_that_seldom_flushes_is_found_out(tmp_path: Path) -> None:
    assert max(recording.run_kills(trials(tmp_path, 3), flush_ms=5000.0).values) > 100.0


def test_another_stream_or_a_broken_file_is_no_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "KILL_WITHIN_S", 1.5)  # after a flush
    recording.run_kills(trials(tmp_path, 2))
    folder = next(path for path in tmp_path.iterdir() if recording.read_prefix(path, int(path.name[-1])).messages)
    seed = int(folder.name[-1])
    assert "another than the one sent" in recording.read_prefix(folder, seed + 1).wrong
    (path,) = folder.glob("*.mcap")
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    assert "no MCAP file" in recording.read_prefix(folder, seed).wrong


def test_a_full_disk_keeps_the_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = recording.run_full_disk(trials(tmp_path, 3))
    assert outcome.failures == 0, outcome.notes
    # Where no disk can be mounted, and with a reader to which the bag is not what was kept.
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(recording, "_damage", lambda folder, seed, kept, error: "changed" if kept and error else "")
    outcome = recording.run_full_disk(trials(tmp_path / "again", 2))
    assert outcome.failures == 2
    assert "No small disk" in outcome.notes[1]


def test_drops_of_a_slow_disk_are_all_counted(tmp_path: Path) -> None:
    assert recording.run_slow_disk(trials(tmp_path, 1)).values == [0.0]
    (path,) = (tmp_path / "slow0").glob("*.mcap")
    drops = json.loads(McapFile(path).read_metadata()["sealegs"]["drops"])
    assert sum(drops.values()) > 0, "the disk was not slow"
    there = Bag(path.parent).topics()
    sent = {one.topic: there[one.topic] + drops.get(f"{one.topic} queue", 0) for one in stream.streams()}
    assert recording._unexplained(path.parent, sent) == 0
    assert recording._unexplained(path.parent, sent | {"/joint_states": sent["/joint_states"] + 2}) == 2
