"""The rows about labelling, with a handful of trials; and that each of them can fail."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from sealegs.faults.frame import Trials
from sealegs.faults.rows import labelling
from sealegs.faults.tools.chat_server import ChatServer, serving
from sealegs_learning.judge import client, prompts


def trials(folder: Path, count: int) -> Trials:
    return Trials(count, folder, lambda done, total: None)


def test_a_server_that_fails_is_outlived_and_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = labelling.run_bad_server(trials(tmp_path / "a", 2))
    assert (outcome.failures, list(outcome.values)) == (0, [0.0, 0.0]), outcome.notes
    monkeypatch.setattr(client, "retry_after_s", lambda header, now: None)
    monkeypatch.setattr(labelling, "FAULT_KINDS", ("retry-after:0.8",))
    outcome = labelling.run_bad_server(trials(tmp_path / "b", 1))
    assert outcome.failures == 1
    assert outcome.values[0] > 0


def test_killed_labellers_lose_nothing(tmp_path: Path) -> None:
    outcome = labelling.run_killed_labeller(trials(tmp_path, 3))
    assert (outcome.trials, outcome.failures) == (3, 0), outcome.notes
    assert max(outcome.values) <= labelling.IN_FLIGHT


def test_a_label_that_is_gone_and_one_that_is_paid_twice_are_counted(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    with serving(ChatServer()) as chat:
        labelling.label(chat.base_url, str(ledger), 4)
        before = labelling.stored(ledger)
        assert labelling._after_kill(chat, ledger, before) == (0, 0)
        with sqlite3.connect(ledger) as db:
            db.execute("DELETE FROM answers WHERE key = ?", (min(before),))
        assert labelling._after_kill(chat, ledger, before) == (1, 1)


def test_injected_orders_are_not_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = labelling.run_injection(trials(tmp_path / "a", 14))
    assert (outcome.failures, sum(outcome.values)) == (0, 0.0), outcome.notes
    monkeypatch.setattr(prompts, "clean", lambda text, maximum: text[:maximum])
    outcome = labelling.run_injection(trials(tmp_path / "b", 6))
    assert outcome.failures > 0
    assert "a prompt" in outcome.notes[0]
