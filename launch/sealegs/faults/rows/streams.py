"""Rows about streams and time: sensors that stop or freeze, late inference, a busy machine, a clock that jumps."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from sealegs.faults.counting import Seen, outcome
from sealegs.faults.frame import Fault, Outcome, Trials
from sealegs.faults.live.bundles import OBJECTS, ROBOT_NAME, circling_bundle, configuration
from sealegs_contract import topics
from sealegs_contract.robot import load_robot

if TYPE_CHECKING:
    from sealegs.faults.live.rig import MovingRobot
    from sealegs.faults.live.watching import FakeRobot, Operator, Watch

REACTION_S = 3.0
MOVING_COMMANDS = 10
SETTLING_S = 0.4
REPORTED_S = 1.3
"""Until both nodes have published their diagnostics again."""
HOUR_NS = 3600 * 10**9
LATE_PERIODS = 5.5  # half a period more than a command's horizon: no race with the tick at its end
HOGGED_S = 4.0
STREAMS = (topics.JOINT_STATES, *OBJECTS)

SLOW_POLICY = """
import signal, sys, time
from sealegs_deploy.runtime import PolicyRuntime
infer, late = PolicyRuntime.infer, []
signal.signal(signal.SIGUSR1, lambda *_: late.append({seconds}))
def slow(self, *inputs):
    if late:
        time.sleep(late.pop())
    return infer(self, *inputs)
PolicyRuntime.infer = slow
from sealegs_ros.policy_node import main
sys.exit(main())
"""
"""The policy node, but that SIGUSR1 makes its next inference late."""


class FakedRobot:
    """A real policy node in motion, beside a robot whose streams this process publishes."""

    def __init__(self, operator: Operator, watch: Watch, robot: FakeRobot) -> None:
        self.operator, self.watch, self.robot = operator, watch, robot

    def move(self) -> None:
        """Arm the policy and let it move for a while."""
        self.operator.client.spin_for(SETTLING_S)
        self.watch.forget()
        self.operator.set_off(lambda: len(self.watch.commands) > MOVING_COMMANDS)

    def held(self, at: float) -> Seen:
        """Whether the policy node holds after `at`; ms until it says so."""
        held = self.watch.policy_is(("hold", "fault"), at, REACTION_S)
        if held is None:
            return Seen(f"the policy node did not hold within {REACTION_S:g} s")
        return Seen(value=1e3 * (held - at))


@contextmanager
def faked_robot(trials: Trials) -> Iterator[FakedRobot]:
    """A policy node, and a robot that follows its commands; all end with it."""
    from trajectory_msgs.msg import JointTrajectory

    from sealegs.faults.live.nodes import Client, Nodes, isolated
    from sealegs.faults.live.watching import FakeRobot, Operator, Watch
    from sealegs_ros import qos

    with isolated(configuration()):
        bundle = circling_bundle()
        with Client("fake_robot") as client, Nodes(trials.folder) as nodes:
            robot = FakeRobot(client, load_robot(ROBOT_NAME), OBJECTS)
            client.listen(JointTrajectory, topics.JOINT_TRAJECTORY, qos.COMMAND, robot.follow)
            rig = FakedRobot(Operator(client), Watch(client), robot)
            nodes.start("policy_node", robot=ROBOT_NAME, policy_path=bundle, autostart=True, use_sim_time=True)
            yield rig


def _on_faked(trials: Trials, trial: Callable[[FakedRobot, int], Seen]) -> list[Seen]:
    seen = []
    with faked_robot(trials) as rig:
        for number in range(trials.count):
            rig.move()
            seen.append(trial(rig, number))
            trials.progress(number + 1, trials.count)
    return seen


def stop_stream(trials: Trials) -> Outcome:
    """Row 1: joint states and each object's pose in turn."""

    def trial(rig: FakedRobot, number: int) -> Seen:
        stream = STREAMS[number % len(STREAMS)]
        rig.robot.silent.add(stream)
        seen = rig.held(rig.robot.last[stream])
        rig.robot.silent.clear()
        return seen

    return outcome(_on_faked(trials, trial))


def freeze_stamps(trials: Trials) -> Outcome:
    """Row 2: all streams go on, with the stamp of the last sample."""

    def trial(rig: FakedRobot, _: int) -> Seen:
        at = rig.robot.last[topics.JOINT_STATES]
        rig.robot.frozen_ns = rig.robot.stamp_ns
        seen = rig.held(at)
        rig.robot.frozen_ns = None
        return seen

    return outcome(_on_faked(trials, trial))


