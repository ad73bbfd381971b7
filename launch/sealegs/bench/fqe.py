"""Bench `fqe`: does fitted Q evaluation order policies as the simulator does?

Stage 0, a cell a seed: logs of operators of unequal skill, fourteen policies of varied quality, and what each is truly
worth, from simulation. Stage 1: FQE's values from the logs alone, under the true reward and under the same rewards
shuffled over the rows; under the true one also without the model, by the same Q networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sealegs.bench import plots
from sealegs.bench.fqe_policies import FACTORS, NOISES, make_policies, true_values
from sealegs.bench.frame import Bench, Cell, CellContext, Row, Summary, Table
from sealegs.bench.options import BenchOptions
from sealegs_learning.results import Claim
from sealegs_learning.statistics import Interval, kendall, spearman

TRUTH, FQE, SHUFFLED = "simulation", "FQE, true reward", "FQE, shuffled rewards"
PLAIN = "FQE without a model"
AGREEMENT = "agreement with the logs"
AGREES = "agreement"
GAMMA = 0.99
WALK = 300
RESAMPLES = 2_000
Correlations = Mapping[str, tuple[float, Interval]]
"""Mean over the seeds and its interval, by score."""


def cells(options: BenchOptions) -> list[Cell]:
    """Truth first, then both rewards, for every seed and task."""
    quick = options.quick
    data = {"episodes": 40 if quick else 120, "share": 0.2 if quick else 1.0}
    truth = {**data, "starts": 16 if quick else 64, "steps": 300 if quick else 400}
    fqe = {**data, "updates": 1_500 if quick else 6_000, "model_updates": 500 if quick else 3_000, "walk": WALK}
    members = {FQE: 2 if quick else 5, SHUFFLED: 2}
    found = []
    for seed in options.seeds_or((0, 1, 2)):
        for task in options.tasks_or(("drawer",)):
            found.append(Cell(TRUTH, task, seed, truth))
            found += [Cell(arm, task, seed, fqe | {"members": k}, stage=1) for arm, k in members.items()]
    return found


def run_cell(cell: Cell, context: CellContext) -> dict[str, Any]:
    """True values, or values from logs, by policy."""
    import torch

    torch.set_num_threads(1)
    folder = context.folder if cell.arm == TRUTH else context.folder_of(TRUTH, cell.task, cell.seed)
    data, policies = make_policies(cell, folder / "policies", context.progress)
    if cell.arm == TRUTH:
        return _truth(cell, data, policies)
    return _estimate(cell, data, policies, context)


def _truth(cell: Cell, data: Any, policies: Mapping[str, Any]) -> dict[str, Any]:
    from sealegs_learning.evaluation.policy_value import actions_of, logged_steps
    from sealegs_learning.reward.builtin import true_progress

    steps = logged_steps(data, true_progress(data))
    agreement = {
        name: -float((actions_of(p, steps.observation) - steps.action).square().sum(-1).mean())
        for name, p in policies.items()
    }
    starts, horizon = int(cell.settings["starts"]), int(cell.settings["steps"])
    truth = {name: true_values(p, cell.task, GAMMA, starts, horizon) for name, p in policies.items()}
    return {
        "log_success": data.success_rate,
        "log_rows": len(data.state),
        "values": {name: float(found.returns.mean()) for name, found in truth.items()},
        "success": {name: float(found.success.mean()) for name, found in truth.items()},
        AGREES: agreement,
    }


def _estimate(cell: Cell, data: Any, policies: Mapping[str, Any], context: CellContext) -> dict[str, Any]:
    from sealegs_learning.evaluation.expansion import expanded
    from sealegs_learning.evaluation.policy_value import PolicyEvaluator, logged_steps
    from sealegs_learning.learners.settings import FQESettings, ModelSettings
    from sealegs_learning.reward.sidecar import read_reward

    c = cell.settings
    settings = FQESettings(gamma=GAMMA, updates=int(c["updates"]), members=int(c["members"]))
    model = ModelSettings(steps=int(c["walk"]), updates=int(c["model_updates"]))
    reward = read_reward(data, "true").mean
    if cell.arm == SHUFFLED:
        reward = np.random.default_rng(cell.seed).permutation(reward)
    judged = [*policies.values(), None]
    evaluator = PolicyEvaluator(logged_steps(data, reward), judged, settings, cell.seed).run(context.progress)
    plain, found = evaluator.values(), expanded(evaluator, judged, model, context.progress)
    return {
        "values": {name: value.value for name, value in zip(policies, found, strict=False)},
        "intervals": {name: list(value.interval) for name, value in zip(policies, found, strict=False)},
        "logs": found[-1].value,
        "plain": {name: value.value for name, value in zip(policies, plain, strict=False)},
    }


def summarise(rows: Sequence[Row], options: BenchOptions) -> Summary:
    """Rank correlations with intervals over policies, errors against predicting the logs' value for all, the pick."""
    groups = _groups(rows)
    names = list(groups[0][TRUTH]["values"])
    truth = np.array([[g[TRUTH]["values"][n] for n in names] for g in groups])
    found = {FQE: (FQE, "values"), PLAIN: (FQE, "plain"), SHUFFLED: (SHUFFLED, "values"), AGREEMENT: (TRUTH, AGREES)}
    scores = {arm: np.array([[g[row][key][n] for n in names] for g in groups]) for arm, (row, key) in found.items()}
    spans = np.array([[g[FQE]["intervals"][n] for n in names] for g in groups])
    draws = {arm: resampled(spearman, truth, s) for arm, s in scores.items()}
    rho = {arm: (_mean(spearman, truth, s), interval(draws[arm])) for arm, s in scores.items()}
    tau = {arm: (_mean(kendall, truth, s), interval(resampled(kendall, truth, s))) for arm, s in scores.items()}
    table = Table(
        "Rank correlation with true values",
        ("score", "Spearman", "95% interval", "Kendall", "95% interval"),
        [(arm, rho[arm][0], _span(rho[arm][1]), tau[arm][0], _span(tau[arm][1])) for arm in scores],
    )
    values = Table(
        f"Values of seed {groups[0][TRUTH]['seed']}",
        ("policy", "true", "FQE", "95% interval", PLAIN, "success"),
        [_value_row(groups[0], name) for name in names],
    )
    notes = [
        f"{len(names)} policies a seed: BC and IQL after few and many updates, under the true and a constant reward, "
        f"the best one's actions times {', '.join(f'{f:g}' for f in FACTORS)}, its weights with noise of "
        f"{', '.join(f'{n:g}' for n in NOISES)} of their deviation.",
        f"True values: sums of progress discounted by {GAMMA} over fresh starts; the last progress is taken to last.",
        f"FQE: {WALK} steps in a model learned from the logs, then Q. {PLAIN[0].upper()}{PLAIN[1:]}: the same Q "
        "networks at the first states.",
        f"FQE's 95% intervals hold the true value of {_held(truth, spans):.0%} of the policies: they are over "
        "resampled logs and do not cover what the model and Q guess where the logs hardly went.",
        "A correlation's interval is over resampled policies, the same in every seed. The control's rewards have the "
        "true ones' values and nothing to do with what was done; a constant reward would give all policies one value.",
    ]
    logs = np.array([g[FQE]["logs"] for g in groups])
    gains = {arm: (rho[FQE][0] - rho[arm][0], interval(draws[FQE] - draws[arm])) for arm in (AGREEMENT, PLAIN)}
    claims = [*_rank_claims(rho, tau, gains, len(names)), *_value_claims(truth, scores[FQE], logs)]
    return Summary(claims, {"values": _picture(truth, scores[FQE], spans, rho)}, [table, values], notes)


