"""Benches `fqe` and `finetune`: what they say of rows whose answers are known."""

import numpy as np
import pytest

from sealegs.bench import find_bench, finetune, fqe
from sealegs.bench.options import BenchOptions

ARMS = finetune.ARMS
NAMES = [f"policy {i}" for i in range(12)]


def fqe_rows(estimate):
    """Two seeds in which the policies are truly worth 1, 2, ..., 12, and FQE says `estimate`."""
    truth = dict(zip(NAMES, map(float, range(1, 13)), strict=True))
    rows = []
    for seed in (0, 1):
        base = {"task": "drawer", "seed": seed, "seconds": 1.0}
        nothing = dict.fromkeys(NAMES, 0.0)
        rows.append({**base, "arm": fqe.TRUTH, "values": truth, "success": nothing, "agreement": nothing})
        values = dict(zip(NAMES, estimate, strict=True))
        intervals = {name: [value - 1.0, value + 1.0] for name, value in values.items()}
        rows.append({**base, "arm": fqe.FQE, "values": values, "intervals": intervals, "logs": 6.5, "plain": nothing})
        rows.append({**base, "arm": fqe.SHUFFLED, "values": nothing, "intervals": intervals, "logs": 0.0})
    return rows


def claims_of(summary):
    return {claim.claim: claim for claim in summary.claims}


def test_fqe_bench_on_a_perfect_and_on_a_reversed_order(monkeypatch):
    monkeypatch.setattr(fqe, "RESAMPLES", 200)
    perfect = claims_of(fqe.summarise(fqe_rows([v + 0.5 for v in range(1, 13)]), BenchOptions()))
    rho = perfect["Spearman rank correlation of FQE with simulation, mean over seeds"]
    assert rho.value == pytest.approx(1.0)
    # The other scores have no order at all, which counts as a correlation of 0.
    assert perfect["Spearman of FQE less that of agreement with the logs, paired"].value == pytest.approx(1.0)
    assert all(claim.holds for claim in perfect.values())
    # FQE is off by 0.5 everywhere; predicting 6.5 for all is off by 3 on average.
    assert perfect["FQE's mean error over that of predicting the logs' value for all"].value == pytest.approx(0.5 / 3)
    reversed_order = claims_of(fqe.summarise(fqe_rows(range(12, 0, -1)), BenchOptions()))
    assert reversed_order["Kendall rank correlation of FQE with simulation"].value == pytest.approx(-1.0)
    assert reversed_order["true value of FQE's pick over the best policy's"].value == pytest.approx(1 / 12)
    assert not any(c.holds for name, c in reversed_order.items() if "Spearman rank" in name or "pick" in name)


def finetune_rows(gains):
    """Seeds in which every arm climbs by its gain, from 0.2 where it starts from a policy."""
    rows = []
    for seed in (0, 1, 2):
        base = {"task": "drawer", "seed": seed, "seconds": 1.0}
        start = {"success": 0.2 + 0.01 * seed, "final_progress": 0.5}
        rows.append({**base, "arm": finetune.START, "log_success": 0.1, "bc": start, "iql": start})
        for arm, first in finetune.ARMS.items():
            begin = start["success"] if first else 0.0
            climb = [[k, begin + gains[arm] * k / finetune.POINTS, 0.5] for k in range(finetune.POINTS + 1)]
            curve = climb if first else climb[1:]
            found = {"curve": curve, "offline": {"accepted": 3.0, "rounds": 5.0}, "cpu_seconds": 7.0 + seed}
            rows.append({**base, "arm": arm, **found})
    return rows


def test_finetune_bench_states_differences_over_seeds():
    gains = dict(zip(finetune.ARMS, (0.1, 0.3, 0.5, 0.5, 0.5), strict=True))
    summary = finetune.summarise(finetune_rows(gains), BenchOptions())
    claims = claims_of(summary)
    end = claims["success at the end less at the start, PPO from IQL"]
    assert end.value == pytest.approx(0.5)
    assert end.holds
    # Means over the ten evaluations: 0.2, 0.21, 0.22 at the start, and 0.55 of the gain.
    area = claims["success over all evaluations, PPO from IQL less PPO from scratch"]
    assert area.value == pytest.approx(0.21 + 0.55 * 0.4)
    assert area.holds
    same = claims["success over all evaluations, with offline improvement less without"]
    assert same.value == pytest.approx(0.0)
    assert not same.holds
    assert "3 of 5" in " ".join(summary.notes)
    assert f"{finetune.IQL} 8." in " ".join(summary.notes)
    assert claims["success at the end less at the start, IQL fine-tuning"].value == pytest.approx(0.5)
    lines = {line.get_label(): line.get_xdata() for line in summary.plots["curves"].axes[0].get_lines()}
    assert {arm: line[0] for arm, line in lines.items()} == {arm: 0 if first else 1 for arm, first in ARMS.items()}


def test_one_seed_leaves_the_differences_of_finetuning_open():
    gains = dict(zip(ARMS, (0.1, 0.3, 0.5, 0.5, 0.5), strict=True))
    rows = [row for row in finetune_rows(gains) if row["seed"] == 0]
    claims = finetune.summarise(rows, BenchOptions()).claims
    assert all((c.value, c.interval, c.target, c.holds) == (None, None, "low > 0", False) for c in claims)
    assert "one seed has no interval; its own: +0.500" in claims[2].claim


@pytest.mark.parametrize("name", ["fqe", "finetune"])
def test_cells_hold_all_arms_for_every_seed(name):
    bench = find_bench(name)
    for quick in (True, False):
        cells = bench.cells(BenchOptions(quick=quick, seeds=(3, 4)))
        assert len({cell.key for cell in cells}) == len(cells)
        assert {cell.seed for cell in cells} == {3, 4}
        assert sorted({cell.stage for cell in cells}) == [0, 1]
    assert len({cell.arm for cell in cells}) == (3 if name == "fqe" else 1 + len(finetune.ARMS))
    assert np.all([cell.task == "drawer" for cell in cells])
