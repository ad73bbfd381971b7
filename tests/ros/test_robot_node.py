"""robot_node as a real process with the real simulator: streams, commands, limits, watchdog, reset, recording."""

from __future__ import annotations

import io
import itertools
import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from PIL import Image
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rosbags.highlevel import AnyReader
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from sealegs.faults.live.nodes import patient
from sealegs_contract import topics
from sealegs_contract.robot import load_robot
from sealegs_contract.sample import CommandSample, JointSample
from sealegs_learning.data.importer import import_bags
from sealegs_ros import conversions, qos
from sealegs_ros.backends import make_backend
from sealegs_ros.robot_loop import RobotLoop

pytest.importorskip("mujoco", reason="the simulated robot needs the extra `sim`")

ROBOT = load_robot("so101")
HOME = ROBOT.home_rad
WRIST = ROBOT.joint_names.index("wrist_roll")


class Driver:
    """Watches a robot node's joints and commands it, one command per observation.

    Its seconds are the robot's: how many fit into one of the wall's is the machine's business.
    """

    def __init__(self, client: Any, commands: str = "/joint_trajectory") -> None:
        self.client = client
        self.samples: list[JointSample] = []
        self.heard_s: list[float] = []
        """When each of them came, on the monotonic clock."""
        self.target: np.ndarray | None = None
        self.validity_ns = 10_000_000_000
        self.last_sent_s = 0.0
        self.publisher = client.node.create_publisher(JointTrajectory, commands, qos.COMMAND)
        client.listen(JointState, "/joint_states", qos.RECORD, self._on_joints)
        client.spin_until(lambda: self.samples and self.publisher.get_subscription_count(), what="joint_states")

    def _on_joints(self, at_s: float, message: JointState) -> None:
        sample = conversions.from_message("joint_states", message)
        assert isinstance(sample, JointSample)
        self.samples.append(sample)
        self.heard_s.append(at_s)
        if self.target is not None:
            self.send(self.target)

    def send(self, target: np.ndarray, names: tuple[str, ...] = ROBOT.joint_names, stamp_ns: int | None = None) -> None:
        stamp_ns = self.samples[-1].stamp_ns if stamp_ns is None else stamp_ns
        sample = CommandSample(stamp_ns, names, np.asarray(target)[None], (self.validity_ns,))
        self.publisher.publish(conversions.to_message(sample))
        self.last_sent_s = time.monotonic()

    def drive(self, target: np.ndarray, seconds: float) -> None:
        """Command `target` at every observation for `seconds`, then stop commanding."""
        self.target = target
        self.watch(seconds)
        self.target = None

    def watch(self, seconds: float) -> None:
        """Until the robot's clock has gone on for so long."""
        end_ns = self.samples[-1].stamp_ns + round(1e9 * seconds)
        self.client.spin_until(lambda: self.samples[-1].stamp_ns >= end_ns, what=f"{seconds} s of the robot's time")

    def turn(self, angle: float, at: float | None = None, within: float = 0.1) -> None:
        """Command the wrist to `angle` until it rests there, or `at` where it gets no further; then stop commanding."""
        at = angle if at is None else at
        self.target = with_wrist(angle)
        self.client.spin_until(
            lambda: abs(self.position - at) <= within and abs(self.velocity) < 0.05, what=f"the wrist at {at} rad"
        )
        self.target = None

    @property
    def position(self) -> float:
        """Newest of the wrist, rad."""
        return float(self.samples[-1].position[WRIST])

    @property
    def velocity(self) -> float:
        """Newest of the wrist, rad/s."""
        return float(self.samples[-1].velocity[WRIST])


def with_wrist(angle: float) -> np.ndarray:
    target = HOME.copy()
    target[WRIST] = angle
    return target


def values_of(diagnostics: list[Any], name: str = "/robot_node") -> dict[str, str]:
    for message in reversed(diagnostics):
        for status in message.status:
            if status.name == name:
                return {pair.key: pair.value for pair in status.values} | {
                    "level": status.level,
                    "text": status.message,
                }
    return {}


