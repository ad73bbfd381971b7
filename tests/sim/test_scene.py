"""The model against the public dimensions, the servo's constants, and the profile."""

import math
import os
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest

import sealegs_sim
from sealegs_contract.errors import SimulationError
from sealegs_contract.robot import RobotProfile
from sealegs_sim.scene import Scene, build_scene, field_of_view_deg
from sealegs_sim.simulation import Simulation
from sealegs_sim.starts import sample_start

ASSETS = Path(sealegs_sim.__file__).parent / "assets"
KT, R, VOLTS, VISCOUS = 1.2116, 2.6762, 7.4, 0.05909  # Rhoban BAM, feetech_sts3215_7_4V/m1


def pose(scene: Scene, joints: list[float]) -> Simulation:
    simulation = Simulation(scene)
    simulation.data.qpos[scene.joint_qpos] = joints
    mujoco.mj_kinematics(scene.model, simulation.data)
    return simulation


def test_zero_pose_has_the_public_dimensions(scene: Scene) -> None:
    # Upper arm up, forearm and gripper forward: the sums of the public joint origins.
    x = 0.0388 + 0.0304 + 0.028 + 0.1349 + 0.0611 + 0.0981
    z = 0.0624 + 0.0542 + 0.11257 + 0.0052 - 0.0079
    np.testing.assert_allclose(pose(scene, [0.0] * 6).object_position("gripper"), [x, 0.0, z], atol=1e-9)


def test_joint_directions(scenes: dict[str, Scene]) -> None:
    tip = [pose(scenes["reach"], list(row)).object_position("gripper") for row in 0.2 * np.eye(6)[:4]]
    rest = pose(scenes["reach"], [0.0] * 6).object_position("gripper")
    assert tip[0][1] < -0.05  # pan: clockwise seen from above
    assert all(t[2] < rest[2] - 0.02 for t in tip[1:])  # the pitch joints lower the hand


def test_limits_and_cameras_agree_between_file_and_profile(scene: Scene, robot: RobotProfile) -> None:
    raw = mujoco.MjModel.from_xml_path(str(ASSETS / f"{scene.task.name}.xml"))
    for joint in robot.joints:
        limits = [joint.position_min_rad, joint.position_max_rad]
        np.testing.assert_allclose(raw.joint(joint.name).range, limits)
        np.testing.assert_allclose(raw.actuator(joint.name).ctrlrange, limits)
        np.testing.assert_allclose(raw.actuator(joint.name).forcerange, [-joint.effort_max_n_m, joint.effort_max_n_m])
    for camera in robot.cameras:
        expected = math.degrees(2.0 * math.atan(camera.height / 2.0 / camera.fy))
        assert scene.model.camera(camera.name).fovy[0] == pytest.approx(expected, abs=1e-9)
        assert raw.camera(camera.name).fovy[0] == pytest.approx(expected, abs=0.02)
        assert (camera.fx, camera.cx, camera.cy) == (camera.fy, camera.width / 2, camera.height / 2)


def test_field_of_view_by_hand() -> None:
    assert field_of_view_deg(120, 60.0) == pytest.approx(90.0)


def test_servo_constants(scenes: dict[str, Scene]) -> None:
    model = scenes["reach"].model
    dof = model.joint("shoulder_pan").dofadr[0]
    assert model.dof_armature[dof] == 0.0284
    assert model.dof_frictionloss[dof] == 0.05239
    assert model.dof_damping[dof] == VISCOUS
    # Full duty at 0.188 rad of error gives the stall torque kt V / R; kv holds the back-EMF kt^2 / R and 0.3 of D gain.
    kp, kv = model.actuator("shoulder_pan").gainprm[0], -model.actuator("shoulder_pan").biasprm[2]
    assert kp * 0.188 == pytest.approx(KT * VOLTS / R, rel=0.002)
    assert kv == pytest.approx(KT**2 / R + 0.30, abs=1e-3)


def test_held_arm_sags_by_torque_over_gain(scenes: dict[str, Scene]) -> None:
    scene = scenes["reach"]
    simulation = Simulation(scene)
    start = sample_start(scene, np.random.default_rng(0))
    simulation.start(start)
    hold = start.qpos[scene.joint_qpos].copy()
    for _ in range(150):
        simulation.step(hold)
    sag = simulation.position - hold
    # Equilibrium: kp (hold - q) = gravity torque, up to the static friction that stopped the joint early.
    mujoco.mj_forward(scene.model, simulation.data)
    gravity = simulation.data.qfrc_bias[scene.joint_dof]
    np.testing.assert_allclose(-17.8 * sag, gravity, atol=0.05239 + 1e-3)
    assert 0.005 < sag[1] < 0.05


