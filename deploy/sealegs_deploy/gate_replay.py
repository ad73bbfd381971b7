"""Replay: a policy in the real controller, over what a robot recorded. Nothing moves; every figure is of what was said.

Each episode is armed once its streams are there and ticked as the policy node ticks, with stamps as robot time. The
host's clock is the recorded time plus what inference really takes here, so that an overrun is one in the replay too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import ControllerError
from sealegs_contract.observation import Observation
from sealegs_contract.robot import RobotProfile
from sealegs_contract.sample import CommandSample, JointSample, Sample, reorder
from sealegs_contract.temporal import ChunkPlayer
from sealegs_deploy.controller import Controller
from sealegs_deploy.manifest import Manifest
from sealegs_deploy.pilot import Pilot, Proposal
from sealegs_deploy.player import Policy
from sealegs_deploy.states import ControllerConfig, State
from sealegs_deploy.timing import NS_PER_MS, LoopTiming

if TYPE_CHECKING:
    from sealegs_deploy.support import Support

FloatArray = NDArray[np.float64]
Images = Mapping[str, NDArray[np.uint8]]
SILENCE_PERIODS = 500
ASKED_AGAIN = 2
PROBES_OF_AN_EPISODE = 64
"""Inputs of an episode that are kept for probing, at most, evenly spread."""


@dataclass(frozen=True)
class GateEpisode:
    """A recorded episode: its samples in the order of the bag, and whether it succeeded, where anyone said so."""

    name: str
    samples: Sequence[Sample]
    succeeded: bool | None = None


@dataclass(frozen=True)
class Replayed:
    """What the controller did in one episode, T periods of J joints; all (T, J) in rad, `elapsed_ns` (T,).

    output: the policy's own. target: where it wanted to go. command: what the guard made of it. recorded: what the
    recorded behaviour would have put out to command what it commanded; NaN where nothing was commanded.
    observed (T, D): the newest frame. inputs, images: some of what the policy was asked, with its whole history; asked:
    in which periods.
    """

    name: str
    succeeded: bool | None
    output: FloatArray
    target: FloatArray
    command: FloatArray
    recorded: FloatArray
    observed: NDArray[np.float32]
    elapsed_ns: NDArray[np.int64]
    policy_holds: tuple[str, ...] = ()
    stream_holds: tuple[str, ...] = ()
    support_alarms: int = 0
    refused_samples: int = 0
    inputs: tuple[NDArray[np.float32], ...] = ()
    images: tuple[Images, ...] = ()
    asked: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def armed(self) -> bool:
        """Whether the policy ever acted."""
        return bool(len(self.output))


class HostClock:
    """The host's steady clock in a replay: recorded time, and real time while the policy thinks."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        """Now, ns."""
        return self.ns

    def reach(self, stamp_ns: int) -> None:
        """The recording has come to `stamp_ns`; a steady clock never goes back."""
        self.ns = max(self.ns, stamp_ns)


class _Watched:
    """A policy whose inputs, outputs and real durations are seen.

    An answer that misses the budget is asked for again, and the quickest counts: a slow policy is slow every time, a
    machine that is busy with other things is not.
    """

    def __init__(self, policy: Policy, clock: HostClock, budget_ns: float) -> None:
        self._policy, self._clock, self._budget_ns = policy, clock, budget_ns
        self.asked = False
        self.output: FloatArray = np.empty(0)
        self.input: NDArray[np.float32] = np.empty(0, np.float32)
        self.images: Images = {}

    def infer(self, observation: NDArray[np.float32], images: Images) -> FloatArray:
        self.output, elapsed = self._timed(observation, images)
        for _ in range(ASKED_AGAIN):
            if elapsed > self._budget_ns:
                elapsed = min(elapsed, self._timed(observation, images)[1])
        self._clock.ns += elapsed
        self.asked, self.input, self.images = True, observation.copy(), images
        return self.output

    def _timed(self, observation: NDArray[np.float32], images: Images) -> tuple[FloatArray, int]:
        began = time.perf_counter_ns()
        output = self._policy.infer(observation, images)
        return output, time.perf_counter_ns() - began