def test_streams_have_the_profiles_rates_names_and_order(
    client: Any, start_node: Callable[..., Any], tmp_path: Path
) -> None:
    timing_path = tmp_path / "timing.json"
    node = start_node("robot_node", "-r", "__ns:=/arm", task="drawer", seed=1, timing_path=timing_path)
    order: list[tuple[str, int]] = []
    heard_s: list[float] = []

    def note(topic: str, stamp: Callable[[Any], Any]) -> Callable[[Any], None]:
        return lambda message: order.append((topic, conversions.to_ns(stamp(message))))

    # Deep queues: what this process comes to late is not lost.
    subscribe = client.node.create_subscription
    subscribe(Clock, "/clock", note("/clock", lambda m: m.clock), qos.RECORD)
    subscribe(PoseStamped, "/arm/objects/handle/pose", note("handle", lambda m: m.header.stamp), qos.RECORD)
    subscribe(JointState, "/arm/joint_states", note("joints", lambda m: m.header.stamp), qos.RECORD)
    client.listen(JointState, "/arm/joint_states", qos.RECORD, lambda at_s, _: heard_s.append(at_s))
    task = client.collect(String, "/arm/task", qos.LATCHED)
    images = client.collect(CompressedImage, "/arm/camera/front/image_raw/compressed", qos.RECORD)
    infos = client.collect(CameraInfo, "/arm/camera/front/camera_info", qos.RECORD)
    joints = client.collect(JointState, "/arm/joint_states", qos.RECORD)
    client.spin_until(lambda: len(order) > 20 and len(images) > 1 and task, what="all streams")

    for notes in (order, heard_s, images, infos, joints):
        notes.clear()
    client.spin_until(lambda: len(joints) > 125, timeout_s=90.0, what="two and a half seconds")
    # A second of the wall's at the profile's rate: the machine may not have let the node have one so far.
    client.spin_until(lambda: 45 < 50 / (heard_s[-1] - heard_s[-51]) < 55, timeout_s=90.0, what="50 messages a second")
    stamps = {topic: [ns for name, ns in order if name == topic] for topic in ("/clock", "handle", "joints")}
    for topic, series in stamps.items():
        assert len(series) == pytest.approx(len(joints), abs=2), topic
        assert set(np.diff(series)) == {ROBOT.control_period_ns}, topic
    assert len(images) == pytest.approx(len(joints) / 5, abs=2)
    assert abs(len(infos) - len(images)) <= 1
    assert set(np.diff([conversions.to_ns(m.header.stamp) for m in images])) == {5 * ROBOT.control_period_ns}
    assert tuple(joints[-1].name) == ROBOT.joint_names
    assert len(joints[-1].position) == len(joints[-1].velocity) == len(joints[-1].effort) == 6
    assert Image.open(io.BytesIO(bytes(images[-1].data))).size == (160, 120)
    assert task[0].data
    assert node.stop(signal.SIGTERM) == 0, node.log
    timing = json.loads(timing_path.read_text())
    assert timing["ticks"] > 100
    assert timing["period_p50_ms"] == pytest.approx(20.0, abs=1.0)


def test_commands_limits_and_refusals(client: Any, start_node: Callable[..., Any]) -> None:
    start_node("robot_node", task="reach", images=False)
    diagnostics = client.collect(DiagnosticArray, "/diagnostics")
    driver = Driver(client)
    driver.turn(0.8)
    driver.turn(50.0, at=ROBOT.joints[WRIST].position_max_rad, within=0.05)
    driver.drive(with_wrist(50.0), 0.5)
    assert driver.position == pytest.approx(ROBOT.joints[WRIST].position_max_rad, abs=0.05)
    speeds = np.array([sample.velocity for sample in driver.samples])
    assert np.abs(speeds[:, WRIST]).max() <= 1.2 * ROBOT.joints[WRIST].velocity_max_rad_s

    driver.turn(2.0)
    shuffled = tuple(reversed(ROBOT.joint_names))
    accepted = int(values_of(diagnostics).get("commands_accepted", "0"))
    now_ns = driver.samples[-1].stamp_ns
    driver.send(with_wrist(np.nan))
    driver.send(with_wrist(-2.0), names=tuple(f"{name}_x" for name in ROBOT.joint_names))
    driver.send(with_wrist(-2.0), stamp_ns=now_ns - 200_000_000)
    driver.publisher.publish(JointTrajectory(joint_names=list(ROBOT.joint_names)))
    sample = CommandSample(now_ns + 1, ROBOT.joint_names, with_wrist(-2.0)[None], (10**9,))
    with_effort = conversions.to_message(sample)
    with_effort.points[0].effort = [0.1] * len(HOME)
    driver.publisher.publish(with_effort)
    driver.send(with_wrist(2.0)[::-1], names=shuffled, stamp_ns=now_ns + 1)
    client.spin_until(lambda: values_of(diagnostics).get("commands_malformed") == "2", what="the count of refusals")
    values = values_of(diagnostics)
    refused = {name: int(values[f"commands_{name}"]) for name in ("not_finite", "joints", "older", "expired")}
    assert refused == {"not_finite": 1, "joints": 1, "older": 1, "expired": 0}
    assert int(values["commands_accepted"]) > accepted
    assert values["level"] == conversions.WARN
    assert driver.position == pytest.approx(2.0, abs=0.1)


