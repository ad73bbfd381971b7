import math

import numpy as np
import pytest
import torch

from sealegs_learning.learners.bc import squared_error
from sealegs_learning.learners.settings import BCSettings
from sealegs_learning.networks import gaussian_log_prob
from sealegs_learning.sessions.offline import make_learner
from sealegs_learning.training.config import TrainConfig
from sealegs_learning.transitions import build_transitions


def test_log_likelihood_by_hand_and_against_torch():
    # One dimension, one deviation off: log N = -1/2 - log(sqrt(2 pi) sigma)
    value = gaussian_log_prob(torch.tensor([[1.0]]), torch.tensor([math.log(0.5)]), torch.tensor([[1.5]]))
    assert value.item() == pytest.approx(-0.5 - math.log(math.sqrt(2 * math.pi) * 0.5))
    mean, log_std, x = torch.randn(7, 3), torch.randn(3), torch.randn(7, 3)
    expected = torch.distributions.Normal(mean, log_std.exp()).log_prob(x).sum(-1)
    torch.testing.assert_close(gaussian_log_prob(mean, log_std, x), expected)


def test_squared_error_by_hand():
    assert squared_error(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 2.0], [0.0, 1.0]])).item() == 3.0


@pytest.mark.parametrize("loss", ["gaussian", "mse"])
def test_cloning_recovers_a_known_controller(make_data, loss):
    rng = np.random.default_rng(0)
    states, targets = [], []
    for _ in range(40):
        position = rng.uniform(-1.0, 1.0, 2)
        for _ in range(15):
            states.append(position)
            position = position + 0.1 * np.clip(-2.0 * position + 0.05 * rng.standard_normal(2), -0.9, 0.9)
            targets.append(position)
    data = make_data(np.array(states), np.array(targets), np.repeat(np.arange(40), 15))
    transitions = build_transitions(data, np.zeros(600, np.float32))
    config = TrainConfig(
        data.path, data.path, learner="bc", bc=BCSettings(loss), hidden=(32, 32), updates=800, learning_rate=3e-3
    )
    learner = make_learner(config, data, transitions, "")
    generator = torch.Generator().manual_seed(0)
    for _ in range(config.updates):
        learner.update(transitions.sample(generator, 128))
    points = np.random.default_rng(1).uniform(-0.6, 0.6, (50, 2)).astype(np.float32)
    with torch.no_grad():
        error = learner.policy(torch.from_numpy(points)).numpy() - np.clip(-2.0 * points, -0.9, 0.9)
    assert np.abs(error).mean() < 0.06