@dataclass
class _Seen:
    stamp_ns: list[int] = field(default_factory=list)
    output: list[FloatArray] = field(default_factory=list)
    target: list[FloatArray] = field(default_factory=list)
    command: list[FloatArray] = field(default_factory=list)
    observed: list[NDArray[np.float32]] = field(default_factory=list)
    elapsed_ns: list[int] = field(default_factory=list)
    inputs: list[tuple[NDArray[np.float32], Images]] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)


class _WatchedPilot(Pilot):
    """A pilot that keeps what it proposed, period by period."""

    def __init__(
        self,
        manifest: Manifest,
        policy: Policy,
        robot: RobotProfile,
        config: ControllerConfig,
        timing: LoopTiming,
        clock: HostClock,
        support: Support | None,
    ) -> None:
        self.watched = _Watched(policy, clock, manifest.timing.inference_budget_ms * NS_PER_MS)
        super().__init__(manifest, self.watched, robot, config, timing, clock, support)
        self.seen = _Seen()
        self._chunk = ChunkPlayer(manifest.temporal, robot.control_period_ns)

    def propose(self, observation: Observation, stamp_ns: int, commanded: FloatArray) -> Proposal:
        self.watched.asked = False
        proposal = super().propose(observation, stamp_ns, commanded)
        if self.watched.asked:
            output = self.watched.output
            self._chunk.begin(stamp_ns, output if output.ndim > 1 else output[None])
            self.seen.inputs.append((self.watched.input, self.watched.images))
            self.seen.asked.append(len(self.seen.output))
        self.seen.stamp_ns.append(stamp_ns)
        self.seen.output.append(self._chunk.action(stamp_ns))
        self.seen.target.append(proposal.target)
        self.seen.observed.append(observation.vector.copy())
        self.seen.elapsed_ns.append(proposal.elapsed_ns)
        return proposal


def replay(
    manifest: Manifest, policy: Policy, robot: RobotProfile, episode: GateEpisode, support: Support | None = None
) -> Replayed:
    """One episode through the controller. Raises BundleError where the manifest does not fit `robot`.

    Whatever stops the controller is noted, and it is resumed as soon as that is allowed: the gate wants all figures.
    """
    clock, timing, config = HostClock(), LoopTiming(), ControllerConfig(arm_anywhere=True)  # a bag may begin anywhere
    pilot = _WatchedPilot(manifest, policy, robot, config, timing, clock, support)
    controller = Controller(robot, config, host_ns=clock)
    controller.configure_pilot(pilot)
    now = 0
    waiting = False
    for sample in episode.samples:
        if isinstance(sample, CommandSample):
            continue
        if waiting and isinstance(sample, JointSample):  # as the watchdog's tick does: something did not come
            _tick(controller, pilot, now)
            waiting = False
        for silent in _silence(now, sample.stamp_ns, robot.control_period_ns):
            clock.reach(silent)
            _tick(controller, pilot, silent)
        now = max(now, sample.stamp_ns)
        clock.reach(now)
        taken = controller.push(sample, now)
        if taken and (waiting or isinstance(sample, JointSample)):
            waiting = bool(controller.waiting_for())
            if not waiting:
                _tick(controller, pilot, now)
    return _result(controller, pilot, episode, robot)


def _silence(now_ns: int, until_ns: int, period_ns: int) -> range:
    """The watchdog's ticks while nothing came, one a period; after `SILENCE_PERIODS` it is clear what they find."""
    if not now_ns:
        return range(0)
    return range(now_ns + 2 * period_ns, min(until_ns, now_ns + SILENCE_PERIODS * period_ns), period_ns)


