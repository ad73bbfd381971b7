"""Label accuracy against hand counts, and its interval when pairs share episodes."""

from __future__ import annotations

import numpy as np

from sealegs_learning.judge.accuracy import Answers, clustered_interval
from sealegs_learning.statistics import wilson_interval


def answers(difference: list[float], probability: list[float], abstain: list[bool]) -> Answers:
    """Every pair in an episode of its own."""
    own = np.arange(len(difference))
    return Answers(np.array(difference), np.array(probability), np.array(abstain), own, own)


def test_counts_by_hand() -> None:
    found = answers([0.3, -0.3, 0.3, 0.05, 0.0], [0.9, 0.9, 0.2, 0.9, 0.9], [False, False, True, False, False]).count(
        0.1
    )
    assert (found.pairs, found.labelled, found.correct) == (3, 2, 1)
    assert found.accuracy == 1 / 2
    assert found.right == 1 / 3  # an abstention is not right


def test_bins_by_hand() -> None:
    found = answers(
        [0.05, 0.15, -0.15, 0.15, 0.95, 0.0], [0.9, 0.9, 0.9, 0.5, 0.9, 0.9], [False, False, False, True, False, False]
    )
    assert (found.bins[0].pairs, found.bins[0].labelled, found.bins[0].correct) == (1, 1, 1)
    assert (found.bins[1].pairs, found.bins[1].labelled, found.bins[1].correct) == (3, 2, 1)
    assert found.bins[9].correct == 1
    assert sum(b.pairs for b in found.bins) == 5
    assert found.clearly_apart.accuracy == 2 / 3
    assert found.bins[4].row() == {
        "low": 0.4,
        "high": 0.5,
        "pairs": 0,
        "labelled": 0,
        "correct": 0,
        "accuracy": None,
        "right": None,
        "interval": [0.0, 1.0],
        "right_interval": [0.0, 1.0],
    }


def test_pairs_of_one_episode_count_as_one_observation() -> None:
    """20 episodes of 50 pairs, right in 15 of them; every fifth pair abstains, so it is not right but is a pair."""
    episode = np.repeat(np.arange(20), 50)
    abstain = np.arange(1000) % 5 == 0
    shared = Answers(np.full(1000, 0.3), np.where(episode < 15, 0.9, 0.1), abstain, episode, episode).clearly_apart
    assert (shared.accuracy, shared.right) == (0.75, 0.6)
    # The mean of 20 draws of 0 or 1 (0 or 0.8) has deviation 0.097 (0.077); Wilson of 1,000 pairs would say 0.014.
    assert 0.30 < shared.interval.high - shared.interval.low < 0.46
    assert 0.24 < shared.right_interval.high - shared.right_interval.low < 0.37
    assert shared.interval.low < 0.75 < shared.interval.high
    assert shared.right_interval.low < 0.6 < shared.right_interval.high


def test_shared_episodes_widen_the_interval_to_that_of_the_episodes() -> None:
    """20 episodes of 100 pairs each, 15 all right and 5 all wrong: there are 20 observations, not 2,000."""
    episodes = np.repeat(np.arange(20), 100)
    correct = episodes < 15
    interval = clustered_interval(correct, episodes, episodes)
    pairs, clusters = wilson_interval(1500, 2000), wilson_interval(15, 20)
    assert interval.high - interval.low > 5.0 * (pairs.high - pairs.low)
    # The bootstrap of 20 draws has deviation sqrt(.75 * .25 / 20) = 0.097, so 95% spans about 0.38.
    assert abs((interval.high - interval.low) - (clusters.high - clusters.low)) < 0.08


def test_independent_pairs_keep_wilson_s_width() -> None:
    rng = np.random.default_rng(0)
    correct = rng.random(400) < 0.9
    interval = clustered_interval(correct, np.arange(400), np.arange(400))
    simple = wilson_interval(int(correct.sum()), 400)
    assert interval.low <= simple.low
    assert interval.high >= simple.high
    assert interval.high - interval.low < 1.4 * (simple.high - simple.low)


def test_all_right_is_not_certainty() -> None:
    interval = clustered_interval(np.ones(10, dtype=bool), np.arange(10), np.arange(10))
    assert interval == wilson_interval(10, 10)
