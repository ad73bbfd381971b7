"""Style, types and layering, checked as tests: each runs the tool that developers run, over the whole project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def output_of(*command: str) -> tuple[int, str]:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("-m", "ruff", "check", "."), id="ruff-check"),
        pytest.param(("-m", "ruff", "format", "--check", "."), id="ruff-format"),
        pytest.param(("-m", "mypy"), id="mypy-strict"),
        pytest.param((str(Path(sys.executable).with_name("lint-imports")), "--no-cache"), id="import-linter"),
    ],
)
def test_clean(command: tuple[str, ...]) -> None:
    code, text = output_of(sys.executable, *command)
    assert code == 0, text


def test_shell_scripts_parse() -> None:
    for script in ("sealegs", ".ci/run"):
        code, text = output_of("bash", "-n", script)
        assert (code, text) == (0, "")
        assert (ROOT / script).stat().st_mode & 0o111 == 0o111


def test_no_committed_file_names_a_registry_host() -> None:
    # Which index serves a machine is that machine's business.
    hosts = "|".join(["pypi" + r"\.org", "pythonhosted" + r"\.org", "download" + r"\.pytorch\.org"])
    code, text = output_of("git", "grep", "-nIE", hosts, "--", ":!uv.lock")
    assert (code, text) == (1, "")
