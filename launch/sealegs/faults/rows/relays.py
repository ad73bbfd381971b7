"""Row 3: seeded relays that lose, double and reorder what robot node and policy node tell each other."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np

from sealegs.faults.counting import Seen, outcome
from sealegs.faults.frame import Fault, Outcome, Trials
from sealegs.faults.live.bundles import OBJECTS, ROBOT_NAME, TASK_NAME, configuration, mirroring_bundle
from sealegs_contract import topics
from sealegs_contract.robot import load_robot
from sealegs_contract.sample import CommandSample, JointSample

LOSS, DOUBLED, DELAYED = 0.3, 0.1, 0.3
DELAY_S = 0.05
FLUSH_S = 0.005
TRIAL_S = 8.0
CODED = "wrist_roll"
FIRST_RAD, STEP_RAD = -1.0, 0.002
"""The n-th observation shows FIRST + n STEP in the coded joint: slow enough for the guard to pass it unchanged."""
BACKWARD_RAD = 0.25 * STEP_RAD
ROBOT, TO_ROBOT = "unrelayed", "relayed"


class Channel:
    """Passes messages to `send`: some never, some twice, some so late that newer ones overtake them."""

    def __init__(self, send: Callable[[Any], None], seed: int) -> None:
        self._send = send
        self._rng = np.random.default_rng(seed)
        self._late: list[tuple[float, int, Any]] = []
        self._order = itertools.count()

    def take(self, message: Any) -> None:
        """A message came."""
        if self._rng.random() < LOSS:
            return
        for _ in range(1 + int(self._rng.random() < DOUBLED)):
            if self._rng.random() < DELAYED:
                at = time.monotonic() + self._rng.uniform(0.0, DELAY_S)
                heapq.heappush(self._late, (at, next(self._order), message))
            else:
                self._send(message)

    def flush(self) -> None:
        """Send what is due."""
        while self._late and self._late[0][0] <= time.monotonic():
            self._send(heapq.heappop(self._late)[2])


class Relays:
    """Stands between a robot node and a policy node, and codes the number of each observation into it."""

    def __init__(self, client: Any, seed: int) -> None:
        from geometry_msgs.msg import PoseStamped
        from sensor_msgs.msg import JointState
        from trajectory_msgs.msg import JointTrajectory

        from sealegs_ros import qos

        self.number = 0
        self.delivered: list[int] = []
        """Stamps of the commands in the order in which the robot node gets them."""
        self.channels: list[Channel] = []
        self._node, self._seed = client.node, seed
        commands = self._node.create_publisher(JointTrajectory, f"{TO_ROBOT}/{topics.JOINT_TRAJECTORY}", qos.COMMAND)
        to_robot = self._channel(partial(self._deliver, commands))
        self._node.create_subscription(JointTrajectory, topics.JOINT_TRAJECTORY, to_robot.take, qos.COMMAND)
        joints = self._channel(self._node.create_publisher(JointState, topics.JOINT_STATES, qos.STREAM).publish)
        self._node.create_subscription(
            JointState, f"{ROBOT}/{topics.JOINT_STATES}", lambda message: joints.take(self._coded(message)), qos.STREAM
        )
        for name in OBJECTS:
            topic = topics.object_pose(name)
            poses = self._channel(self._node.create_publisher(PoseStamped, topic, qos.STREAM).publish)
            self._node.create_subscription(PoseStamped, f"{ROBOT}/{topic}", poses.take, qos.STREAM)
        self._node.create_timer(FLUSH_S, self._flush)

    def _channel(self, send: Callable[[Any], None]) -> Channel:
        self.channels.append(Channel(send, self._seed * 16 + len(self.channels)))
        return self.channels[-1]

    def _flush(self) -> None:
        for channel in self.channels:
            channel.flush()

    def _deliver(self, publisher: Any, message: Any) -> None:
        from sealegs_ros.conversions import to_ns

        self.delivered.append(to_ns(message.header.stamp))
        publisher.publish(message)

    def _coded(self, message: Any) -> Any:
        from sealegs_ros.conversions import from_message, to_message

        sample = cast(JointSample, from_message(topics.JOINT_STATES, message))
        position = coded_pose()
        position[sample.names.index(CODED)] += STEP_RAD * self.number
        self.number += 1
        return to_message(replace(sample, position=position))


def coded_pose() -> np.ndarray:
    """Home, with the coded joint at its first value."""
    robot = load_robot(ROBOT_NAME)
    position = robot.home_rad
    position[robot.joint_names.index(CODED)] = FIRST_RAD
    return position


def records(stamps: list[int]) -> int:
    """How many are later than all before them: what may be acted on."""
    return sum(stamp > before for stamp, before in zip(stamps, itertools.accumulate([-1, *stamps], max), strict=False))


def backward_steps(commands: list[CommandSample]) -> int:
    """Commands that came from an older observation than the command before them, by the code in the joint."""
    path = np.array([command.position[0, command.names.index(CODED)] for command in commands])
    return int((np.diff(path) < -BACKWARD_RAD).sum())


@contextmanager
def relayed(trials: Trials, seed: int) -> Iterator[tuple[Any, Any, Relays]]:
    """Operator, watch and relays of a robot node and a policy node that hear each other through the relays alone."""
    from sealegs.faults.live.nodes import Client, Nodes
    from sealegs.faults.live.watching import Operator, Watch

    streams = (topics.JOINT_STATES, *(topics.object_pose(name) for name in OBJECTS))
    away = [word for name in streams for word in ("-r", f"{name}:={ROBOT}/{name}")]
    away += ["-r", f"{topics.JOINT_TRAJECTORY}:={TO_ROBOT}/{topics.JOINT_TRAJECTORY}"]
    with Client("relays") as client, Nodes(trials.folder) as nodes:
        relays = Relays(client, seed)
        found = Operator(client), Watch(client), relays
        nodes.start("robot_node", *away, robot=ROBOT_NAME, task=TASK_NAME, images=False)
        nodes.start("policy_node", robot=ROBOT_NAME, policy_path=mirroring_bundle(), autostart=True, use_sim_time=True)
        yield found


def lose_and_reorder(trials: Trials) -> Outcome:
    """Row 3. The figure is the policy node's holds per minute, each of which the operator ends."""
    from sealegs.faults.live.nodes import isolated

    seen = []
    with isolated(configuration()):
        for number in range(trials.count):
            with relayed(trials, seed=number) as (operator, watch, relays):
                seen.append(_run(operator, watch, relays))
            trials.progress(number + 1, trials.count)
    lossy = f"{LOSS:.0%} lost, {DOUBLED:.0%} doubled, {DELAYED:.0%} up to {1e3 * DELAY_S:g} ms late, both ways"
    return outcome(seen, [f"{lossy}; {TRIAL_S:g} s a trial."])


def _run(operator: Any, watch: Any, relays: Relays) -> Seen:
    operator.client.spin_until(lambda: operator.state == "disarmed" and relays.number, what="both nodes")
    relays.number, holds = 0, 0
    operator.arm_anew()
    end = time.monotonic() + TRIAL_S
    while operator.client.within(end - time.monotonic(), lambda: operator.state in {"hold", "fault"}):
        holds += 1
        operator.arm_anew()
    operator.call("disarm")
    operator.client.spin_for(1.5)  # until the robot node has published its counters
    counts = operator.values("robot_node")
    allowed, accepted = records(relays.delivered), int(counts["commands_accepted"])
    stale = backward_steps([command for _, command in watch.commands]) + max(0, accepted - allowed)
    figures = {
        "stale commands": float(stale),
        "commands that the robot node acted on": float(accepted),
        "older commands that it refused": float(counts["commands_older"]),
    }
    idle = "" if accepted else "the robot node followed nothing"
    return Seen("acted on an older sequence" if stale else idle, holds * 60 / TRIAL_S, figures)


FAULTS = (
    Fault(3, "30% loss, duplicates, reorder", "never act on an older sequence", 10, 2, lose_and_reorder,
          "holds per minute"),
)  # fmt: skip
