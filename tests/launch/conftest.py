"""Launch files to test with, and a check that no process stays behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(body, name="test.launch.xml") -> path of a launch file with that body."""

    def write_file(body: str, name: str = "test.launch.xml") -> Path:
        path = tmp_path / name
        path.write_text(f"<launch>\n{body}\n</launch>\n")
        return path

    return write_file


def processes_with(mark: str) -> list[int]:
    """Ids of live processes that carry SEALEGS_TEST_MARK=mark in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                environment = (folder / "environ").read_bytes()
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if f"SEALEGS_TEST_MARK={mark}\0".encode() in environment and state != "Z":
                found.append(int(folder.name))
    return found


@pytest.fixture
def marked(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment whose processes are found again, wherever they went; none may be left at the end of the test."""
    mark = tmp_path.name + str(os.getpid())
    yield {**os.environ, "SEALEGS_TEST_MARK": mark}
    deadline = time.monotonic() + 10.0
    while processes_with(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    left = processes_with(mark)
    for pid in left:
        os.kill(pid, 9)
    assert left == []
