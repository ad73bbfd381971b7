from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from sealegs_contract.errors import BundleError, ControllerError
from sealegs_contract.robot import RobotProfile
from sealegs_contract.sample import JointSample
from sealegs_deploy.controller import Controller
from sealegs_deploy.states import ControllerConfig, State

if TYPE_CHECKING:
    from conftest import Rig

PERIOD_NS = 20_000_000


def reasons(rig: Rig) -> list[tuple[str, str]]:
    return [(str(t.before), str(t.after)) for t in rig.controller.transitions]


def test_commands_follow_hand_arithmetic(rig: Rig):
    """0.01 rad a tick from home: the target leads the (standing) measured pose by at most maximum_lead_rad = 0.3."""
    rig.policy.output[0] = 0.01
    rig.armed()
    home = rig.robot.home_rad
    for k in range(40):
        command = rig.step()
        assert command is not None
        expected = home.copy()
        expected[0] += min(0.01 * (k + 1), 0.3)
        np.testing.assert_allclose(command.position, expected[None], atol=1e-9)
        assert command.names == rig.robot.joint_names
        assert command.stamp_ns == rig.now
        assert command.until_ns == (100_000_000,)


def test_the_guard_limits_and_hold_decelerates_as_hand_arithmetic_says(rig: Rig):
    """30 rad/s^2 at 50 Hz changes the speed by at most 0.6 rad/s a tick; 0.05 rad a tick is 2.5 rad/s."""
    rig.policy.output[0] = 0.05
    rig.armed()
    position = 0.0
    for speed in (0.6, 1.2, 1.8, 2.4, 2.5):
        command = rig.step()
        position += speed * 0.02
        assert command.position[0, 0] == pytest.approx(position, abs=1e-9)
    rig.policy.output[0] = np.nan
    for speed in (1.9, 1.3, 0.7, 0.1, 0.0, 0.0):
        command = rig.step()
        position += speed * 0.02
        assert rig.controller.state is State.HOLD
        assert command.position[0, 0] == pytest.approx(position, abs=1e-9)


def test_the_policy_sees_the_assembled_vector(rig: Rig, observed):
    rig.armed()
    q = rig.robot.home_rad + 0.05
    rig.step(q)
    fields = observed.split(rig.policy.seen[-1])
    np.testing.assert_allclose(fields["joint_position"], q, atol=1e-6)
    np.testing.assert_allclose(fields["handle.object_position"], [0.2, 0.01, 0.1], atol=1e-6)


def test_arming_starts_from_the_measured_pose(rig: Rig):
    q = rig.robot.home_rad + 0.2
    rig.push(q)
    rig.controller.arm(rig.now)
    np.testing.assert_allclose(rig.step(q).position[0], q, atol=1e-12)


def test_nothing_is_sent_before_arming_nor_after_disarming(rig: Rig):
    assert [rig.step() for _ in range(5)] == [None] * 5
    rig.armed()
    assert rig.step() is not None
    rig.controller.disarm(rig.now)
    assert [rig.step() for _ in range(5)] == [None] * 5
    assert reasons(rig) == [("unconfigured", "disarmed"), ("disarmed", "active"), ("active", "disarmed")]


def test_arming_needs_every_stream_and_fresh(rig: Rig):
    with pytest.raises(ControllerError, match=r"nothing yet on joint_states, objects/gripper/pose, objects/handle"):
        rig.controller.arm(rig.now)
    rig.push()
    rig.wait(150)
    with pytest.raises(ControllerError, match=r"stale: joint_states by 150 ms.*use_sim_time"):
        rig.controller.arm(rig.now)
    assert rig.controller.state is State.DISARMED
    rig.push()
    rig.controller.arm(rig.now)
    with pytest.raises(ControllerError, match="cannot arm: the controller is active"):
        rig.controller.arm(rig.now)


