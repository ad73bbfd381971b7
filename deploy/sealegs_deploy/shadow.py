"""Shadow: a candidate is told what the policy in charge is told, and says what it would command. Nobody follows it.

Each tick it proposes from the robot's true pose and last command, and its guard goes on from the true history of
commands: the difference to what was sent is that of one decision, and does not add up.

    d_t = | guard(history_t, candidate(o_t)) - sent_t |   (J,) rad
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import ActionError, SpecError
from sealegs_contract.guard import Guard, JointLimits
from sealegs_contract.observation import Observation
from sealegs_contract.robot import RobotProfile
from sealegs_contract.sample import CommandSample, Sample
from sealegs_deploy.pilot import Pilot, Proposal
from sealegs_deploy.timing import NS_PER_MS, WINDOW, Durations, flat

FloatArray = NDArray[np.float64]
PERCENTILES = {"p50": 50.0, "p99": 99.0}


@dataclass(frozen=True, slots=True)
class Received:
    """A sample, the robot time at which it came, and that moment on the host's clock."""

    sample: Sample
    now_ns: int
    received_ns: int


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick of the controller: what had come before it and, where a policy's command was sent, that command.

    `history` (4, J): the guard's (see Guard.save), from before the command. `may_restart`: see Streams.push. `begins`:
    the policy in charge began anew since the last tick.
    """

    now_ns: int
    received: Sequence[Received]
    may_restart: bool = False
    begins: bool = False
    sent: CommandSample | None = None
    history: FloatArray | None = None


class Score:
    """What the candidate did over some ticks. Percentiles are over the newest `window` of them."""

    def __init__(self, joints: tuple[str, ...], budget_ns: int, window: int = WINDOW) -> None:
        self._joints, self._budget_ns = joints, budget_ns
        self._ring = np.zeros((window, len(joints)))
        self._largest = np.zeros(len(joints))
        self.inference = Durations(window)
        self.ticks = self.compared = self.misses = self.skipped = self.errors = self.alarms = 0
        self.last_error = self.last_alarm = ""

    def differed(self, divergence: FloatArray) -> None:
        """Record |candidate - sent| (J,) rad of one tick."""
        self._ring[self.compared % len(self._ring)] = divergence
        self.compared += 1
        self._largest = np.maximum(self._largest, divergence)

    def inferred(self, elapsed_ns: int) -> None:
        """Record the policy's time; none within a chunk."""
        if elapsed_ns:
            self.inference.add(elapsed_ns)
            self.misses += int(elapsed_ns > self._budget_ns)

    def failed(self, reason: str) -> None:
        """The candidate would have held: an error."""
        self.errors += 1
        self.last_error = reason

    def alarmed(self, reason: str) -> None:
        """The candidate would have held: outside the support of its training data."""
        self.alarms += 1
        self.last_alarm = reason

    def summary(self) -> dict[str, Any]:
        """Plain data: divergence in rad by joint, and of the joint that differs most; times in ms; counts."""
        newest = self._newest(self.compared)
        columns = {joint: _figures(newest[:, i], self._largest[i]) for i, joint in enumerate(self._joints)}
        return self._counts() | {
            "divergence_rad": _figures(newest.max(axis=1), self._largest.max()),
            "joints_rad": columns,
            "inference": self.inference.summary(),
            "last_error": self.last_error,
            "last_alarm": self.last_alarm,
        }

    def brief(self, recent: int) -> dict[str, Any]:
        """Counts, and divergence and latency over the newest `recent` ticks, without nesting."""
        divergence = _figures(self._newest(recent).max(axis=1), self._largest.max())
        return self._counts() | flat({"divergence_rad": divergence, "inference": self.inference.summary(recent)})

    def _counts(self) -> dict[str, int]:
        names = ("ticks", "compared", "misses", "skipped", "errors", "alarms")
        return {name: getattr(self, name) for name in names}

    def _newest(self, count: int) -> FloatArray:
        kept = min(self.compared, len(self._ring), count)
        return self._ring[np.arange(self.compared - kept, self.compared) % len(self._ring)]


