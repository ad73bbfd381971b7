"""Rows about bad actions: values that are no actions, commands that try to break the limits, a policy that means harm.

In this process, with the real decoder, controller, command gate, guard, robot loop and simulator.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sealegs.faults.counting import Seen, outcome
from sealegs.faults.frame import Fault, Outcome, Trials
from sealegs.faults.guard import oracle as guard_oracle
from sealegs.faults.guard.fuzz import RELATIVE_TOLERANCE, fuzz
from sealegs.faults.live.bundles import ROBOT_NAME, circling_bundle, configuration, mirroring_bundle
from sealegs.faults.live.nodes import isolated
from sealegs.faults.rows.inputs import Hand
from sealegs_contract.action import ActionDecoder
from sealegs_contract.errors import ActionError, BackendError, SealegsError, SpecError
from sealegs_contract.guard import Guard, JointLimits
from sealegs_contract.robot import RobotProfile, load_robot
from sealegs_contract.sample import CommandSample
from sealegs_contract.spec import ActionSpec
from sealegs_deploy.bundle import load_bundle
from sealegs_deploy.states import State

FloatArray = NDArray[np.float64]
Kind = Literal["joint_delta", "joint_position"]
KINDS: tuple[Kind, ...] = ("joint_delta", "joint_position")
TASKS = ("reach", "push", "drawer")
FULL_CHAIN = 100
"""Every trial of this number goes through the whole controller as well."""
PERIODS = 150
ABSURD = 10.0
"""Times the velocity limit: a simulated joint with such a speed is out of bounds."""
JOINTS_TIMED, CALLS_TIMED = 7, 5_000


def bad_output(rng: np.random.Generator, count: int) -> FloatArray:
    """An output with NaN or Inf anywhere, or of a wrong shape."""
    output = rng.uniform(-0.05, 0.05, count)
    kind = int(rng.integers(4))
    if kind == 3:
        shapes = [(count - 1,), (count + 1,), (0,), (), (1, count), (count, 1), (2, count)]
        return np.resize(output, shapes[int(rng.integers(len(shapes)))])
    output[rng.random(count) < rng.uniform(0, 0.5)] *= 1e300
    output[int(rng.integers(count))] = (np.nan, np.inf, -np.inf)[kind]
    return output


class Refusals:
    """What stands between a policy's output and the motors, each asked on its own: decoder, gate and guard."""

    def __init__(self, robot: RobotProfile, kind: Kind) -> None:
        from sealegs_ros.command_gate import CommandGate

        self.robot = robot
        count = len(robot.joints)
        scale, offset = (0.036,) * count, (0.0,) * count
        spec = ActionSpec(kind=kind, joints=robot.joint_names, scale_rad=scale, offset_rad=offset)
        self.decoder = ActionDecoder(spec)
        self.gate = CommandGate(robot)
        self.guard, self.twin = (
            Guard(JointLimits.from_profile(robot), robot.control_period_ns / 1e9, relative=kind == "joint_delta")
            for _ in range(2)
        )
        self.now = 0
        for guard in (self.guard, self.twin):
            guard.reset(robot.home_rad)

    def forwarded(self, output: FloatArray, wanted: FloatArray) -> str:
        """Who let it pass, while the robot moves towards `wanted`; empty if nobody did."""
        for guard in (self.guard, self.twin):
            guard(wanted)
        return self._decoded(output) or self._admitted(output) or self._followed(output)

    def _decoded(self, output: FloatArray) -> str:
        try:
            self.decoder.decode(output, self.guard.position, self.robot.home_rad)
        except ActionError:
            return ""
        return "the decoder made a target of it"

    def _admitted(self, output: FloatArray) -> str:
        self.now += self.robot.control_period_ns
        try:
            command = CommandSample(self.now, self.robot.joint_names, output[None], (self.robot.control_period_ns,))
        except SealegsError:
            return ""  # a message that cannot even be made
        return "" if self.gate.offer(command, self.now, self.now) else "the robot's gate admitted it"

    def _followed(self, output: FloatArray) -> str:
        """The guard does what it would do without any target, or refuses to do anything."""
        try:
            step = self.guard(output)
        except SpecError:
            return "" if output.shape != self.robot.home_rad.shape else "the guard refused a good shape"
        rest = self.twin.stop()
        if bool(step.finite) or not np.array_equal(step.position, rest.position):
            return "the guard followed it"
        return ""