@pytest.mark.parametrize("stopped", ["joint_states", "objects/handle/pose"])
def test_a_stream_that_stops_means_hold_within_its_timeout(rig: Rig, stopped: str):
    rig.armed()
    rig.step()
    for elapsed in range(20, 200, 20):
        rig.wait()
        for sample in rig.samples_at(rig.now):
            if isinstance(sample, JointSample) != (stopped == "joint_states") and (
                stopped == "joint_states" or "handle" not in getattr(sample, "object_name", "")
            ):
                rig.controller.push(sample)
        if stopped != "joint_states":
            rig.controller.push(rig.samples_at(rig.now)[-1])
        rig.controller.tick(rig.now)
        assert rig.controller.state is (State.ACTIVE if elapsed <= 100 else State.HOLD)
    assert stopped in rig.controller.reason


def test_streams_that_live_with_frozen_stamps_mean_hold(rig: Rig):
    rig.armed()
    frozen = rig.now
    for _ in range(6):
        rig.wait()
        rig.push(stamp_ns=frozen)
        rig.controller.tick(rig.now)
    assert rig.controller.state is State.HOLD


def test_robot_time_that_stands_still_means_hold_by_the_host_clock(rig: Rig):
    rig.armed()
    for elapsed in range(20, 700, 20):
        rig.clock.advance_ms(20)
        rig.controller.tick(rig.now)
        assert rig.controller.state is (State.ACTIVE if elapsed <= 500 else State.HOLD)
    assert "host time" in rig.controller.reason


def test_a_sample_is_used_once_and_older_ones_never(rig: Rig):
    rig.armed()
    assert rig.step() is not None
    assert rig.controller.tick(rig.now) is None
    used = len(rig.policy.seen)
    rig.push(position=rig.robot.home_rad + 0.1, stamp_ns=rig.now - PERIOD_NS)
    assert rig.controller.tick(rig.now + 1000) is None
    assert len(rig.policy.seen) == used


def test_a_stream_at_twice_the_rate_does_not_move_the_robot_twice_as_fast(rig: Rig):
    rig.policy.output[0] = 0.01
    rig.armed()
    commands = []
    for _ in range(20):
        rig.wait(10)
        rig.push()
        commands.append(rig.controller.tick(rig.now))
    sent = [c for c in commands if c is not None]
    assert len(sent) == 10
    assert sent[-1].position[0, 0] == pytest.approx(0.1, abs=1e-9)


def test_resume_needs_a_second_of_fresh_streams_and_an_operator(rig: Rig):
    rig.armed()
    rig.step()
    rig.wait(200)
    rig.controller.tick(rig.now)
    assert rig.controller.state is State.HOLD
    for _ in range(50):
        rig.step()
        assert rig.controller.state is State.HOLD
    with pytest.raises(ControllerError, match="fresh for 980 ms"):
        rig.controller.resume(rig.now)
    rig.step()
    rig.controller.resume(rig.now)
    assert rig.controller.state is State.ACTIVE
    assert rig.step() is not None
    assert rig.controller.state is State.ACTIVE


def test_hold_keeps_its_pose_one_command_a_period_then_faults(rig: Rig):
    rig.armed()
    rig.step()
    rig.controller.tick(rig.now)
    rig.policy.output[:] = np.inf
    last = rig.step()
    commands = []
    while rig.controller.state is State.HOLD:
        rig.wait(5)
        if rig.now % PERIOD_NS == 0:
            rig.push()
        commands.append(rig.controller.tick(rig.now))
    held_s = len(commands) * 0.005
    assert held_s == pytest.approx(rig.robot.hold.timeout_s, abs=0.05)
    sent = [c for c in commands if c is not None]
    assert len(sent) == pytest.approx(held_s * 50 * 20 / 15 * 0.75, rel=0.35)
    gaps = np.diff([c.stamp_ns for c in sent])
    assert gaps.min() >= 0.75 * PERIOD_NS
    assert gaps.max() <= PERIOD_NS
    np.testing.assert_allclose(sent[-1].position, last.position, atol=1e-9)
    assert rig.controller.state is State.FAULT
    assert "without being resumed" in rig.controller.reason
    assert rig.step() is None


