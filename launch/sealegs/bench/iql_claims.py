"""Claims of `bench iql` about speed: ratios of each round, since a round's blocks lie next to each other in time.

What was not measured is a claim without a value that says what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np

from sealegs.bench.iql_arms import BFLOAT16, CORL, D3RLPY, EAGER, SEALEGS
from sealegs.bench.iql_speed import MANY, MANY_MEMBERS
from sealegs_learning.results import Claim
from sealegs_learning.statistics import Interval, bootstrap_mean_interval

TIMES_D3RLPY, TIMES_CORL, TIMES_EAGER_GPU, MINUTES = 2.0, 1.5, 10.0, 10.0
ON_CPU = ((D3RLPY, TIMES_D3RLPY), (CORL, TIMES_CORL), (EAGER, TIMES_CORL))
UPDATES = 1_000_000

Rates = Mapping[str, Sequence[float]]
"""Updates per second of every round, by arm."""


def speed_claims(speeds: Mapping[str, Rates], device: str) -> list[Claim]:
    """Of `speeds` by number of threads: those of the CPU with those of the GPU left open, or those of the GPU."""
    if device != "cpu":
        return gpu_claims(speeds["1"], device)
    on_cpu = [claim for threads, rates in speeds.items() for claim in cpu_claims(rates, threads)]
    return [*on_cpu, *gpu_claims(None, "a GPU (not measured: needs one, --device cuda)")]


def cpu_claims(rates: Rates, threads: str) -> list[Claim]:
    """Both precisions over each of the others."""
    where, claims = "one thread" if threads == "1" else f"{threads} threads", []
    for (other, times), arm in product(ON_CPU, (SEALEGS, BFLOAT16)):
        text, target = f"updates per second, {arm} / {other}, on cpu, {where}", f"low >= {times:g}"
        if other == CORL and CORL not in rates:
            text += " (not timed: put CORL's algorithms/offline/iql.py at PEERS/corl/iql.py)"
            claims.append(Claim(text, None, target))
        else:
            value, interval = ratio(rates[arm], rates[other])
            claims.append(Claim(text, value, target, interval))
    return claims


def gpu_claims(rates: Rates | None, where: str) -> list[Claim]:
    """The CUDA graph over the eager loop, the time of a long run, and many runs as one; open without `rates`."""
    wanted: tuple[tuple[str, str, Callable[[Rates], tuple[float, Interval]]], ...] = (
        (
            f"updates per second, {SEALEGS} (CUDA graph) / {EAGER}",
            f"low >= {TIMES_EAGER_GPU:g}",
            lambda found: ratio(found[SEALEGS], found[EAGER]),
        ),
        (
            f"minutes for a million updates, {SEALEGS} (CUDA graph)",
            f"high <= {MINUTES:g}",
            lambda found: ratio([UPDATES / 60.0] * len(found[SEALEGS]), found[SEALEGS]),
        ),
        (
            f"updates per second of {MANY_MEMBERS} runs as one batched model / of one run",
            "low > 1",
            lambda found: ratio(found[MANY], found[SEALEGS]),
        ),
    )
    claims = []
    for text, target, measured in wanted:
        value, interval = (None, None) if rates is None else measured(rates)
        claims.append(Claim(f"{text}, on {where}", value, target, interval))
    return claims


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, Interval]:
    """Geometric mean over the rounds, and its interval: one slow round must not decide."""
    logarithms = np.log(np.array(ours) / np.array(theirs))
    low, high = bootstrap_mean_interval(logarithms)
    return float(np.exp(logarithms.mean())), Interval(float(np.exp(low)), float(np.exp(high)))
