"""Walks in a learned model against what is known exactly: a linear world, hand arithmetic, logs of two worlds."""

import numpy as np
import pytest
import torch
from torch import nn

from sealegs_contract.errors import LearningError
from sealegs_learning.evaluation.expansion import evaluate_offline, expanded, fit_dynamics, logged_walk
from sealegs_learning.evaluation.policy_value import LoggedSteps, PolicyEvaluator
from sealegs_learning.learners.dynamics import model_loss
from sealegs_learning.learners.settings import FQESettings, ModelSettings

GAMMA = 0.9
FEW = FQESettings(gamma=GAMMA, updates=50, batch_size=64, hidden=(16,), members=2)


class Gain(nn.Module):
    """a = K s."""

    def __init__(self, gain: np.ndarray) -> None:
        super().__init__()
        self.gain = torch.tensor(gain, dtype=torch.float32)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return observation @ self.gain.T


@pytest.fixture(scope="module")
def world():
    """s' = A s + B a, r = c s': its data from random actions, and the exact value of a = K s from states."""
    rng = np.random.default_rng(0)
    a_matrix = 0.7 * np.linalg.qr(rng.normal(size=(2, 2)))[0]
    b_matrix, c = 0.4 * np.linalg.qr(rng.normal(size=(2, 2)))[0], np.array([0.8, -0.6])
    states, actions = [], []
    for _ in range(60):
        s = rng.uniform(-1.0, 1.0, 2)
        for _ in range(15):
            a = rng.uniform(-1.0, 1.0, 2)
            states.append(s)
            actions.append(a)
            s = a_matrix @ s + b_matrix @ a

    def exact(gain, at):
        # V(s) = sum_t gamma^t c M^(t+1) s with M = A + B K.
        closed = a_matrix + b_matrix @ gain
        return at @ (closed.T @ np.linalg.inv(np.eye(2) - GAMMA * closed.T) @ c)

    state = np.array(states)
    return state, np.array(actions), np.repeat(np.arange(60), 15), (state @ c).astype(np.float32), exact


@pytest.fixture(scope="module")
def steps(world):
    state, action, episode, reward, _ = world
    return steps_of(state, action, episode, reward)


def steps_of(state, action, episode, reward, terminal=None):
    """Logged steps of raw arrays, whose actions are what they are."""
    inner = np.flatnonzero(np.diff(episode) == 0)
    first = np.flatnonzero(np.diff(episode, prepend=-1))
    tensor = [torch.tensor(x, dtype=torch.float32) for x in (state, action, reward)]
    s, a, r = tensor
    ends = torch.zeros(len(inner)) if terminal is None else torch.tensor(terminal[inner + 1], dtype=torch.float32)
    return LoggedSteps(
        s[inner], a[inner], r[inner + 1], ends, s[inner + 1], a[inner + 1], torch.tensor(episode[inner]), s[first],
        a[first],
    )  # fmt: skip


def test_walk_in_a_linear_world_gives_the_exact_values(world, steps):
    """After 60 steps gamma^60 = 0.002 is left to Q, which has learned next to nothing."""
    exact = world[-1]
    gains = [0.5 * np.eye(2), -0.5 * np.eye(2), np.zeros((2, 2))]
    model = ModelSettings(steps=60, updates=800, batch_size=128, hidden=(), learning_rate=1e-2)
    evaluator = PolicyEvaluator(steps, [Gain(g) for g in gains], FEW).run()
    found = expanded(evaluator, [Gain(g) for g in gains], model)
    counts, starts = evaluator.prepared.counts.numpy(), steps.initial.numpy().astype(float)
    for gain, value in zip(gains, found, strict=True):
        members = (counts @ exact(gain, starts)) / counts.sum(1)
        assert value.members == pytest.approx(members, abs=0.03)


