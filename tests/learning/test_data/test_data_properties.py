"""Every joint_states message is a row or has a reason, whatever arrives; a kill leaves the old or the new dataset."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealegs_contract.robot import load_robot
from sealegs_contract.sample import CommandSample, JointSample, PoseSample
from sealegs_contract.spec import observation_spec
from sealegs_learning.data.align import AlignOptions, Policy, align
from sealegs_learning.data.dataset import Dataset
from sealegs_learning.data.importer import ImportOptions, import_bags

ROBOT = load_robot("so101")
SPEC = observation_spec(ROBOT, ("cube",))
PERIOD = ROBOT.control_period_ns


@st.composite
def streams(draw):
    """Joints, poses and commands with jitter, losses, repeats, NaN and disorder."""
    samples = []
    for step in range(draw(st.integers(0, 30))):
        jitter = draw(st.sampled_from([0, 0, 0, 1_000_000, -3_000_000, 30_000_000]))
        stamp = 10**9 + step * PERIOD + jitter
        value = draw(st.sampled_from([0.1, 0.2, float("nan")] if draw(st.integers(0, 5)) == 0 else [0.3]))
        kinds = draw(st.sets(st.sampled_from(["joints", "again", "pose", "command"])))
        if "joints" in kinds:
            joints = JointSample(stamp, ROBOT.joint_names, np.full(6, value), np.zeros(6), np.zeros(6))
            samples += [joints, joints] if "again" in kinds else [joints]
        if "pose" in kinds:
            samples.append(PoseSample(stamp, "cube", "base", np.full(3, value), np.array([0, 0, 0, 1.0])))
        if "command" in kinds:
            samples.append(CommandSample(stamp, ROBOT.joint_names, np.full((1, 6), value), (PERIOD,)))
    return draw(st.permutations(samples)) if draw(st.booleans()) and len(samples) < 12 else samples


@settings(max_examples=150, deadline=None, derandomize=True)
@given(streams(), st.sampled_from(list(Policy)), st.sampled_from(["drop", "measured"]), st.integers(1, 4))
def test_every_joint_message_is_accounted_for(samples, policy, before, minimum):
    options = AlignOptions(
        SPEC, ROBOT.joint_names, 50.0, {"objects/cube/pose": policy}, before, minimum_rows=minimum
    )  # fmt: skip
    interval = np.diff(
        sorted({s.stamp_ns for s in samples if isinstance(s, JointSample) and np.isfinite(s.position).all()})
    )
    if interval.size and np.median(interval) > 1.5 * PERIOD:
        return  # refused as too slow, tested elsewhere
    result = align(samples, options)
    joints = sum(isinstance(sample, JointSample) for sample in samples)
    assert result.joint_messages == joints == result.rows + sum(result.dropped.values())
    assert all(count > 0 for count in result.dropped.values())
    for segment in result.segments:
        assert len(segment) >= minimum
        assert len(segment.state) == len(segment.action) == len(segment.stamp_ns)
        assert np.isfinite(segment.state).all()
        assert np.isfinite(segment.action).all()
        gaps = np.diff(segment.stamp_ns)
        assert (gaps > 0).all()
        assert (gaps <= 2.5 * PERIOD).all()
    assert sum(result.actions.values()) >= result.rows


CHILD = """
import sys
from sealegs_learning.data.importer import ImportOptions, import_bags
def progress(done, total, name):
    print(done, flush=True)
    if done == int(sys.argv[3]):
        sys.stdin.read()
import_bags([sys.argv[1]], sys.argv[2], ImportOptions(overwrite=True), progress)
"""


@pytest.mark.parametrize("at", [1, 3])  # in the middle, and after the last row
def test_killed_import_leaves_the_old_dataset_and_the_next_one_cleans_up(tmp_path, recipe, mcap_bag, info, at):
    for number in range(3):
        mcap_bag(tmp_path / "bags" / f"e{number}", recipe(seed=number).messages(), info())
    old = import_bags([tmp_path / "bags" / "e0"], tmp_path / "out").fingerprint
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "bags"), str(tmp_path / "out"), str(at)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        while child.stdout.readline().strip() != str(at):
            assert child.poll() is None
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        child.stdin.close()
        child.stdout.close()
    assert Dataset.open(tmp_path / "out").fingerprint == old
    assert len(list(tmp_path.glob(".out.partial-*"))) == 1
    new = import_bags([tmp_path / "bags"], tmp_path / "out", ImportOptions(overwrite=True)).fingerprint
    assert Dataset.open(tmp_path / "out").fingerprint == new != old
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bags", "out"]
