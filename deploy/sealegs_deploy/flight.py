"""Flight: the policy in charge, the one that it may have replaced, and the one history of commands that both go on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import ActionError, SpecError
from sealegs_contract.limits import LimitWatch
from sealegs_contract.observation import Observation
from sealegs_contract.robot import RobotProfile
from sealegs_contract.sample import CommandSample, Sample
from sealegs_deploy.commander import Commander
from sealegs_deploy.pilot import Pilot
from sealegs_deploy.timing import NS_PER_MS, LoopTiming

FloatArray = NDArray[np.float64]


class Flight:
    """Who is in charge, period by period. `note(text, now_ns)` is told of every change.

    On probation, `replaced` keeps watching: it takes over again, in the same tick, where `pilot` cannot go on.
    """

    def __init__(self, pilot: Pilot, robot: RobotProfile, timing: LoopTiming, note: Callable[[str, int], None]) -> None:
        self.pilot = pilot
        self.replaced: Pilot | None = None
        self._ticks_left = 0
        self._timing, self._note = timing, note
        self._commander, self._limits = Commander(robot), LimitWatch(robot)
        self._commander.take_actions(pilot.relative)
        self.latency_from_ns: int | None = None
        """Arrival, on the host's clock, of the joint sample behind the newest command of a policy."""

    @property
    def history(self) -> FloatArray:
        """Of the commands; see Guard.save."""
        return self._commander.history

    def push(self, sample: Sample, now_ns: int | None, received_ns: int | None, may_restart: bool) -> bool:
        """Take a sample; whether the pilot in charge took it."""
        if self.replaced is not None:
            self.replaced.push(sample, now_ns, received_ns, may_restart)
        return self.pilot.push(sample, now_ns, received_ns, may_restart)

    def begin(self) -> None:
        """Commands go on from the measured pose, with the next observation."""
        self.forget()
        self._limits.restart()
        self.limit_passed()  # the start pose, wherever it is, is allowed
        self._commander.begin(self.pilot.measured(), self.pilot.streams.joint_stamp_ns)

    def stand(self) -> None:
        """The robot has not followed: commands go on from where it is, not from where they led."""
        self._commander.begin(self.pilot.measured(), self.pilot.streams.joint_stamp_ns)

    def resume(self) -> None:
        """After a hold: what was seen before it is forgotten, the commands go on."""
        self.pilot.forget()
        self._commander.forget_observation()

    def forget(self) -> None:
        """No command was given yet, nothing is remembered."""
        self.pilot.forget()
        self._commander.forget()
        self.latency_from_ns = None

    def swap(self, pilot: Pilot, probation_ticks: int, now_ns: int) -> None:
        """`pilot` takes over, on probation for so many commands."""
        self.replaced = self.pilot if probation_ticks > 0 else None
        self._ticks_left = probation_ticks
        pilot.timing = self._timing
        self._take_over(pilot, f"swapped to {pilot.name}", now_ns)

    def roll_back(self, problem: str, now_ns: int) -> None:
        """The replaced pilot is in charge again, where there is one."""
        if self.replaced is not None:
            failed, former, self.replaced = self.pilot, self.replaced, None
            self._take_over(former, f"rolled back from {failed.name} to {former.name}: {problem}", now_ns)

    def limit_passed(self) -> str:
        """Which joint was measured past its position limit since `begin`, and where; empty while all is well."""
        return self._limits.check(self.pilot.measured())

    def act(self, observation: Observation, problem: str, now_ns: int) -> CommandSample | str | None:
        """The command for a new observation, None where it is none; or why one must hold instead."""
        stamp_ns = self.pilot.streams.joint_stamp_ns
        gap_ns = self._commander.gap_ns(stamp_ns)
        if gap_ns > self.pilot.timeout_ns:
            problem = problem or f"the stamps of joint_states jumped by {gap_ns / NS_PER_MS:.0f} ms"
        if problem or not self._commander.due(stamp_ns, now_ns):
            return problem or None
        target = self._target(observation, stamp_ns)
        if isinstance(target, str):
            return self._give_way(target, now_ns)
        self._timing.observation_age.add(max(observation.oldest_ns, 0))
        self.latency_from_ns = self.pilot.streams.received_ns
        command = self._commander.follow(target, stamp_ns, now_ns, self.pilot.horizon_ns)
        self._serve_probation(now_ns)
        return command

    def hold(self, fresh: bool, now_ns: int) -> CommandSample | None:
        """Decelerate, then keep the measured pose, known where the streams are `fresh`: one command a period."""
        return self._commander.hold(self.pilot.measured() if fresh else None, now_ns, self.pilot.horizon_ns)

    def _target(self, observation: Observation, stamp_ns: int) -> FloatArray | str:
        """The pilot's target (J,) rad, or why it cannot be followed."""
        try:
            proposal = self.pilot.propose(observation, stamp_ns, self._commander.position)
        except (ActionError, SpecError) as error:
            return f"policy: {error}"
        if proposal.elapsed_ns > self.pilot.horizon_ns:
            return f"overrun: inference took {proposal.elapsed_ns / NS_PER_MS:.1f} ms"
        return proposal.alarm or proposal.target

    def _give_way(self, problem: str, now_ns: int) -> CommandSample | str | None:
        """The pilot cannot go on: the one it replaced acts in the same tick, or there is none."""
        if self.replaced is None:
            return problem
        self.roll_back(problem, now_ns)
        observation, stale = self.pilot.streams.observe(now_ns)
        return stale if observation is None else self.act(observation, stale, now_ns)

    def _serve_probation(self, now_ns: int) -> None:
        if self.replaced is None:
            return
        observation, _ = self.replaced.streams.observe(now_ns)
        if observation is not None:
            self.replaced.remember(observation)
        self._ticks_left -= 1
        if self._ticks_left <= 0:
            self.replaced = None
            self._note(f"kept {self.pilot.name} after its probation", now_ns)

    def _take_over(self, pilot: Pilot, text: str, now_ns: int) -> None:
        self.pilot = pilot
        self._commander.take_actions(pilot.relative)
        self._note(text, now_ns)
