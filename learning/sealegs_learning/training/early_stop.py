"""When to stop a training: a function of its learning curve alone, so that a resumed run stops where it would have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def score(row: Row) -> tuple[float, float]:
    """What makes an evaluation better: success, then return. Rows without an evaluation have no `evaluation_return`."""
    return float(row.get("success", 0.0)), float(row["evaluation_return"])


def is_best(rows: Sequence[Row], found: Row) -> bool:
    """Whether the evaluation `found` is better than every one in `rows`."""
    return all(score(found) > score(row) for row in rows if "evaluation_return" in row)


def stop_reason(rows: Sequence[Row], success: float, patience: int) -> str:
    """Why a run with these rows is over, or an empty string.

    Success: the newest evaluation has at least the success rate `success` (0: never).
    Plateau: the last `patience` evaluations (0: never) are no better than the best before them.
    """
    scores = [score(row) for row in rows if "evaluation_return" in row]
    if not scores:
        return ""
    if success > 0.0 and scores[-1][0] >= success:
        return f"success {scores[-1][0]:.3g} reached {success:.3g}"
    if 0 < patience < len(scores) and max(scores[-patience:]) <= max(scores[:-patience]):
        return f"no better evaluation in the last {patience}"
    return ""
