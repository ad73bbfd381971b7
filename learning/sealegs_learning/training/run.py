"""A training run and its folder, whatever the learner: learning curve, checkpoints, evaluation, early stop, resume.

OUT/checkpoint/ is the newest checkpoint, OUT/checkpoint.old/ the one before it, OUT/best/ the policy of the best
evaluation, OUT/train.jsonl the curve (a JSON object a line). A run that was killed, however hard, goes on from its
newest whole checkpoint with `resume`, and ends with the very weights that an uninterrupted run has.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from sealegs_contract.errors import LearningError
from sealegs_learning.files import clear_leftovers, locked, previous_of, replaced_file, set_aside, settled
from sealegs_learning.networks import GaussianActor
from sealegs_learning.training.card import card_files, make_card
from sealegs_learning.training.checkpoint import POLICY_PREFIX, describe_policy, load_checkpoint, save_checkpoint
from sealegs_learning.training.config import TrainConfig, checkpoint_period, decisive, is_online
from sealegs_learning.training.early_stop import is_best, stop_reason
from sealegs_sim.delays import Delays

Progress = Callable[[int, int, Mapping[str, float]], None]
"""Called as progress(done, total, figures) at every log line."""


class Session(Protocol):
    """What learns: a learner with its source of batches, counted in units: gradient updates, or environment steps."""

    unit: str
    total: int
    about: Mapping[str, Any]
    """What the weights come from (`dataset_fingerprint`, `reward`, ...): a resume refuses a checkpoint of another."""

    @property
    def done(self) -> int:
        """Units done."""
        ...

    @property
    def policy(self) -> GaussianActor:
        """What is learned."""
        ...

    def advance(self, until: int) -> Mapping[str, float]:
        """Learn until at least `until` units are done; figures of the last update."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All state that a bit-exact resume needs; the policy's under `networks.policy.`."""
        ...

    def load_tensors(self, state: Mapping[str, Tensor], done: int) -> None:
        """Inverse of `tensors`. LearningError if a name or shape does not fit."""
        ...


@dataclass(frozen=True)
class TrainReport:
    """Where the policy lies and what the run cost. `seconds` counts every call, without evaluations; the speed is of
    this call. `stopped` says why the run ended before its total; empty if it did not.
    """

    checkpoint: Path
    unit: str
    done: int
    seconds: float
    per_second: float
    last: Mapping[str, float]
    stopped: str = ""


