"""Which pairs of a dataset's frames are asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import JudgeError


@dataclass(frozen=True)
class Span:
    """Rows [start, start + length) of one episode with its task sentence."""

    start: int
    length: int
    task_text: str


def draw_pairs(spans: Sequence[Span], number: int, within: float, rng: np.random.Generator) -> dict[str, NDArray]:
    """Row pairs (n, 2) int64 by task sentence; both rows of a pair belong to the same task.

    Tasks get pairs in proportion to their rows. A share `within` of them lies inside one episode (drawn in proportion
    to its length), the rest anywhere in the task. Rows of a pair differ.
    """
    spans = [span for span in spans if span.length > 0]
    total = sum(span.length for span in spans)
    tasks = list(dict.fromkeys(span.task_text for span in spans))
    if total < 2 or number < 1:
        raise JudgeError(f"cannot draw {number} pairs from {total} frames")
    # Largest remainders would be no fairer here: tasks are few, and the last one takes what rounding left.
    drawn: dict[str, NDArray] = {}
    left = number
    for task in tasks:
        own = [span for span in spans if span.task_text == task]
        rows = sum(span.length for span in own)
        share = left if task == tasks[-1] else min(left, round(number * rows / total))
        left -= share
        if share and rows > 1:
            drawn[task] = _draw(own, share, within, rng)
    return drawn


def _draw(spans: Sequence[Span], number: int, within: float, rng: np.random.Generator) -> NDArray:
    lengths = np.array([span.length for span in spans])
    starts = np.array([span.start for span in spans])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = np.concatenate([np.arange(span.start, span.start + span.length) for span in spans])
    a = rng.integers(0, len(flat), number)
    episode = np.searchsorted(offsets, a, side="right") - 1
    inside = (rng.random(number) < within) & (lengths[episode] > 1)
    # The second row: one of the other rows, by an offset of at least one, modulo the episode or the whole task.
    hop_inside = 1 + np.floor(rng.random(number) * np.maximum(lengths[episode] - 1, 1)).astype(np.int64)
    b_inside = starts[episode] + (flat[a] - starts[episode] + hop_inside) % lengths[episode]
    hop = rng.integers(1, len(flat), number)
    b_anywhere = flat[(a + hop) % len(flat)]
    return np.stack([flat[a], np.where(inside, b_inside, b_anywhere)], axis=1).astype(np.int64)
