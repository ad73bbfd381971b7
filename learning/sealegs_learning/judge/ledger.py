"""The ledger: every answer of every judge, in one SQLite file (WAL). What was asked once is never paid for again.

A key is the digest of (judge identity, prompt version, task sentence, both frames, order of showing). An answer is
committed before it is used, so a process killed at any moment loses at most the answers still in flight. Processes
that share a ledger claim keys before asking; the claims of a dead process lapse at once, a remote one's with time.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from sealegs_contract.errors import JudgeError
from sealegs_contract.robot import canonical_json
from sealegs_learning.judge.base import Judge, Pair, Preference, Provenance

LEASE_S = 900.0
LOCK_TIMEOUT_S = 60.0
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, judge TEXT NOT NULL, prompt_version TEXT NOT NULL, task TEXT NOT NULL,
    shown_first TEXT NOT NULL, shown_second TEXT NOT NULL,
    probability REAL NOT NULL, abstain INTEGER NOT NULL, status TEXT NOT NULL, raw TEXT NOT NULL,
    seconds REAL NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    queries INTEGER NOT NULL, cost_usd REAL NOT NULL, detail TEXT NOT NULL, answered_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (
    key TEXT PRIMARY KEY, owner TEXT NOT NULL, host TEXT NOT NULL, process TEXT NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
"""
_COLUMNS = "probability, abstain, status, raw, seconds, prompt_tokens, completion_tokens, queries, cost_usd, detail"


def answer_key(judge: Judge, task_text: str, pair: Pair) -> str:
    """SHA-256 over (identity, prompt version, task, unordered frames, order): both orders share all but the last."""
    first, second = pair[0].digest, pair[1].digest
    order = "ab" if first <= second else "ba"
    content = [judge.identity, judge.prompt_version, task_text, min(first, second), max(first, second), order]
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _write_ahead(db: sqlite3.Connection) -> None:
    """Switch to a write-ahead log. Where two processes do it at once, SQLite fails one of them without waiting."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class Ledger:
    """One open ledger; use as a context manager, from one thread. Raises JudgeError on a file that is no ledger."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._owner = uuid.uuid4().hex
        self._host, self._process = socket.gethostname(), _process_mark(os.getpid())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT_S, isolation_level=None)
            _write_ahead(self._db)
            self._db.execute("PRAGMA synchronous=FULL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _SCHEMA_VERSION):
                raise JudgeError(f"{path}: ledger version {version}; this Sealegs knows version {_SCHEMA_VERSION}")
            self._db.executescript(_SCHEMA)
            self._db.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")
        except sqlite3.DatabaseError as error:
            raise JudgeError(f"{path}: not a readable ledger ({error}); move it away to start a new one") from error

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back claims and close the file."""
        self._db.execute("DELETE FROM claims WHERE owner = ?", (self._owner,))
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def lookup(self, keys: Sequence[str]) -> dict[str, Preference]:
        """Stored answers among `keys`."""
        found: dict[str, Preference] = {}
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            marks = ",".join("?" * len(part))
            rows = self._db.execute(f"SELECT key, {_COLUMNS} FROM answers WHERE key IN ({marks})", part)
            found.update((row[0], _preference(row[1:])) for row in rows)
        return found

    def record(self, judge: Judge, task_text: str, answers: Iterable[tuple[Pair, Preference]]) -> None:
        """Store answers in one durable transaction. A key that already has an answer keeps the first one."""
        now = time.time()
        rows = [_row(judge, task_text, pair, answer, now) for pair, answer in answers]
        with self._transaction():
            self._db.executemany(f"INSERT OR IGNORE INTO answers VALUES ({','.join('?' * 17)})", rows)
            self._db.executemany("DELETE FROM claims WHERE key = ?", [(row[0],) for row in rows])

    def claim(self, keys: Sequence[str], maximum: int) -> list[str]:
        """Up to `maximum` of `keys` that now belong to this process: unanswered, and claimed by no living one."""
        granted: list[str] = []
        now = time.time()
        with self._transaction():
            held = {
                row[0]: row[1:] for row in self._db.execute("SELECT key, owner, host, process, expires FROM claims")
            }
            answered = self.lookup(keys)
            for key in keys:
                if len(granted) == maximum:
                    break
                if key in answered or (key in held and self._lives(*held[key], now=now)):
                    continue
                granted.append(key)
            self._db.executemany(
                "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?)",
                [(key, self._owner, self._host, self._process, now + LEASE_S) for key in granted],
            )
        return granted

    def release(self, keys: Iterable[str]) -> None:
        """Give back claims whose questions were not answered."""
        with self._transaction():
            self._db.executemany("DELETE FROM claims WHERE key = ? AND owner = ?", [(k, self._owner) for k in keys])

    def forget(self, keys: Sequence[str], statuses: Sequence[str]) -> int:
        """Drop answers among `keys` that have one of `statuses`, so that they are asked again; returns how many."""
        stale = [key for key, answer in self.lookup(keys).items() if answer.status in statuses]
        with self._transaction():
            self._db.executemany("DELETE FROM answers WHERE key = ?", [(key,) for key in stale])
        return len(stale)

    def totals(self, judge: Judge) -> dict[str, float]:
        """What this judge's answers took so far: answers by status, queries, tokens, USD."""
        rows = self._db.execute(
            "SELECT status, COUNT(*) FROM answers WHERE judge = ? GROUP BY status", (judge.identity,)
        )
        totals: dict[str, float] = {f"answers_{status}": float(count) for status, count in rows}
        sums = self._db.execute(
            "SELECT TOTAL(queries), TOTAL(prompt_tokens), TOTAL(completion_tokens), TOTAL(cost_usd), COUNT(*) "
            "FROM answers WHERE judge = ?",
            (judge.identity,),
        ).fetchone()
        return totals | dict(
            zip(("queries", "prompt_tokens", "completion_tokens", "cost_usd", "answers"), sums, strict=True)
        )

    def _lives(self, owner: str, host: str, process: str, expires: float, *, now: float) -> bool:
        """Whether a claim still holds."""
        if owner == self._owner:
            return False
        # On this host the process itself tells; of another host only the lease does.
        return process == _process_mark(int(process.split(":")[0])) if host == self._host else now <= expires


def _row(judge: Judge, task_text: str, pair: Pair, answer: Preference, now: float) -> tuple[object, ...]:
    """One line of the table `answers`."""
    p = answer.provenance
    asked = (answer_key(judge, task_text, pair), judge.identity, judge.prompt_version, task_text)
    shown = (pair[0].digest, pair[1].digest)
    said = (answer.probability_b_better, int(answer.abstain), answer.status, answer.raw)
    took = (p.seconds, p.prompt_tokens, p.completion_tokens, p.queries, p.cost_usd, p.detail)
    return (*asked, *shown, *said, *took, now)


def _preference(row: Sequence[object]) -> Preference:
    probability, abstain, status, raw, *took = row
    seconds, prompt_tokens, completion_tokens, queries, cost_usd, detail = took
    provenance = Provenance(seconds, prompt_tokens, completion_tokens, queries, cost_usd, detail)  # type: ignore[arg-type]
    return Preference(probability, bool(abstain), status, raw, provenance)  # type: ignore[arg-type]


def _process_mark(pid: int) -> str:
    """`pid:start` of a living process, so that a reused pid is not mistaken for the old owner; `pid:` if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return f"{pid}:" if fields[0] == "Z" else f"{pid}:{fields[19]}"
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return f"{pid}:"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return f"{pid}:"
    except PermissionError:
        pass
    return f"{pid}:alive"
