"""The recorder node itself, beside a robot node that moves on: killed, and with its disk full."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sealegs.faults.live.nodes import Client, NodeProcess, Nodes, isolated

RECORDED_S = 0.6
ALARM_S = 5.0
WATCHED_S = 1.0
TICKS_SHARE = 0.8
"""Share of the control ticks due that must be seen for the robot to count as unaffected; the rest is the machine's."""


@dataclass
class Recording:
    """Both nodes, in the middle of an episode, and what is heard of them."""

    client: Client
    recorder: NodeProcess
    bag: Path
    joints: list[Any]
    diagnostics: list[Any]
    period_ns: int

    def newest_ns(self) -> int:
        """Stamp of the newest joint states heard."""
        from sealegs_ros.conversions import to_ns

        return to_ns(self.joints[-1].header.stamp)

    def alarmed(self) -> bool:
        """Whether the recorder has raised an error on /diagnostics."""
        from sealegs_ros.conversions import ERROR

        statuses = [status for message in self.diagnostics for status in message.status]
        return any(status.name.endswith("recorder_node") and status.level == ERROR for status in statuses)


@contextmanager
def recording(folder: Path, bags: Path) -> Iterator[Recording]:
    """A simulated robot that moves on, and a recorder node that has been writing for a moment."""
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import JointState
    from std_srvs.srv import Trigger

    from sealegs_contract import topics
    from sealegs_contract.robot import load_robot
    from sealegs_ros import qos

    folder.mkdir(parents=True, exist_ok=True)
    with isolated(folder / "config"), Client("watch") as client, Nodes(folder) as nodes:
        nodes.start("robot_node", robot="so101", task="reach", images=False)
        recorder = nodes.start("recorder_node", robot="so101", task="reach", bag_dir=bags)
        joints = client.collect(JointState, topics.JOINT_STATES, qos.STREAM)
        diagnostics = client.collect(DiagnosticArray, topics.DIAGNOSTICS, qos.STREAM)
        client.spin_until(lambda: joints, what="the robot node's joint states")
        started = client.call(Trigger, "recorder_node/start_episode")
        client.spin_for(RECORDED_S)
        period_ns = load_robot("so101").control_period_ns
        yield Recording(client, recorder, Path(started.message), joints, diagnostics, period_ns)


def kill_node(folder: Path, delay_s: float) -> tuple[float, str]:
    """ms of joint states lost by a kill of the recorder node, and what is wrong with its bag."""
    with recording(folder, folder / "bags") as live:
        live.client.spin_for(delay_s)
        live.recorder.kill()
        last = live.newest_ns()
    stamps, wrong = _stamps(live.bag)
    newest = max(stamps, default=0)
    return max(0, last - newest) / 1e6, wrong or _holes(stamps, live.period_ns)


def fill_disk(folder: Path, disk: Path) -> tuple[float, str]:
    """ms from the disk being full to the alarm, and what is wrong with the bag, the alarm or the robot."""
    with recording(folder, disk) as live:
        fill_up(disk / "ballast")
        began, first = time.monotonic(), live.newest_ns()
        live.client.within(ALARM_S, live.alarmed)
        took_s = time.monotonic() - began
        if not live.alarmed():
            return 1e3 * took_s, f"no alarm on /diagnostics within {ALARM_S:g} s"
        live.client.spin_for(WATCHED_S)
        due_ns, seen_ns = 1e9 * (time.monotonic() - began), live.newest_ns() - first
        stamps, wrong = _stamps(live.bag)
    if seen_ns < TICKS_SHARE * due_ns:
        wrong = wrong or f"the robot went on for {seen_ns / 1e6:.0f} of {due_ns / 1e6:.0f} ms"
    return 1e3 * took_s, wrong or _holes(stamps, live.period_ns)


def fill_up(path: Path) -> None:
    """Take all room that is left on a disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(handle, bytes(512))
    except OSError:
        os.close(handle)


def _stamps(folder: Path) -> tuple[list[int], str]:
    """Stamps of the joint states in a bag, and why it cannot be read."""
    from sealegs_contract import topics
    from sealegs_contract.errors import BagError
    from sealegs_learning.data.bag import Bag

    try:
        messages = Bag(folder).messages([topics.JOINT_STATES])
        return [message.sample.stamp_ns for message in messages if message.sample is not None], ""
    except BagError as error:
        return [], str(error)


def _holes(stamps: list[int], period_ns: int) -> str:
    """What is missing between the first and the last of the stamps."""
    if not stamps:
        return "no joint states in the bag"
    missing = round((stamps[-1] - stamps[0]) / period_ns) + 1 - len(stamps)
    return f"{missing} joint states are missing before the end" if missing else ""
