"""MujocoBackend against the RobotBackend protocol and against SealegsEnv."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from sealegs_contract.backend import RobotBackend
from sealegs_contract.errors import BackendError, MachineError, SimulationError
from sealegs_contract.observation import ObservationAssembler
from sealegs_contract.robot import RobotProfile
from sealegs_sim.backend import MujocoBackend
from sealegs_sim.control import JointControl
from sealegs_sim.env import SealegsEnv
from sealegs_sim.tasks import TASKS


@pytest.fixture(params=sorted(TASKS))
def backend(request: pytest.FixtureRequest, robot: RobotProfile) -> Iterator[MujocoBackend]:
    made = MujocoBackend(robot, request.param, seed=1)
    yield made
    made.close()


def test_protocol(backend: MujocoBackend, robot: RobotProfile) -> None:
    assert isinstance(backend, RobotBackend)
    assert backend.simulated
    backend.connect()
    before = backend.read()
    assert before.names == robot.joint_names
    assert before.position.shape == before.velocity.shape == before.effort.shape == (6,)
    # Reading does not move the world.
    np.testing.assert_array_equal(before.position, backend.read().position)
    assert backend.now_ns() == before.stamp_ns
    backend.write(before.position)
    backend.advance()
    assert backend.now_ns() == before.stamp_ns + robot.control_period_ns
    assert np.abs(backend.read().position - before.position).max() < 0.05  # connect() must not move it
    poses = backend.object_poses()
    assert {pose.object_name for pose in poses} == set(TASKS[backend.task.name].objects)
    for pose in poses:
        assert pose.frame == robot.base_frame
        assert pose.stamp_ns == backend.now_ns()
        assert np.linalg.norm(pose.orientation_xyzw) == pytest.approx(1.0)
    assert all(isinstance(v, str) for v in backend.health().values())


def test_images_are_jpegs_of_the_profile(backend: MujocoBackend, robot: RobotProfile) -> None:
    samples = backend.images(["front", "wrist"])
    for sample, camera in zip(samples, robot.cameras, strict=True):
        image = Image.open(io.BytesIO(sample.data))
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (camera.width, camera.height))
        assert np.asarray(image).std() > 10.0
    with pytest.raises(SimulationError, match="no camera top; available: front, wrist"):
        backend.images(["top"])
    assert MujocoBackend(robot, "reach", render=False).images(["front"]) == []


def test_same_seed_and_actions_give_the_envs_observations(backend: MujocoBackend) -> None:
    env = SealegsEnv(backend.task)
    expected, _ = env.reset(seed=21)
    backend.connect()
    backend.reset(21)
    assembler = ObservationAssembler(backend.scene.observation_spec)
    control = JointControl(backend.profile, backend.scene.action_spec)
    control.reset(backend.read().position)
    rng = np.random.default_rng(0)
    for _ in range(60):
        for sample in (backend.read(), *backend.object_poses()):
            assembler.push(sample)
        observed = assembler.assemble(backend.now_ns())
        assert observed.fresh
        np.testing.assert_array_equal(observed.vector, expected)
        action = rng.uniform(-1.0, 1.0, 6)
        backend.write(control.targets(action, backend.read().position))
        backend.advance()
        expected = env.step(action)[0]


def test_images_do_not_change_the_physics(robot: RobotProfile) -> None:
    blind, seeing = MujocoBackend(robot, "push", seed=3), MujocoBackend(robot, "push", seed=3)
    for backend in (blind, seeing):
        backend.connect()
        backend.write(robot.home_rad)
    for _ in range(10):
        seeing.images(["front"])
        blind.advance(), seeing.advance()
        np.testing.assert_array_equal(blind.simulation.state(), seeing.simulation.state())
    seeing.close()


def test_stamps_go_on_across_resets_and_never_repeat(robot: RobotProfile) -> None:
    backend = MujocoBackend(robot, "reach")
    backend.connect()
    stamps = []
    for _ in range(3):
        backend.reset(5)
        stamps.append(backend.now_ns())
        for _ in range(4):
            backend.advance()
            stamps.append(backend.now_ns())
    assert sorted(set(stamps)) == stamps


def test_reset_without_seed_draws_new_starts(robot: RobotProfile) -> None:
    backend = MujocoBackend(robot, "reach", seed=0)
    first = backend.read().position
    backend.reset()
    assert not np.array_equal(first, backend.read().position)
    backend.reset(0)
    np.testing.assert_array_equal(first, backend.read().position)


def test_bad_writes(backend: MujocoBackend) -> None:
    home = backend.read().position
    with pytest.raises(BackendError, match=r"write\(\) before connect"):
        backend.write(home)
    backend.connect()
    with pytest.raises(BackendError, match="6,"):
        backend.write(home[:5])
    with pytest.raises(BackendError, match="finite"):
        backend.write(np.full(6, np.inf))


def test_divergence_is_reported_and_reset_recovers(robot: RobotProfile) -> None:
    backend = MujocoBackend(robot, "drawer")
    backend.connect()
    backend.write(robot.home_rad)
    backend.simulation.data.qvel[:] = np.nan
    with pytest.raises(BackendError, match="diverged"):
        backend.advance()
    backend.reset(0)
    backend.write(robot.home_rad)
    backend.advance()
    assert np.isfinite(backend.read().position).all()
    backend.close()
    backend.close()


def test_a_viewer_needs_a_display(robot: RobotProfile, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    backend = MujocoBackend(robot, "reach", render=False, viewer=True)
    with pytest.raises(MachineError, match="needs a display"):
        backend.connect()
    backend.close()
