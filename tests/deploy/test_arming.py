"""From where a controller may be armed, what limit ends its motion, and how long its bundle may let it wait."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sealegs_contract.errors import BundleError, ControllerError
from sealegs_contract.spec import ImageField
from sealegs_contract.temporal import TemporalSpec
from sealegs_deploy.controller import Controller
from sealegs_deploy.manifest import InputStatistics
from sealegs_deploy.near import far_joints, trained_interval
from sealegs_deploy.pilot import Pilot, check_times
from sealegs_deploy.states import ControllerConfig, State

if TYPE_CHECKING:
    from conftest import Rig

ELBOW, PAN = 2, 0


def trained_at(bundle, mean: np.ndarray, std: float, observation=None, history: int = 1):
    """The bundle, as if the positions (J,) in its data had this mean and deviation; the robot's joints reversed."""
    observation = observation or bundle.manifest.observation
    field = observation.fields[0]
    order = [bundle.manifest.joint_names.index(name) for name in field.joints]
    rest = observation.size - len(order)
    frame = [*(mean[order] * field.scale + field.offset), *[0.0] * rest]
    old = [9.0] * observation.size * (history - 1)
    statistics = InputStatistics(
        mean=(*old, *frame), std=(*[1.0] * len(old), *[std * abs(field.scale)] * len(order), *[1.0] * rest)
    )
    temporal = TemporalSpec(history=history)
    changes = {"input_statistics": statistics, "observation": observation, "temporal": temporal}
    return replace(bundle, manifest=bundle.manifest.model_copy(update=changes))


def test_near_is_the_mean_four_deviations_and_a_tenth_of_the_range(bundle, robot):
    """shoulder_pan moves 3.82 rad, the gripper 1.91: 4 x 0.05 + 0.382 and 4 x 0.05 + 0.191 rad round the mean."""
    mean = np.array([0.1, -1.0, 0.9, 1.1, 0.0, 0.5])
    fields = list(bundle.manifest.observation.fields)
    fields[0] = fields[0].model_copy(update={"joints": robot.joint_names[::-1], "scale": -2.0, "offset": 1.0})
    turned = bundle.manifest.observation.model_copy(update={"fields": tuple(fields)})
    for given in (trained_at(bundle, mean, 0.05), trained_at(bundle, mean, 0.05, turned, history=3)):
        lowest, highest = trained_interval(given.manifest, robot)
        np.testing.assert_allclose([lowest[0], highest[0]], [0.1 - 0.582, 0.1 + 0.582], atol=1e-9)
        np.testing.assert_allclose([lowest[5], highest[5]], [0.5 - 0.391, 0.5 + 0.391], atol=1e-9)
    assert trained_interval(bundle.manifest, robot) is None
    pose = np.array([0.68, -1.0, 0.9, 1.1, 0.0, 0.1])
    assert far_joints(pose, lowest, highest, robot.joint_names) == "gripper at 0.100 rad (expected 0.109 to 0.891)"
    assert far_joints(np.full(6, np.nan), lowest, highest, robot.joint_names).count(" at nan rad") == 6


def test_arming_far_from_the_training_data_is_refused_unless_told_otherwise(bundle, robot, make_rig):
    given = trained_at(bundle, robot.home_rad, 0.05)
    far = robot.home_rad.copy()
    far[PAN] = 0.6
    rig = make_rig(given)
    rig.push(far)
    with pytest.raises(
        ControllerError, match=r"far from .* small .*: shoulder_pan at 0\.600 rad \(expected -0\.582 to 0\.582\); move"
    ):
        rig.controller.arm(rig.now)
    assert rig.controller.state is State.DISARMED
    far[PAN] = 0.58
    rig.step(far)
    rig.controller.arm(rig.now)
    far[PAN] = 1.5
    for anywhere in (make_rig(given, arm_anywhere=True), make_rig()):
        anywhere.push(far)
        anywhere.controller.arm(anywhere.now)
        assert anywhere.step(far) is not None


