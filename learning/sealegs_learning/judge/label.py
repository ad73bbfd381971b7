"""`label_dataset`: ask a judge about pairs of a dataset's frames, through the ledger, and write the labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import JudgeError
from sealegs_learning.judge.accuracy import Answers
from sealegs_learning.judge.ask import ask_pairs
from sealegs_learning.judge.base import Frame, Judge, Pair, Preference
from sealegs_learning.judge.labels import LabelledDataset, Labels, checked_name, labels_folder, write_labels
from sealegs_learning.judge.ledger import Ledger
from sealegs_learning.judge.pairs import Span, draw_pairs
from sealegs_learning.judge.truth import StateDataset, true_progress

PROBE_PAIRS = 100
BLOCK_PAIRS = 2000

OnProgress = Callable[[int, int], None]


class FrameDataset(LabelledDataset, StateDataset, Protocol):
    """What labelling needs of a dataset."""

    def images(self, camera: str, indices: Sequence[int]) -> list[bytes]:
        """JPEG files of rows."""
        ...


@dataclass(frozen=True)
class LabelOptions:
    """Which pairs are asked about. `within` is the share of pairs inside one episode.

    `maximum_abstentions`: so many answers in a row without a preference end the run with an error.
    `retry`: stored answers of these statuses are asked again.
    """

    name: str
    camera: str = "front"
    pairs: int = 2000
    seed: int = 0
    within: float = 0.5
    maximum_abstentions: int = 200
    retry: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelReport:
    """Where the labels are and what NAME.json says about them."""

    path: Path
    labels: Labels
    report: Mapping[str, Any] = field(default_factory=dict)


def label_dataset(
    dataset: FrameDataset,
    judge: Judge,
    options: LabelOptions,
    *,
    judge_config: Mapping[str, Any] | None = None,
    ledger_path: Path | None = None,
    on_progress: OnProgress | None = None,
) -> LabelReport:
    """Label `options.pairs` pairs and write DATASET/labels/NAME.parquet and .json.

    Judges that are order-sensitive are asked in both orders; disagreement abstains. `judge_config` is recorded as it
    is (no secrets). `on_progress(pairs done, pairs in all)`. Answers are kept in the ledger (default:
    DATASET/labels/ledger.sqlite) as they arrive, so a run that was stopped goes on where it stood.

    Raises JudgeError for an unsupported task, an unreachable judge, a spent budget, or endless abstention.
    """
    started = time.time()
    checked_name(options.name)
    spans = [Span(e.start, e.length, e.task_text) for e in dataset.episodes]
    drawn = draw_pairs(spans, options.pairs, options.within, np.random.default_rng(options.seed))
    refuse_unsupported(judge, list(drawn))
    total = sum(len(rows) for rows in drawn.values())
    results: list[tuple[NDArray, NDArray, list[str]]] = []
    with Ledger(ledger_path or labels_folder(dataset) / "ledger.sqlite") as ledger:
        watch = _Watch(options, total, 2 if judge.order_sensitive else 1, on_progress)
        for task_text, rows in drawn.items():
            for block in _blocks(rows):
                results.append(_label_block(dataset, judge, ledger, task_text, block, options, watch))
                watch.check(results)
        spent = ledger.totals(judge)
    rows = np.concatenate([block for block, _, _ in results])
    status = np.array([s for _, _, block in results for s in block], dtype=np.str_)
    probability = np.concatenate([p for _, p, _ in results])
    labels = Labels(rows[:, 0], rows[:, 1], probability, status != "ok", status)
    report = {
        "judge": {
            "identity": judge.identity,
            "prompt_version": judge.prompt_version,
            "order_sensitive": judge.order_sensitive,
            "config": dict(judge_config or {}),
        },
        "options": asdict(options),
        "pairs": len(labels),
        "accuracy": label_accuracy(dataset, labels),
        "seconds": time.time() - started,
        "ledger_totals": spent,
    }
    return LabelReport(
        write_labels(dataset, options.name, labels, report), labels, report | {"counts": labels.counts()}
    )


def refuse_unsupported(judge: Judge, task_texts: Sequence[str]) -> None:
    """Fail before the first question when the judge does not know a task."""
    supports = getattr(judge, "supports", None)
    for text in task_texts:
        known = (
            supports(text) if supports is not None else judge.supported_tasks is None or text in judge.supported_tasks
        )
        if not known:
            listed = "; ".join(judge.supported_tasks or ())
            raise JudgeError(
                f"judge {judge.identity} does not know the task {text!r}; it knows: {listed}. Use another judge "
                "(transformers, endpoint) for other tasks, or train one: sealegs judge train"
            )


def label_accuracy(dataset: StateDataset, labels: Labels) -> dict[str, Any] | None:
    """Agreement with true progress, overall where |difference| > 0.1 and by bins; None where truth is unknown.

    The intervals are over episodes, since pairs share them.
    """
    progress = true_progress(dataset)
    if progress is None:
        return None
    difference = progress[labels.index_b] - progress[labels.index_a]
    starts = np.array([episode.start for episode in dataset.episodes])
    episode_a, episode_b = (np.searchsorted(starts, rows, side="right") for rows in (labels.index_a, labels.index_b))
    answers = Answers(difference, labels.probability_b_better, labels.abstain, episode_a, episode_b)
    return {"clearly_apart": answers.clearly_apart.row(), "bins": [b.row() for b in answers.bins]}


def _blocks(rows: NDArray) -> list[NDArray]:
    """A first small block, which shows early when a judge never decides, then larger ones."""
    cuts = [PROBE_PAIRS, *range(PROBE_PAIRS + BLOCK_PAIRS, len(rows), BLOCK_PAIRS)]
    return [block for block in np.split(rows, [c for c in cuts if c < len(rows)]) if len(block)]


def _label_block(
    dataset: FrameDataset,
    judge: Judge,
    ledger: Ledger,
    task_text: str,
    rows: NDArray,
    options: LabelOptions,
    watch: _Watch,
) -> tuple[NDArray, NDArray, list[str]]:
    """(rows, probability, status) of one block of pairs."""
    unique, place = np.unique(rows, return_inverse=True)
    frames = [
        Frame(data, int(i)) for i, data in zip(unique, dataset.images(options.camera, unique.tolist()), strict=True)
    ]
    pairs: list[Pair] = [(frames[a], frames[b]) for a, b in place.reshape(rows.shape)]
    probability, status = ask_pairs(judge, ledger, task_text, pairs, watch, options.retry)
    return rows, probability, status


class _Watch:
    """Hears every answer: shows progress, and stops a run that gets no preferences."""

    def __init__(self, options: LabelOptions, total: int, orders: int, on_progress: OnProgress | None) -> None:
        self._options, self._total, self._orders, self._on_progress = options, total, orders, on_progress
        self._answers = self._row = 0
        self._reasons: dict[str, int] = {}

    def __call__(self, _: int, answer: Preference) -> None:
        self._answers += 1
        self._row = self._row + 1 if answer.abstain else 0
        if answer.abstain:
            self._reasons[answer.status] = self._reasons.get(answer.status, 0) + 1
        if self._on_progress is not None:
            self._on_progress(min(self._total, self._answers // self._orders), self._total)
        if self._row >= self._options.maximum_abstentions:
            raise JudgeError(
                f"the last {self._row} answers gave no preference ({_listed(self._reasons)} in all): this judge cannot "
                "tell these frames apart; look at its raw answers in the ledger, or take another judge or camera"
            )

    def check(self, results: Sequence[tuple[NDArray, NDArray, list[str]]]) -> None:
        """After a block: a run without a single label is hopeless, whatever the reason."""
        status = [s for _, _, block in results for s in block]
        if self._on_progress is not None:
            self._on_progress(len(status), self._total)
        if len(status) >= min(PROBE_PAIRS, self._total) and "ok" not in status:
            reasons = {s: status.count(s) for s in sorted(set(status))}
            raise JudgeError(
                f"the first {len(status)} pairs gave no label ({_listed(reasons)}): this judge cannot tell these "
                "frames apart; look at its raw answers in the ledger, or take another judge or camera"
            )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))
