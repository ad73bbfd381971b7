"""The ledger: asked once, paid once, across kills and processes."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sealegs_contract.errors import JudgeError
from sealegs_learning.judge.ask import ask
from sealegs_learning.judge.base import Frame, Preference, Provenance, abstention
from sealegs_learning.judge.ledger import Ledger, answer_key

# Labels 24 pairs in one order each, as a process of its own. One that is killed: tests/faults/test_labelling.py.
PROGRAM = """
import sys
from pathlib import Path
from PIL import Image
import io, numpy as np
from sealegs_learning.judge.ask import ask
from sealegs_learning.judge.base import Frame
from sealegs_learning.judge.endpoint import EndpointConfig, EndpointJudge
from sealegs_learning.judge.ledger import Ledger
def frame(level):
    buffer = io.BytesIO()
    Image.fromarray(np.full((24, 32, 3), level, np.uint8)).save(buffer, format="JPEG")
    return Frame(buffer.getvalue())
frames = [frame(10 * i) for i in range(25)]
pairs = list(zip(frames[:-1], frames[1:]))
with Ledger(sys.argv[2]) as ledger, EndpointJudge(EndpointConfig(sys.argv[1], "tiny", concurrency=4)) as judge:
    answers = ask(judge, ledger, "make it bright", pairs)
    print(sum(a.probability_b_better > 0.5 for a in answers), len(answers), flush=True)
"""


class Scripted:
    """A judge for ledger tests, whose answers are given."""

    prompt_version = "v1"
    supported_tasks = None
    order_sensitive = True

    def __init__(self, identity: str = "scripted", paid: bool = True, fail_at: int | None = None) -> None:
        self.identity, self.paid, self.fail_at, self.asked = identity, paid, fail_at, 0

    def compare_many(self, task_text, pairs):
        for i in range(len(pairs)):
            if self.asked == self.fail_at:
                raise JudgeError("the server went away")
            self.asked += 1
            yield i, Preference(0.25, raw="r", provenance=Provenance(0.5, 100, 7, 2, 0.001, "prose"))


@pytest.fixture
def pairs(frames):
    return list(itertools.pairwise(frames))


def test_the_key_tells_judge_prompt_task_frames_and_order(frames):
    a, b = frames[0], frames[1]
    keys = {
        answer_key(Scripted(), "t", (a, b)),
        answer_key(Scripted(), "t", (b, a)),
        answer_key(Scripted(), "u", (a, b)),
        answer_key(Scripted("other"), "t", (a, b)),
        answer_key(Scripted(), "t", (a, frames[2])),
    }
    assert len(keys) == 5
    again = Frame(a.jpeg, index=77)
    assert answer_key(Scripted(), "t", (again, b)) == answer_key(Scripted(), "t", (a, b))


@pytest.mark.parametrize("paid", [True, False])
def test_answers_survive_with_their_provenance(tmp_path, pairs, paid):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ask(Scripted(paid=paid), ledger, "t", pairs)
    judge = Scripted(paid=paid)
    with Ledger(path) as ledger:
        answers = ask(judge, ledger, "t", pairs)
        totals = ledger.totals(judge)
    assert judge.asked == 0
    assert answers[0] == Preference(0.25, raw="r", provenance=Provenance(0.5, 100, 7, 2, 0.001, "prose"))
    assert totals["answers"] == len(pairs)
    assert totals["cost_usd"] == pytest.approx(0.001 * len(pairs))
    assert totals["queries"] == 2 * len(pairs)
    assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("paid", [True, False])
def test_an_error_loses_nothing_that_was_answered(tmp_path, pairs, paid):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        with pytest.raises(JudgeError, match="went away"):
            ask(Scripted(paid=paid, fail_at=5), ledger, "t", pairs)
        judge = Scripted(paid=paid)
        assert len(ask(judge, ledger, "t", pairs)) == len(pairs)
    assert judge.asked == len(pairs) - 5


def test_quarantined_answers_can_be_asked_again(tmp_path, pairs):
    judge = Scripted()
    keys = [answer_key(judge, "t", pair) for pair in pairs]
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.record(judge, "t", [(pairs[0], abstention("malformed")), (pairs[1], abstention("tie"))])
        ledger.record(judge, "t", [(pairs[0], Preference(1.0))])
        assert ledger.lookup(keys)[keys[0]].status == "malformed", "the first answer stays"
        assert ledger.forget(keys, ["malformed"]) == 1
        assert set(ledger.lookup(keys)) == {keys[1]}


def test_a_living_owner_keeps_its_claims_and_a_dead_one_loses_them(tmp_path):
    path = tmp_path / "l.sqlite"
    with Ledger(path) as one, Ledger(path) as two:
        assert one.claim(["a", "b", "c"], 2) == ["a", "b"]
        assert two.claim(["a", "b", "c"], 3) == ["c"]
        one.release(["a"])
        assert two.claim(["a", "b"], 3) == ["a"]
    code = (
        "import sys,os; from sealegs_learning.judge.ledger import Ledger; l=Ledger(sys.argv[1]);"
        "l.claim(['x'],1); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60)
    with Ledger(path) as ledger:
        assert sqlite3.connect(path).execute("SELECT COUNT(*) FROM claims").fetchone() == (1,)
        assert ledger.claim(["x"], 1) == ["x"]


def test_claims_of_another_host_hold_until_their_lease_ends(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        rows = [
            ("fresh", "o", "elsewhere", "1:1", time.time() + 60),
            ("stale", "o", "elsewhere", "1:1", time.time() - 1),
        ]
        with sqlite3.connect(tmp_path / "l.sqlite") as db:
            db.executemany("INSERT INTO claims VALUES (?, ?, ?, ?, ?)", rows)
        assert ledger.claim(["fresh", "stale"], 2) == ["stale"]


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    path = tmp_path / "l.sqlite"
    path.write_bytes(b"not a database at all, just text " * 40)
    with pytest.raises(JudgeError, match="not a readable ledger"):
        Ledger(path)
    newer = tmp_path / "newer.sqlite"
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(JudgeError, match="version 99"):
        Ledger(newer)


def start(program: Path, base_url: str, ledger: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(program), base_url, str(ledger)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def stage_two(chat) -> int:
    return sum(isinstance(body["messages"][0]["content"], str) for body in chat.requests)


def test_two_processes_share_the_work(tmp_path, chat_server):
    """Every pair is asked once, although both processes want all of them."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    chat_server.delay_s = 0.05
    processes = [start(program, chat_server.base_url, tmp_path / "l.sqlite") for _ in range(2)]
    for process in processes:
        out, error = process.communicate(timeout=120)
        assert out.split() == ["24", "24"], error
    assert stage_two(chat_server) == 24
