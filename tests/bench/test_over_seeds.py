"""Differences over seeds: Student's interval by hand, tasks that count alike, and what cannot be paired."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sealegs.bench.over_seeds import (
    MEAN_OF_TASKS,
    OF_SHARES,
    difference_claim,
    difference_table,
    paired_difference,
    seed_interval,
    seed_means,
)
from sealegs_contract.errors import LearningError


def row(arm: str, task: str, seed: int, *outcomes: float) -> dict[str, Any]:
    return {"arm": arm, "task": task, "seed": seed, "outcomes": list(outcomes)}


def outcomes(one: Any) -> Any:
    return one["outcomes"]


# Seed by seed, ours less theirs: .1, .2, .3 on a; .3, 0, -.3 on b, which has other numbers of starts.
ROWS = [
    row("theirs", "a", 0, 0.0, 0.2), row("ours", "a", 0, 0.2, 0.2),
    row("ours", "a", 2, 0.8, 0.8), row("theirs", "a", 2, 0.4, 0.6),
    row("theirs", "a", 1, 0.3, 0.5), row("ours", "a", 1, 0.4, 0.8),
    row("theirs", "b", 0, 0.0), row("ours", "b", 0, 0.3),
    row("theirs", "b", 1, 0.5), row("ours", "b", 1, 0.5),
    row("theirs", "b", 2, 0.9), row("ours", "b", 2, 0.6),
    row("theirs", "c", 0, 0.9),
]  # fmt: skip
T2 = 4.302653  # the 0.975 quantile of Student's distribution with two degrees of freedom


def test_the_interval_is_students_over_seeds_with_the_tasks_averaged() -> None:
    found = paired_difference(ROWS, "ours", "theirs", outcomes)
    np.testing.assert_allclose(found.by_task["a"], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(found.by_task["b"], [0.3, 0.0, -0.3], atol=1e-12)
    assert list(found.by_task) == ["a", "b"]  # nothing of ours on c
    claim = difference_claim("return", found, "low > 0")
    # Seeds: .2, .1, 0; mean .1, s = .1.
    assert claim.claim == "return: ours minus theirs, paired by seed"
    assert claim.value == pytest.approx(0.1)
    assert claim.interval == pytest.approx((0.1 - T2 * 0.1 / 3**0.5, 0.1 + T2 * 0.1 / 3**0.5), abs=1e-6)
    assert not claim.holds


def test_more_episodes_of_the_same_trainings_do_not_narrow_it() -> None:
    many = [{**one, "outcomes": one["outcomes"] * 100} for one in ROWS]
    claims = [difference_claim("x", paired_difference(r, "ours", "theirs", outcomes), "low > 0") for r in (ROWS, many)]
    assert claims[0].interval == pytest.approx(claims[1].interval)


def test_the_table_shows_the_task_that_got_worse() -> None:
    rows = [row(arm, task, seed, value) for seed in (0, 1) for arm, task, value in (
        ("ours", "up", 0.9), ("theirs", "up", 0.1), ("ours", "down", 0.4), ("theirs", "down", 0.6))]  # fmt: skip
    lines = difference_table("t", [paired_difference(rows, "ours", "theirs", outcomes)]).rows
    assert [line[2] for line in lines] == ["up", "down", MEAN_OF_TASKS]
    assert [line[3] for line in lines] == pytest.approx([0.8, -0.2, 0.3])
    assert [line[6] for line in lines] == [2, 2, 2]
    alone = difference_table("t", [paired_difference(rows[:2], "ours", "theirs", outcomes)]).rows
    assert [line[2:] for line in alone] == [["up", pytest.approx(0.8), "-", "-", 1]]


def test_one_seed_leaves_the_claim_open() -> None:
    claim = difference_claim("x", paired_difference(ROWS[:2], "ours", "theirs", outcomes), "low > -1")
    assert (claim.value, claim.interval, claim.holds) == (None, None, False)
    assert "one seed has no interval; its own: +0.1" in claim.claim


def test_a_share_stays_in_its_range() -> None:
    assert seed_interval([0.9, 1.0], 0.0, 1.0) == pytest.approx((0.95 - 12.7062 * 0.05, 1.0), abs=1e-4)
    assert seed_interval([0.9]) is None
    assert seed_means(ROWS, "ours", "a", outcomes) == pytest.approx({0: 0.2, 1: 0.6, 2: 0.8})


def test_a_difference_of_shares_stays_in_its_range() -> None:
    # Seed by seed .1, .9, .5 on a: .5 +- T2 * .4 / sqrt(3) = .5 +- .994. On b 0, 0, .3: .1 +- T2 * .3 / 3 = .1 +- .430.
    # Their means .05, .45, .4: .3, s^2 = (.0625 + .0225 + .01) / 2, so .3 +- T2 * .217945 / sqrt(3) = .3 +- .541.
    rows = [row("ours", task, seed, share) for task, shares in (("a", (0.1, 0.9, 0.5)), ("b", (0.0, 0.0, 0.3)))
            for seed, share in enumerate(shares)]  # fmt: skip
    rows += [row("theirs", task, seed, 0.0) for task in "ab" for seed in range(3)]
    found = paired_difference(rows, "ours", "theirs", outcomes, OF_SHARES)
    bounds = [value for line in difference_table("t", [found]).rows for value in line[4:6]]
    assert bounds == pytest.approx([-0.493655, 1.0, -0.330265, 0.530265, -0.241411, 0.841411], abs=1e-5)
    two = [one for one in rows if (one["task"], one["seed"]) in {("a", 0), ("a", 1)}]  # .5 +- 12.7 * .4
    claim = difference_claim("x", paired_difference(two, "ours", "theirs", outcomes, OF_SHARES), "low > 0")
    assert claim.interval == (-1.0, 1.0)


@pytest.mark.parametrize(
    "other",
    [
        [one for one in ROWS if (one["arm"], one["task"], one["seed"]) != ("ours", "b", 1)],
        [one for one in ROWS if one["task"] != "b" or one["seed"] != 1],
        [*ROWS[:-1], row("ours", "c", 0, 1.0, 1.0), row("ours", "c", 1, 1.0), row("ours", "c", 2, 1.0)]
        + [row("theirs", "c", seed, 1.0) for seed in (0, 1, 2)],
    ],
    ids=["a seed of one arm", "a seed of one task", "a start"],
)
def test_what_is_missing_is_not_paired(other: list[dict[str, Any]]) -> None:
    with pytest.raises(LearningError, match="seeds or starts differ"):
        paired_difference(other, "ours", "theirs", outcomes)


def test_arms_that_never_met_are_named() -> None:
    with pytest.raises(LearningError, match="no task has both 'ours' and 'nobody'"):
        paired_difference(ROWS, "ours", "nobody", outcomes)
