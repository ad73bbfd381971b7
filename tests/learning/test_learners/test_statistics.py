import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sealegs_contract.errors import LearningError
from sealegs_learning.statistics import (
    Interval,
    bootstrap_mean_interval,
    kendall,
    paired_comparison,
    pearson,
    ranks,
    sign_test,
    spearman,
    wilson_interval,
)


def test_wilson_by_hand():
    # n = 1, k = 1, z = 1.959964: (1 + z^2/2 - z^2/2) / (1 + z^2) = 1 / (1 + z^2)
    low, high = wilson_interval(1, 1)
    assert low == pytest.approx(1.0 / (1.0 + 1.959963985**2))
    assert high == 1.0
    # Published example (Newcombe 1998, 81 of 263): 0.2553 to 0.3662
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@given(st.integers(1, 400), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_equals_scipy(trials, data, confidence):
    successes = data.draw(st.integers(0, trials))
    expected = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert wilson_interval(successes, trials, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_proportion(k, n):
    with pytest.raises(LearningError, match="no proportion"):
        wilson_interval(k, n)


def test_intervals_overlap_where_they_share_a_point():
    assert Interval(0.1, 0.3).overlaps(Interval(0.3, 0.5))
    assert not Interval(0.1, 0.29).overlaps(Interval(0.3, 0.5))


def test_bootstrap_agrees_with_the_normal_interval_of_a_large_sample():
    values = np.random.default_rng(1).normal(2.0, 1.0, 500)
    half = 1.96 * values.std() / math.sqrt(500)
    low, high = bootstrap_mean_interval(values)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.006)
    assert bootstrap_mean_interval(values) == (low, high)


@given(st.integers(0, 60), st.integers(0, 60))
def test_sign_test_equals_the_exact_binomial_test(wins, losses):
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected, rel=1e-9)


def test_pairing_finds_what_unpaired_intervals_hide():
    rng = np.random.default_rng(0)
    b = (rng.random(100) < 0.5).astype(float)
    a = b.copy()
    a[np.flatnonzero(b == 0)[:12]] = 1.0
    result = paired_comparison(a, b)
    assert (result.difference, result.a_ahead, result.b_ahead) == (pytest.approx(0.12), 12, 0)
    assert result.p_value == pytest.approx(2.0 / 2**12)
    assert result.interval.low > 0
    first, second = (wilson_interval(int(x.sum()), 100) for x in (a, b))
    assert first.overlaps(second)


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=30), st.data())
def test_rank_statistics_equal_scipy(x, data):
    y = data.draw(st.lists(st.integers(-5, 5), min_size=len(x), max_size=len(x)))
    assert ranks(x) == pytest.approx(stats.rankdata(x))
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
        assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
        assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
    else:
        assert math.isnan(spearman(x, y))
        assert math.isnan(kendall(x, y))


def test_lists_that_do_not_fit_are_refused():
    with pytest.raises(LearningError, match="equally many"):
        pearson([1.0, 2.0], [1.0])
    with pytest.raises(LearningError, match="non-empty"):
        bootstrap_mean_interval([])
