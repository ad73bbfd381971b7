"""What a training says while it runs: drawn on a terminal, plain lines into a pipe, an error on a line of its own."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from sealegs.training.live import LiveTraining, PlainTraining, sparkline


def consoles() -> Iterator[tuple[Console, io.StringIO]]:
    for terminal in (True, False):
        text = io.StringIO()
        yield Console(file=text, force_terminal=terminal, force_interactive=terminal, width=120), text


def test_plain_lines_come_first_last_and_every_ten_seconds() -> None:
    now, lines = [100.0], list[str]()
    plain = PlainTraining("PPO on reach", "step", lines.append, lambda: now[0])
    for second in range(26):
        now[0] = 100.0 + second
        plain(1000 + 50 * second, 2250, {"policy_loss": -0.5, "return": float(second)})
    plain.flush()
    assert lines == [
        "PPO on reach: 1000 of 2250 steps; return 0, policy_loss -0.5",
        "PPO on reach: 1500 of 2250 steps, 50/s; return 10, policy_loss -0.5",
        "PPO on reach: 2000 of 2250 steps, 50/s; return 20, policy_loss -0.5",
        "PPO on reach: 2250 of 2250 steps, 50/s; return 25, policy_loss -0.5",
    ]


def test_what_was_not_written_yet_comes_at_the_end() -> None:
    lines = list[str]()
    plain = PlainTraining("BC", "update", lines.append, lambda: 7.0)
    plain(10, 100, {"loss": 2.0})
    plain(20, 100, {"loss": 1.0})  # an early stop
    assert len(lines) == 1
    plain.flush()
    assert lines[1:] == ["BC: 20 of 100 updates; loss 1"]


def test_a_pipe_gets_whole_plain_lines() -> None:
    (_, _), (console, text) = consoles()
    with LiveTraining("IQL, reward [true]", 20, "update", console) as live:
        live(20, 20, {"q_loss": 0.25})
    assert text.getvalue() == "IQL, reward [true]: 20 of 20 updates; q_loss 0.25\n"


def test_a_terminal_gets_bar_and_figures() -> None:
    (console, text), _ = consoles()
    with LiveTraining("IQL", 20, "update", console) as live:
        for done in (10, 20):
            live(done, 20, {"q_loss": 0.25 * done})
    assert "20/20" in text.getvalue()
    assert "▁█" in text.getvalue()
    assert sparkline([1.0, 1.0]) == "▁▁"


@pytest.mark.parametrize("failing", [True, False])
def test_nothing_is_said_of_a_run_that_had_nothing_to_do(failing: bool) -> None:
    """A finished run that is resumed, and one that fails before its first figures: no empty bar is left."""
    for console, text in consoles():
        try:
            with LiveTraining("IQL", 20, "update", console):
                if failing:
                    raise ValueError
        except ValueError:
            pass
        left = text.getvalue()
        # On a terminal, the bar's line is erased again (ESC[2K) and the cursor is back at its start.
        assert left == "" or (console.is_terminal and left.rstrip("\r").endswith("\x1b[2K"))


def test_an_error_in_a_pipe_is_a_line_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sealegs", "train", "--dataset", str(tmp_path / "none"), "--out", str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 1
    assert done.stdout.startswith("sealegs: error: ")
