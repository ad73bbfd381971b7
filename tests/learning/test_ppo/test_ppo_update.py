"""Whole PPO updates: against autograd, and against stable-baselines3's own code (recorded by record_sb3.py)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sealegs_contract.errors import LearningError
from sealegs_learning.learners.backprop import Backprop
from sealegs_learning.learners.experience import Rollout
from sealegs_learning.learners.flat import flatten_parameters
from sealegs_learning.learners.ppo import PPO, Samples
from sealegs_learning.learners.settings import PPOSettings
from sealegs_learning.networks import GaussianActor, Normalizer, perceptron

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("sb3_update.json").read_text(encoding="utf-8"))
PAIRS = {  # ours: theirs
    "policy.log_std": "log_std",
    "policy.actor.0": "mlp_extractor.policy_net.0",
    "policy.actor.2": "mlp_extractor.policy_net.2",
    "policy.actor.4": "action_net",
    "critic.0": "mlp_extractor.value_net.0",
    "critic.2": "mlp_extractor.value_net.2",
    "critic.4": "value_net",
}


def make_actor(observations: int, actions: int, hidden: tuple[int, ...], **shape: Any) -> GaussianActor:
    normalizer = Normalizer(torch.zeros(observations), torch.ones(observations))
    return GaussianActor(observations, actions, hidden, normalizer, torch.Generator().manual_seed(1), **shape)


def sb3_weights(name: str) -> dict[str, torch.Tensor]:
    recorded, found = RECORDED[name], {}
    for ours, theirs in PAIRS.items():
        for part in ("", ".weight", ".bias"):
            if theirs + part in recorded:
                found[ours + part] = torch.tensor(recorded[theirs + part])
    return found


def sb3_rollout() -> Rollout:
    arrays = {key: np.array(RECORDED[key], dtype=np.float32) for key in ("observation", "action", "log_prob")}
    reward, terminated = np.array(RECORDED["reward"]), np.array(RECORDED["terminated"])
    observation = arrays["observation"].reshape(-1, 3)
    return Rollout(
        observation=observation,
        action=arrays["action"].reshape(-1, 2),
        log_prob=arrays["log_prob"],
        reward=reward,
        terminated=terminated,
        ended=terminated,
        final_observation=np.zeros((int(terminated.sum()), 3), np.float32),  # a terminal's value counts for nothing
        last_observation=np.array(RECORDED["last_observation"], np.float32),
        raw_observation=arrays["observation"],
    )


def test_an_update_is_stable_baselines3s() -> None:
    s = dict(RECORDED["settings"])
    rate = s.pop("learning_rate")
    actor = make_actor(3, 2, tuple(RECORDED["hidden"]), activation="tanh", bound="clip")
    learner = PPO(actor, PPOSettings(**s), rate, 16, torch.Generator().manual_seed(0))
    learner.networks.load_state_dict(sb3_weights("before") | {
        "policy.normalizer.mean": torch.zeros(3), "policy.normalizer.std": torch.ones(3)
    })  # fmt: skip
    rollout = sb3_rollout()
    samples = learner.samples(rollout)
    assert samples.advantage == pytest.approx(np.array(RECORDED["advantage"]).reshape(-1), abs=2e-6)
    assert samples.target == pytest.approx(np.array(RECORDED["target"]).reshape(-1), abs=2e-6)
    figures, logged = learner.update(rollout), RECORDED["logged"]
    assert figures["policy_loss"] == pytest.approx(logged["policy_gradient_loss"], abs=2e-6)
    assert figures["value_loss"] == pytest.approx(logged["value_loss"], rel=2e-6)
    assert figures["explained_variance"] == pytest.approx(logged["explained_variance"], abs=1e-5)
    after = learner.networks.state_dict()
    for name, expected in sb3_weights("after").items():
        assert torch.allclose(after[name], expected, atol=2e-6), name
    # KL and clip fraction are of the whole rollout after the update, here by autograd's networks.
    log_ratio = actor.log_prob(*map(torch.from_numpy, samples[:2])).detach().numpy() - samples.log_prob
    assert figures["kl"] == pytest.approx(float((np.exp(log_ratio) - 1.0 - log_ratio).mean()), abs=2e-6)
    assert figures["clip_fraction"] == pytest.approx(float((np.abs(np.exp(log_ratio) - 1.0) > s["clip"]).mean()))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_backprop_is_autograd(activation: str) -> None:
    network = perceptron((5, 16, 8, 3), torch.Generator().manual_seed(2), activation)  # type: ignore[arg-type]
    flat = flatten_parameters(network.parameters())
    by_hand = Backprop.of(network)
    x, slope = torch.randn(32, 5), torch.randn(32, 3)
    output = by_hand.forward(x)
    assert torch.allclose(output, network(x), atol=1e-6)
    by_hand.backward(slope)
    found = flat.grad.clone()
    flat.grad.zero_()
    (network(x) * slope).sum().backward()
    assert torch.allclose(found, flat.grad, atol=1e-5)


def test_backprop_says_what_it_can_run() -> None:
    with pytest.raises(LearningError, match="expected Linear layers with Tanh or with ReLU"):
        Backprop.of(nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Linear(2, 1)))
    with pytest.raises(LearningError, match="no gradients in place"):
        Backprop.of(nn.Sequential(nn.Linear(2, 1)))


@pytest.mark.parametrize(("bound", "value_clip"), [("tanh", 0.0), ("tanh", 0.2), ("clip", 0.2)])
def test_a_step_is_the_gradient_of_the_papers_loss(bound: str, value_clip: float) -> None:
    settings = PPOSettings(
        epochs=1, value_clip=value_clip, entropy_weight=0.01, normalise_advantages=False, max_gradient_norm=0.0
    )
    actor = make_actor(4, 2, (16, 16), activation="relu", bound=bound)
    learner = PPO(actor, settings, 1e-3, 64, torch.Generator().manual_seed(0))
    rng = np.random.default_rng(4)
    columns = [rng.standard_normal(shape).astype(np.float32) for shape in ((64, 4), (64, 2), 64, 64, 64, 64)]
    columns[2] = columns[2] * 0.3 + actor.log_prob(*map(torch.from_numpy, columns[:2])).detach().numpy()
    learner.fit(Samples(*columns))
    found = torch.cat([flat.grad.clone() for flat in learner._flat])

    x, action, old_log_prob, advantage, target, old = map(torch.from_numpy, columns)
    twin = PPO(make_actor(4, 2, (16, 16), activation="relu", bound=bound), settings, 1e-3, 64, torch.Generator())
    twin.critic.load_state_dict(new_critic_state(learner))
    for flat in twin._flat:
        flat.grad.zero_()
    ratio = (twin.policy.log_prob(x, action) - old_log_prob).exp()
    policy_loss = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
    value = twin.critic(x).squeeze(-1)
    squared = (value - target).square()
    if value_clip:
        squared = torch.maximum(squared, (old + (value - old).clamp(-value_clip, value_clip) - target).square())
    entropy = torch.distributions.Normal(0.0, twin.policy.log_std.exp()).entropy().sum()
    (policy_loss + 0.5 * squared.mean() - 0.01 * entropy).backward()
    expected = torch.cat([flat.grad for flat in twin._flat])
    assert torch.allclose(found, expected, atol=2e-6)
    assert expected.abs().max() > 1e-3


def new_critic_state(learner: PPO) -> dict[str, torch.Tensor]:
    """The critic's first weights: those drawn from the same seed."""
    fresh = PPO(
        make_actor(4, 2, (16, 16), activation="relu"), PPOSettings(), 1e-3, 64, torch.Generator().manual_seed(0)
    )
    return fresh.critic.state_dict()