def test_a_hold_ends_at_the_measured_pose_of_an_arm_that_was_blocked(rig: Rig):
    """The commands lead the standing arm by 0.3 rad: held there, it would push on."""
    rig.policy.output[0] = 0.04
    rig.armed()
    for _ in range(20):
        last = rig.step()
    assert last.position[0, 0] == pytest.approx(rig.robot.home_rad[0] + 0.3, abs=1e-9)
    rig.policy.output[0] = np.nan
    held = [rig.step() for _ in range(40)]
    np.testing.assert_allclose(held[0].position, last.position, atol=1e-9)
    np.testing.assert_allclose(held[-1].position[0], rig.robot.home_rad, atol=1e-9)
    # On the way back it keeps the limits of acceleration: 30 rad/s^2, 0.012 rad a period^2.
    path = np.array([last.position[0], *(c.position[0] for c in held)])
    assert np.abs(np.diff(path, 2, axis=0)).max() <= 30.0 * 0.02**2 + 1e-9
    rig.policy.output[0] = 0.01
    for _ in range(60):
        rig.step()
    rig.controller.resume(rig.now)
    np.testing.assert_allclose(rig.step().position[0, 0], rig.robot.home_rad[0] + 0.01, atol=1e-9)


def test_a_robot_that_does_not_follow_means_hold_and_only_the_operator_goes_on(rig: Rig):
    followed = rig.controller.followed
    followed.say(False, "no command yet")
    for _ in range(40):
        rig.step()
    rig.armed()  # since then it has half a second, 25 periods of 20 ms, however long it stood before
    for _ in range(24):
        assert rig.step() is not None
    followed.say(True, "following commands")
    for _ in range(40):
        rig.step()
    assert rig.controller.state is State.ACTIVE
    followed.say(False, "no command for 100 ms")
    states = []
    for _ in range(30):
        rig.step()
        states.append(rig.controller.state)
    assert states.index(State.HOLD) == 25
    assert "no command for 100 ms" in rig.controller.reason
    followed.say(True, "following commands")
    for _ in range(80):
        rig.step()
    assert rig.controller.state is State.HOLD
    rig.controller.resume(rig.now)
    assert rig.controller.state is State.ACTIVE


def test_fault_is_left_only_by_reset_and_leads_to_disarmed(rig: Rig):
    rig.armed()
    rig.controller.fault("second commander", rig.now)
    for call in (rig.controller.arm, rig.controller.resume, rig.controller.disarm):
        with pytest.raises(ControllerError, match="second commander"):
            call(rig.now)
    rig.controller.reset_fault(rig.now)
    assert rig.controller.state is State.DISARMED
    assert rig.step() is None


def test_emergency_stop_latches_until_released_and_reset(rig: Rig):
    rig.armed()
    rig.controller.e_stop(True, rig.now)
    assert rig.controller.state is State.FAULT
    with pytest.raises(ControllerError, match="still pressed"):
        rig.controller.reset_fault(rig.now)
    rig.controller.e_stop(False, rig.now)
    assert [rig.step() for _ in range(3)] == [None] * 3
    rig.controller.reset_fault(rig.now)
    assert rig.controller.state is State.DISARMED
    assert rig.controller.status()["emergency_stop"] is False


def test_emergency_stop_pressed_before_configuring_is_remembered(bundle, robot, clock):
    controller = Controller(robot, host_ns=clock)
    controller.e_stop(True, 0)
    assert controller.state is State.UNCONFIGURED
    controller.configure(bundle)
    assert controller.state is State.FAULT


def test_a_slow_inference_counts_as_a_miss_and_one_beyond_the_horizon_is_discarded(rig: Rig):
    rig.policy.output[0] = 0.01
    rig.armed()
    assert rig.step() is not None
    rig.policy.before = lambda: rig.clock.advance_ms(12)
    assert rig.step() is not None
    assert rig.controller.timing()["misses"] == 1
    rig.policy.before = lambda: rig.clock.advance_ms(101)
    command = rig.step()
    assert rig.controller.state is State.HOLD
    assert "overrun" in rig.controller.reason
    # The hold command decelerates from 0.5 rad/s at once: no third step of 0.01 rad.
    assert command.position[0, 0] == pytest.approx(0.02, abs=1e-9)


