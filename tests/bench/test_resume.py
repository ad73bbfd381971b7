"""The bench of killed runs: a run that ends otherwise does not hold the claim. The kills themselves: test_kill.py."""

from __future__ import annotations

from sealegs.bench.options import BenchOptions
from sealegs.bench.resume import cells, summarise

RUN = {"arm": "iql", "task": "reach", "seed": 0, "seconds": 1.0, "kills": 2, "updates_lost": 70}
SAME = {**RUN, "weights_equal": 1.0, "curve_equal": 1.0}


def test_one_run_that_ends_otherwise_breaks_the_claim() -> None:
    data = {"arm": "data", "task": "all", "seed": 0, "seconds": 1.0}
    assert [claim.holds for claim in summarise([data, SAME, SAME], BenchOptions()).claims] == [True, True, True]
    other = {**SAME, "weights_equal": 0.0}
    summary = summarise([data, SAME, other], BenchOptions())
    assert [(claim.value, claim.holds) for claim in summary.claims] == [(0.5, False), (1.0, True), (2.0, True)]
    unkilled = summarise([data, {**SAME, "kills": 0}], BenchOptions())
    assert [claim.holds for claim in unkilled.claims] == [True, True, False]


def test_every_learner_is_killed_with_every_seed() -> None:
    found = cells(BenchOptions(seeds=(4, 5)))
    assert [(cell.arm, cell.seed) for cell in found if cell.stage == 1] == [
        ("iql", 4), ("ppo", 4), ("iql", 5), ("ppo", 5),
    ]  # fmt: skip
    assert [cell.arm for cell in found if cell.stage == 0] == ["data"]
