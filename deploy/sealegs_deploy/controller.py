"""Controller: the pure state machine between a robot's streams and its commands. It never reads a clock of its own.

    UNCONFIGURED --configure--> DISARMED --arm--> ACTIVE --stale, not finite, overrun--> HOLD --resume--> ACTIVE
    ACTIVE --not followed by the robot--> HOLD
    HOLD --timeout, communication lost--> FAULT;  any --e-stop, fault, limit--> FAULT --reset_fault--> DISARMED

Only an operator's call leads to ACTIVE. HOLD decelerates and keeps commanding the pose measured where the robot came to
rest; in every other state but ACTIVE there are no commands, and the robot node's own watchdog holds. `swap` puts
another policy in charge between two ticks, on probation: what would make it HOLD gives the controls back.

Two clocks: `now_ns` is robot time, which stamps follow and which may jump or stop; `host_ns` is the steady clock of
this host, injected, on which all waiting is measured.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from sealegs_contract.errors import ControllerError
from sealegs_contract.robot import RobotProfile
from sealegs_contract.sample import CommandSample, FloatArray, Sample
from sealegs_deploy.bundle import VerifiedBundle
from sealegs_deploy.flight import Flight
from sealegs_deploy.followed import Followed
from sealegs_deploy.manifest import Manifest
from sealegs_deploy.pilot import Pilot, pilot_of
from sealegs_deploy.player import Policy
from sealegs_deploy.providers import ProviderChoice
from sealegs_deploy.states import ControllerConfig, State, Transition
from sealegs_deploy.timing import NS_PER_MS, LoopTiming

KEPT_TRANSITIONS = 256


class Controller:
    """One robot, one policy. Call everything from one thread."""

    def __init__(
        self,
        robot: RobotProfile,
        config: ControllerConfig | None = None,
        on_transition: Callable[[Transition], None] | None = None,
        host_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.robot = robot
        self.config = config or ControllerConfig()
        self.transitions: deque[Transition] = deque(maxlen=KEPT_TRANSITIONS)
        self.loop_timing = LoopTiming(robot.control_period_ns)
        self.reason = "no policy yet"
        self.emergency_stop = False
        self.state = State.UNCONFIGURED
        self._flight: Flight | None = None
        self._hold_since = 0
        self.on_transition = on_transition
        self._host_ns = host_ns
        self._period_ns = robot.control_period_ns
        self.followed = Followed(self.config.unfollowed_timeout_ms, host_ns)

    # Configuration

    def configure(
        self, bundle: VerifiedBundle, provider: str = "cpu", now_ns: int = 0, strict_provider: bool = False
    ) -> ProviderChoice:
        """UNCONFIGURED -> DISARMED with a bundle made for this robot; which execution provider runs it, and why.

        Raises BundleError when it does not fit, and under `strict_provider` when `provider` does not start.
        """
        self._expect(State.UNCONFIGURED, "configure")
        pilot, choice = pilot_of(
            bundle, self.robot, self.config, self.loop_timing, self._host_ns, provider, strict_provider
        )
        self.configure_pilot(pilot, now_ns)
        return choice

    def configure_policy(self, manifest: Manifest, policy: Policy, now_ns: int = 0) -> None:
        """As `configure`, with any policy that keeps to the manifest."""
        self._expect(State.UNCONFIGURED, "configure")
        pilot = Pilot(manifest, policy, self.robot, self.config, self.loop_timing, self._host_ns)
        self.configure_pilot(pilot, now_ns)

    def configure_pilot(self, pilot: Pilot, now_ns: int = 0) -> None:
        """As `configure`, with a pilot that was made for this robot."""
        self._expect(State.UNCONFIGURED, "configure")
        self._flight = Flight(pilot, self.robot, self.loop_timing, self._note)
        self._go(State.DISARMED, f"policy {pilot.name}", now_ns)
        if self.emergency_stop:
            self._go(State.FAULT, "emergency stop is pressed", now_ns)

    def unconfigure(self, now_ns: int) -> None:
        """Any state -> UNCONFIGURED: drop the policy. The robot node's watchdog takes over."""
        if self.state is not State.UNCONFIGURED:
            self._flight = None
            self._go(State.UNCONFIGURED, "policy removed", now_ns)

    def swap(self, pilot: Pilot, now_ns: int, probation_ms: float) -> None:
        """Put `pilot` in charge, between two ticks. The guard and the history of commands stay.

        For the first `probation_ms` of commands, what would have it HOLD or FAULT puts the former pilot in charge
        again: at once, and still ACTIVE, where the pilot itself is the cause.
        Raises ControllerError in UNCONFIGURED and FAULT, on an earlier swap's probation, and, unless DISARMED, without
        fresh streams and far from the training data of `pilot`.
        """
        flight = self._configured()
        if self.state is State.FAULT:
            raise ControllerError(f"cannot swap: the controller is {self.state} ({self.reason})")
        if flight.replaced is not None:
            raise ControllerError(f"cannot swap: {flight.pilot.name} is still on probation")
        _, problem = pilot.streams.observe(now_ns)
        if (problem := problem or pilot.far()) and self.state is not State.DISARMED:
            raise ControllerError(f"cannot swap to {pilot.name}: {problem}")
        flight.swap(pilot, round(probation_ms * NS_PER_MS / self._period_ns), now_ns)

    # The operator

    def arm(self, now_ns: int) -> None:
        """DISARMED -> ACTIVE from the measured pose.

        Raises ControllerError while a stream is missing or stale, and far from the policy's training data.
        """
        self._expect(State.DISARMED, "arm")
        flight = self._configured()
        _, problem = flight.pilot.streams.observe(now_ns)
        if problem := problem or flight.pilot.far():
            raise ControllerError(f"cannot arm: {problem}")
        flight.begin()
        self.followed.begin()
        self._go(State.ACTIVE, "armed by the operator", now_ns)

    def disarm(self, now_ns: int) -> None:
        """ACTIVE or HOLD -> DISARMED. No change when disarmed already; a FAULT must be reset instead."""
        if self.state is State.DISARMED:
            return
        if self.state not in {State.ACTIVE, State.HOLD}:
            raise ControllerError(f"cannot disarm: the controller is {self.state} ({self.reason})")
        self._disarm("disarmed by the operator", now_ns)

    def resume(self, now_ns: int) -> None:
        """HOLD -> ACTIVE, once all streams have been fresh for `resume_fresh_ms`. Raises ControllerError before."""
        self._expect(State.HOLD, "resume")
        flight = self._configured()
        if problem := flight.pilot.streams.unsteady(now_ns, self.config.resume_fresh_ms):
            raise ControllerError(f"cannot resume: {problem}")
        flight.resume()
        self.followed.begin()
        self._go(State.ACTIVE, "resumed by the operator", now_ns)

    def reset_fault(self, now_ns: int) -> None:
        """FAULT -> DISARMED, unless the emergency stop is still pressed."""
        self._expect(State.FAULT, "reset the fault")
        if self.emergency_stop:
            raise ControllerError("cannot reset the fault: the emergency stop is still pressed; release it first")
        self._disarm("fault reset by the operator", now_ns)

    def e_stop(self, pressed: bool, now_ns: int) -> None:
        """Pressed: any configured state -> FAULT. Released: nothing moves, the fault must still be reset."""
        self.emergency_stop = pressed
        if pressed:
            self.fault("emergency stop", now_ns)

    def fault(self, reason: str, now_ns: int) -> None:
        """Any configured state -> FAULT: a second commander, lost communication, a limit passed."""
        if self.state not in {State.UNCONFIGURED, State.FAULT}:
            self._go(State.FAULT, reason, now_ns)

    # The streams

    def push(self, sample: Sample, now_ns: int | None = None, received_ns: int | None = None) -> bool:
        """Take a sample; True if it is now the newest of a stream that the policy needs.

        `now_ns`: robot time, against which stamps from the future are refused. `received_ns`: arrival on the host's
        clock, if not now. A sample that is not finite or lacks a joint is counted, and never used.
        """
        if self._flight is None:
            return False
        return self._flight.push(sample, now_ns, received_ns, may_restart=self.state is State.DISARMED)

    def waiting_for(self) -> tuple[str, ...]:
        """Streams whose sample of the newest moment is still to come; see Streams.waiting_for."""
        return () if self._flight is None else self._flight.pilot.streams.waiting_for()

    def tick(self, now_ns: int) -> CommandSample | None:
        """The command for now, or None: nothing new to act on, or a state that sends none.

        Call it when a joint sample has arrived and, as a watchdog, at least once a period. Call `sent` after sending.
        """
        if self._flight is None or self.state not in {State.ACTIVE, State.HOLD}:
            return None
        began_ns = self._host_ns()
        observation, problem = self._flight.pilot.streams.observe(now_ns)
        if observation is not None and (passed := self._flight.limit_passed()):
            self.fault(passed, now_ns)
            return None
        fresh = not problem
        if self.state is State.ACTIVE:
            if observation is not None and (unfollowed := self.followed.problem()):
                self._flight.stand()
                problem = problem or unfollowed
            command = problem if observation is None else self._flight.act(observation, problem, now_ns)
            if not isinstance(command, str):
                return command
            self._go(State.HOLD, command, now_ns)
        # A policy that took long leaves less of the horizon that its robot's clock began at `now_ns`.
        return self._hold(self._flight, fresh, now_ns + self._host_ns() - began_ns)

    def sent(self) -> None:
        """The last command is on its way: completes the command latency."""
        flight = self._flight
        if flight is not None and flight.latency_from_ns is not None:
            now_ns = self._host_ns()
            self.loop_timing.sent(now_ns, now_ns - flight.latency_from_ns)
            flight.latency_from_ns = None

    @property
    def rejected_samples(self) -> int:
        """Samples that were not finite, lacked a joint, or came from the future."""
        return 0 if self._flight is None else self._flight.pilot.streams.rejected

    @property
    def last_rejection(self) -> str:
        """Why the last of them was refused."""
        return "" if self._flight is None else self._flight.pilot.streams.last_rejection

    @property
    def manifest(self) -> Manifest | None:
        """Of the policy in charge."""
        return None if self._flight is None else self._flight.pilot.manifest

    @property
    def on_probation(self) -> bool:
        """Whether a policy that was swapped in may still have to give way."""
        return self._flight is not None and self._flight.replaced is not None

    @property
    def history(self) -> FloatArray | None:
        """Of the commands, as Guard.save gives it, while there are any: ACTIVE or HOLD."""
        moving = self.state in {State.ACTIVE, State.HOLD}
        return self._flight.history if self._flight is not None and moving else None

    def status(self) -> dict[str, Any]:
        """State, why, policy, and whether the emergency stop is pressed; plain data."""
        manifest = self.manifest
        return {
            "state": str(self.state),
            "reason": self.reason,
            "policy": manifest.name if manifest else "",
            "version": manifest.version if manifest else 0,
            "probation": self.on_probation,
            "emergency_stop": self.emergency_stop,
        }

    def timing(self, recent: int | None = None) -> dict[str, Any]:
        """Age, inference, latency and jitter (count, p50, p99, max in ms; see LoopTiming), misses, rejected samples;
        what best-of-N chose, where it does.
        """
        chosen = {} if self._flight is None else self._flight.pilot.counts()
        return self.loop_timing.summary(recent) | {"rejected_samples": self.rejected_samples} | chosen

    # Inside

    def _hold(self, flight: Flight, fresh: bool, now_ns: int) -> CommandSample | None:
        """Hold; FAULT after the profile's timeout, and on silence: whoever answers later may stand elsewhere."""
        held_s = (self._host_ns() - self._hold_since) / 1e9
        silent_ms = flight.pilot.streams.silent_ms
        if held_s > self.robot.hold.timeout_s:
            self._go(State.FAULT, f"held for {held_s:.1f} s without being resumed", now_ns)
        elif silent_ms > self.config.communication_timeout_ms:
            self._go(State.FAULT, f"communication lost: no newer joint_states for {silent_ms:.0f} ms", now_ns)
        return flight.hold(fresh, now_ns) if self.state is State.HOLD else None

    def _disarm(self, reason: str, now_ns: int) -> None:
        self._configured().forget()
        self._go(State.DISARMED, reason, now_ns)

    def _expect(self, state: State, what: str) -> None:
        if self.state is not state:
            raise ControllerError(f"cannot {what}: the controller is {self.state} ({self.reason}), it must be {state}")

    def _configured(self) -> Flight:
        if self._flight is None:
            raise ControllerError("the controller has no policy yet: configure it first")
        return self._flight

    def _go(self, after: State, reason: str, now_ns: int) -> None:
        """Every change of state passes here."""
        if after in {State.HOLD, State.FAULT} and self._flight is not None:
            self._flight.roll_back(reason, now_ns)
        if after is State.HOLD:
            self._hold_since = self._host_ns()
        self._record(Transition(now_ns, self.state, after, reason))

    def _note(self, text: str, now_ns: int) -> None:
        """Another policy is in charge; the state stays."""
        self._record(Transition(now_ns, self.state, self.state, text))

    def _record(self, transition: Transition) -> None:
        if transition.after is not transition.before:
            self.loop_timing.paused()
        self.state, self.reason = transition.after, transition.reason
        self.transitions.append(transition)
        if self.on_transition is not None:
            self.on_transition(transition)