def _rank_claims(rho: Correlations, tau: Correlations, gains: Correlations, policies: int) -> list[Claim]:
    return [
        Claim("policies ranked, per seed", float(policies), ">= 10"),
        Claim("Spearman rank correlation of FQE with simulation, mean over seeds", rho[FQE][0], ">= 0.7", rho[FQE][1]),
        Claim("the same, its interval over resampled policies", rho[FQE][0], "low > 0", rho[FQE][1]),
        Claim("Kendall rank correlation of FQE with simulation", tau[FQE][0], "low > 0", tau[FQE][1]),
        Claim("control: Spearman with shuffled rewards", rho[SHUFFLED][0], "low <= 0", rho[SHUFFLED][1]),
        *(Claim(f"Spearman of FQE less that of {arm}, paired", v, "low > 0", span) for arm, (v, span) in gains.items()),
    ]


def _value_claims(truth: Any, values: Any, logs: Any) -> list[Claim]:
    error, constant = np.abs(values - truth).mean(), np.abs(logs[:, None] - truth).mean()
    picked = np.mean([t[int(s.argmax())] / t.max() for t, s in zip(truth, values, strict=True)])
    return [
        Claim("FQE's mean error over that of predicting the logs' value for all", float(error / constant), "< 1"),
        Claim("true value of FQE's pick over the best policy's", float(picked), ">= 0.9"),
    ]


