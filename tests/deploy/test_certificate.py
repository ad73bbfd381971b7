"""gate.json: whose thresholds it is judged by, of which bytes it speaks, and that a kill leaves a whole bundle."""

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

from sealegs_contract.errors import BundleError
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
from sealegs_deploy.gate_probe import SensorNoise
from sealegs_deploy.gate_thresholds import RULES, default_thresholds, judge

BAGS = (ExaminedBag(name="bag", sha256="ab" * 32, episodes=1),)


def passing(examined):
    """Figures that keep every threshold: the limits themselves."""
    lines = judge(examined.figures, default_thresholds())
    kept = {f: line.limit for line in lines if (f := _figure(line.threshold)) and not line.passed}
    return examined.figures.model_copy(update=kept)


def _figure(threshold):
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


@pytest.mark.parametrize(
    ("chosen", "figures", "said"),
    [
        ({"slope_min": 0.01}, {"slope": 0.02}, ["slope_min: 0.02 (must be >= 0.3)"]),
        ({"loop_gain_max": None}, {"loop_gain": None}, ["loop_gain_max: not measured (must be <= 0.5)"]),
        (
            {"may_be_missing": (*default_thresholds().may_be_missing, "bias_max")},
            {"bias": None},
            ["bias_max: not measured (must be <= 0.75)"],
        ),
        (
            {"foreign_joint_margin": 2.0},
            {},
            ["foreign_joints_max: measured with foreign_joint_margin 2.0 (must be 0.1)"],
        ),
        (
            {"noise": SensorNoise(joint_position_rad=1e-9)},
            {},
            ["sensitivity_max, input_shift_max", "measured with noise joint_position_rad=1e-09", "(must be joint_pos"],
        ),
    ],
)
def test_a_robot_judges_by_its_own_thresholds_not_by_those_of_the_certificate(bundle, examined, chosen, figures, said):
    lax = default_thresholds().model_copy(update=chosen)
    certificate = make_certificate(bundle, BAGS, lax, passing(examined).model_copy(update=figures))
    certified = VerifiedBundle(bundle.manifest, {**bundle.files, GATE_NAME: certificate.to_bytes()}, "", "b")
    assert check_certificate(certified).passed
    with pytest.raises(BundleError) as caught:
        check_certificate(certified, default_thresholds())
    for part in ("this robot's thresholds", *said):
        assert part in str(caught.value)
        assert part in gate_line(certified) or part == "this robot's thresholds"
    assert check_certificate(certified, lax) == certificate


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
    said = rf"this robot's thresholds: slope_min: {certificate.figures.slope:g} \(must be >= 0\.9\)"
    with pytest.raises(BundleError, match=said):
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
