"""A peer runs in its own interpreter: a question in, an answer out, and its words where it fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sealegs.bench import peers
from sealegs.bench.frame import CellContext
from sealegs.bench.options import BenchOptions
from sealegs.bench.peers import Peer
from sealegs_contract.errors import MachineError

PEER = Peer("abacus", ("no-such-package",))


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CellContext:
    """A peer environment that is there already (here: our own interpreter), and scripts in a folder of the test."""
    monkeypatch.setattr(peers, "SCRIPTS", tmp_path / "scripts")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "cell").mkdir()
    binaries = tmp_path / "peers" / "abacus" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").symlink_to(sys.executable)
    return CellContext(BenchOptions(peers=tmp_path / "peers"), tmp_path / "cell", {}, lambda done, total: None)


def script(code: str) -> str:
    (peers.SCRIPTS / "ask.py").write_text("import json, os, sys\n" + code)
    return "ask.py"


def test_a_question_is_answered(context: CellContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    code = """
question = json.load(open(sys.argv[1]))
answer = {"sum": sum(question["terms"]), "path": os.environ.get("PYTHONPATH"), "threads": os.environ["OMP_NUM_THREADS"]}
json.dump(answer, open(sys.argv[2], "w"))
"""
    assert PEER.run(context, script(code), {"terms": [1, 2, 4]}) == {"sum": 7, "path": None, "threads": "1"}


def test_failures_are_named(context: CellContext) -> None:
    with pytest.raises(MachineError, match=r"peer abacus: python .*ask\.py failed: .*ZeroDivisionError"):
        PEER.run(context, script("1 / 0"), {})
    with pytest.raises(MachineError, match=r"ask\.py ended without writing its answer"):
        PEER.run(context, script("pass"), {})


def test_an_old_answer_is_never_taken_for_a_new_one(context: CellContext) -> None:
    PEER.run(context, script("open(sys.argv[2], 'w').write('{}')"), {})
    with pytest.raises(MachineError, match="without writing"):
        PEER.run(context, script("pass"), {})


def test_an_environment_that_was_not_finished_is_made_again(
    context: CellContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(Peer, "_call", lambda self, command: commands.append(command))
    folder = context.options.peers_folder
    home = folder / "abacus"
    assert PEER.python(folder) == home / "bin" / "python"
    assert commands == []
    (home / "begun").touch()
    PEER.python(folder)
    assert [words[1:4] for words in commands] == [["-m", "venv", "--clear"]] + [["-m", "pip", "install"]] * 2
    assert commands[1][-1].startswith("torch==2.13.0")
    assert commands[2][-1] == "no-such-package"
    PEER.python(folder)
    assert len(commands) == 3