def _held(truth: Any, spans: Any) -> float:
    """Share of the true values that lie within their intervals."""
    return float(((spans[..., 0] <= truth) & (truth <= spans[..., 1])).mean())


def resampled(correlation: Any, truth: Any, score: Any) -> NDArray[np.float64]:
    """The seeds' mean correlation (RESAMPLES,) over policies (columns) drawn anew, the same for every score.

    A draw without an order is 0.
    """
    rng = np.random.default_rng(0)
    draws = rng.integers(0, truth.shape[1], (RESAMPLES, truth.shape[1]))
    return np.array([_mean(correlation, truth[:, rows], score[:, rows]) for rows in draws])


def interval(found: NDArray[np.float64]) -> Interval:
    """The middle 95% of a bootstrap's figures."""
    low, high = np.percentile(found, [2.5, 97.5])
    return Interval(float(low), float(high))


def _mean(correlation: Any, truth: Any, score: Any) -> float:
    return float(np.mean(np.nan_to_num([correlation(t, s) for t, s in zip(truth, score, strict=True)])))


def _groups(rows: Sequence[Row]) -> list[dict[str, Row]]:
    """Rows by arm for each seed and task."""
    keys = list(dict.fromkeys((row["task"], row["seed"]) for row in rows))
    return [{row["arm"]: row for row in rows if (row["task"], row["seed"]) == key} for key in keys]


def _value_row(group: Mapping[str, Row], name: str) -> tuple[str | float, ...]:
    fqe, truth = group[FQE], group[TRUTH]
    span = _span(Interval(*fqe["intervals"][name]))
    return name, truth["values"][name], fqe["values"][name], span, fqe["plain"][name], truth["success"][name]


def _span(interval: Interval) -> str:
    return f"[{interval.low:.3g}, {interval.high:.3g}]"


def _picture(truth: Any, fqe: Any, spans: Any, rho: Correlations) -> Any:
    figure, (values, bars) = plots.panels(2)
    for seed, (t, s, span) in enumerate(zip(truth, fqe, spans, strict=True)):
        values.errorbar(
            t, s, np.abs(span.T - s), fmt="o", markersize=4, linewidth=0.8,
            color=plots.COLOURS[seed % len(plots.COLOURS)], label=f"logs {seed + 1}",
        )  # fmt: skip
    ends = [float(truth.min()), float(truth.max())]
    values.plot(ends, ends, color=plots.SOFT, linewidth=1.0, linestyle="--")
    values.set(title="Value of each policy", xlabel="in simulation", ylabel="FQE from logs")
    values.legend(loc="lower right")
    plots.bars(bars, {arm: v for arm, (v, _) in rho.items()}, {arm: i for arm, (_, i) in rho.items()})
    bars.set(title="Rank correlation (Spearman)")
    return figure


BENCH = Bench(cells, run_cell, summarise)
