"""Label accuracy against hand counts, and its interval when pairs share episodes."""

from __future__ import annotations

import numpy as np

from sealegs_learning.judge.accuracy import clustered_interval, count
from sealegs_learning.statistics import wilson_interval


def test_counts_by_hand() -> None:
    difference = [0.3, -0.3, 0.3, 0.05, 0.0]
    found = count(difference, [0.9, 0.9, 0.2, 0.9, 0.9], [False, False, True, False, False], 0.1)
    assert (found.pairs, found.labelled, found.correct) == (3, 2, 1)


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
