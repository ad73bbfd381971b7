"""The same ROS messages, live and through a bag file: identical samples, vectors and dataset rows, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from sealegs_contract.episode import EpisodeInfo, Outcome
from sealegs_contract.observation import ObservationAssembler
from sealegs_contract.robot import load_robot
from sealegs_contract.sample import CommandSample, ImageSample, JointSample, PoseSample
from sealegs_contract.spec import observation_spec
from sealegs_learning.data.bag import Bag
from sealegs_learning.data.dataset import Dataset
from sealegs_learning.data.importer import ImportOptions, import_bags
from sealegs_ros import conversions
from sealegs_ros.bag import BagWriter

ROBOT = load_robot("so101")
OBJECTS = ("gripper", "handle", "drawer")
PERIOD = ROBOT.control_period_ns


def random_samples(steps: int) -> list:
    """What the robot node publishes, in its order; awkward numbers included, and velocities that jitter in time."""
    rng = np.random.default_rng(11)
    awkward = [0.1, 1 / 3, -0.0, 5e-324, 1e-30, np.pi, 1.7976931348623157e308 * 1e-290]
    samples = []
    for step in range(steps):
        stamp = 10**9 + step * PERIOD + int(rng.integers(-2_000_000, 2_000_000))
        for name in OBJECTS:
            quaternion = rng.normal(size=4)
            samples.append(
                PoseSample(stamp, name, "base_link", rng.normal(size=3), quaternion / np.linalg.norm(quaternion))
            )
        position = np.where(rng.random(6) < 0.2, rng.choice(awkward, 6), rng.normal(size=6))
        samples.append(JointSample(stamp, ROBOT.joint_names, position, rng.normal(size=6), rng.normal(size=6)))
        if step % 5 == 0:
            samples.append(ImageSample(stamp, "front", _jpeg(step)))
        samples.append(CommandSample(stamp, ROBOT.joint_names, rng.normal(size=(2, 6)), (PERIOD, 5 * PERIOD)))
    return samples


def _jpeg(step: int) -> bytes:
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (160, 120), (step, 20, 200 - step)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    samples = random_samples(60)
    folder = tmp_path_factory.mktemp("parity") / "bag"
    info = EpisodeInfo(task="drawer", task_text="open the drawer", robot="so101", profile_digest=ROBOT.digest)
    with BagWriter(folder, ROBOT, info) as writer:
        for sample in samples:
            writer.write(sample, sample.stamp_ns)
        writer.close(Outcome.SUCCESS)
    live = [conversions.from_message(conversions.topic_of(s), conversions.to_message(s)) for s in samples]
    return folder, live


def same(a, b) -> bool:
    """Equal in type and in every bit."""
    if type(a) is not type(b):
        return False
    for name in a.__slots__:
        x, y = getattr(a, name), getattr(b, name)
        equal = x.tobytes() == y.tobytes() and x.shape == y.shape if isinstance(x, np.ndarray) else x == y
        if not equal:
            return False
    return True


def test_every_sample_survives_bit_for_bit(recorded):
    folder, live = recorded
    offline = [message.sample for message in Bag(folder).messages() if message.sample is not None]
    assert len(offline) == len(live) == 60 * 5 + 12
    assert all(same(a, b) for a, b in zip(offline, live, strict=True))


def test_imported_rows_are_the_live_vectors(recorded, tmp_path):
    folder, live = recorded
    spec = observation_spec(ROBOT, OBJECTS)
    assembler = ObservationAssembler(spec)
    vectors, actions = [], []
    for sample in live:
        if isinstance(sample, CommandSample):
            actions.append(sample.position[0])
        assembler.push(sample)
        if isinstance(sample, JointSample):
            vectors.append(assembler.assemble(sample.stamp_ns).vector)
    report = import_bags([folder], tmp_path / "out", ImportOptions(cameras=()))
    dataset = Dataset.open(tmp_path / "out")
    assert report.dropped == {}
    assert dataset.state.tobytes() == np.stack(vectors).tobytes()
    assert dataset.action.tobytes() == np.stack(actions).astype(np.float32).tobytes()
    assert dataset.observation_spec == spec
    assert dataset.episodes[0].outcome == "success"


def test_unknown_velocity_is_nan_on_both_paths(tmp_path):
    from sensor_msgs.msg import JointState

    message = JointState(name=["a", "b", "c"], position=[1.0, 2.0, 3.0])
    live = conversions.from_message("joint_states", message)
    info = EpisodeInfo(task="t", task_text="t", robot="so101", profile_digest=ROBOT.digest)
    with BagWriter(tmp_path / "bag", ROBOT, info) as writer:
        writer.write_message("joint_states", message, 5)
    (offline,) = [m.sample for m in Bag(tmp_path / "bag").messages()]
    assert same(live, offline)
    assert np.isnan(offline.velocity).all()
