"""Standby: the candidate beside a controller: loaded by its own thread, fed, compared, swapped in, kept or dropped.

    none --load--> loading --> ready --swap--> probation --> none (kept, or rolled back);  loading --> refused

The control thread calls everything here, and only hands work over: what the candidate costs, it costs the worker. A
candidate that is late is skipped for a tick; it never delays a command. A shadow that computes for long does so at the
lowest priority; once swapped in, it computes in the control thread, like any policy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sealegs_contract.errors import ControllerError, SealegsError
from sealegs_contract.sample import CommandSample, FloatArray, Sample
from sealegs_deploy.aside import Aside
from sealegs_deploy.controller import Controller
from sealegs_deploy.pilot import Pilot
from sealegs_deploy.shadow import Received, Shadow, Tick
from sealegs_deploy.states import State, Transition
from sealegs_deploy.timing import RECENT
from sealegs_deploy.worker import Worker

BACKLOG = 512
"""Samples kept while the candidate computes: seconds of every stream, after which the oldest go."""
PATIENCE = 50
"""Periods that a swap waits for the candidate to finish computing."""
MOVING = {State.ACTIVE, State.HOLD}


@dataclass(frozen=True)
class Candidate:
    """A policy that was verified and fits this robot. `keep` is called, by the worker, once its probation is over."""

    pilot: Pilot
    keep: Callable[[], None]
    line: str = ""


@dataclass(frozen=True)
class Reports:
    """Who is told what. The first two are called by the worker, the last by the control thread."""

    command: Callable[[CommandSample], None]
    """What the candidate would have sent."""
    score: Callable[[dict[str, Any]], None]
    """Scores of an episode that ended."""
    change: Callable[[str, bool], None]
    """A line about the candidate, and whether it is bad news."""


class Standby:
    """At most one candidate. `shadows`: whether candidates infer too, and are scored."""

    def __init__(self, controller: Controller, reports: Reports, shadows: bool) -> None:
        self._controller, self._reports, self._shadows = controller, reports, shadows
        self.state, self.reason = "none", ""
        self.swaps = self.rollbacks = 0
        self._shadow: Shadow | None = None
        self._candidate: Candidate | None = None
        self._loaded: Candidate | str | None = None
        self._backlog: deque[Received] = deque(maxlen=BACKLOG)
        self._skipped = 0
        self._begins = False
        self._probation_ms, self._patience = 0.0, 0
        self._error = ""
        self._worker, self._aside = Worker("candidate", self._failed), Aside()

    @property
    def pilot(self) -> Pilot | None:
        """The candidate's."""
        return self._candidate.pilot if self._candidate else None

    # The operator

    def load(self, make: Callable[[], Candidate]) -> None:
        """Have the worker call `make`; the candidate that was there is gone. ControllerError while one cannot."""
        if self.state in {"loading", "probation"}:
            raise ControllerError(f"cannot load a candidate: one is in state {self.state}")
        self.drop("")
        self.state = "loading"
        self._worker.submit(partial(self._load, make))

    def adopt(self, candidate: Candidate) -> None:
        """Take `candidate`; it is fed from here on."""
        self._candidate = candidate
        self._shadow = Shadow(candidate.pilot, self._controller.robot, self._shadows)
        self._backlog.clear()
        self._skipped = 0
        self.state, self.reason = "ready", candidate.line

    def drop(self, reason: str) -> None:
        """There is no candidate any more."""
        self._end_episode()
        self._candidate = self._shadow = None
        self._patience = 0
        self.state, self.reason = "none", reason

    def swap(self, probation_ms: float) -> str:
        """Put the candidate in charge right after the next command; its name. `change` is told what came of it.

        Raises ControllerError where there is none, or it could not take over now.
        """
        if self.state != "ready":
            why = f"{self.state}: {self.reason}" if self.reason else self.state
            raise ControllerError(f"cannot swap: no candidate is ready ({why}); set candidate_path and load it")
        if self._controller.state in {State.UNCONFIGURED, State.FAULT}:
            raise ControllerError(
                f"cannot swap: the controller is {self._controller.state} ({self._controller.reason})"
            )
        self._probation_ms, self._patience = probation_ms, PATIENCE
        return self._text()

    # The control loop

    def take(self, sample: Sample, now_ns: int, received_ns: int) -> None:
        """A sample came."""
        if self._shadow is not None:
            self._backlog.append(Received(sample, now_ns, received_ns))

    def after(self, now_ns: int, sent: CommandSample | None, history: FloatArray | None) -> None:
        """After each tick, and after its command was sent; `history` is the guard's from before it."""
        self._settle()
        shadow, state = self._shadow, self._controller.state
        compares = sent is not None and state is State.ACTIVE
        swaps = self._patience > 0 and (compares or state is not State.ACTIVE)
        if shadow is None or not (compares or swaps or self._backlog):
            return
        if not self._worker.idle:
            self._skipped += compares
            if swaps:
                self._be_patient()
            return
        restarts = state is State.DISARMED
        tick = Tick(now_ns, tuple(self._backlog), restarts, self._begins, *((sent, history) if compares else ()))
        self._backlog.clear()
        self._begins = False
        if swaps:
            self._swap(shadow, tick)
        else:
            self._worker.submit(partial(self._follow, shadow, tick, self._skipped))
            self._skipped = 0

    def on_transition(self, transition: Transition) -> None:
        """The controller's: episodes begin and end with its motion, and a change of policy says how a swap went."""
        if transition.before is transition.after:
            self.reason = transition.reason
            return
        if transition.after is State.ACTIVE:
            self._begins = True
        elif transition.before in MOVING and transition.after not in MOVING:
            self._end_episode()

    def status(self) -> dict[str, Any]:
        """The candidate and what became of it; plain data."""
        manifest = self._candidate.pilot.manifest if self._candidate else None
        return {
            "policy": manifest.name if manifest else "",
            "version": manifest.version if manifest else 0,
            "state": self.state,
            "reason": self.reason,
            "shadow": self._shadow is not None and self._shadow.proposes,
            "swaps": self.swaps,
            "rollbacks": self.rollbacks,
        }

    def values(self) -> dict[str, Any]:
        """The newest figures of the shadow, for diagnostics; empty without one."""
        if self._shadow is None or not self._shadow.proposes:
            return {}
        return {f"shadow_{name}": value for name, value in self._shadow.total.brief(RECENT).items()}

    def wait(self, timeout_s: float) -> bool:
        """Whether all that was handed to the worker is done within `timeout_s`."""
        return self._worker.wait(timeout_s)

    def close(self) -> None:
        """End the worker."""
        self._worker.close()
        self._aside.close()

    # Inside: the control thread

    def _settle(self) -> None:
        """Learn what became of a load or of a probation."""
        loaded, self._loaded = self._loaded, None
        error, self._error = self._error, ""
        if error:
            self._reports.change(error, True)
        if isinstance(loaded, Candidate):
            self.adopt(loaded)
            self._reports.change(f"candidate {self._text()} is ready; {loaded.line}", False)
        elif loaded is not None:
            self.state, self.reason = "refused", loaded
            self._reports.change(f"candidate refused: {loaded}", True)
        if self.state == "probation" and not self._controller.on_probation:
            self._judge()

    def _swap(self, shadow: Shadow, tick: Tick) -> None:
        """The whole period until the next command is left for it; the worker is idle, so the pilot is ours."""
        self._patience = 0
        shadow.watch(tick)
        # Before the swap: the controller tells everybody of it, and they ask for this status.
        self.state, self.swaps = "probation", self.swaps + 1
        try:
            self._controller.swap(shadow.pilot, tick.now_ns, self._probation_ms)
        except ControllerError as error:
            self.state, self.reason, self.swaps = "ready", str(error), self.swaps - 1
            self._reports.change(f"not swapped: {error}", True)
            return
        self._end_episode()
        self._shadow = None

    def _be_patient(self) -> None:
        self._patience -= 1
        if not self._patience:
            self.reason = f"not swapped: the candidate was still computing after {PATIENCE} periods"
            self._reports.change(self.reason, True)

    def _judge(self) -> None:
        candidate, self._candidate = self._candidate, None
        self.state = "none"
        kept = candidate is not None and self._controller.manifest is candidate.pilot.manifest
        self.rollbacks += not kept
        if candidate is not None and kept:
            self._worker.submit(candidate.keep)
        self._reports.change(f"the swap is over: {self.reason}", not kept)

    def _end_episode(self) -> None:
        if self._shadow is not None and self._shadow.proposes:
            self._worker.submit(partial(self._score, self._shadow, self._skipped))
            self._skipped = 0

    def _text(self) -> str:
        return self._candidate.pilot.name if self._candidate else ""

    # Inside: the worker

    def _load(self, make: Callable[[], Candidate]) -> None:
        try:
            self._loaded = make()
        except (SealegsError, OSError) as error:
            self._loaded = " ".join(str(error).split())
        except Exception as error:
            self._loaded = f"internal error: {type(error).__name__}: {error}"
            raise

    def _follow(self, shadow: Shadow, tick: Tick, skipped: int) -> None:
        shadow.skip(skipped)
        with self._aside:
            command = shadow.step(tick)
        if command is not None:
            self._reports.command(command)

    def _score(self, shadow: Shadow, skipped: int) -> None:
        shadow.skip(skipped)
        report = shadow.end_episode()
        if report is not None:
            self._reports.score(report)

    def _failed(self, error: Exception) -> None:
        self._error = f"candidate: {type(error).__name__}: {error}"
