"""RobotLoop: one control period of a robot, real or simulated, without ROS.

Limits and watchdog come from the local robot profile. Every tick sends a command: the newest valid one, or HOLD, which
decelerates within the limits and then keeps the measured pose. Only a simulated start is sent nothing before its
first command: it stands as it was drawn, so that an episode begins as it does in process. A measured joint that goes
out past its limits latches FAULT.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from sealegs_contract.backend import RobotBackend
from sealegs_contract.cameras import cameras_due
from sealegs_contract.errors import BackendError
from sealegs_contract.guard import Guard, GuardStep, JointLimits
from sealegs_contract.limits import LimitWatch
from sealegs_contract.sample import CommandSample, FloatArray, ImageSample, JointSample, PoseSample
from sealegs_deploy.measured_hold import MeasuredHold
from sealegs_deploy.timing import Durations
from sealegs_ros.command_gate import REFUSALS, CommandGate, watchdog_ns
from sealegs_ros.pacing import Pacer
from sealegs_ros.robot_state import QUIET_NS, FaultLatch, RobotState

REMEMBERED_TICKS = 16


@dataclass(frozen=True, slots=True)
class Observed:
    """What a tick publishes: time, object poses, then joints; `cameras` are due for an image of this very state."""

    now_ns: int
    objects: tuple[PoseSample, ...]
    joints: JointSample
    cameras: tuple[str, ...]


class RobotLoop:
    """Order of a tick: newest command through the guard, write, advance, observe."""

    def __init__(
        self,
        backend: RobotBackend,
        real_time_factor: float = 1.0,
        images: bool = True,
        many_commanders: bool = False,
    ) -> None:
        robot = backend.profile
        self.backend = backend
        self.robot = robot
        self.latch = FaultLatch(many_commanders, max(QUIET_NS, 2 * watchdog_ns(robot, real_time_factor)))
        self.gate = CommandGate(robot, real_time_factor, self.latch)
        self._limits = LimitWatch(robot)
        self.guard = Guard(JointLimits.from_profile(robot), robot.control_period_ns / 1e9)
        self._hold = MeasuredHold(self.guard)
        self.pacer = Pacer(round(robot.control_period_ns / real_time_factor))
        self.renders = images
        self.holding = True
        self.holds = 0
        self.limited = 0
        self.episode = 0
        self.waited = 0
        self.late_commands = 0
        self.round_trip = Durations()
        self._published: deque[tuple[int, int]] = deque(maxlen=REMEMBERED_TICKS)
        self._at_start = backend.simulated
        self._tick = 0
        self._measured = robot.home_rad

    def start(self) -> Observed:
        """Reach the robot and take its present pose as the first command."""
        self.backend.connect()
        self._limits.restart()
        self.guard.reset(self.backend.read().position)
        return self._observe()

    def reset_fault(self, monotonic_ns: int) -> None:
        """FAULT -> HOLD by the operator; what was commanded before stays refused. Raises ControllerError."""
        self.latch.reset_fault(monotonic_ns)
        self._limits.restart()
        self.gate.clear(self.backend.now_ns())

    def offer(self, command: CommandSample, monotonic_ns: int) -> str | None:
        """A command arrived; the reason if it is refused."""
        reason = self.gate.offer(command, self.backend.now_ns(), monotonic_ns)
        if reason is None:
            # Simulated time moves with the ticks alone: a stamp of an earlier one means that its tick is over.
            self.late_commands += command.stamp_ns <= self.backend.now_ns() - self.robot.control_period_ns
            # It answers the newest observation that had been sent when it was issued.
            sent = [at_ns for stamp_ns, at_ns in self._published if stamp_ns <= command.stamp_ns]
            if sent:
                self.round_trip.add(monotonic_ns - sent[-1])
        return reason

    def published(self, observed: Observed, monotonic_ns: int) -> None:
        """The joint states of `observed` are about to be sent."""
        self._published.append((observed.now_ns, monotonic_ns))

    def timing(self) -> dict[str, Any]:
        """What the node leaves at its end: counters, and host time from joint states sent to command received."""
        return {
            **self.texts(),
            "round_trip": self.round_trip.summary(),
            "histograms": {"round_trip": self.round_trip.histogram()} if self.round_trip.count else {},
        }

    def must_wait(self, monotonic_ns: int) -> bool:
        """Lockstep: a live commander has not answered the newest observation yet, so the world waits."""
        now_ns = self.backend.now_ns()
        waits = self.gate.target(now_ns, monotonic_ns) is not None and self.gate.newest_ns < now_ns
        self.waited += waits
        return waits

    def tick(self, monotonic_ns: int) -> Observed:
        """One control period."""
        self.pacer.begin(monotonic_ns)
        target = self.gate.target(self.backend.now_ns(), monotonic_ns)
        self.holds += target is None and not self.holding
        self.holding = target is None
        step = self._keep(monotonic_ns) if target is None else self._follow(target)
        if self._at_start and target is not None:
            self._at_start, self._tick = False, 0  # the cameras take turns from here on
        if not self._at_start:
            self.backend.write(step.position)
        self.backend.advance()
        self._tick += 1
        return self._observe()

    def _follow(self, target: FloatArray) -> GuardStep:
        self.latch.follow()
        self._hold.restart(moved=True)
        step = self.guard(target)
        self.limited += bool(step.limited.any())
        return step

    def _keep(self, monotonic_ns: int) -> GuardStep:
        self.latch.hold(self.gate.why_hold(monotonic_ns))
        return self._hold.step(self._measured)

    def images(self, cameras: tuple[str, ...]) -> tuple[ImageSample, ...]:
        """Images of the cameras that a tick named; call it once the tick's other data are out."""
        return tuple(self.backend.images(cameras)) if cameras else ()

    def reset(self, seed: int | None) -> Observed:
        """A new episode: no held command, the new pose as the guard's history. Raises BackendError in FAULT, and where
        a person must do it.
        """
        if self.latch.state is RobotState.FAULT:
            raise BackendError(f"no new episode in FAULT ({self.latch.reason}): reset the fault first")
        self.backend.reset(seed)
        self.latch.hold("new episode")
        self._hold.restart(moved=False)
        self._limits.restart()
        self.gate.clear(self.backend.now_ns())
        self.guard.reset(self.backend.read().position)
        self.holding = True
        self.episode += 1
        self._at_start = self.backend.simulated
        self._tick = 0
        return self._observe()

    def texts(self) -> dict[str, object]:
        """Counters and timing, for /diagnostics and reports."""
        gate = self.gate
        return {
            **self.latch.status(),
            "episode": self.episode,
            "holds": self.holds,
            "commands_accepted": gate.accepted,
            "commands_late": self.late_commands,
            **{f"commands_{reason}": gate.refused[reason] for reason in REFUSALS},
            "commands_limited": self.limited,
            "lockstep_waits": self.waited,
            **self.pacer.texts(),
        }

    def _observe(self) -> Observed:
        due = cameras_due(self.robot, self._tick) if self.renders else ()
        joints = self.backend.read()
        self._measured = joints.position
        if self.latch.state is not RobotState.FAULT and (passed := self._limits.check(joints.position)):
            self.latch.fault(passed)
        return Observed(self.backend.now_ns(), tuple(self.backend.object_poses()), joints, due)