def test_kl_sets_the_rate_of_both_networks_unless_the_critic_has_its_own() -> None:
    for own in (0.0, 5e-4):
        settings = PPOSettings(epochs=3, target_kl=1e-9, critic_learning_rate=own)
        learner = PPO(make_actor(3, 2, (8, 8)), settings, 1e-3, 16, torch.Generator().manual_seed(0))
        learner.fit(learner.samples(sb3_rollout()))
        rates = [group["lr"] for group in learner.optimizer.param_groups]
        assert rates == pytest.approx([1e-3 / 1.5**3, *([own] if own else [])])  # one group of both, or two


def test_the_rate_follows_the_kl_from_the_first_epoch() -> None:
    """Eight minibatches in one epoch: before its first step a policy has not moved, after the last it has."""
    for target, expected in ((1e-7, 1e-2 / 1.5), (1e3, 1e-2)):  # 1e-2 is the bound above
        settings = PPOSettings(epochs=1, target_kl=target)
        rollout = sb3_rollout()
        batch = len(rollout.action) // 8
        learner = PPO(make_actor(3, 2, (8, 8)), settings, 1e-2, batch, torch.Generator().manual_seed(0))
        figures = learner.fit(learner.samples(rollout))
        assert figures["kl"] > 2e-7
        assert figures["learning_rate"] == pytest.approx(expected)