def test_no_walk_is_plain_fqe(steps):
    policies = [Gain(np.eye(2)), None]
    evaluator = PolicyEvaluator(steps, policies, FEW).run()
    assert expanded(evaluator, policies, ModelSettings(steps=0)) == evaluator.values()


def test_walk_of_the_logs_by_hand():
    """Episodes of three transitions and of one, which ends for good."""
    steps = steps_of(
        np.zeros((6, 1)), np.zeros((6, 1)), np.array([0, 0, 0, 0, 1, 1]), np.arange(6.0), np.arange(6) == 5
    )
    walk = logged_walk(steps, steps.reward, 0.5, 10)
    assert walk.returns.tolist() == [1.0 + 0.5 * 2.0 + 0.25 * 3.0, 5.0]
    assert walk.discount.tolist() == [0.125, 0.0]
    assert walk.last.tolist() == [2, 3]
    short = logged_walk(steps, steps.reward, 0.5, 2)
    assert short.returns.tolist() == [2.0, 5.0]
    assert short.discount.tolist() == [0.25, 0.0]
    assert short.last.tolist() == [1, 3]


def test_logs_need_no_model(steps, world):
    """Two long discounted sums and little Q: close to the logged returns, whatever the networks say."""
    settings = FQESettings(gamma=0.5, updates=20, hidden=(8,), members=2)
    (value,) = evaluate_offline(steps, [None], settings, model=ModelSettings(steps=14, updates=1))
    reward = world[3].reshape(60, 15)[:, 1:].astype(float)
    returns = reward @ 0.5 ** np.arange(14)
    counts = PolicyEvaluator(steps, [None], settings).prepared.counts.numpy()
    assert value.members == pytest.approx(counts @ returns / 60, abs=1e-3)


def test_loss_weighs_each_member():
    predicted = torch.zeros(2, 2, 2)
    target, weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [2.0, 1.0]])
    assert float(model_loss(predicted, target, weight)) == pytest.approx((1 + 4 + 2 * 5 + 25) / 4)


def test_members_learn_their_own_resample_and_stay_in_range():
    """Episodes 0-19 move by +a, episodes 20-39 by -a; each member weighs one half."""
    rng = np.random.default_rng(1)
    start, action = rng.uniform(-1.0, 1.0, (40, 1)), rng.uniform(-1.0, 1.0, (40, 1))
    sign = np.where(np.arange(40) < 20, 1.0, -1.0)[:, None]
    state = np.stack([start, start + 0.5 * sign * action], 1).reshape(80, 1)
    both = np.stack([action, action], 1).reshape(80, 1)
    steps = steps_of(state, both, np.repeat(np.arange(40), 2), state[:, 0])
    evaluator = PolicyEvaluator(steps, [None], FEW)
    evaluator.prepared.counts[:] = torch.tensor([[2.0] * 20 + [0.0] * 20, [0.0] * 20 + [2.0] * 20])
    dynamics = fit_dynamics(evaluator, ModelSettings(updates=400, batch_size=40, hidden=(), learning_rate=2e-2))
    units = evaluator.prepared.normalizer
    here = units(torch.zeros(2, 1, 1))
    found, outcome = dynamics.step(here, torch.ones(2, 1, 1))
    assert units.inverse(found).flatten().tolist() == pytest.approx([0.5, -0.5], abs=0.05)
    # The reward is the state reached.
    reward = outcome[..., 0] * evaluator.prepared.scale + evaluator.prepared.shift
    assert reward.flatten().tolist() == pytest.approx([0.5, -0.5], abs=0.15)
    far, _ = dynamics.step(100.0 * torch.ones(2, 1, 1), torch.zeros(2, 1, 1))
    assert torch.equal(units.inverse(far).max(), steps.next_observation.max())


def test_settings_are_checked(steps):
    with pytest.raises(LearningError, match=r"model\.steps must be at least 0, got -1"):
        evaluate_offline(steps, [None], FEW, model=ModelSettings(steps=-1))
