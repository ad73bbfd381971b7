"""The replay gate's parts: figures by hand, the replay against the live controller, thresholds."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

from sealegs_contract.errors import ActionError, BundleError
from sealegs_contract.sample import CommandSample, JointSample
from sealegs_deploy import gate_figures as figure
from sealegs_deploy.controller import Controller
from sealegs_deploy.gate import examine
from sealegs_deploy.gate_replay import HostClock, replay
from sealegs_deploy.gate_thresholds import RULES, default_thresholds, judge, load_thresholds
from sealegs_deploy.support import SupportVerdict


def test_figures_against_hand_arithmetic():
    a = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.5], [-1.0, -0.5]])
    assert figure.explained(a, a) == 1.0
    assert figure.explained(np.zeros_like(a), a) == pytest.approx(0.0)
    assert figure.explained(-a, a) == pytest.approx(-3.0)  # (2 a)^2 over a^2
    assert figure.slope(4.0 * a, a) == pytest.approx(0.25)
    assert figure.size_ratio(0.2 * a, a) == pytest.approx(0.2)
    assert figure.correlation(3.0 * a, a) == pytest.approx(1.0)
    assert figure.bias(np.add(a, [0.5, 0.0]), a) == pytest.approx([0.5, 0.0])  # joint 0 deviates by 1
    assert figure.saturated_share(a) == 0.5
    assert figure.limited_share(a, np.add(a, [[0.0, 0.0], [0.0, 1e-3], [0.0, 0.0], [0.0, 1e-9]])) == 0.25
    assert figure.jumps(a).max() == 2.0
    # A step of the delta from 0 to 1 mrad in 20 ms is 2.5 rad/s^2.
    assert figure.acceleration_share(np.array([[0.0], [1e-3]]), True, 0.02, np.array([5.0])) == pytest.approx(0.5)
    assert figure.wilson_low(4, 20) == pytest.approx(0.080657, abs=1e-5)
    assert (figure.wilson_low(0, 9), figure.wilson_low(3, 3)) == pytest.approx((0.0, 0.438503), abs=1e-5)
    rotation = np.array([[[0.0, -2.0], [2.0, 0.0]], [[0.5, 0.0], [0.0, 0.1]]])
    assert figure.loop_gain(rotation) == pytest.approx([2.0, 0.5])


def test_joints_that_follow_another_joints_record_are_named():
    rng = np.random.default_rng(0)
    b = rng.normal(size=(500, 5))
    b[:, 3] *= 1e-3  # stands still
    swapped = b[:, [1, 0, 2, 3, 4]]
    observed = np.concatenate([b[:, :4], rng.normal(size=(500, 1))], axis=1)  # joint 4 shakes by chance
    moved = figure.telling_joints(observed, b)
    assert moved.tolist() == [True, True, True, False, False]
    assert figure.foreign_joints(figure.joint_correlations(b, b), moved, 0.1) == []
    assert figure.foreign_joints(figure.joint_correlations(swapped, b), moved, 0.1) == [0, 1]


class Steady:
    """A policy that always gives the same deltas."""

    def __init__(self, joints: int = 6) -> None:
        self.asked = 0
        self.output = np.linspace(-0.01, 0.02, joints)

    def infer(self, observation, images):
        self.asked += 1
        return self.output * np.cos(0.1 * self.asked)


class Late(Steady):
    def infer(self, observation, images):
        if 5 <= self.asked < 8:
            time.sleep(0.15)  # the horizon is 100 ms; it is asked again, to tell it from a busy machine
        return super().infer(observation, images)


class Failing(Steady):
    def infer(self, observation, images):
        output = super().infer(observation, images)
        if self.asked == 5:
            raise ActionError("policy output is not finite")
        return output


def test_replay_gives_the_commands_of_the_live_controller(bundle, robot, episode):
    found = replay(bundle.manifest, Steady(), robot, episode)
    clock = HostClock()
    live = Controller(robot, host_ns=clock)
    live.configure_policy(bundle.manifest, Steady())
    commands = []
    for sample in episode.samples[: 75 * 4]:  # up to the gap
        if isinstance(sample, CommandSample):
            continue
        clock.reach(sample.stamp_ns)
        live.push(sample, sample.stamp_ns)
        if isinstance(sample, JointSample):
            if live.state == "disarmed":
                live.arm(sample.stamp_ns)
            if (command := live.tick(sample.stamp_ns)) is not None:
                commands.append(command.position[0])
    np.testing.assert_array_equal(found.command[: len(commands)], commands)
    assert len(commands) == 74
    # The gap stops it, and a second of fresh streams later the gate resumes, as an operator would.
    assert found.stream_holds
    assert "stale" in found.stream_holds[0]
    assert found.policy_holds == ()
    assert 74 + 20 < len(found.output) < 74 + 75 - 49


def test_recorded_outputs_are_the_steps_of_the_recorded_commands(bundle, robot, episode):
    found = replay(bundle.manifest, Steady(), robot, episode)
    targets = np.array([s.position[0] for s in episode.samples if isinstance(s, CommandSample)])
    assert np.isnan(found.recorded[0]).all()
    np.testing.assert_array_equal(found.recorded[1:74], np.diff(targets, axis=0)[1:74])


@pytest.mark.parametrize(("policy", "said"), [(Late(), "overrun"), (Failing(), "not finite")])
def test_holds_that_the_policy_causes_are_blamed_on_it(bundle, robot, episode, policy, said):
    found = replay(bundle.manifest, policy, robot, episode)
    assert len(found.policy_holds) == 1
    assert said in found.policy_holds[0]
    assert found.armed
    assert len(found.command) == len(found.output) == len(found.elapsed_ns)


def test_an_episode_alarms_once_however_often_it_is_resumed(bundle, robot, episode):
    """A guard that alarms in every period: it is resumed again and again, and five episodes are five alarms."""
    verdict = SupportVerdict(9.0, 0.1, "always")
    guard = SimpleNamespace(check=lambda seen: verdict, forget=lambda: None)
    assert replay(bundle.manifest, Steady(), robot, episode, guard).support_alarms > 1
    found = examine(bundle, robot, [episode] * 5, default_thresholds(), lambda: guard)
    assert found.figures.support_alarmed == 1.0
    assert found.figures.support_alarmed_low == figure.wilson_low(5, 5)
    assert all(one.support_alarmed for one in found.episodes)
    assert "support_alarmed_max" in {v.threshold for v in judge(found.figures, default_thresholds()) if not v.passed}


def test_a_random_policy_is_refused(examined):
    failed = {line.threshold for line in judge(examined.figures, default_thresholds()) if not line.passed}
    assert {"agreement_min", "slope_min"} <= failed
    assert "repetition_max" not in failed


def test_what_was_not_measured_fails_unless_it_may(examined):
    figures = examined.figures.model_copy(update={"slope": None})
    lines = {line.threshold: line.passed for line in judge(figures, default_thresholds())}
    assert not lines["slope_min"]
    assert lines["value_gain_min"]
    assert lines["support_alarmed_max"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slope_minimum: 1", "extra_forbidden|Extra inputs"),
        ("slope_min: much", "slope_min"),
        ("slope_min: .nan", "slope_min"),
        ("a: &a 1\nb: *a", "aliases"),
        ("slope_min: 1\nslope_min: 2", "repeated"),
        ("- 1", "expected names"),
        ("may_be_missing: [speed_max]", "speed_max"),
        ("".join(f"{name}: null\n" for name in RULES), "every threshold is null: there is nothing to judge by"),
        ("#" * 70_000, "bytes"),
    ],
)
def test_malformed_thresholds_are_refused(tmp_path, text, said):
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    with pytest.raises(BundleError, match=said):
        load_thresholds(path)


def test_thresholds_that_are_left_out_stay_as_shipped(tmp_path):
    path = tmp_path / "gate.yaml"
    path.write_text("slope_min: null\nepisodes_min: 50\n")
    found = load_thresholds(path)
    assert (found.slope_min, found.episodes_min) == (None, 50)
    assert found.model_copy(update={"slope_min": 0.3, "episodes_min": 5}) == default_thresholds()
