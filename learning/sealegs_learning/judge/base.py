"""What a judge is: it says which of two frames shows more progress on a task, or that it cannot say.

Every kind (oracle, embedded, transformers, endpoint) answers through the same protocol, and every answer is a
`Preference` with its provenance. Nothing is ever guessed: what could not be read is `malformed` and abstains.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol, runtime_checkable

from sealegs_contract.errors import JudgeError

Status = Literal["ok", "tie", "refusal", "malformed"]
STATUSES: tuple[Status, ...] = ("ok", "tie", "refusal", "malformed")


@dataclass(frozen=True)
class Frame:
    """One image as it was recorded: a whole JPEG (or PNG) file, and the dataset row that it belongs to, if any."""

    jpeg: bytes
    index: int | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file's bytes: equal images are the same frame, wherever they came from."""
        return hashlib.sha256(self.jpeg).hexdigest()


Pair = tuple[Frame, Frame]


@dataclass(frozen=True, slots=True)
class Provenance:
    """What one answer took: wall seconds, tokens, requests, money, and the model's own words before the answer."""

    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    queries: int = 0
    cost_usd: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Preference:
    """The answer to one ordered pair (A, B).

    `probability_b_better` in [0, 1] is meaningful when `abstain` is false; an abstention carries 0.5.
    `status` tells a tie (the judge sees no difference) from a refusal and from an answer that could not be read.
    """

    probability_b_better: float
    abstain: bool = False
    status: Status = "ok"
    raw: str = ""
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        p = self.probability_b_better
        if not (math.isfinite(p) and 0.0 <= p <= 1.0):
            raise JudgeError(f"a preference needs a probability in [0, 1], got {p}")
        if self.status not in STATUSES:
            raise JudgeError(f"unknown answer status {self.status!r}; available: {', '.join(STATUSES)}")
        if self.abstain == (self.status == "ok"):
            raise JudgeError(f"an answer abstains exactly when its status is not ok, got {self.status}, {self.abstain}")


def abstention(status: Status, raw: str = "", provenance: Provenance | None = None) -> Preference:
    """A preference that says nothing about the pair, and why."""
    return Preference(0.5, True, status, raw, provenance or Provenance())


@runtime_checkable
class Judge(Protocol):
    """One judge. `identity` changes whenever its answers could: it is part of every ledger key.

    identity:        kind, weights or model name, and settings that change answers; never a secret
    prompt_version:  version of the question's wording ("" for judges without a prompt)
    supported_tasks: sentences of the tasks that it knows, or None when it takes any
    order_sensitive: whether showing (B, A) may contradict (A, B), so that both orders must be asked
    paid:            whether an answer costs money or minutes, so that each is stored at once
    """

    @property
    def identity(self) -> str:
        """Who answers."""
        ...

    @property
    def prompt_version(self) -> str:
        """How the question is worded."""
        ...

    @property
    def supported_tasks(self) -> tuple[str, ...] | None:
        """Which tasks it knows."""
        ...

    @property
    def order_sensitive(self) -> bool:
        """Whether both orders must be asked."""
        ...

    @property
    def paid(self) -> bool:
        """Whether each answer is stored at once."""
        ...

    def compare_many(self, task_text: str, pairs: Sequence[Pair]) -> Iterator[tuple[int, Preference]]:
        """Yield (position in `pairs`, preference) once for every pair, in any order, as answers arrive.

        Raises JudgeError when the task is not supported, the judge cannot be reached, or its budget is spent;
        what was yielded before stays valid.
        """
        ...


def compare_all(judge: Judge, task_text: str, pairs: Sequence[Pair]) -> list[Preference]:
    """All answers in the order of `pairs`, without a ledger."""
    return in_order(judge.compare_many(task_text, pairs), len(pairs))


def in_order(answers: Iterable[tuple[int, Preference]], count: int) -> list[Preference]:
    """Sort answers by position; raises JudgeError when one is missing or came twice."""
    found: dict[int, Preference] = {}
    for position, preference in answers:
        if position in found or not 0 <= position < count:
            raise JudgeError(f"the judge answered position {position} of {count} pairs twice or out of range")
        found[position] = preference
    if len(found) != count:
        raise JudgeError(f"the judge answered {len(found)} of {count} pairs")
    return [found[i] for i in range(count)]


def combine_orders(forward: Preference, backward: Preference) -> tuple[float, str]:
    """Cancel position bias: `forward` answers (A, B), `backward` answers (B, A).

    p = (p_forward + 1 - p_backward) / 2 when both name the same better frame. Otherwise the pair has no label, and
    the second value says why: the first abstention's status, or "disagreement".
    """
    for answer in (forward, backward):
        if answer.abstain:
            return 0.5, answer.status
    p_forward, p_backward = forward.probability_b_better, 1.0 - backward.probability_b_better
    if (p_forward - 0.5) * (p_backward - 0.5) <= 0.0:
        return 0.5, "disagreement"
    return (p_forward + p_backward) / 2.0, "ok"
