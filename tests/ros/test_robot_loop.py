"""The robot's control period, on the real simulated backend, without DDS; and the timing helpers by hand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from sealegs_contract.cameras import cameras_due
from sealegs_contract.errors import BackendError, ControllerError
from sealegs_contract.pixels import decode_image
from sealegs_contract.robot import RobotProfile, load_robot
from sealegs_contract.sample import CommandSample
from sealegs_contract.selection import select_fields
from sealegs_contract.spec import ImageField
from sealegs_contract.temporal import TemporalSpec
from sealegs_learning.policies.acting import PolicyActor
from sealegs_ros.backends import make_backend
from sealegs_ros.pacing import Pacer
from sealegs_ros.recording import GapCounter
from sealegs_ros.robot_loop import Observed, RobotLoop
from sealegs_ros.robot_state import RobotState
from sealegs_sim.env import SealegsEnv
from sealegs_sim.tasks import Task

ROBOT = load_robot("so101")
PERIOD = ROBOT.control_period_ns
MS = 1_000_000


@pytest.fixture
def loop() -> Iterator[RobotLoop]:
    backend, text = make_backend(ROBOT, "drawer", seed=3, render=False)
    assert "drawer" in text
    made = RobotLoop(backend, images=False)
    made.start()
    yield made
    backend.close()


def send(loop: RobotLoop, observed: Observed, target: np.ndarray, monotonic_ns: int) -> None:
    sample = CommandSample(observed.now_ns, ROBOT.joint_names, target[None], (3 * PERIOD,))
    assert loop.offer(sample, monotonic_ns) is None


def test_a_start_stands_until_its_first_command_and_then_the_arm_stays_where_it_is_told(loop: RobotLoop) -> None:
    for begin in (loop.backend.read, lambda: loop.reset(7).joints):
        observed = begin()
        before, stamp = observed.position, observed.stamp_ns
        for tick in range(1, 26):
            standing = loop.tick(tick * PERIOD)
            assert standing.now_ns == stamp + tick * PERIOD
        np.testing.assert_array_equal(standing.joints.position, before)
        assert not standing.joints.velocity.any()
        assert loop.holding
        send(loop, standing, before, 26 * PERIOD)
        for tick in range(26, 76):
            held = loop.tick(tick * PERIOD).joints.position
        # A servo without integral part gives way under gravity: once when commanded, once more when held as measured.
        assert 1e-3 < np.abs(held - before).max() < 0.06
    assert loop.holding
    assert loop.holds == 2
    assert loop.late_commands == 0


def test_a_command_that_its_tick_did_not_wait_for_is_counted(loop: RobotLoop) -> None:
    observed = loop.tick(0)
    send(loop, observed, ROBOT.home_rad, PERIOD)
    newer = loop.tick(PERIOD)
    loop.tick(2 * PERIOD)
    send(loop, newer, ROBOT.home_rad, 2 * PERIOD)
    assert loop.late_commands == 1


def test_commands_move_the_arm_within_its_limits_and_silence_stops_it(loop: RobotLoop) -> None:
    target = ROBOT.home_rad + np.array([0.8, 0, 0, 0, 0, 9.0])  # far outside the gripper's limit of 1.74 rad
    observed = loop.tick(0)
    commands = [loop.guard.position]
    for tick in range(1, 60):
        send(loop, observed, target, tick * PERIOD)
        observed = loop.tick(tick * PERIOD)
        commands.append(loop.guard.position)
    assert not loop.holding
    assert observed.joints.position[0] == pytest.approx(0.8, abs=0.1)
    velocity = np.diff(commands, axis=0) / (PERIOD / 1e9)
    acceleration = np.diff(velocity, axis=0) / (PERIOD / 1e9)
    assert np.abs(velocity).max() <= 3.0 + 1e-9
    assert np.abs(acceleration).max() <= 30.0 + 1e-6
    assert max(c[5] for c in commands) <= ROBOT.joints[5].position_max_rad
    assert loop.texts()["commands_limited"] > 0
    for tick in range(60, 75):
        loop.tick(tick * PERIOD)
    assert loop.holding
    assert loop.holds == 1
    assert loop.latch.reason == "the command expired, 60 ms after it came"
    assert loop.guard.velocity[0] == 0.0


def test_a_hold_keeps_the_measured_pose_pushes_no_more_and_does_not_creep(loop: RobotLoop) -> None:
    into_the_table = ROBOT.home_rad + np.array([0, 1.9, 0.2, 0, 0, 0])
    observed = loop.tick(0)
    for tick in range(1, 150):
        send(loop, observed, into_the_table, tick * PERIOD)
        observed = loop.tick(tick * PERIOD)
    blocked = observed.joints
    assert np.abs(into_the_table - blocked.position).max() > 0.9
    assert np.abs(blocked.effort).max() == pytest.approx(ROBOT.joints[1].effort_max_n_m)
    commands, measured = [loop.guard.position], []
    for tick in range(150, 150 + 60 * 50):
        observed = loop.tick(tick * PERIOD)
        commands.append(loop.guard.position)
        measured.append(observed.joints.position)
    np.testing.assert_allclose(commands[-1], blocked.position, atol=0.02)
    assert np.abs(np.diff(commands, n=2, axis=0)).max() <= 30.0 * (PERIOD / 1e9) ** 2 + 1e-9, "it goes there guarded"
    assert np.abs(observed.joints.effort).max() < 0.5
    np.testing.assert_array_equal(commands[50:], [commands[50]] * len(commands[50:]), "taken once, within a second")
    assert np.abs(np.array(measured[100:]) - measured[100]).max() < 0.015


def test_a_fault_stops_the_arm_and_follows_nothing_until_it_is_reset(loop: RobotLoop) -> None:
    target = ROBOT.home_rad + np.array([1.5, 0, 0, 0, 0, 0])
    observed = loop.tick(0)
    for tick in range(1, 12):
        send(loop, observed, target, tick * PERIOD)
        observed = loop.tick(tick * PERIOD)
    loop.latch.e_stop(True, "topic")
    speeds = [loop.guard.velocity[0]]
    for tick in range(12, 40):
        late = CommandSample(observed.now_ns, ROBOT.joint_names, target[None], (3 * PERIOD,))
        loop.latch.heard(tick * PERIOD)
        assert loop.offer(late, tick * PERIOD) == "fault"
        observed = loop.tick(tick * PERIOD)
        speeds.append(loop.guard.velocity[0])
    assert speeds[0] > 1.0
    assert np.diff(speeds)[: int(speeds[0] / 0.6)] == pytest.approx(-0.6), (
        "it brakes at 30 rad/s^2 from the next tick on"
    )
    assert speeds[-1] == 0.0
    assert loop.texts()["state"] == "FAULT"
    with pytest.raises(BackendError, match=r"FAULT \(emergency stop pressed \(topic\)\)"):
        loop.reset(3)
    loop.latch.e_stop(False, "topic")
    with pytest.raises(ControllerError, match="a command came 20 ms ago"):
        loop.reset_fault(40 * PERIOD)
    loop.reset_fault(40 * PERIOD + 500 * MS)
    assert loop.texts()["state"] == "HOLD"
    old = CommandSample(observed.now_ns - PERIOD, ROBOT.joint_names, target[None], (9 * PERIOD,))
    assert loop.offer(old, 90 * PERIOD) == "older", "it was sent before the reset"
    send(loop, observed, target, 90 * PERIOD)
    loop.tick(90 * PERIOD)
    assert loop.texts()["state"] == "ACTIVE"


def push(loop: RobotLoop, joint: str, torque_n_m: float) -> None:
    """As somebody would who leans on the arm."""
    simulation = loop.backend.simulation  # type: ignore[attr-defined]
    simulation.data.joint(joint).qfrc_applied[:] = torque_n_m


@pytest.mark.parametrize("commanded", [True, False])
def test_an_arm_pushed_past_its_limit_is_a_fault_and_comes_back_in_only_once_reset(
    loop: RobotLoop, commanded: bool
) -> None:
    wrist, limit = ROBOT.joint_names.index("wrist_roll"), 2.84
    margin = 0.05 * (2.84 + 2.74)
    near = ROBOT.home_rad.copy()
    near[wrist] = 2.7
    observed = loop.tick(0)
    for tick in range(1, 100):
        send(loop, observed, near, tick * PERIOD)
        observed = loop.tick(tick * PERIOD)
    assert loop.texts()["state"] == "ACTIVE"
    push(loop, "wrist_roll", 400.0)
    reached = []
    for tick in range(100, 150):
        if commanded and loop.latch.state is RobotState.ACTIVE:
            send(loop, observed, near, tick * PERIOD)
        observed = loop.tick(tick * PERIOD)
        reached.append(observed.joints.position[wrist])
        past = max(reached) > limit + margin
        assert (loop.texts()["state"] == "FAULT") == past, "in the very tick"
    assert max(reached) > limit + margin
    assert loop.latch.reason.startswith("limit passed: wrist_roll at 3.")
    assert loop.latch.reason.endswith("limits [-2.74, 2.84], margin 0.279")
    push(loop, "wrist_roll", 0.0)
    # The motor is stronger than nobody: once reset, a commander may bring the arm in from wherever it is.
    loop.reset_fault(200 * PERIOD)
    for tick in range(200, 260):
        send(loop, observed, near, tick * PERIOD)
        observed = loop.tick(tick * PERIOD)
        assert loop.texts()["state"] == "ACTIVE", loop.latch.reason
    assert observed.joints.position[wrist] == pytest.approx(2.7, abs=0.05)


def test_stop_in_motion_decelerates_within_the_limit(loop: RobotLoop) -> None:
    observed = loop.tick(0)
    for tick in range(1, 12):
        send(loop, observed, ROBOT.home_rad + np.array([1.5, 0, 0, 0, 0, 0]), tick * PERIOD)
        observed = loop.tick(tick * PERIOD)
    speeds = [loop.guard.velocity[0]]
    assert speeds[0] > 1.0
    for tick in range(12, 30):
        loop.tick(tick * PERIOD)
        speeds.append(loop.guard.velocity[0])
    assert speeds[-1] == 0.0
    # The command stays valid for two more periods; from then on v falls by a*dt = 30 * 0.02 each period.
    steps = -np.diff(speeds)
    assert steps.max() == pytest.approx(0.6)


def test_equal_seeds_start_equal_and_stamps_never_go_back(loop: RobotLoop) -> None:
    first = loop.reset(7)
    for tick in range(20):
        send(loop, loop.tick(tick * PERIOD), ROBOT.home_rad, tick * PERIOD)
    last = loop.tick(20 * PERIOD)
    again = loop.reset(7)
    assert again.now_ns > last.now_ns
    assert again.joints.stamp_ns == again.now_ns
    np.testing.assert_array_equal(first.joints.position, again.joints.position)
    for a, b in zip(first.objects, again.objects, strict=True):
        np.testing.assert_array_equal(a.position, b.position)
    assert loop.gate.target(again.now_ns, 20 * PERIOD) is None
    assert loop.episode == 2


def test_lockstep_waits_for_a_live_commander_only(loop: RobotLoop) -> None:
    observed = loop.tick(0)
    assert not loop.must_wait(0)
    send(loop, observed, ROBOT.home_rad, 0)
    assert not loop.must_wait(0)
    loop.tick(20 * MS)
    assert loop.must_wait(30 * MS)
    assert loop.must_wait(99 * MS)
    assert not loop.must_wait(101 * MS)
    assert loop.waited == 2


def test_slow_simulation_stretches_the_watchdog() -> None:
    backend, _ = make_backend(ROBOT, "reach", seed=0, render=False)
    assert RobotLoop(backend, real_time_factor=0.1).gate.timeout_ns == 1000 * MS
    assert RobotLoop(backend, real_time_factor=4.0).gate.timeout_ns == 100 * MS
    assert RobotLoop(backend, real_time_factor=4.0).pacer.period_ns == 5 * MS


def test_unknown_backend_says_what_there_is() -> None:
    content = ROBOT.model_dump() | {"backend": {"kind": "feetech", "parameters": {}}}
    with pytest.raises(BackendError, match=r"'feetech'.*available: mujoco"):
        make_backend(RobotProfile.model_validate(content), "drawer", 0, False)


def test_cameras_keep_their_rate_and_take_turns() -> None:
    # 50 Hz over 10 Hz: every 5th tick; the second of two comes floor(5 / 2) = 2 ticks after the first.
    due = {tick: names for tick in range(13) if (names := cameras_due(ROBOT, tick))}
    both, front, wrist = ("front", "wrist"), ("front",), ("wrist",)
    assert due == {0: both, 2: wrist, 5: front, 7: wrist, 10: front, 12: wrist}
    alone = ROBOT.model_copy(update={"cameras": ROBOT.cameras[1:]})
    assert [tick for tick in range(13) if cameras_due(alone, tick)] == [0, 5, 10]


def test_every_camera_shows_the_start_of_an_episode() -> None:
    backend, _ = make_backend(ROBOT, "drawer", seed=3, render=False)
    made = RobotLoop(backend)
    everyone = tuple(camera.name for camera in ROBOT.cameras)
    assert made.start().cameras == everyone
    later = [made.tick(tick * PERIOD).cameras for tick in range(7)]
    assert all(len(names) <= 1 for names in later)  # they take turns
    assert made.reset(4).cameras == everyone
    backend.close()


class Watcher(torch.nn.Module):
    """Sees every camera of the robot, moves each joint in one direction, and keeps the pixels."""

    temporal = TemporalSpec(image_delay=1)

    def __init__(self, task: Task) -> None:
        super().__init__()
        images = tuple(ImageField(camera=camera.name, height=30, width=40) for camera in ROBOT.cameras)
        self.observation_spec = select_fields(task.observation_spec(ROBOT), ("joint_position",), images)
        self.seen: list[list[np.ndarray]] = []

    def forward(self, observation: torch.Tensor, *images: torch.Tensor) -> torch.Tensor:
        self.seen.append([image.numpy()[0].copy() for image in images])
        return torch.full((1, len(ROBOT.joints)), 0.5)


def test_a_policy_in_process_sees_what_the_robot_shows_it() -> None:
    ticks = 14
    env = SealegsEnv("reach", ROBOT)
    watcher, targets = Watcher(env.task), []
    actor = PolicyActor(watcher, env)
    observation, _ = env.reset(seed=3)
    for _ in range(ticks):
        observation, *_ = env.step(actor.act(observation[None])[0])
        targets.append(env.control.guard.position.copy())
    actor.close()
    env.close()
    by_camera = [np.stack(pixels) for pixels in zip(*watcher.seen, strict=True)]
    changes = [(np.flatnonzero((p[1:] != p[:-1]).any((1, 2, 3))) + 1).tolist() for p in by_camera]
    assert changes == [[6, 11], [3, 8, 13]], "a tick after they were taken, as they take turns"

    backend, _ = make_backend(ROBOT, "reach", seed=3, render=True)
    loop = RobotLoop(backend)
    observed = loop.start()
    newest: dict[str, np.ndarray] = {}
    for tick, target in enumerate(targets):
        shown = dict(newest)
        # Images come once the command for their state has, but those of the start are there before it.
        newest |= {image.camera: decode_image(image.data, 30, 40) for image in loop.images(observed.cameras)}
        for camera, pixels in zip(ROBOT.cameras, by_camera, strict=True):
            np.testing.assert_array_equal((shown or newest)[camera.name], pixels[tick], f"{camera.name}, tick {tick}")
        send(loop, observed, target, tick * PERIOD)
        observed = loop.tick(tick * PERIOD)
    backend.close()


def test_pacer_counts_late_and_missed_ticks() -> None:
    pacer = Pacer(20 * MS)
    for begin_ms in (0, 20, 41, 60, 95, 160):
        pacer.begin(begin_ms * MS)
        pacer.end((begin_ms + 3) * MS)
    texts = pacer.texts()
    # periods 20, 21, 19, 35, 65 ms: two late; 35 ms skips one tick, 65 ms two
    assert (texts["ticks"], texts["late"], texts["missed"]) == (6, 2, 3)
    assert (texts["period_p50_ms"], texts["period_max_ms"], texts["busy_max_ms"]) == (21.0, 65.0, 3.0)


def test_gaps_are_counted_in_periods_but_jumps_are_not() -> None:
    gaps = GapCounter({"/joint_states": 20 * MS})
    stamps_ms = (0, 20, 40, 100, 99, 119, 60_000, 60_020)
    counted = [gaps.missing("/joint_states", ms * MS) for ms in stamps_ms]
    assert counted == [0, 0, 0, 2, 0, 0, 0, 0]
    assert gaps.missing("/task", 5) == 0
