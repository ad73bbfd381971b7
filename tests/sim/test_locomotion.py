"""The walkers on mujoco.batch against gymnasium's own envs."""

import subprocess
import sys
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from sealegs_contract.errors import ActionError, SimulationError
from sealegs_sim.batched import generator_from_words, generator_words
from sealegs_sim.locomotion import LOCOMOTION, LocomotionEnv, get_locomotion
from sealegs_sim.locomotion.model import load_model
from sealegs_sim.locomotion.tasks import control_cost, forward_velocity, hopper_healthy, walker_healthy
from sealegs_sim.vector import BatchEnv


def actions_for(env: LocomotionEnv, steps: int, seed: int = 0) -> np.ndarray:
    low, high = env.single_action_space.low, env.single_action_space.high
    shape = (steps, env.num_envs, len(low))
    return np.random.default_rng(seed).uniform(1.2 * low, 1.2 * high, shape).astype(np.float32)


@pytest.mark.parametrize("name", sorted(LOCOMOTION))
def test_rows_are_gymnasium_bit_for_bit(name: str) -> None:
    # Falls and time limits are crossed: a step after an end returns the next start, with reward 0.
    envs = LocomotionEnv(name, num_envs=2)
    singles = [gymnasium.make(name) for _ in range(2)]
    observation, _ = envs.reset(seed=11)
    for i, single in enumerate(singles):
        assert np.array_equal(single.reset(seed=11 + i)[0], observation[i])
    ended, ends = [False, False], 0
    for action in actions_for(envs, 1020 if name == "HalfCheetah-v5" else 150):
        observation, reward, terminated, truncated, info = envs.step(action)
        for i, single in enumerate(singles):
            if ended[i]:
                expected = (single.reset()[0], 0.0, False, False)
            else:
                expected = single.step(action[i])[:4]
                assert info["x_position"][i] == single.unwrapped.data.qpos[0]
            assert np.array_equal(observation[i], expected[0])
            assert (reward[i], terminated[i], truncated[i]) == expected[1:]
            ended[i] = bool(terminated[i] or truncated[i])
            ends += ended[i]
    assert ends >= 2
    for single in singles:
        single.close()


def test_loading_says_nothing_and_writes_no_log(tmp_path: Path) -> None:
    # In a process of its own: MuJoCo writes past Python's streams, and its log into the folder where it runs.
    code = "from sealegs_sim.locomotion import LOCOMOTION, LocomotionEnv; [LocomotionEnv(name) for name in LOCOMOTION]"
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_other_warnings_of_mujoco_are_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    both = '<mujoco><compiler settotalmass="2"/><worldbody><body><joint/><geom size=".1"/></body></worldbody></mujoco>'
    (tmp_path / "both.xml").write_text(both)
    heard: list[str] = []
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(heard.append)
    try:
        model = load_model(tmp_path / "both.xml")
        assert heard == []
        mujoco.MjModel.from_xml_string(both)  # our handler is back
        assert len(heard) == 1
        monkeypatch.setattr("sealegs_sim.locomotion.model.DEPRECATED", "something else")
        load_model(tmp_path / "both.xml")
        assert len(heard) == 2
        mujoco.set_mju_user_warning(None)
        with pytest.warns(RuntimeWarning, match="MuJoCo: compiler attribute"):
            load_model(tmp_path / "both.xml")
    finally:
        mujoco.set_mju_user_warning(before)
    assert model.body_mass.sum() == pytest.approx(2.0)
    (tmp_path / "none.xml").write_text("<mujoco><nonsense/></mujoco>")
    with pytest.raises(SimulationError, match=r"none.xml does not load"):
        load_model(tmp_path / "none.xml")


def test_same_step_autoreset_keeps_the_final_observation() -> None:
    env = LocomotionEnv("Hopper-v5", num_envs=3, autoreset="same_step")
    twin = LocomotionEnv("Hopper-v5", num_envs=3, autoreset=AutoresetMode.NEXT_STEP)
    assert np.array_equal(env.reset(seed=0)[0], twin.reset(seed=0)[0])
    for action in actions_for(env, 200):
        observation, reward, terminated, _, info = env.step(action)
        last, twin_reward, twin_terminated, _, _ = twin.step(action)
        assert np.array_equal(reward, twin_reward)
        assert np.array_equal(terminated, twin_terminated)
        if terminated.any():
            break
    assert np.array_equal(info["_final_obs"], terminated)
    assert np.array_equal(info["final_obs"], last)
    fresh = twin.step(action)[0]
    assert np.array_equal(observation[terminated], fresh[terminated])
    assert not np.array_equal(observation[terminated], last[terminated])


