"""Asking through the ledger: look up what is known, claim the rest, store every answer as it arrives."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import JudgeError
from sealegs_learning.judge.base import Judge, Pair, Preference, combine_orders
from sealegs_learning.judge.ledger import Ledger, answer_key

CLAIM_CHUNK = 64
FREE_CHUNK = 4096
POLL_S = 0.2

OnAnswer = Callable[[int, Preference], None]


def ask(
    judge: Judge, ledger: Ledger, task_text: str, pairs: Sequence[Pair], on_answer: OnAnswer | None = None
) -> list[Preference]:
    """Answers in the order of `pairs`, from the ledger where it has them, else from the judge.

    `on_answer(position, preference)` hears every pair once, as soon as its answer is stored, and may raise to stop.
    Equal pairs are asked once. Raises what the judge raises; answers that came before are in the ledger.
    """
    positions: dict[str, list[int]] = {}
    for i, pair in enumerate(pairs):
        positions.setdefault(answer_key(judge, task_text, pair), []).append(i)
    answers: dict[int, Preference] = {}

    def deliver(found: dict[str, Preference]) -> None:
        for key, answer in found.items():
            for i in positions[key]:
                answers[i] = answer
                if on_answer is not None:
                    on_answer(i, answer)

    open_keys = list(positions)
    deliver(ledger.lookup(open_keys))
    while open_keys := [key for key in open_keys if positions[key][0] not in answers]:
        # Answers that cost nothing may be computed twice by two processes: only paid ones are claimed.
        mine = ledger.claim(open_keys, CLAIM_CHUNK) if judge.paid else open_keys[:FREE_CHUNK]
        if mine:
            _ask_judge(judge, ledger, task_text, {key: pairs[positions[key][0]] for key in mine}, deliver)
        else:
            time.sleep(POLL_S)
            deliver(ledger.lookup(open_keys))
    return [answers[i] for i in range(len(pairs))]


def ask_pairs(
    judge: Judge,
    ledger: Ledger,
    task_text: str,
    pairs: Sequence[Pair],
    on_answer: OnAnswer | None = None,
    retry: Sequence[str] = (),
) -> tuple[NDArray[np.float64], list[str]]:
    """P(B better) (n,) and the status of each pair; order-sensitive judges are asked both ways (see `combine_orders`).

    Equal images are a tie, without asking. Stored answers whose status is in `retry` are asked again.
    """
    asked = [i for i, (a, b) in enumerate(pairs) if a.digest != b.digest]
    questions = [pairs[i] for i in asked]
    if judge.order_sensitive:
        questions = [q for a, b in questions for q in ((a, b), (b, a))]
    if retry:
        ledger.forget([answer_key(judge, task_text, question) for question in questions], retry)
    answers = ask(judge, ledger, task_text, questions, on_answer)
    probability, status = np.full(len(pairs), 0.5), ["tie"] * len(pairs)
    for k, i in enumerate(asked):
        if judge.order_sensitive:
            probability[i], status[i] = combine_orders(answers[2 * k], answers[2 * k + 1])
        else:
            probability[i], status[i] = answers[k].probability_b_better, answers[k].status
    return probability, status


def _ask_judge(
    judge: Judge,
    ledger: Ledger,
    task_text: str,
    questions: dict[str, Pair],
    deliver: Callable[[dict[str, Preference]], None],
) -> None:
    """Ask every question, and store each answer (paid) or all together (free) before delivering it."""
    keys = list(questions)
    waiting: dict[str, Preference] = {}

    def flush() -> None:
        ledger.record(judge, task_text, [(questions[key], answer) for key, answer in waiting.items()])
        stored = dict(waiting)
        waiting.clear()
        deliver(stored)

    unanswered = set(keys)
    try:
        for position, answer in judge.compare_many(task_text, [questions[key] for key in keys]):
            waiting[keys[position]] = answer
            unanswered.discard(keys[position])
            if judge.paid:
                flush()
        if unanswered:
            raise JudgeError(f"judge {judge.identity} answered {len(keys) - len(unanswered)} of {len(keys)} pairs")
    finally:
        if waiting:
            flush()
        if judge.paid:
            ledger.release(unanswered)
