"""Rows about processes: nodes killed, stopped, doubled or restarted. The experiments import ROS as they run."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from sealegs.faults.counting import Seen, outcome
from sealegs.faults.frame import Fault, Outcome, Trials

if TYPE_CHECKING:
    from sealegs.faults.rig import MovingRobot

REACTION_S = 3.0
"""How long to wait for a reaction before there is none."""
REST_S = 0.7
"""After this long without commands, a robot that brakes is at rest."""
REST_RAD_S = 0.05
REST_RAD = 0.02
WATCHED_S = 1.0
"""For how long nothing may happen by itself."""
SILENT_SERVO = (
    "The simulated servo has no device watchdog: unprotected. It keeps its last goal; the figure is the policy node's."
)


def kill_policy(trials: Trials) -> Outcome:
    """Row 7."""
    from sealegs.faults.rig import on_fresh_graphs

    return outcome(on_fresh_graphs(trials, lambda rig, _: robot_stops(rig, rig.policy.send(signal.SIGKILL))))


def stop_policy(trials: Trials) -> Outcome:
    """Row 8."""
    from sealegs.faults.rig import on_one_graph

    return outcome(on_one_graph(trials, _stop_and_continue_policy))


def silence_robot(trials: Trials) -> Outcome:
    """Row 9: SIGKILL and SIGSTOP in turn."""
    from sealegs.faults.rig import on_fresh_graphs

    def trial(rig: MovingRobot, number: int) -> Seen:
        at = rig.robot.send(signal.SIGSTOP if number % 2 else signal.SIGKILL)
        return policy_holds(rig, at)

    return outcome(on_fresh_graphs(trials, trial), [SILENT_SERVO])


def second_commander(trials: Trials) -> Outcome:
    """Row 17."""
    from sealegs.faults.rig import on_one_graph

    return outcome(on_one_graph(trials, _second_commander))


def release_e_stop(trials: Trials) -> Outcome:
    """Row 18."""
    from sealegs.faults.rig import on_one_graph

    return outcome(on_one_graph(trials, _press_and_release))


def crash_and_restart(trials: Trials) -> Outcome:
    """Row 40: the policy node and the robot node in turn."""
    from sealegs.faults.rig import on_fresh_graphs

    def trial(rig: MovingRobot, number: int) -> Seen:
        return _restart_robot(rig) if number % 2 else _restart_policy(rig)

    return outcome(on_fresh_graphs(trials, trial))


def robot_stops(rig: MovingRobot, at: float) -> Seen:
    """Whether the robot node holds after `at` and comes to rest; ms to hold, and how far it still went."""
    speed = rig.watch.speed
    held = rig.watch.robot_is("HOLD", at, REACTION_S)
    if held is None:
        return Seen(f"the robot node did not hold within {REACTION_S:g} s")
    rig.client.spin_for(REST_S)
    # Half a period earlier: the joint states of the tick that began to hold come just before its diagnostics.
    after = {"travel after the fault, rad": rig.watch.travel(at), "after hold, rad": rig.watch.travel(held - 0.01)}
    figures = {"speed before, rad/s": speed, **after}
    failure = "" if rig.watch.speed < REST_RAD_S else f"the robot still moved {REST_S:g} s after hold"
    return Seen(failure, 1e3 * (held - at), figures)


def policy_holds(rig: MovingRobot, at: float) -> Seen:
    """Whether the policy node holds or faults after `at`; ms until it says so."""
    held = rig.watch.policy_is(("hold", "fault"), at, REACTION_S)
    if held is None:
        return Seen(f"the policy node did not hold within {REACTION_S:g} s")
    return Seen(value=1e3 * (held - at))


def _stop_and_continue_policy(rig: MovingRobot, _: int) -> Seen:
    seen = robot_stops(rig, rig.policy.send(signal.SIGSTOP))
    rig.policy.send(signal.SIGCONT)
    if seen.failure or rig.client.within(REACTION_S, lambda: rig.operator.state in {"hold", "fault"}):
        return seen
    return Seen("the policy node went on by itself after SIGCONT", seen.value, seen.figures)


def _second_commander(rig: MovingRobot, _: int) -> Seen:
    import time

    from trajectory_msgs.msg import JointTrajectory

    from sealegs_contract import topics
    from sealegs_ros import qos

    at = time.monotonic()
    rival = rig.client.node.create_publisher(JointTrajectory, topics.JOINT_TRAJECTORY, qos.COMMAND)
    seen = robot_stops(rig, at)
    gone = time.monotonic()
    rig.client.node.destroy_publisher(rival)
    if seen.failure or rig.watch.robot_is("ACTIVE", gone, REACTION_S) is None:
        return seen
    return Seen("held, but not latched: followed again once the rival had gone", seen.value, seen.figures)


def _press_and_release(rig: MovingRobot, _: int) -> Seen:
    rig.operator.e_stop(True)
    rig.operator.wait_for("fault")
    rig.client.spin_for(REST_S)
    rig.watch.forget()
    released = rig.watch.joints[-1][0]
    rig.operator.e_stop(False)
    rig.client.spin_for(WATCHED_S)
    left = rig.operator.state != "fault"
    rig.operator.call("reset_fault")
    rig.operator.wait_for("disarmed")
    rig.client.spin_for(WATCHED_S)
    moves = _moves(rig, released)
    if left or rig.operator.state != "disarmed":
        return Seen("left its state by itself after the release", moves)
    return Seen("moved after the release" if moves else "", moves)


def _moves(rig: MovingRobot, since: float) -> float:
    """Commands sent after `since`, and 1 if the robot moved."""
    commands = sum(at > since for at, _ in rig.watch.commands)
    return float(commands + (rig.watch.travel(since) > REST_RAD))


def _restart_policy(rig: MovingRobot) -> Seen:
    seen = robot_stops(rig, rig.policy.send(signal.SIGKILL))
    if seen.failure:
        return seen
    rig.watch.forget()
    rested = rig.watch.joints[-1][0]
    rig.start_policy()
    rig.operator.wait_for("disarmed")
    rig.client.spin_for(WATCHED_S)
    if rig.operator.state != "disarmed" or _moves(rig, rested):
        return Seen("the restarted policy node armed itself, or the robot moved", seen.value)
    return seen


def _restart_robot(rig: MovingRobot) -> Seen:
    seen = policy_holds(rig, rig.robot.send(signal.SIGKILL))
    if seen.failure:
        return seen
    rig.watch.forget()
    killed = rig.watch.joints[-1][0]
    rig.start_robot()
    rig.client.spin_until(lambda: rig.watch.joints[-1][0] > killed, what="joint states of the restarted robot node")
    began = rig.watch.joints[-1][0]
    rig.client.spin_for(WATCHED_S)
    if rig.watch.policy_is(("active",), killed, 0.0) or rig.watch.robot_is("ACTIVE", began, 0.0):
        return Seen("the restarted robot node followed commands before anybody armed", seen.value)
    if rig.watch.travel(began) > REST_RAD:
        return Seen("the robot moved before anybody armed", seen.value)
    return seen


FAULTS = (
    Fault(7, "kill -9 of the policy node in motion", "stop by itself", 20, 3, kill_policy, "ms to hold", "<= 150"),
    Fault(8, "SIGSTOP of the policy node in motion", "stop by itself", 50, 5, stop_policy, "ms to hold", "<= 150"),
    Fault(9, "kill -9 or SIGSTOP of the robot node", "hold", 16, 4, silence_robot, "ms to the policy node's hold"),
    Fault(17, "second commander", "latch FAULT", 30, 3, second_commander, "ms to detection"),
    Fault(18, "e-stop pressed and released", "stay disarmed", 25, 3, release_e_stop, "unintended moves", "== 0"),
    Fault(40, "a required node crashes", "be safe, without re-arming", 14, 4, crash_and_restart, "ms to hold"),
)
