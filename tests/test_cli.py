"""The command line: quick help, one-line errors, exit codes. Each case is a process, as a user starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sealegs.cli import COMMANDS, usage

HEAVY = ("torch", "numpy", "mujoco", "rclpy", "transformers", "pyarrow", "onnxruntime", "rich", "tyro", "pydantic")


def sealegs(*words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sealegs", *words]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False
    )


def of_children_s() -> float:
    """CPU time of the processes that this one has started: a busy machine adds to the wall's."""
    times = os.times()
    return times.children_user + times.children_system


def one_line_error(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("sealegs: error: ")
    return done.stderr


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_help_lists_every_verb(words: tuple[str, ...]) -> None:
    done = sealegs(*words)
    assert done.returncode == 0
    assert done.stdout.rstrip("\n") == usage()
    for verb, (_, summary) in COMMANDS.items():
        assert f"  {verb} " in done.stdout
        assert summary in done.stdout


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        f"import sys; from sealegs.cli import main; main(['--help']); print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    seconds = []
    for _ in range(5):
        began = of_children_s()
        sealegs("--help")
        seconds.append(of_children_s() - began)
    assert min(seconds) < 0.3


def test_version() -> None:
    assert sealegs("--version").stdout == "sealegs 0.1.0\n"


_EXPLAIN = """
import contextlib, io, json, sys
from sealegs.cli import COMMANDS, main
answers = {}
for verb in COMMANDS:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        try:
            code = main([*verb.split(), "--help"])
        except SystemExit as stop:
            code = stop.code
    heavy = [m for m in ("torch", "mujoco", "rclpy", "transformers", "onnxruntime") if m in sys.modules]
    answers[verb] = [code, shown.getvalue().splitlines()[0], heavy]
print(json.dumps(answers))
"""


def test_every_verb_explains_itself_without_heavy_imports() -> None:
    # A robot without torch must be able to ask every verb what it does; torch costs seconds as well.
    done = subprocess.run([sys.executable, "-c", _EXPLAIN], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert set(answers) == set(COMMANDS)
    for verb, (code, first_line, heavy) in answers.items():
        assert (code, heavy) == (0, []), verb
        assert first_line.startswith(f"usage: sealegs {verb} ")


@pytest.mark.parametrize("words", [("keys",), ("security", "--help"), ("judge", "help")])
def test_the_first_word_of_verbs_lists_them(words: tuple[str, ...]) -> None:
    done = sealegs(*words)
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: sealegs {words[0]} VERB [options]\n")
    shown = {verb for verb in COMMANDS if f"\n  {verb} " in done.stdout}
    assert shown == {verb for verb in COMMANDS if verb.startswith(f"{words[0]} ")} != set()


def test_unknown_verbs_are_guessed() -> None:
    assert "unknown command 'tran'; did you mean 'train'?" in one_line_error(sealegs("tran"))
    assert "unknown command 'keys'; there are 'keys list'" in one_line_error(sealegs("keys", "lst"))
    assert "`sealegs --help` lists them" in one_line_error(sealegs("xyzzy"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("collect", "--task", "juggle", "--out", "unused"), "juggle"),
        (("info", "no/such/path"), "no/such/path"),
        (("import", "no_such_bag", "--out", "unused"), "no_such_bag"),
        (("verify", "no_such_bundle"), "no_such_bundle"),
        (("evaluate", "--policy", "no_such_checkpoint"), "no_such_checkpoint"),
        (("launch", "no_such_file"), "available: policy, record, sim"),
        (("launch", "sim", "speed:=1"), "has no argument speed; available: "),
        (("launch", "policy"), "argument policy_path is required"),
        (("evaluate", "--policy", "x", "--seed", "-3"), "--seed must be from 0 to 2^32 - 1, got -3"),
        (("collect", "--out", "x", "--seed", "-1"), "--seed must be from 0 to 2^32 - 1, got -1"),
        (("train", "--out", "x", "--seeds", "0", "-2"), "--seeds must be from 0 to 2^32 - 1, got -2"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    assert message in one_line_error(sealegs(*words, folder=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_it_went_wrong() -> None:
    done = sealegs("--debug", "launch", "no_such_file")
    assert done.returncode == 2
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("sealegs: error: no launch file")


def test_unknown_options_exit_with_2() -> None:
    text = one_line_error(sealegs("launch", "sim", "--no-such-option"))
    assert "Unrecognized options: --no-such-option; " in text
    assert text.endswith("run sealegs launch --help\n")
    assert "error: Missing from sealegs verify: PATH" in one_line_error(sealegs("verify"))


def test_what_a_missing_package_costs() -> None:
    code = "import sys; sys.modules['mujoco'] = None\nfrom sealegs.cli import main\nsys.exit(main({!r}))"
    words = ["collect", "--task", "drawer", "--episodes", "1", "--out", "/unused"]
    done = subprocess.run([sys.executable, "-c", code.format(words)], capture_output=True, text=True, timeout=60)
    assert "mujoco" in one_line_error(done)
    assert "pip install 'sealegs[sim]'" in done.stderr


def test_a_closed_pipe_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m sealegs test --help | head -n 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_errors_on_the_way_become_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sealegs import cli
    from sealegs.commands import doctor

    def fail_with(error: BaseException) -> tuple[int, str]:
        def run(_: object) -> int:
            raise error

        monkeypatch.setattr(doctor, "run", run)
        return cli.main(["doctor"]), capsys.readouterr().err

    code, text = fail_with(FileNotFoundError(2, "No such file or directory", "a.txt"))
    assert (code, text) == (2, "sealegs: error: a.txt: no such file or folder: check the path\n")
    code, text = fail_with(ZeroDivisionError("division\nby zero"))
    assert code == 1
    assert "internal error: ZeroDivisionError: division by zero (run again with --debug" in text
    assert fail_with(KeyboardInterrupt()) == (130, "interrupted\n")
    monkeypatch.setattr(cli, "VERDICTS", {"doctor"})  # whose 1 would be taken for a verdict
    assert fail_with(ZeroDivisionError())[0] == 2


def test_tests_need_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from sealegs.commands import test as verb
    from sealegs_contract.errors import MachineError

    monkeypatch.setattr(verb, "__file__", str(tmp_path / "site-packages/sealegs/commands/test.py"))
    with pytest.raises(MachineError, match="the tests are in a checkout of Sealegs"):
        verb.run(verb.Config())


def test_the_test_verb_hands_everything_on() -> None:
    done = sealegs("test", "--collect-only", "-v", "tests/test_cli.py", "-k", "hands_everything_on")
    assert done.returncode == 0, done.stderr
    assert "test_the_test_verb_hands_everything_on" in done.stdout


def test_configs_are_frozen() -> None:
    import dataclasses
    import importlib

    for module, _ in COMMANDS.values():
        config = importlib.import_module(f"sealegs.commands.{module}").Config
        assert dataclasses.is_dataclass(config)
        assert config.__dataclass_params__.frozen, module  # type: ignore[attr-defined]
