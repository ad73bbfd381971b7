"""Fitted Q evaluation against exact solutions: hand arithmetic, a linear system, a tabular chain, and a known world."""

import numpy as np
import pytest
import torch
from torch import nn

from sealegs_contract.errors import LearningError
from sealegs_learning.evaluation.expansion import evaluate_offline
from sealegs_learning.evaluation.policy_value import (
    LoggedSteps,
    PolicyEvaluator,
    difference,
    logged_steps,
    member_interval,
    resampled_counts,
)
from sealegs_learning.learners.fqe import fqe_loss, fqe_target, value_bounds
from sealegs_learning.learners.settings import FQESettings, ModelSettings

SMALL = ModelSettings(steps=20, updates=200, hidden=(16,), learning_rate=1e-2)


class Linear(nn.Module):
    """a = K s."""

    def __init__(self, gain: np.ndarray) -> None:
        super().__init__()
        self.gain = torch.tensor(gain, dtype=torch.float32)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return observation @ self.gain.T


def make_steps(s, a, r, s_next, a_next, episode, terminal=None):
    """LoggedSteps of arrays; the first transition of every episode gives the first observation."""
    as_tensor = [torch.tensor(np.asarray(x), dtype=torch.float32) for x in (s, a, r, s_next, a_next)]
    first = np.flatnonzero(np.diff(episode, prepend=-1))
    ends = torch.zeros(len(r)) if terminal is None else torch.tensor(terminal, dtype=torch.float32)
    now, action, reward, following, next_action = as_tensor
    return LoggedSteps(
        now, action, reward, ends, following, next_action, torch.tensor(episode), now[first], action[first]
    )


def in_units(evaluator, q, gamma):
    """Q as FQE has it -> in the reward's unit."""
    return q * evaluator.prepared.scale + evaluator.prepared.shift / (1.0 - gamma)


def test_target_masks_terminals_only():
    target = fqe_target(
        torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0]), torch.tensor([[10.0, 10.0], [4.0, 4.0]]), 0.5
    )
    assert torch.equal(target, torch.tensor([[6.0, 2.0], [3.0, 2.0]]))


