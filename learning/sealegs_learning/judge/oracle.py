"""The oracle: true progress, optionally with the errors of a real judge. For tests, ablations and upper bounds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import JudgeError, available
from sealegs_contract.robot import canonical_json
from sealegs_learning.judge.base import Frame, Pair, Preference, abstention

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ErrorCurve:
    """How often a judge is right, and how often it abstains, by |difference of true progress| in equal bins of [0, 1].

    `correct[k]` and `abstain[k]` are fractions of all answers in bin k; the rest names the worse frame.
    """

    correct: tuple[float, ...]
    abstain: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.correct or len(self.correct) != len(self.abstain):
            raise JudgeError(f"an error curve needs as many abstain as correct values, got {self}")
        if any(c < 0 or a < 0 or c + a > 1 + 1e-9 for c, a in zip(self.correct, self.abstain, strict=True)):
            raise JudgeError(f"each bin of an error curve needs correct + abstain in [0, 1], got {self}")

    def at(self, difference: float) -> tuple[float, float]:
        """(correct, abstain) of the bin that holds `difference` in [0, 1]."""
        k = min(int(abs(difference) * len(self.correct)), len(self.correct) - 1)
        return self.correct[k], self.abstain[k]


def linear_curve(first: float, last: float, bins: int = 10) -> ErrorCurve:
    """Correct answers rising evenly from `first` to `last`; half of what is not correct abstains (our assumption)."""
    correct = tuple(float(c) for c in np.linspace(first, last, bins))
    return ErrorCurve(correct, tuple((1.0 - c) / 2.0 for c in correct))


# Ends of the curves read off the figures of RL-VLM-F (2402.03681), ten bins from similar to far apart.
CURVES: Mapping[str, ErrorCurve] = {
    "perfect": ErrorCurve((1.0,), (0.0,)),
    "vlm_drawer": linear_curve(0.42, 0.80),
    "vlm_soccer": linear_curve(0.45, 1.00),
    "vlm_sweep": linear_curve(0.25, 0.78),
    "vlm_cartpole": linear_curve(0.24, 1.00),
    "coin": ErrorCurve((0.5,), (0.0,)),
}


def find_curve(name: str) -> ErrorCurve:
    """A named error curve."""
    if name not in CURVES:
        raise JudgeError(f"unknown error curve {name!r}; {available(CURVES)}")
    return CURVES[name]


class OracleJudge:
    """Answers from `progress` (N,), the true progress of dataset row `Frame.index`.

    A pair's error is drawn from (seed, both rows), so it is the same in every run and in both orders.
    """

    prompt_version = ""
    order_sensitive = False
    paid = False

    def __init__(
        self,
        progress: FloatArray,
        supported_tasks: tuple[str, ...],
        curve: ErrorCurve = CURVES["perfect"],
        seed: int = 0,
    ) -> None:
        progress = np.asarray(progress, dtype=np.float64)
        if progress.ndim != 1 or not np.isfinite(progress).all():
            raise JudgeError(f"the oracle needs finite true progress of shape (rows,), got shape {progress.shape}")
        self._progress, self._curve, self._seed = progress, curve, seed
        self.supported_tasks: tuple[str, ...] | None = supported_tasks
        truth = hashlib.sha256(np.ascontiguousarray(progress).tobytes()).hexdigest()
        content = canonical_json([list(curve.correct), list(curve.abstain), seed, truth])
        self.identity = f"oracle:{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    def compare_many(self, task_text: str, pairs: Sequence[Pair]) -> Iterator[tuple[int, Preference]]:
        """Answer from true progress; equal progress is a tie."""
        if task_text not in (self.supported_tasks or ()):
            raise JudgeError(
                f"the oracle does not know the task {task_text!r}; {available(self.supported_tasks or ())}"
            )
        for position, (a, b) in enumerate(pairs):
            yield position, self._compare(self._row(a), self._row(b))

    def _row(self, frame: Frame) -> int:
        if frame.index is None or not 0 <= frame.index < len(self._progress):
            raise JudgeError(f"the oracle needs a frame's dataset row in [0, {len(self._progress)}), got {frame.index}")
        return frame.index

    def _compare(self, a: int, b: int) -> Preference:
        difference = float(self._progress[b] - self._progress[a])
        if difference == 0.0:
            return abstention("tie", "0")
        draw = np.random.default_rng([self._seed, min(a, b), max(a, b)]).random()
        correct, abstain = self._curve.at(difference)
        if correct <= draw < correct + abstain:
            return abstention("tie", f"{difference:.6g}")
        right = draw < correct
        return Preference(1.0 if (difference > 0) == right else 0.0, raw=f"{difference:.6g}")