@pytest.mark.parametrize("hours", [1.0, -1.0])
def test_a_clock_jump_makes_no_step_and_needs_the_operator(rig: Rig, hours: float):
    rig.policy.output[0] = 0.01
    rig.armed()
    for _ in range(5):
        last = rig.step()
    rig.now += round(hours * 3600e9)
    for _ in range(3):
        command = rig.step()
        assert rig.controller.state is State.HOLD
        if command is not None:
            assert abs(command.position - last.position).max() <= 0.011
    if hours > 0:
        for _ in range(60):
            rig.step()
        assert rig.controller.state is State.HOLD
        rig.controller.resume(rig.now)
    else:
        rig.controller.disarm(rig.now)
        rig.step()
        rig.controller.arm(rig.now)
    assert rig.step() is not None


def test_a_simulator_that_starts_again_at_zero_can_be_armed_again(rig: Rig):
    rig.armed()
    rig.step()
    rig.controller.disarm(rig.now)
    rig.now = 0
    for _ in range(3):
        rig.step()
    rig.controller.arm(rig.now)
    assert rig.step() is not None


def test_a_stamp_from_the_future_cannot_shut_out_the_later_samples(rig: Rig):
    rig.armed()
    rig.step()
    for sample in rig.samples_at(rig.now + 3600 * 10**9):
        assert not rig.controller.push(sample, now_ns=rig.now)
    assert rig.controller.rejected_samples == 3
    assert "in the future" in rig.controller.last_rejection
    assert rig.step() is not None
    assert rig.controller.state is State.ACTIVE


def test_samples_that_are_not_finite_or_lack_a_joint_are_counted_and_lead_to_hold(rig: Rig):
    rig.armed()
    rig.step()
    for _ in range(6):
        rig.wait()
        *poses, joints = rig.samples_at(rig.now)
        for pose in poses:
            rig.controller.push(pose)
        broken = joints.position.copy()
        broken[2] = np.nan
        rig.controller.push(JointSample(rig.now, joints.names, broken, joints.velocity, joints.effort))
        rig.controller.push(
            JointSample(rig.now, joints.names[1:], joints.position[1:], joints.velocity[1:], joints.effort[1:])
        )
        rig.controller.tick(rig.now)
    assert rig.controller.state is State.HOLD
    assert rig.controller.timing()["rejected_samples"] == 12
    assert "shoulder_pan" in rig.controller.reason
    assert "last refused sample" in rig.controller.reason


def test_permuted_joints_are_matched_by_name(rig: Rig):
    rig.armed()
    order = [3, 1, 5, 0, 2, 4]
    names = rig.robot.joint_names
    q = rig.robot.home_rad + np.arange(6) * 0.01
    rig.wait()
    for sample in rig.samples_at(rig.now)[:-1]:
        rig.controller.push(sample)
    zeros = np.zeros(6)
    rig.controller.push(JointSample(rig.now, tuple(names[i] for i in order), q[order], zeros, zeros))
    command = rig.controller.tick(rig.now)
    np.testing.assert_allclose(rig.policy.seen[-1][:6], q, atol=1e-6)
    assert command.names == names


def test_a_moment_waits_for_the_poses_that_belong_to_it(rig: Rig):
    rig.armed()
    rig.step()
    rig.wait()
    gripper, handle, joints = rig.samples_at(rig.now)
    rig.controller.push(joints)
    assert rig.controller.waiting_for() == ("objects/gripper/pose", "objects/handle/pose")
    rig.controller.push(handle)
    assert rig.controller.waiting_for() == ("objects/gripper/pose",)
    rig.controller.push(gripper)
    assert rig.controller.waiting_for() == ()


def test_a_slower_stream_with_stamps_of_its_own_is_not_waited_for(rig: Rig):
    rig.armed()
    rig.wait()
    gripper, handle, joints = rig.samples_at(rig.now)
    rig.controller.push(gripper)
    rig.controller.push(
        type(handle)(rig.now - 3_000_000, "handle", "base_link", handle.position, handle.orientation_xyzw)
    )
    rig.controller.push(joints)
    rig.wait()
    rig.controller.push(rig.samples_at(rig.now)[-1])
    assert rig.controller.waiting_for() == ("objects/gripper/pose",)


