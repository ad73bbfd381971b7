"""Rows about processes: nodes killed, stopped, doubled or restarted. The experiments import ROS as they run."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from sealegs.faults.counting import Seen, outcome
from sealegs.faults.frame import Fault, Outcome, Trials
from sealegs.launching.process import MOST_RESPAWNS

if TYPE_CHECKING:
    from sealegs.faults.live.rig import MovingRobot

REACTION_S = 3.0
"""How long to wait for a reaction before there is none."""
REST_S = 1.0
"""After this long without commands, a robot that brakes is at rest, and holds the pose where it is."""
REST_RAD_S = 0.05
REST_RAD = 0.02
ATTEMPTS = 4
WATCHED_S = 1.0
"""For how long nothing may happen by itself."""
RESTART_S = 30.0
SILENT_SERVO = (
    "The simulated servo has no device watchdog: unprotected. It keeps its last goal; the figure is the policy node's."
)
RESTARTS = (
    f"Started again by hand, and disarmed then. No shipped launch file restarts a node by itself, and sealegs launch "
    f"refuses one that would restart a control node more than {MOST_RESPAWNS} times."
)


def kill_policy(trials: Trials) -> Outcome:
    """Row 7."""
    from sealegs.faults.live.rig import on_fresh_graphs

    return outcome(on_fresh_graphs(trials, lambda rig, _: robot_stops(rig, rig.policy.send(signal.SIGKILL))))


def stop_policy(trials: Trials) -> Outcome:
    """Row 8."""
    from sealegs.faults.live.rig import on_one_graph

    return outcome(on_one_graph(trials, _stop_and_continue_policy))


def silence_robot(trials: Trials) -> Outcome:
    """Row 9: SIGKILL and SIGSTOP in turn."""
    from sealegs.faults.live.rig import on_fresh_graphs

    def trial(rig: MovingRobot, number: int) -> Seen:
        at = rig.robot.send(signal.SIGSTOP if number % 2 else signal.SIGKILL)
        return policy_holds(rig, at)

    return outcome(on_fresh_graphs(trials, trial), [SILENT_SERVO])


def second_commander(trials: Trials) -> Outcome:
    """Row 17."""
    from sealegs.faults.live.rig import on_one_graph

    return outcome(on_one_graph(trials, _second_commander))


def release_e_stop(trials: Trials) -> Outcome:
    """Row 18."""
    from sealegs.faults.live.rig import on_one_graph

    return outcome(on_one_graph(trials, _press_and_release))


def crash_and_restart(trials: Trials) -> Outcome:
    """Row 40: the policy node and the robot node in turn."""
    from sealegs.faults.live.rig import on_fresh_graphs

    def trial(rig: MovingRobot, number: int) -> Seen:
        return _restart_robot(rig) if number % 2 else _restart_policy(rig)

    seen, restarted = on_fresh_graphs(trials, trial), _respawned()
    if restarted:
        seen = [*seen, Seen(f"a shipped launch file restarts nodes by itself: {', '.join(restarted)}")]
    return outcome(seen, [RESTARTS])


def _respawned() -> list[str]:
    """Nodes that a shipped launch file restarts by itself, as FILE: NODE."""
    from sealegs.launching import plan_launch, shipped_launch_files

    return [
        f"{name}: {process.label}"
        for name in sorted(shipped_launch_files())
        for process in plan_launch(name, {"policy_path": "any"} if name == "policy" else {}).processes
        if process.respawn
    ]


def robot_stops(rig: MovingRobot, at: float, states: tuple[str, ...] = ("HOLD",)) -> Seen:
    """Whether the robot node says one of `states` after `at` and comes to rest; ms to that, and how far it went."""
    speed = rig.watch.speed
    held = rig.watch.robot_is(states, at, REACTION_S)
    if held is None:
        return Seen(f"the robot node did not say {' or '.join(states)} within {REACTION_S:g} s")
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
    at = rig.policy.send(signal.SIGCONT)
    if seen.failure:
        return seen
    if not rig.client.within(REACTION_S, lambda: rig.operator.state in {"hold", "fault"}):
        return Seen("the policy node went on by itself after SIGCONT", seen.value, seen.figures)
    rig.client.spin_for(REST_S)
    return Seen("", seen.value, {**seen.figures, "travel after SIGCONT, rad": rig.watch.travel(at)})


def _second_commander(rig: MovingRobot, _: int) -> Seen:
    """Again where a busy machine had kept the first one's commands back: nobody was followed, so nothing latches."""
    for _ in range(ATTEMPTS):
        seen, held = _rival(rig)
        if not held:
            break
        rig.move()
    return seen if seen.failure else Seen(_unlatched(rig), seen.value, seen.figures)


