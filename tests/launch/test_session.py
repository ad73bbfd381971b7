"""Real processes: started, watched, restarted, stopped, and none left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sealegs.launching import LaunchSession
from sealegs_contract.errors import LaunchError

Write = Callable[..., Path]
# Says ready, and leaves on SIGINT with 0.
POLITE = "sh -c 'trap &quot;exit 0&quot; INT; echo ready; while :; do sleep 0.05; done'"
STUBBORN = (
    "sh -c 'trap &quot;echo INT&quot; INT; trap &quot;echo TERM&quot; TERM; echo ready; while :; do sleep 0.05; done'"
)


def wait_for(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_processes_run_and_stop_cleanly(
    write: Write, marked: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(f"""<executable cmd="{POLITE}" name="one"/><executable cmd="{POLITE}" name="two"/>""")
    logs = tmp_path / "logs"
    with LaunchSession(path, log_dir=logs, environment=marked) as session:
        wait_for(lambda: "ready" in text_of(logs / "one-1.log") and "ready" in text_of(logs / "two-2.log"))
        assert set(session.pids) == {"one-1", "two-2"}
        assert session.returncodes == {"one-1": None, "two-2": None}
        session.check()
    assert session.returncodes == {"one-1": 0, "two-2": 0}
    assert session.wait() == 0
    assert session.stop() == 0
    printed = capfd.readouterr().out
    assert "[one-1] ready" in printed
    assert "[launch] started two-2" in printed


def test_the_exit_code_is_that_of_the_first_failure(write: Write, marked: dict[str, str]) -> None:
    path = write("""<executable cmd="true" name="fine"/>
                     <executable cmd="sh -c 'sleep 0.1; echo no disk; exit 3'" name="bad"/>""")
    session = LaunchSession(path, environment=marked, echo=False)
    session.start()
    assert session.wait(timeout_s=30.0) == 3
    with pytest.raises(LaunchError, match="process bad-2 ended with code 3: no disk"):
        session.check()


def test_a_killed_process_counts_as_128_plus_its_signal(write: Write, marked: dict[str, str]) -> None:
    with LaunchSession(write("""<executable cmd="sleep 60"/>"""), environment=marked, echo=False) as session:
        os.kill(session.pids["sleep-1"], signal.SIGKILL)
        assert session.wait(timeout_s=30.0) == 137


def test_on_exit_shutdown_ends_the_others(write: Write, marked: dict[str, str]) -> None:
    path = write("""<executable cmd="sleep 60" name="long"/><executable cmd="true" name="short" on_exit="shutdown"/>""")
    session = LaunchSession(path, environment=marked, echo=False)
    session.start()
    assert session.wait(timeout_s=30.0) == 0
    assert session.returncodes == {"long-1": -signal.SIGINT, "short-2": 0}


def test_stubborn_processes_meet_sigterm_and_then_sigkill(
    write: Write, marked: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(f"""<executable cmd="{STUBBORN}" name="x" sigterm_timeout="0.5" sigkill_timeout="1.0"/>""")
    session = LaunchSession(path, log_dir=tmp_path, environment=marked)
    session.start()
    wait_for(lambda: "ready" in text_of(tmp_path / "x-1.log"))
    began = time.monotonic()
    session.stop()
    assert 1.5 <= time.monotonic() - began < 10.0
    assert session.returncodes == {"x-1": -signal.SIGKILL}
    assert re.findall("ready|INT|TERM", text_of(tmp_path / "x-1.log")) == ["ready", "INT", "TERM"]
    assert "has not ended yet: SIGKILL" in capfd.readouterr().out


def test_grandchildren_end_with_their_parent(write: Write, marked: dict[str, str], tmp_path: Path) -> None:
    path = write("""<executable cmd="sh -c 'sleep 60 &amp; sleep 60 &amp; echo ready; exit 0'"/>""")
    session = LaunchSession(path, log_dir=tmp_path, environment=marked, echo=False)
    session.start()
    assert session.wait(timeout_s=30.0) == 0  # `marked` checks that no sleep is left


def test_respawn_up_to_the_limit(write: Write, marked: dict[str, str], tmp_path: Path) -> None:
    path = write("""<executable cmd="sh -c 'echo started; exit 4'" name="x" respawn="true" respawn_max_retries="2"
                       respawn_delay="0.05"/>""")
    session = LaunchSession(path, log_dir=tmp_path, environment=marked, echo=False)
    session.start()
    assert session.wait(timeout_s=30.0) == 4
    assert text_of(tmp_path / "x-1.log").split() == ["started"] * 3


def test_what_cannot_start_stops_the_rest(write: Write, marked: dict[str, str], tmp_path: Path) -> None:
    path = write("""<executable cmd="sleep 60"/><executable cmd="no_such_program --x"/>""")
    with pytest.raises(LaunchError, match=r"test.launch.xml:2: no_such_program is not an executable"):
        LaunchSession(path, environment=marked, echo=False).start()
    missing = write(f"""<executable cmd="true" cwd="{tmp_path}/none"/>""")
    with pytest.raises(LaunchError, match="cannot start true"):
        LaunchSession(missing, environment=marked, echo=False).start()


def test_environment_and_folder_reach_the_process(write: Write, marked: dict[str, str], tmp_path: Path) -> None:
    path = write(
        f"""<executable cmd="sh -c 'echo $$SPEED; pwd'" cwd="{tmp_path}" name="x"><env name="SPEED" value="9"/>
                     </executable>""".replace("$$", "\\$")
    )
    session = LaunchSession(path, log_dir=tmp_path / "logs", environment=marked, echo=False)
    session.start()
    assert session.wait(timeout_s=30.0) == 0
    assert text_of(tmp_path / "logs/x-1.log").split() == ["9", str(tmp_path)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_command_takes_its_processes_with_it(
    write: Write, marked: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    path = write(f"""<executable cmd="{POLITE}" name="one"/>""")
    command = [sys.executable, "-m", "sealegs", "launch", str(path), "--log-dir", str(tmp_path)]
    runner = subprocess.Popen(command, env=marked, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: "ready" in text_of(tmp_path / "one-1.log"))
        runner.send_signal(number)
        # `marked` checks that the process is gone, after SIGKILL too.
        assert runner.wait(timeout=30.0) == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    finally:
        runner.kill()
        runner.wait()


def test_the_command_line(write: Write, marked: dict[str, str]) -> None:
    path = write("""<arg name="who" description="whom to greet"/><executable cmd="echo hello $(var who)" name="x"/>""")

    def launch(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sealegs", "launch", str(path), *words]
        return subprocess.run(command, env=marked, capture_output=True, text=True, timeout=30, check=False)

    assert "[x-1] hello world" in launch("who:=world").stdout
    assert "who (required)\n      whom to greet" in launch("-s").stdout
    for words, message in [
        ((), "argument who is required"),
        (("who=world",), "expected name:=value"),
        (("who:=x", "when:=now"), "has no argument when; available: who"),
    ]:
        done = launch(*words)
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