def test_timing_measures_what_the_clocks_say(rig: Rig):
    rig.armed()
    for milliseconds in (1, 2, 3):
        rig.wait()
        rig.push()
        rig.clock.advance_ms(milliseconds)
        rig.policy.before = lambda: rig.clock.advance_ms(0.5)
        assert rig.controller.tick(rig.now + 4_000_000) is not None
        rig.clock.advance_ms(0.25)
        rig.controller.sent()
    timing = rig.controller.timing()
    assert timing["inference"] == pytest.approx({"count": 3, "p50_ms": 0.5, "p99_ms": 0.5, "max_ms": 0.5})
    assert timing["command_latency"]["p50_ms"] == pytest.approx(2.75)
    assert timing["command_latency"]["max_ms"] == pytest.approx(3.75)
    assert timing["observation_age"] == pytest.approx({"count": 3, "p50_ms": 4.0, "p99_ms": 4.0, "max_ms": 4.0})


def test_stamp_is_never_before_the_observation(rig: Rig):
    """/clock may lag behind the samples of its moment."""
    rig.armed()
    rig.wait()
    rig.push()
    assert rig.controller.tick(rig.now - 5_000_000).stamp_ns == rig.now


def test_transitions_are_kept_and_reported(bundle, robot, clock):
    heard = []
    controller = Controller(robot, on_transition=heard.append, host_ns=clock)
    with pytest.raises(ControllerError, match="no policy yet"):
        controller.arm(0)
    controller.configure(bundle, now_ns=5)
    assert [(t.now_ns, t.before, t.after) for t in heard] == [(5, State.UNCONFIGURED, State.DISARMED)]
    with pytest.raises(ControllerError, match="must be unconfigured"):
        controller.configure(bundle)
    controller.unconfigure(6)
    assert controller.state is State.UNCONFIGURED
    assert controller.status()["policy"] == ""
    assert list(controller.transitions) == heard
    assert controller.tick(7) is None
    assert not controller.push(JointSample(0, (), np.zeros(0), np.zeros(0), np.zeros(0)))


def test_a_bundle_for_another_robot_leaves_the_controller_unconfigured(bundle, robot, clock):
    data = robot.model_dump()
    data["joints"][0]["velocity_max_rad_s"] = 2.0
    controller = Controller(RobotProfile.model_validate(data), host_ns=clock)
    with pytest.raises(BundleError, match=r"joints\.0\.velocity_max_rad_s is 3\.0 in the bundle, 2\.0 here"):
        controller.configure(bundle)
    assert controller.state is State.UNCONFIGURED
    short = Controller(robot, ControllerConfig(command_horizon_ms=10.0), host_ns=clock)
    with pytest.raises(ControllerError, match="shorter than the period"):
        short.configure(bundle)
    assert short.state is State.UNCONFIGURED


def test_the_real_policy_drives_as_numpy_says(bundle, robot, clock, samples_at, module, moved):
    """Whole chain against an independent computation: torch policy, scaling, then prev + output within the limits."""
    import torch

    controller = Controller(robot, host_ns=clock)
    controller.configure(bundle)
    # Away from the limits: near them the guard brakes, which this computation leaves out.
    now, q = 10_000 * 10**9, np.array([0.0, -0.5, 0.5, 0.5, 0.0, 0.8])
    for sample in samples_at(now, q):
        controller.push(sample)
    controller.arm(now)
    previous, velocity = q.copy(), np.zeros(6)
    for _ in range(10):
        clock.advance_ms(20)
        now += PERIOD_NS
        for sample in samples_at(now, q):
            controller.push(sample)
        vector = np.concatenate([q, np.zeros(6), [0.2, 0.0, 0.1], [0.2, 0.01, 0.1]]).astype(np.float32)
        with torch.no_grad():
            action = module(torch.from_numpy(vector)[None])[0].double().numpy()
        wanted = np.clip(previous + action * np.array(moved.scale_rad), q - 0.3, q + 0.3)
        velocity = np.clip((wanted - previous) / 0.02, velocity - 0.6, velocity + 0.6)
        previous = previous + velocity * 0.02
        np.testing.assert_allclose(controller.tick(now).position[0], previous, atol=1e-6)
        q = q + 0.5 * (previous - q)