@pytest.mark.parametrize("holding", [False, True])
def test_a_joint_measured_past_its_limit_is_a_fault(rig: Rig, holding: bool):
    """The elbow's limit is 1.69 rad, its range 3.38: past 1.69 + 0.169 = 1.859 rad."""
    rig.armed()
    if holding:
        rig.policy.output[:] = np.nan
    q = rig.robot.home_rad.copy()
    q[ELBOW] = 1.858
    assert rig.step(q) is not None
    assert rig.controller.state is (State.HOLD if holding else State.ACTIVE)
    q[ELBOW] = 1.860
    assert rig.step(q) is None
    assert rig.controller.state is State.FAULT
    assert rig.controller.reason.startswith("limit passed: elbow_flex at 1.860 rad, limits [-1.69, 1.69]")


def test_an_arm_that_starts_past_a_limit_may_come_in_but_not_go_further_out(rig: Rig):
    q = rig.robot.home_rad.copy()
    q[ELBOW] = 1.99
    rig.step(q)
    rig.controller.arm(rig.now)
    last = q[ELBOW]
    for _ in range(5):
        command = rig.step(q)
        assert command.position[0, ELBOW] <= last
        last = q[ELBOW] = command.position[0, ELBOW]
    assert rig.step(q) is not None
    q[ELBOW] += 0.17
    assert rig.step(q) is None
    assert rig.controller.state is State.FAULT
    rig.controller.reset_fault(rig.now)
    rig.controller.arm(rig.now)
    assert rig.step(q) is not None


@pytest.mark.parametrize(
    ("part", "name"),
    [("timing", "observation_timeout_ms"), ("timing", "command_horizon_ms"), ("observation", "timeout_ms")],
)
def test_a_bundle_may_not_wait_longer_than_silence_is_a_fault(bundle, robot, clock, part: str, name: str):
    config = ControllerConfig(communication_timeout_ms=400.0)
    for value in (400.0, 400.5):
        changed = getattr(bundle.manifest, part).model_copy(update={name: value})
        given = replace(bundle, manifest=bundle.manifest.model_copy(update={part: changed}))
        controller = Controller(robot, config, host_ns=clock)
        if value == 400.0:
            controller.configure(given)
            continue
        with pytest.raises(BundleError, match=rf"{part}\.{name} 400\.5 ms, beyond .* 400 ms"):
            controller.configure(given)
        assert controller.state is State.UNCONFIGURED
    own = Controller(robot, config.model_copy(update={"command_horizon_ms": 401.0}), host_ns=clock)
    with pytest.raises(ControllerError, match="command horizon 401 ms is .* longer than the communication timeout 400"):
        own.configure(bundle)


def test_nor_for_images_longer_than_silence_is_a_fault(bundle):
    images = {"images": (ImageField(camera="front", height=120, width=160),), "image_timeout_ms": 1001.0}
    seeing = bundle.manifest.observation.model_copy(update=images)
    with pytest.raises(BundleError, match=r"observation\.image_timeout_ms 1001 ms, beyond .* 1000 ms"):
        check_times(bundle.manifest.model_copy(update={"observation": seeing}), ControllerConfig())


def test_a_policy_whose_data_were_elsewhere_is_not_swapped_in(bundle, robot, make_rig, clock, samples_at):
    rig = make_rig().armed()
    config, timing = ControllerConfig(), rig.controller.loop_timing
    elsewhere = trained_at(bundle, robot.home_rad + 2.0, 0.05).manifest
    pilot = Pilot(elsewhere, rig.policy, robot, config, timing, clock)
    for sample in samples_at(rig.now, None):
        pilot.push(sample, rig.now, None, may_restart=False)
    with pytest.raises(ControllerError, match="cannot swap.*far from the training data"):
        rig.controller.swap(pilot, rig.now, 100.0)
    assert rig.controller.state is State.ACTIVE
