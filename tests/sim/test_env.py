"""SealegsEnv and BatchEnv: gymnasium's checker, gymnasium's own vector env as a peer, and bit-equality."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from sealegs_contract.errors import ActionError, MachineError, ProfileError, SimulationError
from sealegs_contract.robot import RobotProfile
from sealegs_sim.env import SealegsEnv
from sealegs_sim.registration import ENV_IDS
from sealegs_sim.tasks import TASKS
from sealegs_sim.vector import BatchEnv


@pytest.mark.parametrize("name", sorted(TASKS))
@pytest.mark.filterwarnings("ignore:.*A Box observation space (minimum|maximum) value is")
def test_gymnasium_env_checker(name: str) -> None:
    env = gymnasium.make(ENV_IDS[name], render_mode="rgb_array")
    check_env(env.unwrapped)
    env.close()


def test_episode_semantics() -> None:
    env = SealegsEnv("drawer")
    env.reset(seed=0)
    ended = []
    for _ in range(200):
        observation, reward, terminated, truncated, info = env.step(np.zeros(6, np.float32))
        fields = env.scene.observation_spec.split(observation)
        assert reward == info["progress"] == float(env.task.progress(fields))
        assert not terminated
        ended.append(truncated)
    assert ended == [False] * 199 + [True]
    assert observation.dtype == np.float32
    assert not info["success"]


def test_seed_decides_the_episode() -> None:
    env, twin = SealegsEnv("push"), SealegsEnv("push")
    first, _ = env.reset(seed=5)
    np.testing.assert_array_equal(first, twin.reset(seed=5)[0])
    second, _ = env.reset()
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(second, twin.reset()[0])


def test_commands_respect_the_robot_limits(robot: RobotProfile) -> None:
    env = SealegsEnv("reach")
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    commands = [env.control.guard.position.copy()]
    for _ in range(200):
        env.step(rng.choice([-1.0, 1.0], 6).astype(np.float32))
        commands.append(env.control.guard.position.copy())
    velocity = np.diff(commands, axis=0) * robot.control_rate_hz
    acceleration = np.diff(np.concatenate([np.zeros((1, 6)), velocity]), axis=0) * robot.control_rate_hz
    for j, joint in enumerate(robot.joints):
        assert np.abs(velocity[:, j]).max() <= 0.6 * joint.velocity_max_rad_s + 1e-9
        assert np.abs(acceleration[:, j]).max() <= joint.acceleration_max_rad_s2 + 1e-6
        assert joint.position_min_rad - 1e-9 <= np.min(commands, axis=0)[j]
        assert np.max(commands, axis=0)[j] <= joint.position_max_rad + 1e-9


def test_success_needs_the_hold_and_stays() -> None:
    from sealegs_sim.policies import ScriptedPolicy

    env, policy = SealegsEnv("reach"), ScriptedPolicy("reach")
    observation, info = env.reset(seed=1)
    achieved, success = [], []
    for _ in range(100):
        observation, _, _, _, info = env.step(policy.act(observation).astype(np.float32))
        achieved.append(info["achieved"])
        success.append(info["success"])
    first = success.index(True)
    assert achieved[first - 9 : first + 1] == [True] * 10
    assert not all(achieved[first - 10 : first + 1])
    assert all(success[first:])
    assert env.reset(seed=2)[1]["success"] is False


def test_errors_of_the_env() -> None:
    env = SealegsEnv("reach")
    with pytest.raises(SimulationError, match=r"step\(\) before reset"):
        env.step(np.zeros(6, np.float32))
    env.reset(seed=0)
    with pytest.raises(ActionError, match="shape"):
        env.step(np.zeros(5, np.float32))
    with pytest.raises(ActionError, match="not finite"):
        env.step(np.full(6, np.nan, np.float32))
    with pytest.raises(SimulationError, match="unknown render_mode 'ascii'"):
        SealegsEnv("reach", render_mode="ascii")
    with pytest.raises(ProfileError, match="no camera 'top'"):
        SealegsEnv("reach", camera="top")


def test_human_mode_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(MachineError, match="needs a display"):
        SealegsEnv("reach", render_mode="human")


@pytest.mark.parametrize("name", sorted(TASKS))
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_batch_equals_gymnasiums_vector_env(name: str, mode: AutoresetMode) -> None:
    count = 4
    peer = SyncVectorEnv([lambda: SealegsEnv(name)] * count, autoreset_mode=mode)
    batch = BatchEnv(name, count, autoreset=mode)
    seeds = [11, 3, 12345, 7]
    ours, theirs = batch.reset(seed=seeds)[0], peer.reset(seed=seeds)[0]
    np.testing.assert_array_equal(ours, theirs)
    rng = np.random.default_rng(0)
    action = np.zeros((count, 6))
    for _ in range(230):
        action = np.clip(0.9 * action + rng.normal(0.0, 0.4, action.shape), -1.0, 1.0)
        ours, theirs = batch.step(action.astype(np.float32)), peer.step(action.astype(np.float32))
        for mine, other in zip(ours[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(mine, other)
        if "final_obs" in theirs[4]:
            np.testing.assert_array_equal(ours[4]["final_obs"], np.stack(list(theirs[4]["final_obs"])))
        else:
            np.testing.assert_array_equal(ours[4]["success"], theirs[4]["success"])
            np.testing.assert_array_equal(ours[4]["progress"], theirs[4]["progress"])


def test_batch_does_not_depend_on_threads() -> None:
    one, two = BatchEnv("push", 6, threads=1), BatchEnv("push", 6, threads=2)
    one.reset(seed=0), two.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(60):
        action = rng.uniform(-1.0, 1.0, (6, 6))
        np.testing.assert_array_equal(one.step(action)[0], two.step(action)[0])


def test_disabled_autoreset_restarts_by_mask_only() -> None:
    batch = BatchEnv("reach", 3, autoreset="disabled")
    first, _ = batch.reset(seed=[1, 2, 3])
    for _ in range(5):
        before = batch.step(np.full((3, 6), 0.5))[0]
    mask = np.array([False, True, False])
    after, _ = batch.reset(seed=[1, 2, 3], options={"reset_mask": mask})
    np.testing.assert_array_equal(after[1], first[1])
    np.testing.assert_array_equal(after[~mask], before[~mask])


def test_errors_of_the_batch() -> None:
    batch = BatchEnv("reach", 2)
    with pytest.raises(SimulationError, match="before reset"):
        batch.step(np.zeros((2, 6)))
    with pytest.raises(SimulationError, match="3 seeds for 2 envs"):
        batch.reset(seed=[1, 2, 3])
    with pytest.raises(
        SimulationError, match="unknown autoreset mode 'never'; available: next_step, same_step, disabled"
    ):
        BatchEnv("reach", 2, autoreset="never")
    batch.reset(seed=0)
    with pytest.raises(ActionError, match="shape"):
        batch.step(np.zeros((3, 6)))