def _rival(rig: MovingRobot) -> tuple[Seen, bool]:
    """What a second commander leads to; whether the robot node held in place of a fault."""
    import time

    from trajectory_msgs.msg import JointTrajectory

    from sealegs_contract import topics
    from sealegs_ros import qos

    at = time.monotonic()
    rival = rig.client.node.create_publisher(JointTrajectory, topics.JOINT_TRAJECTORY, qos.COMMAND)
    seen = robot_stops(rig, at, ("FAULT",))
    rig.client.node.destroy_publisher(rival)
    return seen, bool(seen.failure) and rig.watch.robot_is("HOLD", at, 0.0) is not None


def _unlatched(rig: MovingRobot) -> str:
    """What is wrong with the robot node's fault, whose cause is gone: it must stay until it is reset, by a call."""
    rig.watch.forget()
    since = rig.watch.joints[-1][0]
    rig.client.spin_for(WATCHED_S)
    commanded = since < rig.watch.commands[-1][0]
    if commanded and rig.operator.call("reset_fault", "robot_node").success:
        return "could be reset while commands came"
    if rig.operator.robot_state != "FAULT" or rig.watch.travel(since) > REST_RAD:
        return "not latched: left FAULT, or moved, by itself"
    rig.operator.stand_down()
    rig.client.spin_for(WATCHED_S)
    return "moved after the reset, before anybody armed" if rig.watch.travel(since) > REST_RAD else ""


def _press_and_release(rig: MovingRobot, number: int) -> Seen:
    import time

    at = time.monotonic()
    _press(rig, number, True)
    seen = robot_stops(rig, at, ("HOLD", "FAULT"))
    if seen.failure:
        return seen
    rig.watch.forget()
    released, faulted = rig.watch.joints[-1][0], _faulted(rig)
    _press(rig, number, False)
    rig.client.spin_for(WATCHED_S)
    stayed, moves = faulted and _faulted(rig) == faulted, _moves(rig, released)
    rig.operator.stand_down()
    rig.client.spin_for(WATCHED_S)
    moves = max(moves, _moves(rig, released))
    if not stayed or _faulted(rig) or rig.operator.state != "disarmed":
        return Seen("left its state by itself after the release", moves)
    return Seen("moved after the release" if moves else "", moves)


def _press(rig: MovingRobot, number: int, pressed: bool) -> None:
    """The emergency stop: the policy node's, the robot node's, and the topic that both hear, in turn."""
    if number % 3 == 2:
        rig.operator.publish_e_stop(pressed)
    else:
        rig.operator.e_stop(pressed, ("policy_node", "robot_node")[number % 3])


def _faulted(rig: MovingRobot) -> list[str]:
    """Which nodes say that they are in FAULT."""
    states = {"policy_node": rig.operator.state, "robot_node": rig.operator.robot_state}
    return [node for node, state in states.items() if state.upper() == "FAULT"]


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
    """Watched until the new node's clock has passed what the dead one's last said: no stamp is too new any more."""
    at = rig.robot.send(signal.SIGKILL)
    seen = policy_holds(rig, at)
    if seen.failure:
        return seen
    # Until all that the dead node still said has come. From here on, what comes is the new node's.
    rig.client.spin_for(REST_S)
    rig.watch.forget()
    killed, last = rig.watch.joints[-1]
    rig.start_robot()
    rig.client.spin_until(lambda: rig.watch.joints[-1][0] > killed, RESTART_S, "joint states of the new robot node")
    began = rig.watch.joints[-1][0]
    passed_ns = last.stamp_ns + round(1e9 * WATCHED_S)
    rig.client.spin_until(lambda: rig.watch.joints[-1][1].stamp_ns > passed_ns, RESTART_S, "the old time on the clock")
    if any(state == "active" for _, state in rig.watch.policy):
        return Seen("the policy node went on by itself", seen.value)
    if rig.watch.robot_is("ACTIVE", began, 0.0):
        return Seen("the restarted robot node followed commands before anybody armed", seen.value)
    if rig.watch.travel(began) > REST_RAD:
        return Seen("the robot moved before anybody armed", seen.value)
    return seen


FAULTS = (
    Fault(7, "kill -9 of the policy node in motion", "stop by itself", 20, 3, kill_policy, "ms to hold", "<= 150"),
    Fault(8, "SIGSTOP of the policy node in motion", "stop by itself", 50, 5, stop_policy, "ms to hold", "<= 150"),
    Fault(9, "kill -9 or SIGSTOP of the robot node", "hold", 16, 4, silence_robot, "ms to the policy node's hold"),
    Fault(17, "second commander", "latch FAULT", 30, 3, second_commander, "ms to FAULT"),
    Fault(18, "e-stop pressed and released", "stay disarmed", 25, 3, release_e_stop, "unintended moves", "== 0"),
    Fault(
        40,
        "a required node crashes",
        "be safe, without re-arming; restarts capped",
        14,
        4,
        crash_and_restart,
        "ms to hold",
    ),
)  # fmt: skip