def test_a_second_commander_is_a_fault_that_only_a_reset_ends(
    client: Any, start_node: Callable[..., Any], tmp_path: Path
) -> None:
    """Nobody can tell which of two commanders is right: the arm follows neither, unless it was told to."""
    told = "/told/commands"  # a remapping must not blind it
    robot = patient(ROBOT, tmp_path)
    start_node("robot_node", "-r", f"joint_trajectory:={told}", robot=robot, task="reach", images=False)
    diagnostics = client.collect(DiagnosticArray, "/diagnostics")
    statuses = client.collect(String, topics.ROBOT_STATUS, qos.LATCHED)
    driver = Driver(client, told)

    def state() -> str:
        return str(json.loads(statuses[-1].data)["state"]) if statuses else ""

    def rival() -> Any:
        return client.node.create_publisher(JointTrajectory, told, qos.COMMAND)

    def reset() -> Any:
        return client.call(Trigger, "/robot_node/reset_fault")

    # Nobody is followed yet: two are refused, but latch nothing.
    first = rival()
    client.spin_until(lambda: values_of(diagnostics).get("level") == conversions.ERROR, what="the second one's alarm")
    assert "2 publishers of joint_trajectory: holding" in values_of(diagnostics)["text"]
    driver.target = with_wrist(0.5)
    client.spin_until(lambda: int(values_of(diagnostics)["commands_contested"]) > 10, what="refused commands")
    driver.target = None
    assert state() == "HOLD"
    client.node.destroy_publisher(first)
    client.spin_until(lambda: values_of(diagnostics)["commanders"] == "1", what="the other's end")
    driver.turn(0.5)
    client.spin_until(lambda: state() == "HOLD", what="the hold after the turn")

    # One is followed: a second one that says nothing is enough.
    driver.target = with_wrist(0.5)
    client.spin_until(lambda: state() == "ACTIVE", what="following")
    begin = time.monotonic()
    second = rival()
    client.spin_until(lambda: state() == "FAULT", what="the fault")
    print(f"second commander detected after {1e3 * (time.monotonic() - begin):.0f} ms")
    assert json.loads(statuses[-1].data) == {
        "state": "FAULT",
        "reason": "second commander: 2 publishers of joint_trajectory",
        "emergency_stop": False,
    }
    assert "end all but one" in reset().message
    client.node.destroy_publisher(second)
    client.spin_until(lambda: values_of(diagnostics)["commanders"] == "1", what="the rival's end")
    driver.drive(with_wrist(-0.5), 1.0)
    assert driver.position == pytest.approx(0.5, abs=0.1)
    driver.target = with_wrist(-0.5)
    assert "a command came" in reset().message
    assert state() == "FAULT"
    driver.target = None
    client.spin_until(lambda: reset().success, what="a reset, once nobody has commanded for a while")
    client.spin_until(lambda: (state(), values_of(diagnostics)["state"]) == ("HOLD", "HOLD"), what="the hold")
    driver.turn(-0.5)


