"""Bench `swap`: candidates in the shadow of a policy, and in its place, with real nodes in motion.

Three kinds of cells. `swap`: two policies take turns; each swap has a control beside it, a service call that changes
nothing. `rollback`: candidates that fail on probation. `shadow`: the same motion with and without a shadow.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sealegs.bench.frame import Bench, Cell, CellContext
from sealegs.bench.options import BenchOptions
from sealegs.bench.swap_claims import FAULTS, ROLLBACK, SHADOW, SHADOWS, SWAP, summarise

if TYPE_CHECKING:
    from sealegs.bench.swap_rig import Gaps, SwapRig

ROLLED_BACK_S = 10.0
SETTLE_S = 0.5
"""From a rollback until its outcome is read."""
SCORED_S = 10.0
BEFORE_S, AFTER_S = 0.03, 0.06
"""What counts as around the answer of a service: the swap itself, and two ticks after it."""


def cells(options: BenchOptions) -> list[Cell]:
    """Swaps, every fault of a candidate, and every shadow, by seed; the seed draws the moment within the period."""
    quick = options.quick
    found = []
    for seed in options.seeds_or((0, 1, 2, 3, 4)):
        found.append(Cell(SWAP, "two policies", seed, {"trials": 4 if quick else 60, "probation_s": 0.5}))
        found += [Cell(ROLLBACK, fault, seed, {"trials": 1 if quick else 8, "probation_s": 5.0}) for fault in FAULTS]
        found += [Cell(SHADOW, kind, seed, {"seconds": 5.0 if quick else 40.0}) for kind in SHADOWS]
    return found


def run_cell(cell: Cell, context: CellContext) -> dict[str, Any]:
    """One kind of experiment on nodes of its own."""
    from sealegs.faults.live.bundles import configuration
    from sealegs.faults.live.nodes import isolated

    run: Mapping[str, Callable[[Cell, CellContext], dict[str, Any]]] = {
        SWAP: _swaps, ROLLBACK: _rollbacks, SHADOW: _shadow,
    }  # fmt: skip
    with isolated(configuration()):
        return run[cell.arm](cell, context)


# Swaps


def _swaps(cell: Cell, context: CellContext) -> dict[str, Any]:
    from lifecycle_msgs.srv import GetState

    from sealegs.bench.swap_rig import other_bundle, swap_rig
    from sealegs.faults.live.bundles import circling_bundle

    rng = np.random.default_rng(cell.seed)
    seen: dict[str, list[Gaps]] = {"swap": [], "control": [], "load": [], "idle": []}
    failures: list[str] = []
    bundles = (other_bundle(), circling_bundle())
    with swap_rig(context.folder, probation_s=cell.settings["probation_s"]) as rig:
        rig.move()
        for trial in range(cell.settings["trials"]):
            bundle = bundles[trial % 2]
            began = time.monotonic()
            seen["load"].append(_around(rig, rng, partial(rig.load, bundle), whole=True))
            took = time.monotonic() - began
            seen["idle"].append(_around(rig, rng, partial(rig.client.spin_for, took), whole=True))
            seen["control"].append(_around(rig, rng, partial(rig.client.call, GetState, "policy_node/get_state")))
            seen["swap"].append(_around(rig, rng, rig.swap))
            kept = rig.client.within(ROLLED_BACK_S, lambda: rig.status["candidate"]["state"] == "none")
            if not kept or rig.status["policy"] != bundle.name or rig.operator.state != "active":
                failures.append(str(rig.status))
                rig.move()
            rig.watch.forget()
            context.progress(trial + 1, cell.settings["trials"])
    return {"failures": failures, **{name: _lists(gaps) for name, gaps in seen.items()}}


def _around(rig: SwapRig, rng: np.random.Generator, act: Callable[[], object], whole: bool = False) -> Gaps:
    """Gaps between commands around the end of `act`, or over the whole of it; it begins at a moment of chance."""
    rig.client.spin_for(0.2 + 0.02 * rng.random())
    began = time.monotonic()
    act()
    ended = time.monotonic()
    rig.client.spin_for(2 * AFTER_S)
    return rig.gaps(began if whole else ended - BEFORE_S, ended + AFTER_S)


def _lists(gaps: Sequence[Gaps]) -> dict[str, list[float]]:
    return {
        "periods": [one.periods for one in gaps],
        "arrival_ms": [one.arrival_ms for one in gaps],
        "missed": [one.missed for one in gaps],
    }


# Rollbacks


def _rollbacks(cell: Cell, context: CellContext) -> dict[str, Any]:
    from sealegs.bench import swap_rig as rigs
    from sealegs.faults.live.bundles import circling_bundle

    candidate = {"NaN": rigs.failing_bundle, "stream stops": rigs.further_bundle}.get(cell.task, rigs.other_bundle)()
    injected = {"overrun": "overrun", "support alarm": "alarm"}.get(cell.task)
    program = rigs.sabotaged(injected, candidate.name) if injected else ""
    rng, trials = np.random.default_rng(cell.seed), []
    with rigs.swap_rig(context.folder, program, probation_s=cell.settings["probation_s"]) as rig:
        for trial in range(cell.settings["trials"]):
            rig.silent = False
            rig.move()
            rig.load(candidate)
            rig.swap()
            began = time.monotonic() - BEFORE_S
            if injected:
                rig.client.spin_for(0.2 + 0.02 * rng.random())
                rig.policy.send(signal.SIGUSR1)
            rig.silent = cell.task == "stream stops"
            done = rig.client.within(ROLLED_BACK_S, partial(_rolled_back, rig, trial))
            ended = time.monotonic()
            rig.client.spin_for(2 * AFTER_S)
            gaps = rig.gaps(began, ended + AFTER_S) if done else None
            rig.client.spin_for(SETTLE_S)
            back = bool(done) and rig.status["policy"] == circling_bundle().name
            trials.append({"back": back, "state": rig.operator.state, "missed": gaps.missed if gaps else -1})
            context.progress(trial + 1, cell.settings["trials"])
    return {"trials": trials}


def _rolled_back(rig: SwapRig, before: int) -> bool:
    return bool(rig.status["candidate"]["rollbacks"] > before)


# Shadows


def _shadow(cell: Cell, context: CellContext) -> dict[str, Any]:
    from sealegs.bench import swap_rig as rigs
    from sealegs.faults.live.bundles import circling_bundle

    bundle = {"same": circling_bundle, "other": rigs.other_bundle, "heavy": rigs.heavy_bundle}.get(cell.task)
    parameters: dict[str, Any] = {"shadow": True, "candidate_path": bundle()} if bundle else {}
    timing_path = context.folder / "timing.json"
    with rigs.swap_rig(context.folder, timing_path=timing_path, **parameters) as rig:
        rig.move()
        rig.scores.clear()
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < cell.settings["seconds"]:
            rig.client.spin_for(0.5)
            context.progress(int(elapsed), int(cell.settings["seconds"]))
        rig.wanted("disarm")
        if bundle:
            rig.client.spin_until(lambda: rig.scores, SCORED_S, "the shadow's score")
        rig.policy.stop()
    timing = json.loads(timing_path.read_text(encoding="utf-8"))
    score = json.loads(rig.scores[-1].data)["total"] if bundle else {}
    return {"latency": timing["command_latency"], "commands": timing["commands"], "score": score}


BENCH = Bench(cells, run_cell, summarise)
