"""Images against pinhole arithmetic; looks; films; machines that cannot render."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sealegs_contract.errors import SimulationError
from sealegs_contract.robot import RobotProfile
from sealegs_sim.env import SealegsEnv
from sealegs_sim.looks import Look, randomise_look, turned
from sealegs_sim.policies import ScriptedPolicy
from sealegs_sim.rebuild import state_of
from sealegs_sim.render import SceneRenderer, jpeg
from sealegs_sim.scene import Scene


def acted(task: str, steps: int, seed: int = 11) -> tuple[SealegsEnv, np.ndarray]:
    env, policy = SealegsEnv(task), ScriptedPolicy(task)
    observation, _ = env.reset(seed=seed)
    for _ in range(steps):
        observation = env.step(policy.act(observation).astype(np.float32))[0]
    return env, observation


def is_green(image: np.ndarray) -> np.ndarray:
    r, g, b = (image[..., i].astype(int) for i in range(3))
    return (g > 60) & (g > r + 40) & (g > b + 30)


def test_objects_appear_where_the_profiles_intrinsics_put_them(scenes: dict[str, Scene], robot: RobotProfile) -> None:
    scene, camera = scenes["push"], robot.camera("front")
    with SceneRenderer(scene) as renderer:
        position = scene.model.camera("front").pos
        axes = np.empty(9)
        import mujoco

        mujoco.mju_quat2Mat(axes, scene.model.camera("front").quat)
        for zone in ([0.30, 0.10, 0.0], [0.22, -0.08, 0.0], [0.35, 0.0, 0.0]):
            qpos = scene.model.qpos0.copy()
            qpos[scene.joint_address("cube") : scene.joint_address("cube") + 3] = [1.0, 1.0, -1.0]  # out of the way
            image = renderer.render_state(qpos, "front", np.array([zone]))
            rows, columns = np.nonzero(is_green(image))
            x, y, z = axes.reshape(3, 3).T @ (np.array(zone) - position)  # MuJoCo's cameras look along -z, y up
            u, v = camera.cx + camera.fx * x / -z, camera.cy - camera.fy * y / -z
            assert len(rows) > 30
            assert columns.mean() + 0.5 == pytest.approx(u, abs=1.0)
            assert rows.mean() + 0.5 == pytest.approx(v, abs=1.5)


def test_rendering_repeats_and_any_size_works(scene: Scene) -> None:
    qpos = scene.model.qpos0
    with SceneRenderer(scene) as renderer, SceneRenderer(scene) as other:
        first = renderer.render_state(qpos)
        assert first.shape == (120, 160, 3)
        assert first.dtype == np.uint8
        np.testing.assert_array_equal(first, renderer.render_state(qpos))
        np.testing.assert_array_equal(first, other.render_state(qpos))
        assert renderer.render_state(qpos, "wrist", width=200, height=100).shape == (100, 200, 3)
        assert renderer.render_state(qpos, width=800, height=600).shape == (600, 800, 3)
        with pytest.raises(SimulationError, match="qpos of shape"):
            renderer.render_state(qpos[:-1])


def test_front_camera_sees_the_drawer_open() -> None:
    env, start = acted("drawer", 0)
    _, end = acted("drawer", 130)
    yellow = []
    with SceneRenderer(env.scene) as renderer:
        for observation in (start, end):
            state = state_of(env.scene, observation)
            image = renderer.render_state(state.qpos, "front", state.mocap_pos, state.mocap_quat).astype(int)
            mask = (image[..., 0] > 120) & (image[..., 0] > image[..., 2] + 90) & (image[..., 1] > image[..., 2] + 40)
            yellow.append(int(mask.sum()))
    assert env.task.progress(env.scene.observation_spec.split(end)) == 1.0
    assert yellow[1] > 2.5 * yellow[0] > 0


@pytest.mark.parametrize("task", ["reach", "push", "drawer"])
def test_state_is_rebuilt_from_an_observation(task: str) -> None:
    env, observation = acted(task, 70)
    state = state_of(env.scene, observation)
    data = env.simulation.data
    np.testing.assert_allclose(state.mocap_pos, data.mocap_pos, atol=1e-6)
    np.testing.assert_allclose(state.mocap_quat, data.mocap_quat, atol=1e-6)
    known = slice(None)
    if task == "push":  # all but the cube's rotation
        at = env.scene.joint_address("cube")
        known = np.array([i for i in range(len(state.qpos)) if not at + 3 <= i < at + 7])
    np.testing.assert_allclose(state.qpos[known], data.qpos[known], atol=1e-6)


def test_looks_change_the_image_and_can_be_undone(scene: Scene) -> None:
    qpos = scene.model.qpos0
    with SceneRenderer(scene) as renderer:
        base = Look.of(renderer.model)
        plain = renderer.render_state(qpos)
        images = []
        for seed in (0, 0, 1):
            randomise_look(renderer.model, np.random.default_rng(seed), base)
            images.append(renderer.render_state(qpos))
        np.testing.assert_array_equal(images[0], images[1])
        assert np.abs(images[0].astype(int) - plain).mean() > 3.0
        assert np.abs(images[0].astype(int) - images[2]).mean() > 3.0
        base.apply(renderer.model)
        np.testing.assert_array_equal(renderer.render_state(qpos), plain)
    # The physics' own model never changed.
    np.testing.assert_array_equal(scene.model.mat_rgba, base.arrays["mat_rgba"])
    np.testing.assert_array_equal(scene.model.cam_pos, base.arrays["cam_pos"])


def test_turned_by_hand() -> None:
    half = np.sqrt(0.5)
    assert turned(np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.0, 0.0, np.pi / 2])) == pytest.approx(
        [half, 0.0, 0.0, half]
    )
    assert turned(np.array([half, half, 0.0, 0.0]), np.zeros(3)) == pytest.approx([half, half, 0.0, 0.0])


def test_jpeg_keeps_the_picture_and_refuses_others(scenes: dict[str, Scene]) -> None:
    import io

    with SceneRenderer(scenes["drawer"]) as renderer:
        image = renderer.render_state(scenes["drawer"].model.qpos0)
    decoded = np.asarray(Image.open(io.BytesIO(jpeg(image))))
    assert np.abs(decoded.astype(int) - image).mean() < 4.0
    with pytest.raises(SimulationError, match="JPEG needs"):
        jpeg(image[..., 0])


def run_code(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k not in {"MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"}}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=kept | environment
    )


def test_without_opengl_physics_work_and_rendering_names_the_fix() -> None:
    code = (
        "import ctypes.util; find = ctypes.util.find_library;"
        "ctypes.util.find_library = lambda n: None if n == 'OSMesa' else find(n);"
        "from sealegs_sim.env import SealegsEnv; from sealegs_contract.errors import MachineError\n"
        "env = SealegsEnv('reach', render_mode='rgb_array'); env.reset(seed=0); env.step(env.action_space.sample())\n"
        "try: env.render()\nexcept MachineError as error: print(error)"
    )
    for environment in ({}, {"MUJOCO_GL": "osmesa"}):
        done = run_code(code, **environment)
        assert "libosmesa6 is missing; install it" in done.stdout, done.stderr


def test_opengl_is_chosen_without_a_display() -> None:
    done = run_code("import sealegs_sim, os; print(os.environ['MUJOCO_GL'])")
    assert done.stdout.strip() == "osmesa", done.stderr


def test_view_films_without_a_display(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sealegs.cli import main

    film = tmp_path / "films" / "reach.gif"
    assert main(["view", "--task", "reach", "--film", str(film), "--width", "96", "--fps", "5"]) == 0
    assert "success" in capsys.readouterr().out
    with Image.open(film) as gif:
        assert gif.size == (96, 72)
        assert gif.n_frames == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["view"], "the viewer needs a display"),
        (["view", "--film", "x.mp4"], "animated .gif"),
        (["view", "--film", "x.gif", "--policy", "genius"], "no policy 'genius'"),
        (["view", "--film", "x.gif", "--camera", "top"], "no camera 'top'"),
        (["view", "--film", "x.gif", "--fps", "0"], "--fps 1 to 50"),
    ],
)
def test_view_answers_bad_input_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sealegs.cli import main

    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