def test_the_emergency_stop_by_topic_and_by_service(
    client: Any, start_node: Callable[..., Any], tmp_path: Path
) -> None:
    topic = client.node.create_publisher(Bool, topics.E_STOP, qos.LATCHED)
    topic.publish(Bool(data=True))  # before the robot node is there
    start_node("robot_node", robot=patient(ROBOT, tmp_path), task="reach", images=False)
    statuses = client.collect(String, topics.ROBOT_STATUS, qos.LATCHED)
    diagnostics = client.collect(DiagnosticArray, "/diagnostics", qos.RECORD)
    driver = Driver(client)

    def status() -> dict[str, Any]:
        return json.loads(statuses[-1].data) if statuses else {}

    def is_pressed(pressed: bool) -> None:
        wanted = {"state": "FAULT", "emergency_stop": pressed}
        client.spin_until(lambda: wanted.items() <= status().items(), what=f"emergency stop {pressed}")

    def service(pressed: bool) -> None:
        assert client.call(SetBool, "/robot_node/e_stop", SetBool.Request(data=pressed)).success

    def reset() -> Any:
        return client.call(Trigger, "/robot_node/reset_fault")

    is_pressed(True)
    driver.drive(with_wrist(0.5), 0.5)
    assert abs(driver.position) < 0.2
    service(True)
    for _ in range(3):
        topic.publish(Bool(data=False))  # the service's press stands
    client.spin_until(lambda: status()["reason"].endswith("still pressed (service)"), what="the topic's release")
    assert status()["emergency_stop"]
    assert "still pressed (service)" in reset().message
    assert not client.call(Trigger, "/robot_node/reset").success
    service(False)
    is_pressed(False)
    client.spin_until(lambda: reset().success, what="a reset, once nobody has commanded for a while")
    assert not reset().success

    # Pressed and released at once, by one who latches nothing: it counts all the same.
    button = client.node.create_publisher(Bool, topics.E_STOP, qos.COMMAND)
    client.spin_until(lambda: button.get_subscription_count() >= 2, what="the robot node's ears")
    driver.target = with_wrist(1.5)
    client.spin_until(lambda: abs(driver.velocity) > 1.0, what="motion")
    diagnostics.clear()
    button.publish(Bool(data=True))
    button.publish(Bool(data=False))
    is_pressed(False)

    def faults() -> list[Any]:
        return [message for message in diagnostics if values_of([message]).get("state") == "FAULT"]

    client.spin_until(faults, what="its diagnostics")
    press_ns = conversions.to_ns(faults()[0].header.stamp)
    driver.watch(0.7)
    at_press = next(sample for sample in driver.samples if sample.stamp_ns >= press_ns)
    assert abs(driver.velocity) < 0.05
    assert abs(driver.position - at_press.position[WRIST]) < 0.4


def test_each_topic_is_a_button_of_its_own(client: Any, start_node: Callable[..., Any]) -> None:
    start_node("robot_node", task="reach", images=False, e_stop_topics="[panel/e_stop, wall]")
    statuses = client.collect(String, topics.ROBOT_STATUS, qos.LATCHED)
    diagnostics = client.collect(DiagnosticArray, "/diagnostics")
    panel, wall, other = (
        client.node.create_publisher(Bool, name, qos.E_STOP) for name in ("panel/e_stop", "wall", "wall")
    )

    def said(wanted: str) -> bool:
        return bool(statuses) and wanted in json.loads(statuses[-1].data)["reason"]

    panel.publish(Bool(data=True))
    client.spin_until(lambda: said("emergency stop pressed (topic panel/e_stop)"), what="the panel's press")
    wall.publish(Bool(data=True))
    client.spin_until(lambda: said("emergency stop pressed (topic wall)"), what="the wall's press")
    wall.publish(Bool(data=False))
    client.spin_until(lambda: said("released (topic wall), still pressed (topic panel/e_stop)"), what="its release")
    assert "still pressed (topic panel/e_stop)" in client.call(Trigger, "/robot_node/reset_fault").message
    panel.publish(Bool(data=False))
    client.spin_until(lambda: not json.loads(statuses[-1].data)["emergency_stop"], what="the panel's release")
    assert client.call(Trigger, "/robot_node/reset_fault").success
    shared = "holding; 2 publishers of wall: one releases the other's emergency stop"
    client.spin_until(lambda: values_of(diagnostics).get("text") == shared, what="the warning")
    assert values_of(diagnostics)["level"] == conversions.WARN
    client.node.destroy_publisher(other)
    client.spin_until(lambda: values_of(diagnostics).get("level") == conversions.OK, what="its end")