def _tick(controller: Controller, pilot: _WatchedPilot, now_ns: int) -> None:
    """One tick, after whatever an attentive operator would do: arm, resume, reset."""
    try:
        match controller.state:
            case State.DISARMED:
                controller.arm(now_ns)
            case State.HOLD:
                controller.resume(now_ns)
            case State.FAULT:
                controller.reset_fault(now_ns)
    except ControllerError:
        pass  # not yet: the streams must be there, or fresh for a while
    seen = pilot.seen
    proposed = len(seen.output)
    command = controller.tick(now_ns)
    if len(seen.output) == proposed:
        return
    if command is None:  # proposed, then not sent: overrun or alarm
        for values in (seen.stamp_ns, seen.output, seen.target, seen.observed, seen.elapsed_ns):
            values.pop()  # type: ignore[attr-defined]
        if seen.asked[-1:] == [proposed]:
            seen.asked.pop()
            seen.inputs.pop()
        return
    seen.command.append(command.position[0])
    controller.sent()


def _result(controller: Controller, pilot: _WatchedPilot, episode: GateEpisode, robot: RobotProfile) -> Replayed:
    reasons = [t.reason for t in controller.transitions if t.after in {State.HOLD, State.FAULT}]
    blamed = [reason for reason in reasons if reason.startswith(("policy:", "overrun:", "support:"))]
    seen, joints = pilot.seen, len(robot.joints)
    kept = np.unique(np.linspace(0, len(seen.inputs) - 1, min(len(seen.inputs), PROBES_OF_AN_EPISODE)).astype(int))
    return Replayed(
        name=episode.name,
        succeeded=episode.succeeded,
        output=_rows(seen.output, joints),
        target=_rows(seen.target, joints),
        command=_rows(seen.command, joints),
        recorded=recorded_outputs(pilot.manifest, robot, episode.samples, seen.stamp_ns),
        observed=np.array(seen.observed, dtype=np.float32).reshape(len(seen.observed), pilot.manifest.observation.size),
        elapsed_ns=np.array(seen.elapsed_ns, dtype=np.int64),
        policy_holds=tuple(blamed),
        stream_holds=tuple(reason for reason in reasons if reason not in blamed),
        support_alarms=sum(reason.startswith("support:") for reason in blamed),
        refused_samples=controller.rejected_samples,
        inputs=tuple(seen.inputs[k][0] for k in kept),
        images=tuple(seen.inputs[k][1] for k in kept),
        asked=np.array([seen.asked[k] for k in kept], dtype=np.int64),
    )


def _rows(values: Sequence[FloatArray], joints: int) -> FloatArray:
    return np.array(values, dtype=np.float64).reshape(len(values), joints)


def recorded_outputs(
    manifest: Manifest, robot: RobotProfile, samples: Sequence[Sample], stamps_ns: Sequence[int]
) -> FloatArray:
    """What the recorded commands mean as outputs (T, J) at the periods that begin at `stamps_ns`.

    The command of a period is the newest with a stamp within it, else the last one goes on. A delta is the step from
    one period's command to the next, so the first period has none.
    """
    commands = sorted((s for s in samples if isinstance(s, CommandSample)), key=lambda c: c.stamp_ns)
    result = np.full((len(stamps_ns), len(robot.joints)), np.nan)
    if not commands or not stamps_ns:
        return result
    at = np.array([command.stamp_ns for command in commands])
    stamps, period = np.asarray(stamps_ns, dtype=np.int64), robot.control_period_ns
    ends = np.minimum(np.append(stamps[1:], stamps[-1] + period), stamps + 3 * period // 2)
    newest = np.searchsorted(at, ends, side="left") - 1
    targets = np.stack([reorder(c.names, c.position[0], robot.joint_names) for c in commands])
    known = newest >= 0
    result[known] = targets[newest[known]]
    if manifest.action.kind == "joint_delta":
        result[1:] = np.diff(result, axis=0)
        result[0] = np.nan
        # A command that came late leaves a gap: the step over it is of several periods.
        result[1:][np.diff(stamps) > 1.5 * period] = np.nan
    return result