class BadPolicy:
    """Gives `output`, whatever it sees."""

    output: FloatArray

    def infer(self, observation: NDArray[np.float32], images: Mapping[str, NDArray[np.uint8]]) -> FloatArray:
        """The output."""
        return self.output


class Chain:
    """The whole controller with such a policy: its manifest is that of a bundle of this kind of action."""

    def __init__(self, robot: RobotProfile, kind: Kind) -> None:
        self.hand, self.policy = Hand(robot), BadPolicy()
        with isolated(configuration()):
            bundle = load_bundle(mirroring_bundle() if kind == "joint_position" else circling_bundle())
        self.hand.controller.configure_policy(bundle.manifest, self.policy)

    def forwarded(self, output: FloatArray) -> str:
        """Armed, then the policy gives this; what is wrong with the reaction."""
        self.policy.output = home = self.hand.robot.home_rad
        self.hand.active(home)
        taken = self.hand.controller.state
        self.policy.output = output
        command = self.hand.see(home)
        state = self.hand.controller.state
        if (taken, state) != (State.ACTIVE, State.HOLD):
            return f"the controller went from {taken} to {state}; required: from active to hold"
        return "" if command is None or np.isfinite(command.position).all() else "the controller sent it on"


def no_actions(trials: Trials) -> Outcome:
    """Row 4. The figure is the number of outputs that anyone let pass."""
    robot, failures = load_robot(ROBOT_NAME), Counter[str]()
    layers, chains = [Refusals(robot, kind) for kind in KINDS], [Chain(robot, kind) for kind in KINDS]
    for number in range(trials.count):
        rng = np.random.default_rng(number)
        output, wanted = bad_output(rng, len(robot.joints)), rng.uniform(-1.0, 1.0, len(robot.joints))
        failure = layers[number % 2].forwarded(output, wanted)
        if not failure and number % FULL_CHAIN < 2:
            failure = chains[number % 2].forwarded(output)
        failures[failure] += 1
        if number % 1024 == 0:
            trials.progress(number, trials.count)
    failed = sum(count for failure, count in failures.items() if failure)
    notes = [f"{count} of {trials.count}: {failure}" for failure, count in failures.most_common() if failure]
    notes.append(f"decoder, gate and guard each refuse every output; 2 of {FULL_CHAIN} also go through the controller")
    return Outcome(trials.count, failed, [float(failed)], notes)


def illegal_commands(trials: Trials) -> Outcome:
    """Row 5. Trials are commands; a run of them that breaks a limit counts as a failure."""
    r, done, runs, problems = random.Random(trials.count), 0, 0, list[str]()
    while done < trials.count:
        run = fuzz(r, min(r.choice([100, 300, 600]), trials.count - done))
        done, runs = done + run.commands, runs + 1
        problems += run.problems
        trials.progress(min(done, trials.count), trials.count)
    notes = [*problems[:3], f"{runs} runs of one joint with limits of their own, at 10 Hz to 1 kHz", _cost()]
    return Outcome(done, len(problems), [float(len(problems))], notes)


