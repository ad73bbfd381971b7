"""Chunks, history and cameras: exported, loaded and driven by the controller."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sealegs_contract.errors import ActionError, BundleError, ControllerError
from sealegs_contract.pixels import decode_image
from sealegs_contract.robot import RobotProfile
from sealegs_contract.sample import ImageSample
from sealegs_contract.spec import ImageField, ObservationSpec
from sealegs_contract.temporal import TemporalSpec, stack_history
from sealegs_deploy.bundle import VerifiedBundle, load_bundle
from sealegs_deploy.controller import Controller
from sealegs_deploy.export import ExportRequest, export_bundle
from sealegs_deploy.manifest import Manifest, check_fits, parse_manifest, summary
from sealegs_deploy.runtime import PolicyRuntime
from sealegs_deploy.states import State

PERIOD_NS = 20_000_000
START_NS = 10_000 * 10**9
FRONT = ImageField(camera="front", height=24, width=32)
TEMPORAL = TemporalSpec(history=3, chunk=4, execute=2, image_delay=1)


class SeeingPolicy(torch.nn.Module):
    """tanh(W [vector, mean colour of each camera]) as a chunk; seeded."""

    def __init__(self, observed: int, moved: int, cameras: int) -> None:
        super().__init__()
        self.moved = moved
        weight = torch.randn(4 * moved, 3 * observed + 3 * cameras, generator=torch.Generator().manual_seed(3))
        self.weight = torch.nn.Parameter(0.3 * weight)

    def forward(self, observation: torch.Tensor, *images: torch.Tensor) -> torch.Tensor:
        colours = [image.to(torch.float32).mean(dim=(1, 2)) / 255.0 for image in images]
        return torch.tanh(torch.cat([observation, *colours], dim=1) @ self.weight.T).view(-1, 4, self.moved)


@pytest.fixture(scope="module")
def seeing(observed: ObservationSpec) -> ObservationSpec:
    return observed.model_copy(update={"images": (FRONT,)})


@pytest.fixture(scope="module")
def seeing_bundle(
    robot: RobotProfile, seeing: ObservationSpec, moved: Any, key: Any, tmp_path_factory: pytest.TempPathFactory
) -> VerifiedBundle:
    module = SeeingPolicy(seeing.size, moved.size, 1)
    request = ExportRequest(name="seeing", robot=robot, observation=seeing, action=moved, temporal=TEMPORAL)
    out = tmp_path_factory.mktemp("seeing") / "bundle"
    export_bundle(module, request, out, key)
    return load_bundle(out)


def jpeg(rng: np.random.Generator) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def test_the_exported_chunk_is_torchs(seeing_bundle: VerifiedBundle, seeing: ObservationSpec, moved: Any):
    runtime = PolicyRuntime(seeing_bundle)
    module = SeeingPolicy(seeing.size, moved.size, 1)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 3 * seeing.size)).astype(np.float32)
    pixels = rng.integers(0, 256, (20, 24, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = module(torch.from_numpy(vectors), torch.from_numpy(pixels)).numpy() * np.array(moved.scale_rad)
    single = [runtime.infer(v, {"front": p}) for v, p in zip(vectors, pixels, strict=True)]
    assert single[0].shape == (4, 6)
    np.testing.assert_allclose(np.stack(single), expected, atol=1e-6)
    np.testing.assert_allclose(runtime.infer_batch(vectors, {"front": pixels}), expected, atol=1e-6)


def test_images_are_checked(seeing_bundle: VerifiedBundle, seeing: ObservationSpec):
    runtime, vector = PolicyRuntime(seeing_bundle), np.zeros(3 * seeing.size, np.float32)
    with pytest.raises(ActionError, match="camera front gave nothing"):
        runtime.infer(vector)
    with pytest.raises(ActionError, match=r"gave uint8 \(24, 31, 3\), the policy expects uint8 \(24, 32, 3\)"):
        runtime.infer(vector, {"front": np.zeros((24, 31, 3), np.uint8)})
    with pytest.raises(ActionError, match="gave float32"):
        runtime.infer(vector, {"front": np.zeros((24, 32, 3), np.float32)})


def test_the_manifest_says_what_the_policy_sees_and_plans(seeing_bundle: VerifiedBundle, robot: RobotProfile):
    manifest = seeing_bundle.manifest
    assert manifest.temporal == TEMPORAL
    assert manifest.observation.images == (FRONT,)
    lines = summary(manifest)
    assert "camera/front" in lines["observation"]
    assert "newest 3 frames" in lines["observation"]
    assert "2 of each 4 executed" in lines["action"]
    check_fits(manifest, robot)
    blind = robot.model_copy(update={"cameras": ()})
    with pytest.raises(BundleError, match="sees camera front, which robot so101 does not have; available: none"):
        check_fits(manifest, blind)


def test_bundles_from_before_still_load(bundle: VerifiedBundle):
    """Their manifests know nothing of time: one frame in, one action out."""
    text = bundle.manifest.to_bytes().decode()
    start = text.index(' "temporal": {')
    old = text[:start] + text[text.index("},\n", start) + 3 :]
    manifest = parse_manifest(old.encode())
    assert '"temporal"' not in old
    assert manifest == bundle.manifest
    assert manifest.temporal == TemporalSpec()


def test_a_graph_with_other_extents_is_refused(seeing_bundle: VerifiedBundle):
    import dataclasses

    for changes in ({"chunk": 5}, {"history": 2}):
        temporal = TEMPORAL.model_copy(update=changes)
        changed = seeing_bundle.manifest.model_copy(update={"temporal": temporal})
        with pytest.raises(BundleError, match="expected only"):
            PolicyRuntime(dataclasses.replace(seeing_bundle, manifest=changed))


class Recorder:
    """Outputs chunk n as n + 0, 1/8, 2/8, ... in units of 1e-3 rad, and keeps its inputs."""

    def __init__(self, chunk: int, joints: int) -> None:
        self.chunk, self.joints = chunk, joints
        self.vectors: list[np.ndarray] = []
        self.pixels: list[Mapping[str, np.ndarray]] = []

    def infer(self, observation: np.ndarray, images: Mapping[str, np.ndarray]) -> np.ndarray:
        self.vectors.append(observation.copy())
        self.pixels.append(dict(images))
        steps = len(self.vectors) + np.arange(self.chunk) / 8
        return np.repeat(1e-3 * steps[:, None], self.joints, axis=1)


class SeeingRig:
    """A controller with a recorded policy; all streams come each period, the image one period late at 10 Hz."""

    def __init__(self, manifest: Manifest, robot: RobotProfile, clock: Any, samples_at: Any) -> None:
        self.policy = Recorder(manifest.temporal.chunk, len(robot.joints))
        self.controller = Controller(robot, host_ns=clock)
        self.controller.configure_policy(manifest, self.policy)
        self.robot, self.clock, self.samples_at, self.now = robot, clock, samples_at, START_NS
        self.rng = np.random.default_rng(0)
        self.files: list[bytes] = []
        self.frames: list[np.ndarray] = []
        self.tick = 0

    def image(self) -> None:
        self.files.append(jpeg(self.rng))
        self.controller.push(ImageSample(self.now, "front", self.files[-1]), self.now)

    def streams(self) -> None:
        for sample in self.samples_at(self.now, self.robot.home_rad + 0.001 * self.tick):
            self.controller.push(sample, self.now)

    def step(self) -> Any:
        self.tick += 1
        self.clock.advance_ms(20)
        self.now += PERIOD_NS
        self.streams()
        command = self.controller.tick(self.now)
        if self.tick % 5 == 0:
            self.image()
        return command

    def armed(self) -> SeeingRig:
        self.streams()
        self.image()
        self.controller.arm(self.now)
        return self


@pytest.fixture
def rig(seeing_bundle: VerifiedBundle, robot: RobotProfile, clock: Any, samples_at: Any) -> SeeingRig:
    return SeeingRig(seeing_bundle.manifest, robot, clock, samples_at)


def test_chunks_are_executed_action_by_action_and_renewed(rig: SeeingRig):
    """Commands integrate 1, 1 + 1/8, 2, 2 + 1/8, ... in 1e-3 rad: two of each chunk of four."""
    rig.armed()
    position, expected = rig.robot.home_rad.copy(), []
    for k in range(6):
        position = position + 1e-3 * (1 + k // 2 + (k % 2) / 8)
        expected.append(position)
    commands = [rig.step() for _ in range(6)]
    np.testing.assert_allclose([c.position[0] for c in commands], expected, atol=1e-12)
    assert len(rig.policy.vectors) == 3
    assert rig.controller.timing()["inference"]["count"] == 3
    assert rig.controller.timing()["observation_age"]["count"] == 6
    assert all(c.until_ns == (100_000_000,) for c in commands), "each command expires on its own, not with its chunk"


def test_history_and_images_are_those_that_a_dataset_of_the_messages_gives(rig: SeeingRig, seeing: ObservationSpec):
    rig.armed()
    for _ in range(12):
        rig.step()
    frames = []
    for tick in range(1, 13):
        frame = np.zeros(seeing.size, np.float32)
        slices = seeing.slices()
        frame[slices["joint_position"]] = rig.robot.home_rad + 0.001 * tick
        frame[slices["gripper.object_position"]] = (0.2, 0.0, 0.1)
        frame[slices["handle.object_position"]] = (0.2, 0.01, 0.1)
        frames.append(frame)
    stacked = stack_history(np.stack(frames), 3)
    np.testing.assert_array_equal(np.stack(rig.policy.vectors), stacked[::2])
    seen = [rig.files[(tick - 1) // 5] for tick in range(1, 13, 2)]  # an image at tick 5 is there from tick 6 on
    for pixels, file in zip(rig.policy.pixels, seen, strict=True):
        np.testing.assert_array_equal(pixels["front"], decode_image(file, 24, 32))


def test_a_camera_that_stops_means_hold_by_its_own_limit_and_nobody_waits_for_it(rig: SeeingRig):
    rig.armed()
    assert rig.controller.waiting_for() == ()
    for _ in range(5):
        rig.step()
    assert rig.controller.waiting_for() == (), "image and joints of one stamp: the next joints do not wait for an image"
    held = None
    for tick in range(6, 60):
        rig.clock.advance_ms(20)
        rig.now += PERIOD_NS
        rig.streams()
        rig.controller.tick(rig.now)
        if rig.controller.state is State.HOLD:
            held = tick
            break
    assert held == 5 + 26, "500 ms after the image of tick 5, a period late"
    assert "camera/front by 520 ms (allowed: 500 ms" in rig.controller.reason


def test_resuming_forgets_the_frames_and_the_chunk_of_before(rig: SeeingRig, seeing: ObservationSpec):
    rig.armed()
    rig.step()
    rig.clock.advance_ms(200)
    rig.now += 10 * PERIOD_NS
    rig.controller.tick(rig.now)
    assert rig.controller.state is State.HOLD
    rig.image()
    for _ in range(55):
        rig.step()
    asked = len(rig.policy.vectors)
    rig.controller.resume(rig.now)
    rig.step()
    assert len(rig.policy.vectors) == asked + 1
    oldest, middle, newest = rig.policy.vectors[-1].reshape(3, seeing.size)
    np.testing.assert_array_equal(oldest, newest)
    np.testing.assert_array_equal(middle, newest)


def test_a_torn_image_is_counted_and_the_last_good_one_stays(rig: SeeingRig):
    rig.armed()
    assert not rig.controller.push(ImageSample(rig.now + 1, "front", b"torn"), rig.now)
    assert rig.controller.rejected_samples == 1
    assert "not readable" in rig.controller.last_rejection
    rig.step()
    np.testing.assert_array_equal(rig.policy.pixels[-1]["front"], decode_image(rig.files[0], 24, 32))


def test_arming_waits_for_the_camera(rig: SeeingRig):
    rig.streams()
    with pytest.raises(ControllerError, match="nothing yet on camera/front"):
        rig.controller.arm(rig.now)
