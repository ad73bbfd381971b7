"""The bench of killed runs: it has every way to train, and a run that ends otherwise does not hold the claim.

The kills themselves: test_kill.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import tyro

from sealegs.bench.options import BenchOptions
from sealegs.bench.resume import ARMS, DATA, SEEN_DATA, arguments_of, cells, summarise
from sealegs.commands.train import Config
from sealegs_learning.training.config import LEARNERS, check_config, checkpoint_period, is_online

RUN = {"arm": "iql", "task": "reach", "seed": 0, "seconds": 1.0, "kills": 2, "lost": 70, "total": 600}
SAME = {**RUN, "struck": [[150, 100], [320, 300]], "weights_equal": 1.0, "curve_equal": 1.0}


def test_one_run_that_ends_otherwise_breaks_the_claim() -> None:
    data = {"arm": "data", "task": "all", "seed": 0, "seconds": 1.0}
    assert [claim.holds for claim in summarise([data, SAME, SAME], BenchOptions()).claims] == [True, True, True]
    other = {**SAME, "weights_equal": 0.0}
    summary = summarise([data, SAME, other], BenchOptions())
    assert [(claim.value, claim.holds) for claim in summary.claims] == [(0.5, False), (1.0, True), (2.0, True)]
    unkilled = summarise([data, SAME, {**SAME, "kills": 0, "struck": []}], BenchOptions())
    assert [claim.holds for claim in unkilled.claims] == [True, True, False]
    assert [list(row) for row in summary.tables[0].rows] == [["iql", 0, 2, 70, 1.0, 1.0], ["iql", 0, 2, 70, 0.0, 1.0]]
    assert set(summary.plots) == {"kills"}


def test_every_arm_is_killed_with_every_seed() -> None:
    found = cells(BenchOptions(seeds=(4, 5)))
    assert [(cell.arm, cell.seed) for cell in found if cell.stage == 1] == [(arm, s) for s in (4, 5) for arm in ARMS]
    assert [cell.arm for cell in found if cell.stage == 0] == [DATA, SEEN_DATA]


@pytest.mark.parametrize("quick", [True, False])
def test_the_arms_are_all_ways_to_train(tmp_path: Path, quick: bool) -> None:
    ways: set[tuple[str, bool]] = set()
    seeing: list[str] = []
    for cell in cells(BenchOptions(quick=quick)):
        if cell.stage == 0:
            continue
        config = tyro.cli(Config, args=[*arguments_of(cell, tmp_path), "--out", str(tmp_path / "out")])
        check_config(config)
        total = {"ppo": config.ppo.steps, "iql": config.finetune.steps or config.updates}
        assert total.get(config.learner, config.updates) == cell.settings["total"]
        # Several checkpoints in a run, and lines of the curve between them: something is lost, and something is kept.
        assert config.log_every < checkpoint_period(config) <= cell.settings["total"] // 2
        assert config.seed == cell.seed
        assert config.task == ("reach" if is_online(config) else "")
        ways.add((config.learner, is_online(config)))
        seeing += [cell.arm] if config.inputs.cameras else []
        assert bool(config.inputs.cameras) == (ARMS[cell.arm].logs == SEEN_DATA)
    assert {learner for learner, _ in ways} == set(LEARNERS)
    assert ("iql", True) in ways
    assert set(seeing) == {"bc with a camera"}