def test_a_message_of_very_many_points_does_not_hold_up_the_control_loop(
    client: Any, start_node: Callable[..., Any]
) -> None:
    """Taken apart, these would take 4 s."""
    start_node("robot_node", task="reach", images=False)
    diagnostics = client.collect(DiagnosticArray, "/diagnostics")
    publisher = client.node.create_publisher(JointTrajectory, "/joint_trajectory", qos.COMMAND)
    client.spin_until(publisher.get_subscription_count, what="the robot node's ear")
    client.spin_until(lambda: values_of(diagnostics), what="diagnostics")
    # CDR, little endian: stamp, empty frame_id, no names, the count of points, and each of them all zeros.
    header = b"\x00\x01\x00\x00" + bytes(8) + b"\x01\x00\x00\x00" + bytes(8)
    publisher.publish(header + (100_000).to_bytes(4, "little") + bytes(40 * 100_000))
    client.spin_until(lambda: values_of(diagnostics).get("commands_bytes") == "1", what="the count of refusals")
    assert float(values_of(diagnostics)["period_max_ms"]) < 1000.0


def test_many_commanders_may_be_allowed(client: Any, start_node: Callable[..., Any]) -> None:
    start_node("robot_node", task="reach", images=False, many_commanders=True)
    diagnostics = client.collect(DiagnosticArray, "/diagnostics")
    rival = client.node.create_publisher(JointTrajectory, "/joint_trajectory", qos.COMMAND)
    driver = Driver(client)
    client.spin_until(lambda: diagnostics and values_of(diagnostics)["commanders"] == "2", 10, "both commanders")
    driver.turn(0.5)
    assert values_of(diagnostics)["level"] == conversions.ERROR
    client.node.destroy_publisher(rival)


def test_silence_in_motion_is_held_within_150_ms(client: Any, start_node: Callable[..., Any]) -> None:
    start_node("robot_node", task="reach", images=False)
    states: list[tuple[float, str]] = []
    client.listen(
        DiagnosticArray,
        "/diagnostics",
        qos.RECORD,
        lambda at_s, message: states.append((at_s, values_of([message]).get("state", ""))),
    )
    driver = Driver(client)
    delays_ms: list[float] = []
    overshoot_rad: list[float] = []
    for trial in range(12):
        side = -1 if trial % 2 else 1
        driver.turn(-2.4 * side)
        driver.target = with_wrist(2.4 * side)
        client.spin_until(lambda side=side: side * driver.position > -1.5, what="the wrist under way")
        driver.target = None
        moved, silent_s = abs(driver.velocity) > 1.0, driver.last_sent_s
        client.spin_until(lambda since=silent_s: any(at > since and s == "HOLD" for at, s in states), what="HOLD")
        held_s = next(at for at, s in states if at > silent_s and s == "HOLD")
        heard_s = [at for at in driver.heard_s if silent_s - 0.1 < at < held_s]
        at_hold = next(s for at, s in zip(driver.heard_s, driver.samples, strict=True) if at >= heard_s[-1])
        driver.watch(0.5)
        # Where the machine let the robot, or us, stand still for two periods meanwhile, it says nothing of the node.
        if moved and np.diff(heard_s).max() < 0.04:
            delays_ms.append(1e3 * (held_s - silent_s))
            overshoot_rad.append(abs(driver.position - at_hold.position[WRIST]))
            assert abs(driver.velocity) < 0.05
            assert abs(driver.position) < 2.3
        if len(delays_ms) == 2:
            break
    print(f"hold after {np.round(delays_ms, 1)} ms, braking {np.round(overshoot_rad, 3)} rad")
    assert len(delays_ms) == 2
    assert max(delays_ms) <= 150.0
    # v^2 / 2a at 3 rad/s and 30 rad/s^2 is 0.15 rad; the servo lags behind its command
    assert max(overshoot_rad) < 0.4