class Run:
    """The loop around a session, and its files."""

    def __init__(
        self,
        config: TrainConfig,
        session: Session,
        progress: Progress | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        """`origin` says on the card where the run comes from (see `origin_of`)."""
        self.config = replace(config, hidden=session.policy.hidden)  # what is recorded; `init` may have decided it
        self.session, self.progress, self.origin = session, progress, origin or {}
        self.folder, self.best = config.out / "checkpoint", config.out / "best"
        self.curve = config.out / "train.jsonl"
        self.saves_every = checkpoint_period(config)
        self.delays = None if config.delays is None else Delays.read(config.delays)
        self.seconds = 0.0
        self.last: dict[str, float] = {}
        self.rows: list[dict[str, Any]] = []

    def go(self) -> TrainReport:
        """Learn to the end or early stop. LearningError where another process trains here, or the task does not fit."""
        for _ in self.steps():
            pass
        return self.report()

    def steps(self) -> Iterator[None]:
        """`go` in pieces, for runs that go side by side: the first only opens or resumes, the others learn."""
        session = self.session
        self._check_task()
        with locked(self.config.out):
            clear_leftovers(self.config.out)
            if self.config.resume:
                self._resume()
            self._open_folder()
            self._began = session.done, self.seconds
            board = _tensorboard(self.config, self.rows, session.unit)
            try:
                yield
                while session.done < session.total and not self._stopped():
                    self._block(board)
                    yield
            finally:
                if board is not None:
                    board.close()

    def report(self) -> TrainReport:
        """What came of the run."""
        session, (done, seconds) = self.session, self._began
        speed = (session.done - done) / max(self.seconds - seconds, 1e-9)
        return TrainReport(self.folder, session.unit, session.done, self.seconds, speed, self.last, self._stopped())

    def _block(self, board: Any) -> None:
        """Learn up to the next event, and do what is due then."""
        config, session = self.config, self.session
        before = session.done
        periods = [period for period in (config.log_every, self.saves_every, config.evaluate_every) if period]
        until = min([session.total, *((before // period + 1) * period for period in periods)])
        figures = self._learn(until)
        evaluates = self._due(config.evaluate_every, before)
        if evaluates or self._due(config.log_every, before):
            self._check(figures)
            if evaluates:
                figures |= self._evaluate(figures)
            self._log(figures, board)
        if self._due(self.saves_every, before) or self._stopped():
            self._save(self.folder, session.tensors())

    def _learn(self, until: int) -> dict[str, float]:
        started = time.perf_counter()
        figures = dict(self.session.advance(until))
        self.seconds += time.perf_counter() - started
        return figures

    def _due(self, period: int, before: int) -> bool:
        """Whether a multiple of `period` (0: never) or the end lies in (before, done]."""
        done = self.session.done
        return period > 0 and (done >= self.session.total or done // period > before // period)

    def _stopped(self) -> str:
        return stop_reason(self.rows, self.config.stop_success, self.config.patience)

    def _check(self, figures: Mapping[str, float]) -> None:
        if not all(math.isfinite(value) for value in figures.values()):
            where = f"{self.session.unit} {self.session.done}"
            raise LearningError(f"training diverged at {where}: {dict(figures)}; lower the learning rate")

    def _log(self, figures: dict[str, float], board: Any) -> None:
        self.last = figures
        row = {self.session.unit: self.session.done, "seconds": round(self.seconds, 3), **figures}
        self.rows.append(row)
        with self.curve.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        if board is not None:
            _show(board, figures, self.session.done)
        if self.progress is not None:
            self.progress(self.session.done, self.session.total, figures)

    def _check_task(self) -> None:
        """Before the work: that there is a task to evaluate in, and that the policy fits it; online both are given."""
        config, policy = self.config, self.session.policy
        if is_online(config) or not (config.task or config.evaluate_every):
            return
        from sealegs_learning.evaluation.evaluate import check_task

        check_task(policy, self._task(policy))

    def _task(self, policy: GaussianActor) -> str:
        """The task that is asked for, or is learned in, or that the policy's data are of."""
        task = self.config.task or self.session.about.get("task", "") or policy.task
        if not task:
            raise LearningError("evaluation while training needs one simulated task: give --task, or evaluate_every 0")
        return str(task)

    def _evaluate(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Success, progress and return in simulation; the best policy so far is kept in OUT/best."""
        from sealegs_learning.evaluation.evaluate import evaluate

        policy, episodes = self.session.policy, (self.config.evaluate_episodes, self.config.evaluate_seed)
        result = evaluate(policy, self._task(policy), *episodes, delays=self.delays)
        found = result.figures()
        if is_best(self.rows, found):
            weights = {k: v for k, v in self.session.tensors().items() if k.startswith(POLICY_PREFIX)}
            self._save(self.best, weights, {**figures, **found})
        return found

    def _save(self, folder: Path, tensors: Mapping[str, Tensor], figures: Mapping[str, float] | None = None) -> None:
        session = self.session
        description = {
            "config": decisive(self.config),
            **session.about,
            "unit": session.unit,
            "update": session.done,
            "seconds": self.seconds,
            "stopped": self._stopped(),
            "selected": folder == self.best,
            "metrics": {"training": dict(self.last if figures is None else figures)},
            "policy": describe_policy(session.policy),
        }
        card = make_card(self.config, description, self.rows, self.origin)
        save_checkpoint(folder, description, tensors, card_files(card))

    def _open_folder(self) -> None:
        """Keep the curve up to the checkpoint; without one, clear what an earlier training left beside it."""
        done = self.session.done
        self.rows = [row for row in read_curve(self.curve) if row[self.session.unit] <= done] if done else []
        with replaced_file(self.curve) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8")
        if not done:  # the data were read and the session stands: what is overwritten may go
            # The older first: a kill must not bring it back.
            for gone in (previous_of(self.best), self.best, previous_of(self.folder), self.folder):
                shutil.rmtree(gone, ignore_errors=True)

    def _resume(self) -> None:
        """Load the state of `config.out`, if there is one, after checking that it is of the same run."""
        config, about = self.config, {"config": decisive(self.config), **self.session.about}
        if not settled(self.folder).exists():
            return
        checkpoint = load_checkpoint(self.folder)
        for key, now in about.items():
            then = checkpoint.description.get(key)
            if then != now:
                if isinstance(then, dict) and isinstance(now, dict):
                    key = f"{key} ({', '.join(differing(then, now))})"
                raise LearningError(
                    f"cannot resume {config.out}: its {key} differs from this run's; start a new folder"
                )
        if checkpoint.folder != self.folder and self.folder.exists():
            set_aside(self.folder)
        self.session.load_tensors(checkpoint.tensors, checkpoint.update)
        self.seconds = float(checkpoint.description.get("seconds", 0.0))
        self.last = dict(checkpoint.description["metrics"]["training"])


def differing(then: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the settings that differ."""
    names: list[str] = []
    for key in sorted(then.keys() | now.keys()):
        a, b = then.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            names += differing(a, b, f"{prefix}{key}.")
        elif a != b:
            names.append(f"{prefix}{key}")
    return names


def read_curve(path: Path) -> list[dict[str, Any]]:
    """Rows of a train.jsonl; a last line that a kill cut off is left out."""
    rows: list[dict[str, Any]] = []
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise LearningError(f"{path}:{number} is not JSON: {error}") from error
    return rows


def _tensorboard(config: TrainConfig, rows: list[dict[str, Any]], unit: str) -> Any:
    """A writer that begins with the curve so far; None if not asked for.

    Written anew from the curve: a killed run has rows beyond its checkpoint there, and lacks what it had not flushed.
    """
    if not config.tensorboard:
        return None
    from torch.utils.tensorboard import SummaryWriter

    folder = config.out / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)
    board = SummaryWriter(str(folder))  # type: ignore[no-untyped-call]
    for row in rows:
        _show(board, {name: value for name, value in row.items() if name not in {unit, "seconds"}}, row[unit])
    return board


def _show(board: Any, figures: Mapping[str, float], done: int) -> None:
    for name, value in figures.items():
        board.add_scalar(name, value, done)