@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Hopper-v5"])
def test_a_restored_state_goes_on_bit_for_bit(name: str) -> None:
    actions = actions_for(LocomotionEnv(name, num_envs=3), 120)
    env = LocomotionEnv(name, num_envs=3, autoreset="same_step")
    env.reset(seed=5)
    for action in actions[:40]:
        observation = env.step(action)[0]
    state = env.state()
    straight = [env.step(action)[:4] for action in actions[40:]]
    other = LocomotionEnv(name, num_envs=3, autoreset="same_step")
    assert np.array_equal(other.set_state(state), observation)
    for action, expected in zip(actions[40:], straight, strict=True):
        for a, b in zip(other.step(action)[:4], expected, strict=True):
            assert np.array_equal(a, b)


def test_a_generator_goes_on_from_its_words() -> None:
    rng = np.random.default_rng(7)
    rng.integers(0, 10, dtype=np.int32)  # leaves half a word in the generator
    twin = generator_from_words(generator_words(rng))
    assert np.array_equal(rng.integers(0, 1000, 5, dtype=np.int32), twin.integers(0, 1000, 5, dtype=np.int32))
    assert np.array_equal(rng.standard_normal(5), twin.standard_normal(5))


def test_reward_terms_by_hand() -> None:
    assert forward_velocity(np.array([1.0]), np.array([1.1]), 0.05) == pytest.approx([2.0])
    assert control_cost(np.array([[3.0, 4.0]]), 0.1) == pytest.approx([2.5])
    qpos = np.array([[0.0, 1.2, 0.1], [0.0, 0.69, 0.1], [0.0, 1.2, -0.21], [0.0, 2.1, 0.1]])
    qvel = np.zeros((4, 3))
    assert hopper_healthy(qpos, qvel).tolist() == [True, False, False, True]
    assert walker_healthy(qpos, qvel).tolist() == [True, False, True, False]
    qvel[0, 2] = 101.0
    assert hopper_healthy(qpos, qvel).tolist() == [False, False, False, True]


def test_errors_name_what_is_available() -> None:
    with pytest.raises(SimulationError, match="unknown locomotion task 'Ant-v5'; available: HalfCheetah-v5, Hopper-v5"):
        get_locomotion("Ant-v5")
    with pytest.raises(SimulationError, match="num_envs and threads must be at least 1, got 0 and 1"):
        LocomotionEnv(num_envs=0)
    env = LocomotionEnv(num_envs=2)
    with pytest.raises(SimulationError, match=r"step\(\) before reset"):
        env.step(np.zeros((2, 6)))
    env.reset(seed=0)
    with pytest.raises(ActionError, match=r"shape \(6,\), expected \(2, 6\)"):
        env.step(np.zeros(6))
    with pytest.raises(SimulationError, match="lacks generators"):
        env.set_state({name: value for name, value in env.state().items() if name != "generators"})
    with pytest.raises(SimulationError, match=r"of \(3, "):
        env.set_state({**env.state(), "physics": np.zeros((3, 91))})


@pytest.mark.parametrize("task", ["drawer", "push"])
def test_sealegs_tasks_restore_bit_for_bit(task: str) -> None:
    rng = np.random.default_rng(1)
    env = BatchEnv(task, num_envs=2, autoreset="same_step")
    env.reset(seed=3)
    actions = rng.uniform(-1.0, 1.0, (230, 2, 6)).astype(np.float32)
    for action in actions[:190]:
        observation = env.step(action)[0]
    state = env.state()
    straight = [env.step(action)[:4] for action in actions[190:]]  # crosses the time limit at 200
    other = BatchEnv(task, num_envs=2, autoreset="same_step")
    other.reset(seed=77)
    other.step(actions[0])
    assert np.array_equal(other.set_state(state), observation)
    for action, expected in zip(actions[190:], straight, strict=True):
        for a, b in zip(other.step(action)[:4], expected, strict=True):
            assert np.array_equal(a, b)