def _cost() -> str:
    """What a call of the guard costs on this machine, for seven joints of the robot under noisy commands."""
    robot = load_robot(ROBOT_NAME)
    limits = JointLimits.from_profile(robot)
    picked = np.arange(JOINTS_TIMED) % len(robot.joints)
    columns = (limits.position_min, limits.position_max, limits.velocity_max, limits.acceleration_max, limits.jerk_max)
    guard = Guard(JointLimits(*(column[picked] for column in columns)), robot.control_period_ns / 1e9, relative=True)
    guard.reset(robot.home_rad[picked])
    steps = np.random.default_rng(0).normal(0.0, 0.02, (CALLS_TIMED, JOINTS_TIMED))
    took = []
    for step in steps:
        target = guard.position + step
        began = time.perf_counter_ns()
        guard(target)
        took.append(time.perf_counter_ns() - began)
    p50, p99 = np.percentile(took, [50, 99]) / 1e3
    return f"a command of {JOINTS_TIMED} joints took {p50:.1f} us (p50; p99 {p99:.1f} us) here"


def harm(trials: Trials) -> Outcome:
    """Row 6. From a random start, all joints are driven against their limits and about; physics answers."""
    return outcome([_attack(number, trials) for number in range(trials.count)])


def _attack(number: int, trials: Trials) -> Seen:
    from sealegs_ros.robot_loop import RobotLoop
    from sealegs_sim.backend import MujocoBackend

    trials.progress(number, trials.count)
    rng, robot = np.random.default_rng(number), load_robot(ROBOT_NAME)
    backend = MujocoBackend(robot, TASKS[number % len(TASKS)], seed=number, render=False)
    loop = RobotLoop(backend, images=False)
    observed = loop.start()
    limits, period = JointLimits.from_profile(robot), robot.control_period_ns
    commands, overshoot, failure = [loop.guard.position], 0.0, ""
    signs, rarely = rng.choice([-1.0, 1.0], len(robot.joints)), 10.0 ** rng.uniform(-2.5, -0.3)
    try:
        for tick in range(PERIODS):
            signs = np.where(rng.random(len(signs)) < rarely, -signs, signs)
            horizon = (round(robot.watchdog.command_timeout_ms * 1e6),)
            loop.offer(CommandSample(observed.now_ns, robot.joint_names, 1e3 * signs[None], horizon), tick * period)
            observed = loop.tick(tick * period)
            position, speed = observed.joints.position, observed.joints.velocity
            commands.append(loop.guard.position)
            beyond = np.maximum(limits.position_min - position, position - limits.position_max)
            overshoot = max(overshoot, float(beyond.max()))
            if not bool((np.abs(speed) <= ABSURD * limits.velocity_max).all()):  # NaN fails too
                failure = "the simulated joints were out of bounds"
    except BackendError as error:
        failure = f"the simulation failed: {error}"
    finally:
        backend.close()
    faulted = {"limit faults": float(loop.latch.reason.startswith("limit passed"))}
    return Seen(failure or _illegal(np.array(commands), limits, period / 1e9), 1e3 * overshoot, faulted)


def _illegal(commands: FloatArray, limits: JointLimits, period_s: float) -> str:
    if np.ptp(commands, axis=0).max() < 0.1:
        return "the robot did not follow at all"
    columns = (limits.position_min, limits.position_max, limits.velocity_max, limits.acceleration_max, limits.jerk_max)
    for joint, xs in enumerate(commands.T):
        lower, upper, v, a, j = (float(column[joint]) for column in columns)
        one = guard_oracle.Limits(lower, upper, v, a, j, period_s)
        for name, excess in guard_oracle.excess(xs.tolist(), one).items():
            if excess > (0.0 if name == "position" else RELATIVE_TOLERANCE):
                return f"a command exceeded the {name} limit"
    return ""


FAULTS = (
    Fault(4, "NaN, Inf or wrong shape from the policy", "reject before clamping and hold", 1_000_000, 2_000,
          no_actions, "forwarded", "== 0"),
    Fault(5, "fuzzed actions", "keep to position, velocity, acceleration and jerk limits", 1_000_000, 20_000,
          illegal_commands, "violations", "== 0"),
    Fault(6, "adversarial policy in MuJoCo", "keep the physical state bounded", 500, 6, harm, "limit overshoot, mrad"),
)  # fmt: skip
