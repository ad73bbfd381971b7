"""`evaluate_judge`: how often a judge is right on frames that nothing was trained or tuned on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import JudgeError
from sealegs_learning.judge.accuracy import Answers
from sealegs_learning.judge.ask import ask_pairs
from sealegs_learning.judge.base import Frame, Judge
from sealegs_learning.judge.ledger import Ledger
from sealegs_learning.judge.pairs import Span, draw_pairs
from sealegs_learning.judge.training.frames import FrameRequest, FrameSet, View, block_count, frames
from sealegs_learning.judge.training.sentences import HELD_OUT, HELD_OUT_NOT_OURS

VIEWS: tuple[View, ...] = ("front", "looks", "held_out_camera")
SUITES: dict[str, tuple[View, bool]] = {
    # suite: (view of the frames, whether held-out sentences are used)
    "episodes": ("front", False),
    "looks": ("looks", False),
    "cameras": ("held_out_camera", False),
    "paraphrases": ("front", True),
}


@dataclass(frozen=True)
class EvaluateConfig:
    """Sizes of the evaluation. Episodes come from their own range of seeds."""

    episodes: int = 120
    frames_per_episode: int = 10
    pairs: int = 4000
    within: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class SuiteResult:
    """One suite and task: the answers to all pairs."""

    suite: str
    task: str
    answers: Answers

    def rows(self, mode: str) -> list[dict[str, Any]]:
        """Rows of the results file: clearly apart, then bin by bin."""
        head = {"mode": mode, "suite": self.suite, "task": self.task}
        parts = [("clearly_apart", self.answers.clearly_apart), *(("bin", b) for b in self.answers.bins)]
        return [head | {"range": kind} | accuracy.row() for kind, accuracy in parts]


def evaluate_suite(
    judge: Judge,
    suite: str,
    task: str,
    config: EvaluateConfig,
    cache: Path,
    ledger: Ledger,
    on_block: Callable[[], None] | None = None,
) -> SuiteResult:
    """Ask `judge` about random pairs of held-out frames of one task.

    With held-out sentences, pairs are dealt to the sentences in turn; a sentence that the judge refuses abstains. All
    questions go through the ledger.
    """
    from sealegs_sim.tasks import get_task

    if suite not in SUITES:
        raise JudgeError(f"unknown suite {suite!r}; available: {', '.join(SUITES)}")
    view, held_out = SUITES[suite]
    shot = of_view(frames(request(task, config), cache, on_block), VIEWS.index(view))
    rows = _pairs(shot, config)
    sentences: Sequence[str] = HELD_OUT[task] if held_out else (get_task(task).text,)
    probability, abstain = np.full(len(rows), 0.5), np.ones(len(rows), dtype=bool)
    pool = [Frame(data, i) for i, data in enumerate(shot.jpeg)]
    for k, sentence in enumerate(sentences):
        dealt = np.arange(k, len(rows), len(sentences))
        pairs = [(pool[a], pool[b]) for a, b in rows[dealt]]
        if held_out and not _supports(judge, sentence):
            continue
        probability[dealt], status = ask_pairs(judge, ledger, sentence, pairs)
        abstain[dealt] = [s != "ok" for s in status]
    a, b = rows.T
    difference = (shot.progress[b] - shot.progress[a]).astype(np.float64)
    return SuiteResult(suite, task, Answers(difference, probability, abstain, shot.episode[a], shot.episode[b]))


def request(task: str, config: EvaluateConfig) -> FrameRequest:
    """Held-out frames of one task, the same ones from every view."""
    return FrameRequest(task, "test", config.episodes, config.frames_per_episode, VIEWS, config.seed)


def of_view(shot: FrameSet, view: int) -> FrameSet:
    """The frames of one of VIEWS."""
    rows = np.flatnonzero(shot.setup % len(VIEWS) == view)
    files = [shot.jpeg[i] for i in rows]
    return FrameSet(shot.task, files, shot.progress[rows], shot.setup[rows], shot.episode[rows], shot.positions[rows])


def blocks(config: EvaluateConfig) -> int:
    """Blocks of frames of one suite and task."""
    return block_count(request("drawer", config))


def sentence_rows(judge: Judge) -> list[dict[str, Any]]:
    """Every held-out sentence, and whether the judge does with it as it should: answer ours, refuse all others."""
    ours = [(sentence, True) for sentences in HELD_OUT.values() for sentence in sentences]
    everything = [*ours, *((sentence, False) for sentence in HELD_OUT_NOT_OURS)]
    return [
        {
            "sentence": sentence,
            "ours": mine,
            "answered": _supports(judge, sentence),
            "right": _supports(judge, sentence) == mine,
        }
        for sentence, mine in everything
    ]


def _pairs(shot: FrameSet, config: EvaluateConfig) -> NDArray[np.int64]:
    """Row pairs (n, 2), half of them inside an episode, as `sealegs label` draws them."""
    starts = np.flatnonzero(np.diff(shot.episode, prepend=-1))
    lengths = np.diff(np.append(starts, len(shot)))
    spans = [Span(int(s), int(n), shot.task) for s, n in zip(starts, lengths, strict=True)]
    return draw_pairs(spans, config.pairs, config.within, np.random.default_rng(config.seed))[shot.task]


def _supports(judge: Judge, sentence: str) -> bool:
    supports = getattr(judge, "supports", None)
    if supports is not None:
        return bool(supports(sentence))
    return judge.supported_tasks is None or sentence in judge.supported_tasks
