"""The state machine under arbitrary sequences of events: what must hold after every one of them."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sealegs_contract.errors import ActionError, ControllerError
from sealegs_contract.robot import load_robot
from sealegs_contract.sample import JointSample, PoseSample
from sealegs_contract.spec import delta_action_spec, observation_spec
from sealegs_deploy.controller import Controller
from sealegs_deploy.manifest import ExportParity, GraphInfo, InputStatistics, Manifest, TimingContract, units_of
from sealegs_deploy.pilot import Pilot
from sealegs_deploy.states import ControllerConfig, State
from sealegs_deploy.timing import LoopTiming

ROBOT = load_robot("so101")
OBSERVATION = observation_spec(ROBOT, ("gripper",))
STD_RAD = 0.1
MANIFEST = Manifest(
    name="fuzzed",
    version=1,
    created="",
    robot=ROBOT,
    profile_digest=ROBOT.digest,
    joint_names=ROBOT.joint_names,
    units=units_of(OBSERVATION),
    rate_hz=ROBOT.control_rate_hz,
    observation=OBSERVATION,
    action=delta_action_spec(ROBOT),
    graph=GraphInfo(opset=20),
    input_statistics=InputStatistics(
        mean=(*ROBOT.home_rad, *([0.0] * (OBSERVATION.size - 6))), std=(STD_RAD,) * OBSERVATION.size
    ),
    timing=TimingContract.of(ROBOT, OBSERVATION),
    parity=ExportParity(inputs=1, max_abs_difference_rad=0.0),
)
PLACES = delta_action_spec(ROBOT).model_copy(update={"kind": "joint_position"})
LOW = np.array([joint.position_min_rad for joint in ROBOT.joints])
HIGH = np.array([joint.position_max_rad for joint in ROBOT.joints])
RANGE = HIGH - LOW
# Why there is a FAULT, from where.
FAULTS = {
    State.DISARMED: ("emergency stop",),
    State.ACTIVE: ("emergency stop", "limit passed"),
    State.HOLD: ("emergency stop", "limit passed", "held for", "communication lost"),
}
# What may follow what, and whether only an operator's call may do it.
ALLOWED = {
    (State.UNCONFIGURED, State.DISARMED): "configure",
    (State.DISARMED, State.ACTIVE): "arm",
    (State.ACTIVE, State.HOLD): None,
    (State.HOLD, State.ACTIVE): "resume",
    (State.HOLD, State.FAULT): None,
    (State.ACTIVE, State.DISARMED): "disarm",
    (State.HOLD, State.DISARMED): "disarm",
    (State.FAULT, State.DISARMED): "reset_fault",
    (State.DISARMED, State.FAULT): "e_stop",
    (State.ACTIVE, State.FAULT): "e_stop",
    (State.UNCONFIGURED, State.UNCONFIGURED): "unconfigure",
}


def past(position: np.ndarray) -> bool:
    """Whether a joint is past a limit by more than a twentieth of its range."""
    return bool((np.maximum(LOW - position, position - HIGH) > 0.05 * RANGE + 1e-9).any())


class WildPolicy:
    """Returns whatever the test last chose; remembers the newest joint stamp behind what it was shown."""

    def __init__(self) -> None:
        self.output = np.zeros(6)
        self.calls = 0

    def infer(self, observation: np.ndarray, images: object) -> np.ndarray:
        self.calls += 1
        if not np.isfinite(self.output).all():
            raise ActionError("policy output is not finite")
        return self.output.copy()


class ControllerMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.silent_ns = 0
        self.candidates: list[Pilot] = []
        self.host_ns, self.now = 10**9, 100 * 10**9
        self.policy = WildPolicy()
        self.controller = Controller(ROBOT, host_ns=lambda: self.host_ns)
        self.controller.configure_policy(MANIFEST, self.policy)
        self.position = ROBOT.home_rad.copy()
        self.low, self.high = LOW, HIGH
        self.armed_inside = self.was_past = False
        self.newest_joint = -1
        self.commands: list = []
        self.call: str | None = "configure"
        self.checked = 0

    def push(self, stamp: int, position: np.ndarray) -> bool:
        self.was_past |= past(position)
        zeros = np.zeros(6)
        quaternion = np.array([0.0, 0.0, 0.0, 1.0])
        pose = PoseSample(stamp, "gripper", "base_link", np.zeros(3), quaternion)
        joints = JointSample(stamp, ROBOT.joint_names, position, zeros, zeros)
        for pilot in self.candidates:
            pilot.push(pose, self.now, None, may_restart=False)
            pilot.push(joints, self.now, None, may_restart=False)
        self.controller.push(pose, self.now)
        taken = self.controller.push(joints, self.now)
        if taken:
            self.silent_ns = 0
            if self.controller.state is not State.DISARMED:
                assert stamp >= self.newest_joint, "an older stamp replaced a newer one"
            self.newest_joint = stamp
        return taken

    def tick(self) -> None:
        self.call = None
        before, calls = self.controller.state, self.policy.calls
        command = self.controller.tick(self.now)
        after = self.controller.state
        if self.policy.calls > calls:
            assert before is State.ACTIVE
        if command is None:
            return
        assert after in {State.ACTIVE, State.HOLD}, f"a command left in {after}"
        assert np.isfinite(command.position).all()
        assert (command.position >= self.low - 1e-9).all()
        assert (command.position <= self.high + 1e-9).all()
        if self.commands:
            last = self.commands[-1]
            assert command.stamp_ns > last.stamp_ns
            assert np.abs(command.position - last.position).max() <= 3.0 * 0.02 + 1e-9
        self.commands.append(command)

    def operator(self, name: str, *arguments: object) -> None:
        self.call = name
        try:
            getattr(self.controller, name)(*arguments, self.now)
        except ControllerError:
            self.call = None
        if self.controller.state not in {State.ACTIVE, State.HOLD} or name == "arm":
            self.commands = []

    @rule(periods=st.integers(1, 12), output=st.floats(-5, 5), joint=st.integers(0, 5))
    def run_normally(self, periods: int, output: float, joint: int) -> None:
        self.policy.output = np.zeros(6)
        self.policy.output[joint] = output
        for _ in range(periods):
            self.now += 20_000_000
            self.host_ns += 20_000_000
            taken = self.push(self.now, self.position)
            self.tick()
            if taken and self.armed_inside and past(self.position):
                assert self.controller.state in {State.FAULT, State.DISARMED}, "past a limit and still commanded"
            self.check_transitions()

    @rule()
    def run_fresh_for_a_second(self) -> None:
        self.run_normally(55, 0.01, 0)

    @rule(bad=st.sampled_from([np.nan, np.inf, -np.inf]))
    def run_with_a_bad_policy(self, bad: float) -> None:
        self.policy.output = np.full(6, bad)
        self.now += 20_000_000
        self.host_ns += 20_000_000
        self.push(self.now, self.position)
        self.tick()

    @rule(milliseconds=st.integers(1, 1500))
    def silence(self, milliseconds: int) -> None:
        self.now += milliseconds * 1_000_000
        self.host_ns += milliseconds * 1_000_000
        self.silent_ns += milliseconds * 1_000_000
        holding = self.controller.state is State.HOLD
        self.tick()
        if holding and self.silent_ns > 1_000_000_000:
            assert self.controller.state is State.FAULT, "commanded a robot that does not answer"

    @rule(
        output=st.sampled_from([0.02, -0.3, np.nan]), relative=st.booleans(), probation_ms=st.sampled_from([0, 60, 500])
    )
    def swap(self, output: float, relative: bool, probation_ms: int) -> None:
        self.call = "swap"
        policy = WildPolicy()
        policy.output = np.full(6, output)
        action = delta_action_spec(ROBOT) if relative else PLACES
        manifest = MANIFEST.model_copy(update={"version": MANIFEST.version + 1, "action": action})
        pilot = Pilot(manifest, policy, ROBOT, ControllerConfig(), LoopTiming(), lambda: self.host_ns)
        self.candidates.append(pilot)
        self.push(self.now, self.position)
        before = self.controller.state
        try:
            self.controller.swap(pilot, self.now, probation_ms)
            self.newest_joint = pilot.streams.joint_stamp_ns
        except ControllerError:
            self.call = None
        assert self.controller.state is before, "a swap changed the state"
        self.candidates.clear()

    @rule(age_ms=st.integers(1, 3000))
    def old_sample(self, age_ms: int) -> None:
        self.call = None
        self.push(self.now - age_ms * 1_000_000, self.position + 0.01)
        self.tick()

    @rule(ahead_ms=st.integers(101, 4_000_000))
    def sample_from_the_future(self, ahead_ms: int) -> None:
        self.call = None
        before = self.newest_joint
        self.push(self.now + ahead_ms * 1_000_000, self.position)
        assert self.newest_joint == before

    @rule(seconds=st.integers(-3600, 3600))
    def clock_jumps(self, seconds: int) -> None:
        self.now = max(self.now + seconds * 10**9, 0)
        self.tick()

    @rule(joint=st.integers(0, 5), by=st.floats(-0.2, 0.2))
    def robot_moves(self, joint: int, by: float) -> None:
        self.position = self.position.copy()
        self.position[joint] = np.clip(self.position[joint] + by, LOW[joint], HIGH[joint])

    @rule(joint=st.integers(0, 5), by=st.floats(0.0, 0.08), up=st.booleans())
    def robot_is_pushed_out(self, joint: int, by: float, up: bool) -> None:
        self.position = self.position.copy()
        self.position[joint] = HIGH[joint] + by * RANGE[joint] if up else LOW[joint] - by * RANGE[joint]
        self.run_normally(2, 0.0, joint)

    @rule()
    def robot_is_carried_home(self) -> None:
        self.position = ROBOT.home_rad.copy()

    @rule()
    def arm(self) -> None:
        disarmed, taken = self.controller.state is State.DISARMED, self.push(self.now, self.position)
        self.operator("arm")
        if not disarmed or self.controller.state is State.DISARMED:
            return
        if taken:
            near = np.abs(self.position - ROBOT.home_rad) <= 4.0 * STD_RAD + 0.1 * RANGE + 1e-9
            assert near.all(), f"armed far away, at {self.position}"
        self.armed_inside = taken and bool(((self.position >= LOW) & (self.position <= HIGH)).all())
        self.low, self.high = np.minimum(LOW, self.position), np.maximum(HIGH, self.position)

    @rule()
    def disarm(self) -> None:
        self.operator("disarm")

    @rule()
    def resume(self) -> None:
        self.operator("resume")

    @rule()
    def reset_fault(self) -> None:
        pressed = self.controller.emergency_stop
        self.operator("reset_fault")
        if pressed:
            assert self.controller.state in {State.FAULT}

    @rule(pressed=st.booleans())
    def e_stop(self, pressed: bool) -> None:
        before = self.controller.state
        self.operator("e_stop", pressed)
        assert self.controller.state is (State.FAULT if pressed else before)

    @rule()
    def hold_times_out(self) -> None:
        self.host_ns += 61 * 10**9
        holding = self.controller.state is State.HOLD
        self.tick()
        if holding:
            assert self.controller.state is State.FAULT

    @invariant()
    def check_transitions(self) -> None:
        """Every change of state is one of the allowed, and those that only an operator may cause had his call."""
        transitions = list(self.controller.transitions)
        assert len(transitions) < 256 or self.checked
        new = transitions[self.checked :] if len(transitions) < 256 else []
        for transition in new:
            assert transition.reason
            if transition.before is transition.after is not State.UNCONFIGURED:
                assert transition.reason.startswith("swapped to") == (self.call == "swap"), transition
                continue
            cause = ALLOWED[transition.before, transition.after]
            if transition.after is State.FAULT:
                assert transition.reason.startswith(FAULTS[transition.before]), transition
                assert self.was_past or "limit" not in transition.reason, transition
            if transition.after in {State.ACTIVE, State.DISARMED}:
                assert cause == self.call, f"{transition} during {self.call}"
        self.checked = len(transitions)
        for one, two in itertools.pairwise(transitions):
            assert one.after is two.before


ControllerMachine.TestCase.settings = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestController = ControllerMachine.TestCase