def _figures(values: FloatArray, largest: float) -> dict[str, float]:
    quantiles = np.percentile(values, list(PERCENTILES.values())) if len(values) else np.zeros(len(PERCENTILES))
    return dict(zip(PERCENTILES, map(float, quantiles), strict=True)) | {"max": float(largest)}


class Shadow:
    """Feeds one candidate and scores it by episodes. It infers only if `proposes`; it is fed and remembers either way,
    so that it can take over warm. Call everything from one thread.
    """

    def __init__(self, pilot: Pilot, robot: RobotProfile, proposes: bool = True, window: int = WINDOW) -> None:
        self.pilot, self.proposes = pilot, proposes
        self.episodes = 0
        self._joints, self._window = robot.joint_names, window
        self._budget_ns = round(pilot.manifest.timing.inference_budget_ms * NS_PER_MS)
        self._guard = Guard(JointLimits.from_profile(robot), robot.control_period_ns / 1e9, relative=pilot.relative)
        self.total, self.episode = self._score(), self._score()

    def _score(self) -> Score:
        return Score(self._joints, self._budget_ns, self._window)

    def step(self, tick: Tick) -> CommandSample | None:
        """Follow one tick; what the candidate would have sent, or None where it has nothing to compare or would hold.

        A tick without a command only brings samples.
        """
        if not self.proposes:
            self.watch(tick)
            return None
        observation, problem = self._observe(tick)
        if tick.sent is None or tick.history is None:
            return None
        proposal = self._proposal(observation, problem, tick.history[0])
        for score in self._scores:
            score.ticks += 1
            if isinstance(proposal, str):
                score.failed(proposal)
            elif proposal.alarm:
                score.alarmed(proposal.alarm)
        if isinstance(proposal, str) or proposal.alarm:
            return None
        return self._compare(proposal.target, tick.history, tick.sent)

    def watch(self, tick: Tick) -> None:
        """Follow one tick without inferring: see it, and remember it where a command was sent."""
        observation, _ = self._observe(tick)
        if observation is not None and tick.sent is not None:
            self.pilot.remember(observation)

    def _observe(self, tick: Tick) -> tuple[Observation | None, str]:
        if tick.begins:
            self.pilot.forget()
        for one in tick.received:
            self.pilot.push(one.sample, one.now_ns, one.received_ns, tick.may_restart)
        return self.pilot.streams.observe(tick.now_ns)

    def _proposal(self, observation: Observation | None, problem: str, commanded: FloatArray) -> Proposal | str:
        """The candidate's, or why it would have held."""
        if observation is None or problem:
            return problem
        try:
            proposal = self.pilot.propose(observation, self.pilot.streams.joint_stamp_ns, commanded)
        except (ActionError, SpecError) as error:
            return f"policy: {error}"
        for score in self._scores:
            score.inferred(proposal.elapsed_ns)
        late = proposal.elapsed_ns > self.pilot.horizon_ns
        return f"overrun: inference took {proposal.elapsed_ns / NS_PER_MS:.1f} ms" if late else proposal

    def skip(self, ticks: int) -> None:
        """So many commands went out that the candidate did not see in time."""
        for score in self._scores:
            score.skipped += ticks

    def end_episode(self) -> dict[str, Any] | None:
        """Close the episode: its score, and that of all episodes; None where the candidate saw nothing of it."""
        if not self.episode.ticks + self.episode.skipped:
            return None
        self.episodes += 1
        manifest = self.pilot.manifest
        named = {"candidate": manifest.name, "version": manifest.version, "episodes": self.episodes}
        report = named | {"episode": self.episode.summary(), "total": self.total.summary()}
        self.episode = self._score()
        return report

    @property
    def _scores(self) -> tuple[Score, Score]:
        return self.episode, self.total

    def _compare(self, target: FloatArray, history: FloatArray, sent: CommandSample) -> CommandSample:
        self._guard.restore(history)
        position = self._guard(target).position
        divergence = np.abs(position - sent.position[0])
        for score in self._scores:
            score.differed(divergence)
        return CommandSample(sent.stamp_ns, sent.names, position[None], (self.pilot.horizon_ns,))