def test_step_response_settles_with_little_overshoot(scenes: dict[str, Scene]) -> None:
    scene = scenes["reach"]
    simulation = Simulation(scene)
    simulation.start(sample_start(scene, np.random.default_rng(0)))
    goal = simulation.position.copy()
    goal[0] += 0.3
    pan = []
    for _ in range(50):
        simulation.step(goal)
        pan.append(simulation.position[0])
    assert max(pan) < goal[0] + 0.15 * 0.3
    assert abs(pan[20] - goal[0]) < 0.03


def test_state_round_trip_is_exact(scene: Scene) -> None:
    simulation = Simulation(scene)
    simulation.reset(np.random.default_rng(4))
    rng = np.random.default_rng(0)
    targets = simulation.position + rng.uniform(-0.3, 0.3, (40, 6))
    for row in targets[:20]:
        simulation.step(row)
    state = simulation.state()
    for row in targets[20:]:
        simulation.step(row)
    first = simulation.observation()
    simulation.set_state(state)
    for row in targets[20:]:
        simulation.step(row)
    np.testing.assert_array_equal(simulation.observation(), first)


def test_equal_seeds_equal_starts_and_ranges(scene: Scene) -> None:
    one, same = (sample_start(scene, np.random.default_rng(3)) for _ in range(2))
    other = sample_start(scene, np.random.default_rng(4))
    np.testing.assert_array_equal(one.qpos, same.qpos)
    np.testing.assert_array_equal(one.mocap_pos, same.mocap_pos)
    assert not np.array_equal(one.qpos, other.qpos)
    assert not np.array_equal(one.mocap_pos, other.mocap_pos)


def test_nothing_touches_at_the_start(scene: Scene) -> None:
    simulation = Simulation(scene)
    for seed in range(30):
        simulation.reset(np.random.default_rng(seed))
        mujoco.mj_forward(scene.model, simulation.data)
        contacts = simulation.data.contact.geom[simulation.data.contact.dist < -1e-4]
        assert not len(contacts), [[scene.model.geom(g).name for g in pair] for pair in contacts]


def test_unknown_task_and_robots_that_do_not_fit(robot: RobotProfile) -> None:
    with pytest.raises(SimulationError, match="unknown task 'fly'; available: drawer, push, reach"):
        build_scene("fly")
    with pytest.raises(SimulationError, match="which the simulator does not have"):
        build_scene("reach", robot.model_copy(update={"mjcf": "ur5"}))
    with pytest.raises(SimulationError, match="no multiple of the simulator's 4 ms"):
        build_scene("reach", robot.model_copy(update={"control_rate_hz": 60.0}))
    renamed = robot.joints[0].model_copy(update={"name": "hip"})
    with pytest.raises(SimulationError, match="no joint 'hip'; available: .*elbow_flex"):
        build_scene("reach", robot.model_copy(update={"joints": (renamed, *robot.joints[1:])}))
    camera = robot.cameras[0].model_copy(update={"name": "top"})
    with pytest.raises(SimulationError, match="no camera 'top'; available: front, wrist"):
        build_scene("reach", robot.model_copy(update={"cameras": (camera,)}))


def test_divergence_is_an_error_and_not_a_silent_restart(scene: Scene) -> None:
    simulation = Simulation(scene)
    simulation.reset(np.random.default_rng(0))
    simulation.data.qvel[:] = 1e12
    with pytest.raises(SimulationError, match="diverged at control step 1"):
        simulation.step(simulation.position)


def test_importing_the_package_is_cheap_and_registers_the_ids() -> None:
    code = (
        "import sys, sealegs_sim, gymnasium;"
        "assert 'mujoco' not in sys.modules and 'torch' not in sys.modules;"
        "print(sorted(i for i in gymnasium.registry if i.startswith('Sealegs/')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "['Sealegs/Drawer-v0', 'Sealegs/Push-v0', 'Sealegs/Reach-v0']"


def test_module_qualified_id_needs_no_import() -> None:
    code = "import gymnasium; e = gymnasium.make('sealegs_sim:Sealegs/Drawer-v0'); print(e.reset(seed=0)[0].shape)"
    environment = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    assert done.stdout.strip() == "(21,)"
