"""Kinematics against MuJoCo, scripted success, and the make-up of mixed logs."""

import numpy as np
import pytest

from sealegs_contract.errors import SimulationError
from sealegs_contract.robot import RobotProfile
from sealegs_sim.env import SealegsEnv
from sealegs_sim.policies import POLICY_NAMES, make_policy
from sealegs_sim.policies.kinematics import forward, from_polar, inverse, to_polar
from sealegs_sim.scene import Scene
from sealegs_sim.simulation import Simulation
from sealegs_sim.tasks import TASKS
from sealegs_sim.vector import BatchEnv


def limits(robot: RobotProfile) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.array([j.position_min_rad for j in robot.joints]),
        np.array([j.position_max_rad for j in robot.joints]),
    )


def test_forward_kinematics_equal_the_model(scenes: dict[str, Scene], robot: RobotProfile) -> None:
    import mujoco

    simulation = Simulation(scenes["reach"])
    low, high = limits(robot)
    for joints in np.random.default_rng(0).uniform(low, high, (50, 6)):
        joints[4] = 0.0
        simulation.data.qpos[simulation.scene.joint_qpos] = joints
        mujoco.mj_kinematics(simulation.scene.model, simulation.data)
        np.testing.assert_allclose(forward(joints), simulation.object_position("gripper"), atol=1e-12)


def test_inverse_kinematics_undo_the_forward(robot: RobotProfile) -> None:
    low, high = limits(robot)
    solved = 0
    for radius, azimuth, height in np.random.default_rng(0).uniform([0.1, -1.5, 0.0], [0.38, 1.5, 0.25], (300, 3)):
        point = from_polar(radius, azimuth, height)
        joints = inverse(point, 1.2, low, high)
        if joints is None:
            continue
        solved += 1
        np.testing.assert_allclose(forward(joints), point, atol=1e-9)
        assert ((low[:4] <= joints) & (joints <= high[:4])).all()
    assert solved > 200
    assert inverse(from_polar(0.6, 0.0, 0.1), 1.2, low, high) is None
    assert to_polar(from_polar(0.2, -0.4, 0.1)) == pytest.approx((0.2, -0.4, 0.1))


def success_rate(task: str, policy_name: str, episodes: int, first_seed: int) -> float:
    """Episodes side by side in one batch; each with its own policy."""
    env = BatchEnv(task, episodes)
    observation, info = env.reset(seed=first_seed)
    policies = [make_policy(policy_name, task) for _ in range(episodes)]
    for i, policy in enumerate(policies):
        policy.reset(np.random.default_rng((first_seed + i, 1)))
    for _ in range(env.task.horizon_steps):
        action = np.stack([policy.act(row) for policy, row in zip(policies, observation, strict=True)])
        observation, _, _, _, info = env.step(action.astype(np.float32))
    return float(np.mean(info["success"]))


@pytest.mark.parametrize("name", sorted(TASKS))
def test_scripted_policy_succeeds(name: str) -> None:
    assert success_rate(name, "scripted", 30, 3_000) >= 0.95


def test_random_policy_fails_at_the_drawer() -> None:
    assert success_rate("drawer", "random", 20, 0) == 0.0


@pytest.mark.parametrize("name", ["drawer", "push"])
def test_mixed_logs_hold_some_but_few_successes(name: str) -> None:
    assert 0.02 <= success_rate(name, "mixed", 60, 0) <= 0.20


@pytest.mark.parametrize("name", POLICY_NAMES)
def test_policies_are_bounded_and_seeded(name: str) -> None:
    env = SealegsEnv("drawer")
    runs = []
    for _ in range(2):
        policy = make_policy(name, "drawer")
        observation, _ = env.reset(seed=0)
        policy.reset(np.random.default_rng(9))
        actions = []
        for _ in range(60):
            action = policy.act(observation)
            assert action.shape == (6,)
            assert (np.abs(action) <= 1.0).all()
            observation = env.step(action.astype(np.float32))[0]
            actions.append(action)
        runs.append(np.stack(actions))
    np.testing.assert_array_equal(runs[0], runs[1])


def test_unknown_policy() -> None:
    with pytest.raises(
        SimulationError, match="unknown policy 'genius'; available: mixed, noisy, random, scripted, still"
    ):
        make_policy("genius", "drawer")
