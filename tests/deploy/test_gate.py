"""The replay gate's parts: figures by hand, the replay against the live controller, thresholds, certificates."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from types import MappingProxyType

import numpy as np
import pytest

from sealegs_contract.errors import ActionError, BundleError
from sealegs_contract.sample import CommandSample, JointSample
from sealegs_deploy import gate_figures as figure
from sealegs_deploy.bundle import VerifiedBundle, load_bundle, write_bundle
from sealegs_deploy.certificate import (
    GATE_NAME,
    ExaminedBag,
    certify,
    check_certificate,
    gate_line,
    make_certificate,
    revoke,
)
from sealegs_deploy.controller import Controller
from sealegs_deploy.gate import examine
from sealegs_deploy.gate_replay import GateEpisode, HostClock, replay
from sealegs_deploy.gate_thresholds import default_thresholds, judge, load_thresholds

PERIOD = 20_000_000
BAGS = (ExaminedBag(name="bag", sha256="ab" * 32, episodes=1),)


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


@pytest.fixture
def episode(robot, samples_at):
    """Three seconds at 50 Hz, commanded on the way to 0.3 rad, with a gap of half a second."""
    samples = []
    for k in range(150):
        stamp = 10**9 + k * PERIOD + (500_000_000 if k >= 75 else 0)
        position = robot.home_rad + 0.002 * k
        samples += samples_at(stamp, position)
        samples.append(CommandSample(stamp, robot.joint_names, position[None] + 0.01 * np.sin(k), (5 * PERIOD,)))
    return GateEpisode("one", samples, True)


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


@pytest.fixture
def examined(bundle, robot, episode):
    return examine(bundle, robot, [episode] * 5, default_thresholds())


def test_a_random_policy_is_refused(examined):
    failed = {line.threshold for line in judge(examined.figures, default_thresholds()) if not line.passed}
    assert {"agreement_min", "slope_min"} <= failed
    assert "repetition_max" not in failed


def test_what_was_not_measured_fails_unless_it_may(examined):
    figures = examined.figures.model_copy(update={"slope": None})
    lines = {line.threshold: line.passed for line in judge(figures, default_thresholds())}
    assert not lines["slope_min"]
    assert lines["value_gain_min"]
    assert lines["support_alarms_per_minute_max"]


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


def passing(examined):
    """Figures that keep every threshold: the limits themselves."""
    lines = judge(examined.figures, default_thresholds())
    kept = {f: line.limit for line in lines if (f := _figure(line.threshold)) and not line.passed}
    return examined.figures.model_copy(update=kept)


def _figure(threshold):
    from sealegs_deploy.gate_thresholds import RULES

    return RULES[threshold][0]


def test_more_candidates_than_were_examined_are_refused(bundle, examined):
    def holding(content):
        return VerifiedBundle(bundle.manifest, {**bundle.files, GATE_NAME: json.dumps(content).encode()}, "", "b")

    certificate = make_certificate(bundle, BAGS, default_thresholds(), passing(examined), candidates=8)
    content = json.loads(certificate.to_bytes())
    assert "best of 8" in check_certificate(holding(content), candidates=8).summary
    with pytest.raises(BundleError, match="9 candidates are asked for, but the gate examined 8"):
        check_certificate(holding(content), candidates=9)
    del content["candidates"]  # of an earlier release
    assert check_certificate(holding(content)).candidates == 1
    with pytest.raises(BundleError, match="--candidates 2"):
        check_certificate(holding(content), candidates=2)


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_a_certificate_speaks_of_these_bytes(bundle, examined, key, tmp_path, suffix):
    path = write_bundle(bundle.files, tmp_path / f"bundle{suffix}", key)
    plain = load_bundle(path)
    with pytest.raises(BundleError, match="no gate certificate"):
        check_certificate(plain)
    certificate = make_certificate(plain, BAGS, default_thresholds(), passing(examined))
    certify(plain, certificate, key)
    with pytest.raises(BundleError, match="changed since it was read"):
        certify(plain, certificate, key)  # what lies there now is the certified one
    certified = load_bundle(path)
    assert check_certificate(certified) == certificate
    assert gate_line(certified).startswith("passed")
    stricter = default_thresholds().model_copy(update={"slope_min": 0.9})
    with pytest.raises(BundleError, match="did not pass the gate: slope_min"):
        check_certificate(certified, stricter)
    changed = {**certified.files, "README.md": b"another file"}
    write_bundle(changed, path, key, overwrite=True)  # signed again, so only the certificate can tell
    with pytest.raises(BundleError, match=r"other files than these: README\.md"):
        check_certificate(load_bundle(path))
    assert revoke(load_bundle(path), key)
    assert not revoke(load_bundle(path), key)
    assert GATE_NAME not in load_bundle(path).files


def test_a_refused_bundle_gets_no_certificate_whatever_it_says(bundle, examined, key, tmp_path):
    path = write_bundle(bundle.files, tmp_path / "bundle", key)
    refused = make_certificate(load_bundle(path), BAGS, default_thresholds(), examined.figures)
    with pytest.raises(BundleError, match="did not pass"):
        certify(load_bundle(path), refused, key)
    assert GATE_NAME not in load_bundle(path).files
    lying = json.dumps({**json.loads(refused.to_bytes()), "passed": True}).encode()
    forged = VerifiedBundle(bundle.manifest, MappingProxyType({**bundle.files, GATE_NAME: lying}), "", path)
    with pytest.raises(BundleError, match="Extra inputs"):
        check_certificate(forged)


def test_a_kill_while_certifying_leaves_a_whole_bundle(bundle, examined, key, tmp_path):
    path = write_bundle(bundle.files, tmp_path / "bundle", key)
    certificate = make_certificate(bundle, BAGS, default_thresholds(), passing(examined))
    (tmp_path / "gate.json").write_bytes(certificate.to_bytes())
    script = (
        "import sys; from pathlib import Path; from sealegs_deploy.bundle import load_bundle\n"
        "from sealegs_deploy.certificate import certify, parse_certificate, revoke\n"
        "from sealegs_deploy.signing import own_key\n"
        "path, gate = Path(sys.argv[1]), parse_certificate(Path(sys.argv[2]).read_bytes())\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    certify(load_bundle(path), gate, own_key()); revoke(load_bundle(path), own_key())\n"
    )
    command = [sys.executable, "-c", script, str(path), str(tmp_path / "gate.json")]
    rng = np.random.default_rng(0)
    for _ in range(4):
        child = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ.copy())
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.0, 0.3))
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
            child.stdout.close()
        assert load_bundle(path).policy == bundle.policy
