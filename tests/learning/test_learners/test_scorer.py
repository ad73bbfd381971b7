"""Scorers of actions in the point world, where the answer is known: under a policy that stays, nearer is better."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sealegs_contract.errors import LearningError
from sealegs_contract.temporal import TemporalSpec
from sealegs_learning.learners.settings import FQESettings
from sealegs_learning.networks import Normalizer, Policy
from sealegs_learning.policies.cloned import ClonedPolicy
from sealegs_learning.reward.scorer import ScorerInRad, candidate_std, fit_scorer, member_rewards
from sealegs_learning.statistics import spearman

SCALE, GOAL = 0.1, np.array([0.5, -0.4])
SETTINGS = FQESettings(gamma=0.9, updates=1_500, batch_size=128, hidden=(64, 64), members=3)


@pytest.fixture
def staying(point_world):
    """A policy whose mean is to stay; its Gaussian has a deviation of a half."""
    data, size = point_world, 2
    normalizer, generator = Normalizer(torch.zeros(size), torch.ones(size)), torch.Generator().manual_seed(0)
    policy = Policy(data.robot, data.observation_spec, data.action_spec, normalizer, (8,), generator)
    with torch.no_grad():
        for weights in policy.actor.parameters():
            weights.zero_()
        policy.log_std.fill_(np.log(0.5))
    return policy.eval()


def test_actions_are_ranked_by_what_follows_whatever_the_rewards_unit(point_world, staying, goal_reward):
    reward = goal_reward(point_world.state)
    scorer = fit_scorer(staying, point_world, np.stack([reward, 2.0 * reward]), SETTINGS, seed=3)
    rng = np.random.default_rng(1)
    states = rng.uniform(-0.8, 0.8, (200, 2)).astype(np.float32)
    actions = np.concatenate([np.zeros((1, 2)), rng.uniform(-1.0, 1.0, (15, 2))]).astype(np.float32)
    pairs = [torch.from_numpy(np.repeat(states, 16, 0)), torch.from_numpy(np.tile(actions, (200, 1)))]
    score = scorer(*pairs).view(200, 16, 3)
    # Q(o, a) = r(o + SCALE a) / (1 - gamma): the policy stays where the action led.
    truth = goal_reward(states[:, None] + SCALE * actions)
    order = [spearman(s, t) for s, t in zip((score - score[:, :1]).amin(-1).numpy(), truth, strict=True)]
    # What follows bends the most near the goal, where a network of this size is smooth.
    assert np.mean(order) > 0.9
    picked = (score - score[:, :1]).amin(-1).argmax(1).numpy()
    assert np.mean(truth[np.arange(200), picked] >= truth[:, 0]) > 0.95
    # Calibrated: gains of candidates around the policy's own action have a root mean square of 1 in each member.
    other = fit_scorer(staying, point_world, np.stack([3.0 * reward + 7.0]), SETTINGS, seed=3)(*pairs)
    np.testing.assert_allclose(other.view(200, 16, 3)[..., 0], score[..., 0], atol=2e-3)
    wrapped = ScorerInRad(scorer, point_world.action_spec)
    np.testing.assert_allclose(wrapped(pairs[0], SCALE * pairs[1]), scorer(*pairs), atol=1e-4)


def test_history_is_seen_and_what_has_no_candidates_is_refused(point_world, staying, goal_reward):
    data, reward = point_world, goal_reward(point_world.state)[None]
    quick = replace(SETTINGS, updates=20)
    normalizer, generator = Normalizer(torch.zeros(6), torch.ones(6)), torch.Generator().manual_seed(0)
    parts = (data.robot, data.observation_spec, data.action_spec, normalizer, (8,), generator)
    remembering = Policy(*parts, temporal=TemporalSpec(history=3))
    assert fit_scorer(remembering, data, reward, quick)(torch.zeros(5, 6), torch.zeros(5, 2)).shape == (5, 3)
    np.testing.assert_allclose(candidate_std(staying, 0.25), 0.125, rtol=1e-6)
    narrow = Normalizer(torch.zeros(2), torch.ones(2))
    chunked = Policy(*parts[:3], narrow, (8,), generator, temporal=TemporalSpec(chunk=4))
    binned = ClonedPolicy(*parts[:3], narrow, (8,), generator, bins=11)
    for policy, why in ((chunked, "puts out chunks"), (binned, "has bins")):
        with pytest.raises(LearningError, match=why):
            fit_scorer(policy, data, reward, quick)
    with pytest.raises(LearningError, match="the same everywhere"):
        fit_scorer(staying, data, np.zeros_like(reward), quick)
    with pytest.raises(LearningError, match=r"in \(0, 1\], got 2"):
        candidate_std(staying, 2.0)
    with pytest.raises(LearningError, match="name a learned reward"):
        member_rewards(data, "constant")