def test_loss_weighs_each_member():
    q, target = torch.zeros(2, 2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    weight = torch.tensor([[1.0, 0.0], [2.0, 1.0]])
    assert float(fqe_loss(q, target, weight)) == pytest.approx((1 + 0) / 2 + (18 + 16) / 2)


def test_bounds_hold_every_discounted_sum():
    assert value_bounds(torch.tensor([-1.0, 3.0]), 0.9) == pytest.approx((-10.0, 30.0))
    assert value_bounds(torch.tensor([1.0, 3.0]), 0.5) == pytest.approx((0.0, 6.0))


def linear_world(episodes=80, length=20, seed=0):
    """s' = A s + B a, r = c s + d a; steps of random actions, and the exact Q(s, K s) of a linear policy K."""
    rng = np.random.default_rng(seed)
    a_matrix = 0.8 * np.linalg.qr(rng.normal(size=(3, 3)))[0]
    b_matrix, c, d = 0.3 * rng.normal(size=(3, 2)), rng.normal(size=3), rng.normal(size=2)
    rows = []
    for _ in range(episodes):
        s = rng.uniform(-1.0, 1.0, 3)
        for _ in range(length):
            a = rng.uniform(-1.0, 1.0, 2)
            rows.append((s, a, c @ s + d @ a, a_matrix @ s + b_matrix @ a, a))
            s = rows[-1][3]
    steps = make_steps(
        *(np.array(column) for column in zip(*rows, strict=True)), np.repeat(np.arange(episodes), length)
    )

    def exact(gain, gamma, states):
        # Q = u s + v a with u = c + g A^T (u + K^T v) and v = d + g B^T (u + K^T v).
        at, bt, kt = gamma * a_matrix.T, gamma * b_matrix.T, gain.T
        system = np.block([[np.eye(3) - at, -at @ kt], [-bt, np.eye(2) - bt @ kt]])
        u, v = np.split(np.linalg.solve(system, np.concatenate([c, d])), [3])
        return states @ u + states @ kt @ v

    return steps, exact


def test_linear_system_is_solved_exactly():
    steps, exact = linear_world()
    gain = 0.1 * np.random.default_rng(1).normal(size=(2, 3))
    settings = FQESettings(
        gamma=0.9, updates=1_200, batch_size=128, hidden=(), learning_rate=0.03, polyak=0.5, members=25
    )
    evaluator = PolicyEvaluator(steps, [Linear(gain), Linear(-gain)], settings).run()
    first = steps.initial.numpy().astype(float)
    q = in_units(evaluator, evaluator.fqe.value(evaluator.prepared.start, evaluator.start_action), 0.9)
    for policy, sign in enumerate((1.0, -1.0)):
        truth = exact(sign * gain, 0.9, first)
        assert np.abs(q[policy].numpy() - truth).max() < 0.02
        # The fit is the same for every resample, so the interval is that of the mean of V over the starts.
        value = evaluator.values()[policy]
        assert np.std(value.members, ddof=1) == pytest.approx(truth.std() / np.sqrt(len(truth)), rel=0.4)
        assert value.interval.low < truth.mean() < value.interval.high


@pytest.mark.parametrize("ends", [True, False])
def test_tabular_chain(ends):
    """Five cells, actions left and right, reward 1 on entering the last cell, which ends the episode or goes on."""
    gamma, cells = 0.8, 5
    one_hot, rows = np.eye(cells), []
    for cell in range(cells if not ends else cells - 1):
        for action in (-1.0, 1.0):
            after = int(np.clip(cell + action, 0, cells - 1))
            entered = float(after == cells - 1)
            rows.append((one_hot[cell], [action], entered, one_hot[after], [action], entered * ends))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    steps = make_steps(*columns[:5], np.arange(len(rows)), columns[5])
    # The policy goes right: V(last) = 1/(1 - g) where it goes on and 0 where it ends; V(cell) = r + g V(cell + 1).
    value = np.zeros(cells)
    value[-1] = 0.0 if ends else 1.0 / (1.0 - gamma)
    for cell in range(cells - 2, -1, -1):
        value[cell] = (1.0 if cell == cells - 2 else 0.0) + gamma * value[cell + 1]
    right = Linear(np.ones((1, cells)))
    settings = FQESettings(gamma=gamma, updates=1_200, batch_size=32, hidden=(32,), learning_rate=5e-3, members=2)
    evaluator = PolicyEvaluator(steps, [right], settings)
    evaluator.prepared.counts.fill_(1.0)  # every resample holds every cell
    evaluator.run()
    states = torch.tensor(one_hot[: cells - 1], dtype=torch.float32)
    q = evaluator.fqe.value(evaluator.prepared.normalizer(states), torch.ones(1, cells - 1, 1))
    found = in_units(evaluator, q, gamma).mean((0, 1)).numpy()
    assert found == pytest.approx(value[: cells - 1], abs=0.03)


def test_time_limits_are_bootstrapped_and_terminals_are_not(make_data):
    """Reward 1 at each step of two-row episodes: worth 1 where they end for good, 1 / (1 - gamma) elsewhere."""
    rng = np.random.default_rng(0)
    state = rng.uniform(-1.0, 1.0, (40, 2))
    data = make_data(state, state, np.repeat(np.arange(20), 2))
    reward, settings = (
        np.ones(40, np.float32),
        FQESettings(gamma=0.9, updates=400, batch_size=40, hidden=(16,), learning_rate=1e-2, members=2),
    )
    still = Linear(np.zeros((2, 2)))
    limited = evaluate_offline(logged_steps(data, reward), [still], settings, model=SMALL)[0]
    ended = evaluate_offline(logged_steps(data, reward, np.arange(40) % 2 == 1), [still], settings, model=SMALL)[0]
    assert limited.value == pytest.approx(10.0, abs=0.1)
    assert ended.value == pytest.approx(1.0, abs=0.1)


def test_logged_steps_pair_rows_of_one_episode(make_data):
    state = np.arange(10.0).reshape(5, 2) / 10
    targets = np.clip(state + 0.05, -1.0, 1.0)
    data = make_data(state, targets, np.array([0, 0, 0, 1, 1]))
    steps = logged_steps(data, np.arange(5, dtype=np.float32))
    assert torch.equal(steps.observation, torch.tensor(state[[0, 1, 3]], dtype=torch.float32))
    assert torch.equal(steps.next_observation, torch.tensor(state[[1, 2, 4]], dtype=torch.float32))
    assert steps.reward.tolist() == [1.0, 2.0, 4.0]  # that of the next frame
    assert steps.episode.tolist() == [0, 0, 1]
    assert torch.equal(steps.next_action[0], steps.action[1])
    assert torch.equal(steps.initial, steps.observation[[0, 2]])
    assert torch.equal(steps.initial_action, steps.action[[0, 2]])
    with pytest.raises(LearningError, match="terminals of shape"):
        logged_steps(data, np.zeros(5, np.float32), np.zeros(4, bool))
    with pytest.raises(LearningError, match="no episode has two rows"):
        logged_steps(make_data(state, targets, np.arange(5)), np.zeros(5, np.float32))


def test_resamples_hold_as_many_episodes_as_there_are():
    counts = resampled_counts(200, 30, torch.Generator().manual_seed(0))
    assert torch.equal(counts.sum(1), torch.full((200,), 30.0))
    # A resample leaves out each episode with probability (1 - 1/30)^30.
    assert float((counts == 0).float().mean()) == pytest.approx((1 - 1 / 30) ** 30, abs=0.02)


def test_interval_is_student_t():
    low, high = member_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2.0 - 4.302653, 2.0 + 4.302653))  # t(0.975, 2) and a deviation of 1


def test_policies_are_ranked_from_random_logs(point_world, goal_reward):
    """In the point world: to the goal > stay > away, and the logs near staying; equal calls give equal figures."""

    class Towards(nn.Module):
        def __init__(self, sign: float) -> None:
            super().__init__()
            self.sign = sign

        def forward(self, observation: torch.Tensor) -> torch.Tensor:
            return torch.clamp(self.sign * 10.0 * (torch.tensor([0.5, -0.4]) - observation), -1.0, 1.0)

    steps = logged_steps(point_world, goal_reward(point_world.state))
    policies = [Towards(1.0), Towards(0.0), Towards(-1.0), None]
    settings = FQESettings(gamma=0.9, updates=600, batch_size=128, hidden=(32,), members=3)
    to_goal, stay, away, logs = evaluate_offline(steps, policies, settings, model=SMALL)
    assert to_goal.value > stay.value > away.value
    assert difference(to_goal, stay).interval.low > 0.0
    assert abs(logs.value - stay.value) < abs(to_goal.value - stay.value) / 2
    again = evaluate_offline(steps, policies, settings, model=SMALL)
    assert again[0].members == to_goal.members


def test_settings_are_checked(point_world, goal_reward):
    steps = logged_steps(point_world, goal_reward(point_world.state))
    with pytest.raises(LearningError, match=r"fqe\.members must be at least 2, got 1"):
        PolicyEvaluator(steps, [None], FQESettings(members=1))