def test_reset_starts_the_seeds_episode_and_time_goes_on(client: Any, start_node: Callable[..., Any]) -> None:
    start_node("robot_node", task="push", images=False)
    cube = client.collect(PoseStamped, "/objects/cube/pose", qos.STREAM)
    driver = Driver(client)

    def reset(seed: int) -> tuple[float, float]:
        request = SetParameters.Request(parameters=[Parameter("seed", value=seed).to_parameter_msg()])
        assert client.call(SetParameters, "/robot_node/set_parameters", request).results[0].successful
        response = client.call(Trigger, "/robot_node/reset")
        assert response.success, response.message
        said = re.fullmatch(rf"episode \d+ with seed {seed}, from ([\d.]+) s", response.message)
        assert said, response.message
        # What is in the queues now may be of the last episode: the answer says from when on it is of the new one.
        start_ns = round(float(said[1]) * 1e9)
        client.spin_until(
            lambda: min(conversions.to_ns(cube[-1].header.stamp), driver.samples[-1].stamp_ns) >= start_ns,
            what="the new episode",
        )
        return cube[-1].pose.position.x, cube[-1].pose.position.y

    first = reset(11)
    driver.drive(with_wrist(1.0), 0.8)
    other = reset(12)
    np.testing.assert_allclose(driver.samples[-1].position, HOME, atol=0.2)
    assert abs(driver.position) < 0.2
    again = reset(11)
    assert again == pytest.approx(first, abs=1e-3)
    assert other != pytest.approx(first, abs=1e-3)
    stamps = [sample.stamp_ns for sample in driver.samples]
    assert all(later > earlier for earlier, later in itertools.pairwise(stamps))


def test_lockstep_run_equals_the_in_process_run_bit_for_bit(
    client: Any, start_node: Callable[..., Any], tmp_path: Path
) -> None:
    start_node("robot_node", robot=patient(ROBOT, tmp_path), task="push", seed=21, images=False, lockstep=True)
    driver, ticks = Driver(client), 60
    driver.validity_ns = 3 * ROBOT.control_period_ns
    backend, _ = make_backend(ROBOT, "push", seed=0, render=False)
    loop = RobotLoop(backend, images=False)
    loop.start()
    observed = loop.reset(21)
    start = observed.joints.position

    def targets(since_start: int) -> np.ndarray:
        return start + 0.4 * np.sin(0.1 * since_start)

    live: list[JointSample] = []

    def answer(message: JointState) -> None:
        sample = conversions.from_message("joint_states", message)
        assert isinstance(sample, JointSample)
        if np.array_equal(sample.position, start):
            live.clear()  # the start stands until the first command has come
        elif not live:
            return
        live.append(sample)
        since = (sample.stamp_ns - live[0].stamp_ns) // ROBOT.control_period_ns
        driver.send(targets(since), stamp_ns=sample.stamp_ns)

    subscription = client.node.create_subscription(JointState, "/joint_states", answer, qos.STREAM)
    try:
        client.spin_for(0.3)
        live.clear()
        assert client.call(Trigger, "/robot_node/reset").success
        client.spin_until(lambda: len(live) > ticks, what="the episode")
    finally:
        client.node.destroy_subscription(subscription)
    assert [s.stamp_ns for s in live[: ticks + 1]] == [
        live[0].stamp_ns + k * ROBOT.control_period_ns for k in range(ticks + 1)
    ]
    for k in range(ticks):
        np.testing.assert_array_equal(live[k].position, observed.joints.position, err_msg=f"tick {k}")
        np.testing.assert_array_equal(live[k].velocity, observed.joints.velocity, err_msg=f"tick {k}")
        command = CommandSample(observed.now_ns, ROBOT.joint_names, targets(k)[None], (driver.validity_ns,))
        loop.offer(command, k)
        observed = loop.tick(k)


