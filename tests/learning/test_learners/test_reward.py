import io
import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from scipy import stats
from torch.nn.functional import conv2d

from sealegs_contract.errors import LearningError
from sealegs_learning.evaluation.rollouts import roll_out
from sealegs_learning.networks import Normalizer
from sealegs_learning.reward.builtin import true_progress
from sealegs_learning.reward.fit import Pairs, agreement, bradley_terry_loss, split_pairs, usable_pairs
from sealegs_learning.reward.frames import decode_frame, load_frames
from sealegs_learning.reward.learn import learn_reward, order_consistency
from sealegs_learning.reward.model import STRIDES, RewardEnsemble, RewardInputs, StackedConvolutions, combine
from sealegs_learning.reward.sidecar import (
    Reward,
    describe_reward,
    load_reward_model,
    read_reward,
    reward_names,
    write_reward,
)
from sealegs_learning.training.config import RewardConfig

T = torch.tensor


@dataclass
class Labels:
    index_a: np.ndarray
    index_b: np.ndarray
    probability_b_better: np.ndarray
    abstain: np.ndarray


def label_by(truth: np.ndarray, pairs: int, seed: int = 0, flip: float = 0.0) -> Labels:
    """Random pairs of rows, labelled by the true values; a share of the answers is wrong, a tenth abstains."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, len(truth), (2, pairs))
    better = (truth[b] > truth[a]) ^ (rng.random(pairs) < flip)
    return Labels(a, b, np.where(better, 0.95, 0.05), rng.random(pairs) < 0.1)


def make_config(data, **changes) -> RewardConfig:
    return replace(
        RewardConfig(data.path, "oracle", "learned", hidden=(32, 32), epochs=20, learning_rate=1e-3), **changes
    )


def test_bradley_terry_by_hand():
    loss = bradley_terry_loss(T([0.0, 1.0]), T([math.log(3.0), 1.0]), T([1.0, 0.5]))
    # sigmoid(log 3) = 3/4; sigmoid(0) = 1/2
    assert loss.item() == pytest.approx((-math.log(0.75) - math.log(0.5)) / 2)
    soft = bradley_terry_loss(T([0.0]), T([math.log(3.0)]), T([0.9]))
    assert soft.item() == pytest.approx(-0.9 * math.log(0.75) - 0.1 * math.log(0.25))


def test_the_best_difference_of_rewards_is_the_log_odds_of_the_label():
    grid = torch.linspace(-4, 4, 8001)
    losses = torch.stack([bradley_terry_loss(T([0.0]), d[None], T([0.8])) for d in grid])
    assert grid[losses.argmin()].item() == pytest.approx(math.log(0.8 / 0.2), abs=2e-3)


def test_agreement_leaves_undecided_pairs_out():
    a, b, p = T([0.0, 0.0, 0.0, 1.0]), T([1.0, -1.0, 1.0, 1.0]), T([0.9, 0.9, 0.5, 0.2])
    assert agreement(a, b, p).item() == pytest.approx(1 / 3)  # right, wrong, undecided, tie


def test_stacked_convolutions_equal_separate_ones():
    encoder = StackedConvolutions(3, 3, 64, torch.Generator().manual_seed(0))
    frames = torch.randint(0, 256, (3, 5, 3, 64, 64), dtype=torch.uint8)
    together = encoder(frames)
    assert together.shape == (3, 5, 128)
    for k in range(3):
        x = frames[k].float() * (2 / 255) - 1
        for weight, bias, stride in zip(encoder.weights, encoder.biases, STRIDES, strict=True):
            x = conv2d(x, weight.chunk(3)[k], bias.chunk(3)[k], stride=stride).clamp_min(0)
        torch.testing.assert_close(together[k], x.flatten(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder(frames[0])[0], together[0], atol=1e-5, rtol=1e-4)


def test_frames_too_small_for_the_convolutions_are_refused():
    with pytest.raises(LearningError, match="64 or more"):
        StackedConvolutions(1, 3, 40, torch.Generator())


def test_members_are_standardised_before_they_are_combined():
    model = RewardEnsemble(2, (8,), torch.Generator().manual_seed(0), Normalizer(torch.zeros(2), torch.ones(2)))
    x = RewardInputs(torch.randn(500, 2), None)
    with torch.no_grad():
        model.standardise(model(x))
        members = (model(x) - model.offset) / model.scale
        mean, spread = model.mean_and_spread(x)
    torch.testing.assert_close(members.mean(1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(members.std(1, unbiased=False), torch.ones(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(mean, members.mean(0))
    torch.testing.assert_close(spread, (members[0] - members[1]).abs() / 2)
    assert combine(T([[1.0], [3.0]])) == (T([2.0]), T([1.0]))


def test_labels_that_say_nothing_are_dropped_and_foreign_ones_refused():
    a, b = np.arange(20), np.arange(20)[::-1].copy()
    b[0] = a[0]
    abstain = np.zeros(20, bool)
    abstain[1] = True
    pairs = usable_pairs(a, b, np.full(20, 0.9), abstain, 20)
    assert pairs.index_a.tolist() == list(range(2, 20))
    with pytest.raises(LearningError, match="another dataset"):
        usable_pairs(a, b, np.full(20, 0.9), abstain, 19)
    with pytest.raises(LearningError, match="only 0 of 20"):
        usable_pairs(a, b, np.full(20, 0.5), abstain, 20)


@pytest.mark.parametrize("across", [False, True])
def test_no_held_out_episode_is_seen_in_training(across):
    rng = np.random.default_rng(0)
    episode = np.repeat(np.arange(50), 10)
    a = rng.integers(0, 500, 3000)
    b = rng.integers(0, 500, 3000) if across else (a // 10) * 10 + rng.integers(0, 10, 3000)
    train, held = split_pairs(Pairs(a, b, np.full(3000, 0.9)), episode, 0.1, rng)
    assert len(train.index_a) + len(held.index_a) == 3000
    assert 0.06 < len(held.index_a) / 3000 < 0.14
    seen = set(episode[train.index_a]) | set(episode[train.index_b])
    for x, y in zip(episode[held.index_a], episode[held.index_b], strict=True):
        assert x not in seen or y not in seen


def test_the_reward_recovers_the_order_behind_noisy_labels(point_world, goal_reward):
    truth = goal_reward(point_world.state)
    labels = label_by(truth, 3000, flip=0.1)
    report = learn_reward(make_config(point_world), dataset=point_world, labels=labels)
    reward = read_reward(point_world, "learned")
    assert stats.spearmanr(reward.mean, truth).statistic > 0.95
    # Nine in ten labels are right, so a perfect reward agrees with about 0.9 of them.
    assert 0.84 < report.fit.held_out_accuracy < 0.95
    assert abs(reward.mean.mean()) < 1e-4
    assert 0.9 < reward.mean.std() <= 1.0
    assert (reward.spread > 0).all()
    assert report.order is None  # no simulated task
    table = pq.read_table(point_world.path / "rewards" / "learned.parquet")
    assert table.column_names == ["index", "episode_index", "frame_index", "mean", "spread"]
    assert table["frame_index"].to_pylist()[:21] == [*range(20), 0]
    about = json.loads(report.path.read_text())
    assert about["labels"]["name"] == "oracle"
    assert about["labels"]["pairs"] == 3000
    assert about["dataset_fingerprint"] == point_world.fingerprint
    assert about["held_out_accuracy"] == report.fit.held_out_accuracy


def test_the_saved_model_gives_the_sidecars_numbers_and_runs_repeat(point_world, goal_reward):
    labels = label_by(goal_reward(point_world.state), 400)
    learn_reward(make_config(point_world, epochs=3), dataset=point_world, labels=labels)
    learn_reward(make_config(point_world, epochs=3, name="again"), dataset=point_world, labels=labels)
    first, second = read_reward(point_world, "learned"), read_reward(point_world, "again")
    assert np.array_equal(first.mean, second.mean)
    assert np.array_equal(first.spread, second.spread)
    model = load_reward_model(point_world, "learned")
    mean, spread = model.mean_and_spread(RewardInputs(torch.from_numpy(point_world.state), None))
    np.testing.assert_allclose(mean.numpy(), first.mean, atol=1e-5)
    np.testing.assert_allclose(spread.numpy(), first.spread, atol=1e-5)
    assert reward_names(point_world) == ["true", "constant", "again", "learned"]


def jpeg(brightness: float) -> bytes:
    pixels = np.full((120, 160, 3), 20, np.uint8)
    pixels[40:80, 50:110, 0] = int(255 * brightness)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def test_a_reward_from_frames_alone(point_world):
    levels = np.linspace(0.1, 1.0, 40)
    truth = levels[np.random.default_rng(0).integers(0, 40, 1200)]
    point_world.frames = {i: jpeg(level) for i, level in enumerate(truth)}
    config = make_config(point_world, inputs="frames", epochs=8, batch_size=25, learning_rate=2e-3)
    report = learn_reward(config, dataset=point_world, labels=label_by(truth, 200))
    assert report.fit.held_out_accuracy > 0.85
    assert stats.spearmanr(read_reward(point_world, "learned").mean, truth).statistic > 0.9
    both = learn_reward(
        make_config(point_world, inputs="both", epochs=1, name="both"), dataset=point_world, labels=label_by(truth, 100)
    )
    model = load_reward_model(point_world, "both")
    assert model.normalizer is not None
    assert model.encoder is not None
    assert json.loads(both.path.read_text())["config"]["inputs"] == "both"


def test_frames_are_decoded_whole_and_bad_ones_refused(point_world):
    frame = decode_frame(jpeg(1.0), 64)
    assert frame.shape == (3, 64, 64)
    assert frame[0, 32, 32] > 240
    assert frame[1, 32, 32] < 40
    assert frame[0, 2, 2] < 40
    point_world.frames = {0: jpeg(0.5), 1: b"not an image"}
    assert load_frames(point_world, ("front", "wrist"), np.array([0, 0]), 64).shape == (2, 6, 64, 64)
    with pytest.raises(LearningError, match="12 bytes is not a readable image"):
        load_frames(point_world, ("front",), np.array([0, 1]), 64)


@pytest.fixture
def sidecar(point_world):
    model = RewardEnsemble(3, (8,), torch.Generator().manual_seed(0), Normalizer(torch.zeros(2), torch.ones(2)))
    reward = Reward(np.arange(1200, dtype=np.float32), np.ones(1200, np.float32))
    write_reward(point_world, "mine", reward, {}, model)
    return point_world


def test_a_sidecar_of_another_content_is_refused(sidecar):
    assert np.array_equal(read_reward(sidecar, "mine").mean, np.arange(1200))
    sidecar.state = sidecar.state.copy()
    sidecar.state[3, 0] += 1e-3
    with pytest.raises(LearningError, match="another content"):
        read_reward(sidecar, "mine")


@pytest.mark.parametrize("suffix", ["parquet", "safetensors", "json"])
def test_truncated_sidecars_are_clear_errors(sidecar, suffix):
    path = sidecar.path / "rewards" / f"mine.{suffix}"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(LearningError, match=r"truncated|damaged"):
        load_reward_model(sidecar, "mine") if suffix == "safetensors" else read_reward(sidecar, "mine")


def test_sidecar_names_and_sizes_are_checked(sidecar):
    model = load_reward_model(sidecar, "mine")
    with pytest.raises(LearningError, match="built in"):
        write_reward(sidecar, "true", Reward(np.zeros(1200), np.zeros(1200)), {}, model)
    with pytest.raises(LearningError, match="use letters"):
        write_reward(sidecar, "../x", Reward(np.zeros(1200), np.zeros(1200)), {}, model)
    with pytest.raises(LearningError, match="1200 rows"):
        write_reward(sidecar, "short", Reward(np.zeros(7), np.zeros(7)), {}, model)
    with pytest.raises(LearningError, match=r"no reward 'other'.*constant, mine, true"):
        describe_reward(sidecar, "other")
    assert not list((sidecar.path / "rewards").glob(".*"))


def test_true_reward_is_the_simulators_own():
    from sealegs_sim.env import SealegsEnv
    from sealegs_sim.policies import make_policy

    data = roll_out("reach", "scripted", 2, seed=3)
    env = SealegsEnv("reach")
    policy = make_policy("scripted", "reach", "so101")
    observation, _ = env.reset(seed=4)
    policy.reset(np.random.default_rng((4, 1)))
    rewards = []
    for _ in range(50):
        observation, reward, *_ = env.step(policy.act(observation).astype(np.float32))
        rewards.append(reward)
    # Reward of the step t is the progress of row t + 1.
    np.testing.assert_allclose(true_progress(data)[201:251], rewards, atol=1e-6)
    assert read_reward(data, "constant").mean.tolist() == [0.0] * 400


def test_true_reward_of_a_foreign_task_is_refused(point_world):
    with pytest.raises(LearningError, match=r"unknown for task 'point'.*drawer, push, reach"):
        true_progress(point_world)


def test_order_consistency_by_scipy():
    data = roll_out("reach", "scripted", 2)
    truth = true_progress(data)
    mean = np.float32(truth**3)
    mean[200:] *= -1.0
    figures = order_consistency(data, mean)
    assert figures["spearman"] == pytest.approx(stats.spearmanr(mean, truth).statistic)
    assert figures["pearson"] == pytest.approx(stats.pearsonr(mean, truth).statistic, abs=1e-6)
    assert figures["spearman_within_episodes"] == pytest.approx(0.0, abs=1e-9)  # +1 and -1
    assert figures["episodes_compared"] == 2.0


def test_bad_reward_settings_are_refused(point_world, goal_reward):
    labels = label_by(goal_reward(point_world.state), 50)
    for change in ({"epochs": 0}, {"members": 0}, {"held_out_fraction": 1.0}, {"cameras": (), "inputs": "frames"}):
        with pytest.raises(LearningError, match=f"{next(iter(change))} must be"):
            learn_reward(make_config(point_world, **change), dataset=point_world, labels=labels)
