"""The source that a card names: a commit where git knows the package, else its version."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from sealegs_learning.revision import revision

VERSION = {"version": metadata.version("sealegs")}


def git(folder: Path, *words: str) -> str:
    own = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *own, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_checkout_is_its_commit_and_says_where_it_was_changed(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    file, other = package / "__init__.py", tmp_path / "other.py"
    for path in (file, other):
        path.write_text("1\n")
    assert revision(file) == VERSION  # no repository at all
    git(tmp_path, "init", "-q")
    assert revision(file) == VERSION  # installed into somebody's repository, which does not track it
    git(tmp_path, "add", "package")
    assert revision(file) == VERSION  # no commit yet
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert revision(file) == {"commit": commit, "dirty": False}
    git(tmp_path, "add", "other.py")
    assert revision(file) == {"commit": commit, "dirty": True}
    git(tmp_path, "commit", "-q", "-m", "second")
    assert revision(file) == {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    file.write_text("2\n")
    assert revision(file)["dirty"] is True


def test_without_git_it_is_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision() == VERSION