def jump_clock(trials: Trials) -> Outcome:
    """Row 12: stamps and /clock jump by an hour, forward and back in turn. The figure is the largest step."""
    robot = load_robot(ROBOT_NAME)
    # A command may go on as fast as before, but no faster: v_max dt.
    legal = max(joint.velocity_max_rad_s for joint in robot.joints) / robot.control_rate_hz

    def trial(rig: FakedRobot, number: int) -> Seen:
        at = time.monotonic()
        rig.robot.offset_ns += HOUR_NS if number % 2 == 0 else -HOUR_NS
        held = rig.held(at)
        rig.operator.client.spin_for(SETTLING_S)
        rig.operator.arm_anew()
        rig.operator.client.spin_for(SETTLING_S)
        path = np.array([command.position[0] for _, command in rig.watch.commands])
        step = float(np.abs(np.diff(path, axis=0)).max())
        failure = held.failure or (f"a command stepped by more than {legal:g} rad" if step > legal else "")
        return Seen(failure, step, {"ms to hold": held.value} if held.value is not None else {})

    return outcome(_on_faked(trials, trial))


def late_inference(trials: Trials) -> Outcome:
    """Row 10: one inference takes five periods, in the real policy node, with the real robot node after it."""
    from sealegs.faults.live.rig import on_one_graph

    late_s = LATE_PERIODS / load_robot(ROBOT_NAME).control_rate_hz
    seen = on_one_graph(trials, lambda rig, _: _late(rig), SLOW_POLICY.format(seconds=late_s))
    return outcome(seen, [f"the inference took {LATE_PERIODS:g} periods"])


def _late(rig: MovingRobot) -> Seen:
    before = _refused(rig)
    at = rig.policy.send(signal.SIGUSR1)
    robot, policy = rig.watch.robot_is("HOLD", at, REACTION_S), rig.watch.policy_is(("hold",), at, REACTION_S)
    rig.client.spin_for(REPORTED_S)
    sent = _expired(rig, at)
    used = max(0, sent - (_refused(rig) - before))
    figures = {"ms until the robot node holds": 1e3 * (robot - at)} if robot else {}
    figures |= {"expired commands sent, and refused": float(sent)}
    failure = "" if robot and policy else "not both nodes held"
    return Seen(failure or ("an expired command was used" if used else ""), float(used), figures)


def _refused(rig: MovingRobot) -> int:
    """Commands that the robot node has refused because they had expired."""
    return int(rig.operator.values("robot_node").get("commands_expired", "0"))


def _expired(rig: MovingRobot, since: float) -> int:
    """Commands that came after their time was over, by the stamp of the joint states that came before them."""
    stamps = [(at, sample.stamp_ns) for at, sample in rig.watch.joints]
    count = 0
    for at, command in rig.watch.commands:
        known = [stamp for heard, stamp in stamps if heard <= at]
        count += at > since and bool(known) and command.expires_ns <= known[-1]
    return count


def hog_processor(trials: Trials) -> Outcome:
    """Row 11: two busy processes a core. A gap between commands as long as their horizon must have been a HOLD."""
    from sealegs.faults.live.rig import on_one_graph

    seen = on_one_graph(trials, lambda rig, _: _hogged(rig))
    note = f"{2 * (os.cpu_count() or 1)} busy processes on {os.cpu_count()} cores, {HOGGED_S:g} s a trial"
    return outcome(seen, [note])


@contextmanager
def hogs() -> Iterator[None]:
    """Two processes a core that compute; they end with it."""
    hogging = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for hog in hogging:
            hog.kill()
            hog.wait()


def _hogged(rig: MovingRobot) -> Seen:
    before = _misses(rig)
    at = time.monotonic()
    with hogs():
        rig.client.spin_for(HOGGED_S)
    rig.client.spin_for(REPORTED_S)
    holds = sum(heard > at and state == "HOLD" for heard, state in rig.watch.robot)
    holds += sum(heard > at and state in {"hold", "fault"} for heard, state in rig.watch.policy)
    commands = [command for _, command in rig.watch.commands]
    overdue = sum(later.stamp_ns > early.expires_ns for early, later in itertools.pairwise(commands))
    failure = "commands stopped for longer than their horizon without a HOLD" if overdue and not holds else ""
    return Seen(failure, float(_misses(rig) - before), {"HOLDs an hour": holds * 3600 / HOGGED_S})


def _misses(rig: MovingRobot) -> int:
    """Inferences over their budget, and periods that the robot node skipped, since the nodes began."""
    robot, policy = rig.operator.values("robot_node"), rig.operator.values("policy_node")
    return int(robot.get("missed", "0")) + int(policy.get("misses", "0"))


FAULTS = (
    Fault(1, "a required stream stops", "HOLD", 60, 6, stop_stream, "ms to hold", "<= 150"),
    Fault(2, "a stream lives, its stamps are frozen", "HOLD", 60, 4, freeze_stamps, "ms to hold", "<= 150"),
    Fault(10, "inference takes five periods", "HOLD", 40, 4, late_inference, "expired actions used", "== 0"),
    Fault(11, "CPU hog", "meet its deadline or HOLD", 20, 2, hog_processor, "misses in a trial"),
    Fault(12, "the clock jumps by an hour", "HOLD without a step", 40, 4, jump_clock, "command step, rad"),
)
