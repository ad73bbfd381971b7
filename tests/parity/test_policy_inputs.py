"""The same ROS messages through a bag and a dataset, and live through the controller: identical policy inputs."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sealegs_contract.episode import EpisodeInfo, Outcome
from sealegs_contract.robot import load_robot
from sealegs_contract.sample import CommandSample, ImageSample, JointSample, PoseSample
from sealegs_deploy.controller import Controller
from sealegs_deploy.manifest import ExportParity, GraphInfo, Manifest, TimingContract, units_of
from sealegs_learning.data.dataset import Dataset
from sealegs_learning.data.importer import ImportOptions, import_bags
from sealegs_learning.policies.frames import with_images
from sealegs_learning.policies.settings import InputSettings
from sealegs_learning.policies.view import View
from sealegs_learning.transitions import build_transitions, learnable_episodes
from sealegs_ros import conversions
from sealegs_ros.bag import BagWriter

ROBOT = load_robot("so101")
OBJECTS = ("gripper", "handle", "drawer")
PERIOD = ROBOT.control_period_ns
STEPS = 40
INPUTS = InputSettings(
    fields=("handle.object_position", "joint_position"), history=3, cameras=("front",), image_size=(30, 40)
)


def jpeg(rng: np.random.Generator) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def moments() -> list[list[Any]]:
    """What arrives between two ticks: poses, joints, and, once the command is out, the image of a fifth tick."""
    rng = np.random.default_rng(5)
    ticks = []
    for step in range(STEPS):
        stamp = 10**9 + step * PERIOD
        poses = [
            PoseSample(stamp, name, "base_link", rng.normal(size=3), np.array([0.0, 0.0, 0.0, 1.0])) for name in OBJECTS
        ]
        joints = JointSample(
            stamp, ROBOT.joint_names, ROBOT.home_rad + 0.01 * rng.normal(size=6), rng.normal(size=6), np.zeros(6)
        )
        command = CommandSample(stamp, ROBOT.joint_names, rng.normal(size=(1, 6)), (5 * PERIOD,))
        images = [ImageSample(stamp, "front", jpeg(rng))] if step % 5 == 0 else []
        ticks.append([*poses, joints, command, *images])
    return ticks


class Recorder:
    """A policy that stays, and keeps what it saw."""

    def __init__(self) -> None:
        self.vectors: list[np.ndarray] = []
        self.pixels: list[np.ndarray] = []

    def infer(self, observation: np.ndarray, images: Any) -> np.ndarray:
        self.vectors.append(observation.copy())
        self.pixels.append(images["front"].copy())
        return np.zeros(6)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("inputs")
    info = EpisodeInfo(task="drawer", task_text="open the drawer", robot="so101", profile_digest=ROBOT.digest)
    with BagWriter(folder / "bag", ROBOT, info) as writer:
        for sample in (sample for tick in moments() for sample in tick):
            writer.write(sample, sample.stamp_ns)
        writer.close(Outcome.SUCCESS)
    import_bags([folder / "bag"], folder / "dataset", ImportOptions(cameras=("front",)))
    return Dataset.open(folder / "dataset")


def manifest_of(view: View, dataset: Dataset) -> Manifest:
    return Manifest(
        name="recorder",
        version=1,
        created="now",
        robot=ROBOT,
        profile_digest=ROBOT.digest,
        joint_names=ROBOT.joint_names,
        units=units_of(view.observation_spec),
        rate_hz=ROBOT.control_rate_hz,
        observation=view.observation_spec,
        action=dataset.action_spec,
        temporal=view.temporal,
        graph=GraphInfo(opset=20),
        timing=TimingContract.of(ROBOT, view.observation_spec),
        parity=ExportParity(inputs=1, max_abs_difference_rad=0.0),
    )


def test_rows_of_the_dataset_are_what_the_live_policy_saw(dataset: Dataset):
    view = View.make(dataset, INPUTS)
    recorder = Recorder()
    controller = Controller(ROBOT, host_ns=lambda: 0)
    controller.configure_policy(manifest_of(view, dataset), recorder)
    for number, tick in enumerate(moments()):
        live = [conversions.from_message(conversions.topic_of(s), conversions.to_message(s)) for s in tick]
        now = live[0].stamp_ns
        if number == 0:  # a robot streams before its controller is armed
            for sample in live:
                controller.push(replace(sample, stamp_ns=now - PERIOD), now - PERIOD)
            controller.arm(now - PERIOD)
        early = live if number == 0 else live[:4]
        for sample in early:
            controller.push(sample, now)
        assert controller.tick(now) is not None
        for sample in live[len(early) :]:
            controller.push(sample, now)
    episodes = learnable_episodes(dataset)
    np.testing.assert_array_equal(np.stack(recorder.vectors), view.inputs(dataset, episodes))
    transitions = build_transitions(dataset, np.zeros(STEPS, np.float32), view)
    seeing = with_images(transitions, dataset, episodes, view.observation_spec.images, view.temporal.image_delay)
    logged = seeing.frames[0][seeing.frame_of[0]].numpy()
    assert logged.shape == (STEPS - 1, 30, 40, 3)
    np.testing.assert_array_equal(np.stack(recorder.pixels)[:-1], logged)
    assert len(np.unique(seeing.frame_of[0])) == 8