def test_recorded_episode_is_read_by_two_independent_readers(
    client: Any, start_node: Callable[..., Any], tmp_path: Path
) -> None:
    start_node("robot_node", task="drawer", seed=4)
    start_node("recorder_node", bag_dir=tmp_path / "bags", task="drawer", operator="test", use_sim_time=True)
    finished = client.collect(String, "/recorder_node/finished", qos.LATCHED)
    driver = Driver(client)
    driver.validity_ns = 3 * ROBOT.control_period_ns
    client.call(Trigger, "/recorder_node/discard_episode")
    client.spin_until(lambda: client.node.count_subscribers("/joint_states") > 1, what="the recorder's subscription")
    client.spin_for(1.0)  # and the robot node must have found it too
    assert client.call(Trigger, "/recorder_node/start_episode").success
    driver.drive(with_wrist(1.0), 2.0)
    assert client.call(SetBool, "/recorder_node/stop_episode", SetBool.Request(data=False)).success
    client.spin_until(lambda: finished, what="the finished bag")
    folder = Path(finished[0].data)

    with AnyReader([folder]) as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
        peer = [(c.topic, time_ns, reader.deserialize(data, c.msgtype)) for c, time_ns, data in reader.messages()]
    # Two seconds, and until the recorder has been told to stop: all of them, as they were heard here.
    recorded = [conversions.to_ns(m.header.stamp) for topic, _, m in peer if topic == "/joint_states"]
    heard = [sample.stamp_ns for sample in driver.samples]
    assert len(recorded) == counts["/joint_states"] >= 100
    assert recorded == heard[heard.index(recorded[0]) :][: len(recorded)]
    for name in ("/clock", "/objects/handle/pose"):
        assert counts[name] == pytest.approx(counts["/joint_states"], abs=3), name
    # The robot goes on publishing until the recording has stopped; the commander stopped before that.
    assert 40 <= counts["/joint_trajectory"] <= counts["/joint_states"] + 3
    for camera in ROBOT.cameras:
        expected = pytest.approx(counts["/joint_states"] * camera.rate_hz / ROBOT.control_rate_hz, abs=3)
        assert counts[f"/camera/{camera.name}/image_raw/compressed"] == expected
        assert counts[f"/camera/{camera.name}/camera_info"] == expected
    assert counts["/task"] == 1

    with (folder / f"{folder.name}_0.mcap").open("rb") as stream:
        ours = make_reader(stream, decoder_factories=[DecoderFactory()])
        decoded = [(c.topic, record.log_time, message) for _, c, record, message in ours.iter_decoded_messages()]
        (*_, record) = [r for r in ours.iter_metadata() if r.name == "sealegs"]
    assert json.loads(record.metadata["episode"])["origin"] == "sim"
    assert json.loads(record.metadata["episode"])["outcome"] == "failure"
    assert json.loads(record.metadata["drops"]) == {}

    # The recording began between two images, with the newest one of each camera in it: no row waits for its first.
    dropped = import_bags([folder], tmp_path / "dataset").dropped
    assert not [reason for reason in dropped if reason.startswith("no_sample:camera")]
    # It may have begun within a tick, after its poses: one row.
    assert sum(count for reason, count in dropped.items() if reason.startswith("no_sample")) <= 1

    def joints(messages: list[tuple[str, int, Any]]) -> np.ndarray:
        return np.array([m.position for topic, _, m in messages if topic == "/joint_states"])

    np.testing.assert_array_equal(joints(decoded), joints(peer))
    for topic, log_ns, message in decoded:
        if hasattr(message, "header") and topic == "/joint_states":
            lag_ns = log_ns - conversions.to_ns(message.header.stamp)
            assert abs(lag_ns) <= 5 * ROBOT.control_period_ns


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"task": "juggle"}, "juggle"),
        ({"real_time_factor": 0}, r"real_time_factor must lie in"),
        ({"seed": "many"}, "seed"),
    ],
)
def test_bad_parameters_end_with_one_line(
    start_node: Callable[..., Any], parameters: dict[str, object], reason: str
) -> None:
    node = start_node("robot_node", **parameters)
    assert node.process.wait(60) == 2, node.log
    (line,) = [line for line in node.log.splitlines() if line.startswith("sealegs: error:")]
    assert reason in line
    assert "Traceback" not in node.log
