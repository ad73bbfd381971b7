"""Controller: the pure state machine between a robot's streams and its commands. It never reads a clock of its own.

    UNCONFIGURED --configure--> DISARMED --arm--> ACTIVE --stale, not finite, overrun--> HOLD --resume--> ACTIVE
    HOLD --timeout--> FAULT;  any --e-stop, fault--> FAULT --reset_fault--> DISARMED

Only an operator's call leads to ACTIVE. HOLD decelerates and keeps commanding the pose where it came to rest; in
every other state but ACTIVE there are no commands, and the robot node's own watchdog holds.

Two clocks: `now_ns` is robot time, which stamps follow and which may jump or stop; `host_ns` is the steady clock of
this host, injected, on which all waiting is measured.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.action import ActionDecoder
from sealegs_contract.errors import ActionError, ControllerError, SpecError
from sealegs_contract.guard import Guard, JointLimits
from sealegs_contract.observation import Observation
from sealegs_contract.robot import RobotProfile
from sealegs_contract.sample import CommandSample, Sample
from sealegs_deploy.bundle import VerifiedBundle
from sealegs_deploy.manifest import Manifest, check_fits
from sealegs_deploy.player import Policy, PolicyPlayer
from sealegs_deploy.providers import ProviderChoice
from sealegs_deploy.runtime import PolicyRuntime
from sealegs_deploy.states import ControllerConfig, State, Transition
from sealegs_deploy.streams import Streams
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
        self.loop_timing = LoopTiming()
        self.reason = "no policy yet"
        self.manifest: Manifest | None = None
        self.emergency_stop = False
        self.state = State.UNCONFIGURED
        self._streams: Streams | None = None
        self._used_stamp: int | None = None
        self._latency_from: int | None = None
        self._command_stamp = -1
        self._hold_since = 0
        self.on_transition = on_transition
        self._host_ns = host_ns
        self._period_ns = robot.control_period_ns

    # Configuration

    def configure(
        self, bundle: VerifiedBundle, provider: str = "cpu", now_ns: int = 0, strict_provider: bool = False
    ) -> ProviderChoice:
        """UNCONFIGURED -> DISARMED with a bundle made for this robot; which execution provider runs it, and why.

        Raises BundleError when it does not fit, and under `strict_provider` when `provider` does not start.
        """
        check_fits(bundle.manifest, self.robot)
        runtime = PolicyRuntime(bundle, provider, strict_provider)
        self.configure_policy(bundle.manifest, runtime, now_ns)
        return runtime.choice

    def configure_policy(self, manifest: Manifest, policy: Policy, now_ns: int = 0) -> None:
        """As `configure`, with any policy that keeps to the manifest."""
        self._expect(State.UNCONFIGURED, "configure")
        check_fits(manifest, self.robot)
        horizon_ms = self.config.command_horizon_ms or manifest.timing.command_horizon_ms
        if horizon_ms < manifest.timing.period_ms:
            raise ControllerError(
                f"command horizon {horizon_ms:g} ms is shorter than the period {manifest.timing.period_ms:g} ms"
            )
        self.manifest = manifest
        self._decoder = ActionDecoder(manifest.action)
        limits, relative = JointLimits.from_profile(self.robot), manifest.action.kind == "joint_delta"
        self._guard = Guard(limits, self._period_ns / 1e9, relative=relative)
        self._streams = Streams(manifest.observation, self._host_ns, self.config.silence_timeout_ms)
        self._horizon_ns = round(horizon_ms * NS_PER_MS)
        budget_ns = round(manifest.timing.inference_budget_ms * NS_PER_MS)
        self._player = PolicyPlayer(
            policy, manifest.temporal, self._period_ns, budget_ns, self.loop_timing, self._host_ns
        )
        self._timeout_ns = round(manifest.timing.observation_timeout_ms * NS_PER_MS)
        self._forget_motion()
        self._go(State.DISARMED, f"policy {manifest.name} version {manifest.version}", now_ns)
        if self.emergency_stop:
            self._go(State.FAULT, "emergency stop is pressed", now_ns)

    def unconfigure(self, now_ns: int) -> None:
        """Any state -> UNCONFIGURED: drop the policy. The robot node's watchdog takes over."""
        if self.state is not State.UNCONFIGURED:
            self.manifest = self._streams = None
            self._go(State.UNCONFIGURED, "policy removed", now_ns)

    # The operator

    def arm(self, now_ns: int) -> None:
        """DISARMED -> ACTIVE from the measured pose. Raises ControllerError while a stream is missing or stale."""
        self._expect(State.DISARMED, "arm")
        streams = self._configured()
        _, problem = streams.observe(now_ns)
        if problem:
            raise ControllerError(f"cannot arm: {problem}")
        self._forget_motion()
        self._guard.reset(streams.joint_position(self.robot.joint_names))
        self._used_stamp = streams.joint_stamp_ns  # begin with the next: a command for this one could miss its tick
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
        streams = self._configured()
        _, problem = streams.observe(now_ns)
        if problem or streams.fresh_ms < self.config.resume_fresh_ms:
            detail = problem or f"streams fresh for {streams.fresh_ms:.0f} ms"
            raise ControllerError(f"cannot resume: {detail}; needed: fresh for {self.config.resume_fresh_ms:g} ms")
        self._forget_past()
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
        if self._streams is None:
            return False
        return self._streams.push(sample, now_ns, received_ns, may_restart=self.state is State.DISARMED)

    def waiting_for(self) -> tuple[str, ...]:
        """Streams whose sample of the newest moment is still to come; see Streams.waiting_for."""
        return () if self._streams is None else self._streams.waiting_for()

    def tick(self, now_ns: int) -> CommandSample | None:
        """The command for now, or None: nothing new to act on, or a state that sends none.

        Call it when a joint sample has arrived and, as a watchdog, at least once a period. Call `sent` after sending.
        """
        if self._streams is None or self.state is State.FAULT:
            return None
        observation, problem = self._streams.observe(now_ns)
        if self.state is State.ACTIVE and observation is not None:
            command = self._act(self._streams, observation, problem, now_ns)
            if self.state is State.ACTIVE:
                return command
        return self._hold(now_ns) if self.state is State.HOLD else None

    def sent(self) -> None:
        """The last command is on its way: completes the command latency."""
        if self._latency_from is not None:
            self.loop_timing.command_latency.add(self._host_ns() - self._latency_from)
            self._latency_from = None

    @property
    def rejected_samples(self) -> int:
        """Samples that were not finite, lacked a joint, or came from the future."""
        return 0 if self._streams is None else self._streams.rejected

    @property
    def last_rejection(self) -> str:
        """Why the last of them was refused."""
        return "" if self._streams is None else self._streams.last_rejection

    def status(self) -> dict[str, Any]:
        """State, why, policy, and whether the emergency stop is pressed; plain data."""
        manifest = self.manifest
        return {
            "state": str(self.state),
            "reason": self.reason,
            "policy": manifest.name if manifest else "",
            "version": manifest.version if manifest else 0,
            "emergency_stop": self.emergency_stop,
        }

    def timing(self, recent: int | None = None) -> dict[str, Any]:
        """Observation age, inference and command latency (count, p50, p99, max in ms), misses, rejected samples."""
        return self.loop_timing.summary(recent) | {"rejected_samples": self.rejected_samples}

    # Inside

    def _act(self, streams: Streams, observation: Observation, problem: str, now_ns: int) -> CommandSample | None:
        """One step of the policy, or the transition to HOLD that replaces it."""
        stamp = streams.joint_stamp_ns
        problem = problem or self._jump(stamp)
        if problem:
            self._go(State.HOLD, problem, now_ns)
            return None
        # A guard step is a whole period: a stream at twice the rate must not move the robot twice as fast.
        recent = self._used_stamp is not None and 4 * (stamp - self._used_stamp) < 3 * self._period_ns
        if recent or max(now_ns, stamp) <= self._command_stamp:
            return None
        try:
            output, elapsed = self._player.output(observation, stamp)
            measured = streams.joint_position(self.robot.joint_names)
            target = self._decoder.decode(output, self._guard.position, measured)
        except (ActionError, SpecError) as error:
            self._go(State.HOLD, f"policy: {error}", now_ns)
            return None
        self.loop_timing.observation_age.add(max(observation.oldest_ns, 0))
        if elapsed > self._horizon_ns:
            self._go(State.HOLD, f"overrun: inference took {elapsed / NS_PER_MS:.1f} ms", now_ns)
            return None
        self._used_stamp = stamp
        self._latency_from = streams.received_ns
        return self._command(self._guard(target).position, max(now_ns, stamp))

    def _jump(self, stamp: int) -> str:
        if self._used_stamp is None or stamp - self._used_stamp <= self._timeout_ns:
            return ""
        return f"the stamps of joint_states jumped by {(stamp - self._used_stamp) / NS_PER_MS:.0f} ms"

    def _hold(self, now_ns: int) -> CommandSample | None:
        """Decelerate, then keep the pose, one command a period; FAULT after the profile's hold timeout."""
        held_s = (self._host_ns() - self._hold_since) / 1e9
        if held_s > self.robot.hold.timeout_s:
            self._go(State.FAULT, f"held for {held_s:.1f} s without being resumed", now_ns)
            return None
        if 4 * (now_ns - self._command_stamp) < 3 * self._period_ns:
            return None
        return self._command(self._guard.stop().position, now_ns)

    def _command(self, position: NDArray[np.float64], stamp_ns: int) -> CommandSample:
        """`stamp_ns` is a sequence number too: the callers see to it that it grows."""
        self._command_stamp = stamp_ns
        return CommandSample(stamp_ns, self.robot.joint_names, position[None].copy(), (self._horizon_ns,))

    def _forget_past(self) -> None:
        self._used_stamp = None
        self._player.forget()

    def _forget_motion(self) -> None:
        self._forget_past()
        self._command_stamp = -1
        self._latency_from = None

    def _disarm(self, reason: str, now_ns: int) -> None:
        self._forget_motion()
        self._go(State.DISARMED, reason, now_ns)

    def _expect(self, state: State, what: str) -> None:
        if self.state is not state:
            raise ControllerError(f"cannot {what}: the controller is {self.state} ({self.reason}), it must be {state}")

    def _configured(self) -> Streams:
        if self._streams is None:
            raise ControllerError("the controller has no policy yet: configure it first")
        return self._streams

    def _go(self, after: State, reason: str, now_ns: int) -> None:
        """Every change of state passes here."""
        transition = Transition(now_ns, self.state, after, reason)
        self.state, self.reason = after, reason
        if after is State.HOLD:
            self._hold_since = self._host_ns()
        self.transitions.append(transition)
        if self.on_transition is not None:
            self.on_transition(transition)
