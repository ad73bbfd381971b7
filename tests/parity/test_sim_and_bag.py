"""Env, batched env, backend, collected bags and imported datasets: one and the same observation, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from sealegs.collect import CollectConfig, collect
from sealegs_contract.action import ActionDecoder
from sealegs_contract.observation import ObservationAssembler
from sealegs_contract.robot import load_robot
from sealegs_learning.data.bag import Bag
from sealegs_learning.data.dataset import Dataset
from sealegs_learning.data.importer import import_bags
from sealegs_sim.backend import MujocoBackend
from sealegs_sim.control import JointControl
from sealegs_sim.env import SealegsEnv
from sealegs_sim.policies import make_policy
from sealegs_sim.tasks import TASKS
from sealegs_sim.vector import BatchEnv

ROBOT = load_robot("so101")
STEPS = 25


@pytest.mark.parametrize("name", sorted(TASKS))
def test_env_observation_is_the_assembled_one(name):
    task = TASKS[name]
    env = SealegsEnv(task, ROBOT)
    backend = MujocoBackend(ROBOT, task, render=False)
    backend.connect()
    assembler = ObservationAssembler(task.observation_spec(ROBOT))
    control = JointControl(ROBOT, task.action_spec(ROBOT))
    rng = np.random.default_rng(3)

    def assembled():
        assembler.reset()
        for sample in (*backend.object_poses(), backend.read()):
            assembler.push(sample)
        return assembler.assemble(backend.now_ns()).vector

    observation, _ = env.reset(seed=42)
    backend.reset(42)
    control.reset(backend.read().position)
    assert observation.tobytes() == assembled().tobytes()
    for _ in range(STEPS):
        action = rng.uniform(-1, 1, 6).astype(np.float32)
        observation = env.step(action)[0]
        backend.write(control.targets(action, backend.read().position))
        backend.advance()
        assert observation.tobytes() == assembled().tobytes()
    env.close()
    backend.close()


def test_batch_env_starts_and_moves_as_the_single_env():
    batch = BatchEnv("drawer", 3)
    single = SealegsEnv("drawer")
    rng = np.random.default_rng(5)
    actions = rng.uniform(-1, 1, (STEPS, 3, 6)).astype(np.float32)
    start, _ = batch.reset(seed=[7, 8, 9])
    rows = [start.copy()]
    for action in actions:
        rows.append(batch.step(action)[0].copy())
    for index, seed in enumerate((7, 8, 9)):
        observation, _ = single.reset(seed=seed)
        np.testing.assert_array_equal(rows[0][index], observation)
        for step in range(STEPS):
            observation = single.step(actions[step, index])[0]
            np.testing.assert_allclose(rows[step + 1][index], observation, rtol=0, atol=1e-9)
    single.close()
    batch.close()


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    out = tmp_path_factory.mktemp("collected") / "bags"
    return collect(CollectConfig(out, policy="noisy", episodes=2, seed=30, cameras=(), jobs=1, steps=40))


def test_dataset_of_collected_bags_replays_in_the_env(collected, tmp_path):
    """From the bag's actions alone, the env reproduces the bag's observations: nothing is shifted by a tick."""
    import_bags(collected.paths, tmp_path / "out")
    dataset = Dataset.open(tmp_path / "out")
    env = SealegsEnv("drawer", ROBOT)
    decoder = ActionDecoder(dataset.action_spec)
    for episode in dataset.episodes:
        rows = dataset.rows(episode.index)
        state, action = dataset.state[rows], dataset.action[rows].astype(np.float64)
        observation, _ = env.reset(seed=episode.seed)
        np.testing.assert_array_equal(state[0], observation)
        outputs = decoder.encode(action, state[0, :6].astype(np.float64))
        for step in range(len(state) - 1):
            assert np.abs(dataset.action_spec.to_action(outputs[step])).max() <= 1.0 + 1e-4
            env.simulation.step(action[step])
            np.testing.assert_allclose(env.simulation.observation(), state[step + 1], atol=2e-5)
    env.close()


def test_policy_in_the_env_gives_the_collected_rows(collected, tmp_path):
    import_bags(collected.paths, tmp_path / "out")
    dataset = Dataset.open(tmp_path / "out")
    env = SealegsEnv("drawer", ROBOT)
    policy = make_policy("noisy", "drawer", ROBOT)
    for episode in dataset.episodes:
        observation, _ = env.reset(seed=episode.seed)
        policy.reset(np.random.default_rng([episode.seed, 1]))
        states = [observation]
        for _ in range(40):
            # The env takes float32 actions of its space; the policy's float64 goes through as it is.
            observation = env.step(policy.act(observation))[0]
            states.append(observation)
        assert dataset.state[dataset.rows(episode.index)].tobytes() == np.stack(states).tobytes()
    env.close()


def test_collected_bag_holds_the_topics_of_the_live_nodes(collected):
    topics = set(Bag(collected.paths[0]).topics())
    expected = {"/clock", "/joint_states", "/joint_trajectory", "/task"}
    assert topics == expected | {f"/objects/{name}/pose" for name in TASKS["drawer"].objects}
