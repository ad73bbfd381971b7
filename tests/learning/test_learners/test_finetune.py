"""Fine-tuning from a checkpoint: PPO, offline improvement gated by FQE, and IQL in simulation."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from sealegs.training.runs import unit_of
from sealegs.training.sweep import is_finished
from sealegs_contract.errors import LearningError
from sealegs_learning.evaluation.policy_value import logged_steps
from sealegs_learning.evaluation.rollouts import roll_out
from sealegs_learning.learners.settings import (
    BCSettings,
    FinetuneSettings,
    FQESettings,
    PPOSettings,
    UniO4Settings,
)
from sealegs_learning.networks import GaussianActor, Normalizer
from sealegs_learning.policies.settings import InputSettings
from sealegs_learning.sessions.finetune import affine_scale, finetune_session
from sealegs_learning.sessions.unio4 import UniO4Session, group_advantage
from sealegs_learning.train import train
from sealegs_learning.training.checkpoint import load_actor, load_checkpoint
from sealegs_learning.training.config import TrainConfig, check_config, decisive, total_of
from sealegs_learning.training.run import read_curve
from sealegs_learning.training.start import load_start


@pytest.fixture(scope="module")
def logs():
    return roll_out("reach", "noisy", 3)


@pytest.fixture(scope="module")
def started(logs, tmp_path_factory):
    """Checkpoints of IQL and BC on a few logs of `reach`."""
    folder = tmp_path_factory.mktemp("start")
    for learner in ("iql", "bc"):
        train(TrainConfig(out=folder / learner, learner=learner, updates=30, hidden=(16,)), dataset=logs)
    bins = BCSettings(loss="bins", bins=5)
    train(TrainConfig(out=folder / "bins", learner="bc", bc=bins, updates=2, hidden=(16,)), dataset=logs)
    return folder


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def small_ppo(**changes):
    return PPOSettings(**{"steps": 64, "envs": 2, "horizon": 16, "epochs": 2, "randomise": False} | changes)


def test_ppo_starts_from_the_checkpoint_with_its_normaliser_frozen(started, tmp_path):
    first = load_actor(started / "iql")
    ppo = small_ppo(critic_steps=32, finetune_log_std=-2.0)
    base = TrainConfig(out=tmp_path / "a", learner="ppo", task="reach", init=started / "iql", ppo=ppo, batch_size=16)
    train(replace(base, ppo=replace(ppo, steps=32)))
    critic_only = load_actor(tmp_path / "a")
    assert same(critic_only.actor, first.actor)
    assert torch.equal(critic_only.log_std, torch.full_like(first.log_std, -2.0))
    train(replace(base, out=tmp_path / "b", log_every=32))
    tuned = load_actor(tmp_path / "b")
    alone, both = read_curve(tmp_path / "b" / "train.jsonl")
    assert {"value_loss", "explained_variance"} <= set(alone)
    assert not {"policy_loss", "kl", "clip_fraction"} & set(alone), "of steps that are taken back"
    assert {"value_loss", "kl", "clip_fraction"} <= set(both)
    assert not same(tuned.actor, first.actor)
    assert same(tuned.normalizer, first.normalizer)
    assert (tuned.bound, tuned.activation, tuned.hidden) == (first.bound, first.activation, first.hidden)
    about = load_checkpoint(tmp_path / "b").description["init"]
    assert about["weights_sha256"] == load_checkpoint(started / "iql").description["weights_sha256"]
    assert about["learner"] == "iql"


def test_starts_that_cannot_be_are_refused(started, tmp_path):
    with pytest.raises(LearningError, match="needs a plain Gaussian one"):
        load_start(started / "bins")
    unio4 = {"learner": "unio4", "init": started / "iql"}
    for changes, message in (
        ({"learner": "unio4"}, "give --init"),
        ({"learner": "bc", "init": started / "bc"}, "starts anew"),
        ({"learner": "iql", "init": started / "bc"}, "starts anew"),
        ({"learner": "ppo", "finetune": FinetuneSettings(steps=1)}, "finetune is for learner iql"),
        ({"finetune": FinetuneSettings(steps=1)}, "give --init"),
        ({"finetune": FinetuneSettings(offline_share=1.0)}, r"finetune\.offline_share"),
        ({"finetune": FinetuneSettings(steps=1), "init": started / "iql", "device": "cuda"}, "leave out --device"),
        (unio4 | {"device": "cuda"}, "leave out --device"),
        (unio4 | {"inputs": InputSettings(fields=("joint_position",))}, "the policy of --init has its own"),
        (unio4 | {"unio4": UniO4Settings(deviations=float("nan"))}, r"unio4\.deviations must be finite, got nan"),
        (unio4 | {"unio4": UniO4Settings(fqe=FQESettings(hidden=(0,)))}, r"unio4\.fqe\.hidden must be positive sizes"),
        (unio4 | {"ppo": PPOSettings(max_gradient_norm=-3.0)}, r"ppo\.max_gradient_norm must be at least 0, got -3"),
    ):
        with pytest.raises(LearningError, match=message):
            check_config(TrainConfig(**{"out": tmp_path / "x"} | changes))
    config = TrainConfig(out=tmp_path / "x", learner="ppo", task="drawer", init=started / "iql", ppo=small_ppo())
    with pytest.raises(LearningError, match="the policy observes"):
        train(config)
    with pytest.raises(LearningError, match="is for robot so101, not for Hopper-v5"):
        train(replace(config, task="Hopper-v5"))


def test_a_policy_keeps_its_hidden_units(started, logs, tmp_path):
    config = TrainConfig(tmp_path / "run", learner="ppo", task="reach", init=started / "iql", ppo=small_ppo(steps=32))
    train(config)
    assert load_checkpoint(config.out).description["config"]["hidden"] == [16]  # neither asked for nor the default
    card = json.loads((config.out / "checkpoint" / "card.json").read_text())
    assert (card["config"]["hidden"], card["policy"]["hidden"]) == ([16], [16])
    assert is_finished(config)
    assert train(replace(config, resume=True)).done == 32
    for change in ({}, {"learner": "unio4", "task": ""}, {"learner": "iql", "finetune": FinetuneSettings(steps=8)}):
        with pytest.raises(LearningError, match="hidden units 16, but --hidden asks for 256 256"):
            train(replace(config, out=tmp_path / "x", hidden=(256, 256), **change), dataset=logs)


def test_advantages_over_a_group_are_pessimistic():
    # Two members, one state, two actions: means 2 and 3, unbiased deviations 0 and 2 sqrt(2).
    q = torch.tensor([[[2.0, 1.0]], [[2.0, 5.0]]])
    assert torch.allclose(group_advantage(q, 0.0), torch.tensor([[-0.5, 0.5]]))
    low = 3.0 - 2.0 * 2.0**0.5
    assert torch.allclose(group_advantage(q, 1.0), torch.tensor([[1.0 - low / 2, low / 2 - 1.0]]))


def unio4_on(data, reward, tmp_path, **changes):
    """A session on the point world from a policy that stays near where it is."""
    generator = torch.Generator().manual_seed(0)
    raw = torch.from_numpy(data.state)
    policy = GaussianActor(2, 2, (16,), Normalizer.fit(raw), generator)
    with torch.no_grad():
        list(policy.actor.parameters())[-2].mul_(0.1)
        policy.log_std.fill_(-1.0)
    fqe = FQESettings(gamma=0.9, updates=400, hidden=(32,), learning_rate=3e-3, polyak=0.2, members=3)
    settings = UniO4Settings(**{"steps": 5, "gate_updates": 60, "fqe": fqe} | changes)
    config = TrainConfig(out=tmp_path, learner="unio4", updates=200, learning_rate=3e-3, batch_size=128, unio4=settings)
    return UniO4Session(policy, logged_steps(data, reward(data.state)), config, {})


def test_unio4_improves_from_random_logs(point_world, goal_reward, final_distance, tmp_path):
    session = unio4_on(point_world, goal_reward, tmp_path)
    before = final_distance(session.policy)
    figures = session.advance(200)
    assert session.done == 200
    assert figures["rounds"] == 40
    assert 0 < figures["accepted"] <= 40
    # One trust region around a policy that hardly moves: nearer by a quarter or more, and no further than it reaches.
    assert final_distance(session.policy) < 0.75 * before


def test_unio4_measures_every_candidate_against_the_first_policy(point_world, goal_reward, tmp_path):
    session = unio4_on(point_world, goal_reward, tmp_path, deviations=-1e9)
    first = copy.deepcopy(session.policy)
    assert session.advance(15)["accepted"] == 3
    assert not same(session.policy.actor, first.actor)
    samples = session._samples(session.judges.logs)
    seen, action = torch.from_numpy(samples.observation), torch.from_numpy(samples.action)
    with torch.no_grad():
        expected = first.log_prob(seen, action)
    assert samples.log_prob == pytest.approx(expected.numpy(), abs=1e-4)
    # Four actions at a state: their advantages cancel.
    assert samples.advantage.reshape(-1, 4).sum(axis=1) == pytest.approx(0.0, abs=1e-4)


def test_unio4_keeps_its_policy_where_the_gate_refuses(point_world, goal_reward, tmp_path):
    session = unio4_on(point_world, goal_reward, tmp_path, deviations=1e9)
    before = {name: tensor.clone() for name, tensor in session.policy.state_dict().items()}
    figures = session.advance(20)
    assert figures["accepted"] == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in session.policy.state_dict().items())


def test_unio4_resumes_bit_exact(point_world, goal_reward, tmp_path):
    whole, part, rest = (unio4_on(point_world, goal_reward, tmp_path) for _ in range(3))
    whole.advance(30)
    part.advance(10)
    rest.load_tensors(part.tensors(), part.done)
    rest.advance(30)
    theirs, ours = whole.tensors(), rest.tensors()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


def test_rewards_of_logs_and_simulation_have_one_scale():
    raw = np.array([0.2, 1.0, 0.6], np.float32)
    factor, shift = affine_scale(raw, 3.0 * raw - 1.0)
    assert (factor, shift) == pytest.approx((3.0, -1.0), abs=1e-6)
    assert affine_scale(np.ones(3, np.float32), np.zeros(3, np.float32)) == (1.0, -1.0)


def finetuning(started, out, **changes):
    finetune = FinetuneSettings(steps=48, envs=2, randomise=False)
    return TrainConfig(
        **{"out": out, "task": "reach", "init": started / "iql", "finetune": finetune, "batch_size": 16} | changes
    )


def test_iql_goes_on_with_its_values_and_remembers_its_steps(started, logs, tmp_path):
    session = finetune_session(finetuning(started, tmp_path), logs)
    kept = load_checkpoint(started / "iql").tensors
    assert all(torch.equal(t, kept[n]) for n, t in session.learner.tensors().items() if n.startswith("networks."))
    session.advance(48)
    assert session.done == 48
    assert session.learner.done == 48  # an update a step
    memory = session.memory.rows(len(session.logs) + torch.arange(48))
    own = session.logs.normalizer
    # Each env's next observation is the observation of its next step, two rows further on.
    assert torch.equal(memory.next_observation[:-2], memory.observation[2:])
    assert float(memory.terminal.sum()) == 0.0
    from sealegs_sim.tasks import get_task

    task = get_task("reach")
    spec = session.policy.observation_spec
    raw = (memory.next_observation * own.std + own.mean).numpy().astype(float)
    progress = task.progress(spec.split(raw))
    assert memory.reward.numpy() == pytest.approx(session.factor * progress + session.shift, abs=1e-4)


def test_finetuning_resumes_bit_exact(started, logs, tmp_path):
    sessions = [finetune_session(finetuning(started, tmp_path), logs) for _ in range(3)]
    whole, part, rest = sessions
    whole.advance(48)
    part.advance(20)
    rest.load_tensors({name: tensor.clone() for name, tensor in part.tensors().items()}, part.done)
    rest.advance(48)
    theirs, ours = whole.tensors(), rest.tensors()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


def test_finetuning_from_a_clone_and_through_train(started, logs, tmp_path):
    config = finetuning(started, tmp_path / "run", init=started / "bc")
    assert (unit_of(config), total_of(config)) == ("step", 48)
    assert decisive(config)["finetune"]["steps"] == 48
    assert "finetune" not in decisive(replace(config, learner="ppo", finetune=FinetuneSettings()))
    report = train(config, dataset=logs)
    assert (report.unit, report.done) == ("step", 48)
    assert load_actor(tmp_path / "run").task == "reach"
    unnamed = replace(config, task="", finetune=FinetuneSettings(steps=15, envs=2, randomise=False))
    session = finetune_session(unnamed, logs)
    assert (session.about["task"], session.total) == ("reach", 16)
    real = replace(logs, episodes=tuple(replace(episode, task="fold") for episode in logs.episodes))
    with pytest.raises(LearningError, match=r"dataset's are 'fold': give --task; available: drawer, push, reach"):
        finetune_session(unnamed, real)
    with pytest.raises(LearningError, match="pays true progress"):
        finetune_session(replace(config, reward="constant"), logs)
