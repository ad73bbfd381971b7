"""Clean runs under the support guard as a bundle has it: onnxruntime, slowing, holding; and what a check costs."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sealegs.bench.support_cases import Case, run_case
from sealegs.support_fitting import deployed
from sealegs_contract.support import filtered, speed_of
from sealegs_deploy.export import ExportRequest
from sealegs_deploy.providers import open_session
from sealegs_deploy.session import start_graph
from sealegs_deploy.support import SupportRuntime
from sealegs_deploy.support_export import with_support
from sealegs_deploy.support_info import SUPPORT_NAME, SupportInfo
from sealegs_learning.support.fit import Episodes, Split, SupportSettings, calibrated
from sealegs_learning.support.own_runs import SIMULATED

WARM_UP, CALLS = 200, 2_000


class GuardedEpisodes:
    """The support guard over many episodes in step. Holding lasts: nobody resumes here."""

    def __init__(self, session: Any, info: SupportInfo, episodes: int) -> None:
        self._session, self.info = session, info
        self._previous: NDArray[np.float32] | None = None
        self._scores = np.zeros((episodes, info.window))
        self.held = np.zeros(episodes, dtype=bool)
        self.slowed = np.zeros(episodes, dtype=bool)

    def __call__(self, observation: NDArray[np.float32]) -> NDArray[np.float64]:
        """Share of each action (B,) that is taken: 0 where it holds."""
        previous = observation if self._previous is None else self._previous
        (score,) = self._session.run(["score"], {"observation": observation, "previous": previous})
        self._previous = observation.copy()
        self._scores = np.concatenate([self._scores[:, 1:], score[:, None]], axis=1)
        middle = filtered(self._scores, self.info.window)[:, -1]
        self.held |= middle > self.info.hold
        speed = speed_of(middle, self.info.slow, self.info.hold, self.info.lowest_speed)
        self.slowed |= speed < 1.0
        return np.where(self.held, 0.0, speed)


def guarded(
    model: Any,
    split: Split,
    own: Episodes,
    settings: SupportSettings,
    policy: Any,
    data: Any,
    task: str,
    episodes: int,
    seed: int,
    seen: NDArray[np.float32],
) -> dict[str, Any]:
    """Success of guarded clean runs by start, how many held or slowed, and the cost of a check on `seen`."""
    fitted = calibrated(model, split, settings, {SIMULATED: own})
    request = ExportRequest(
        name="bench",
        robot=policy.robot,
        observation=policy.observation_spec,
        action=policy.action_spec,
        temporal=policy.temporal,
    )
    statistics = (policy.normalizer.mean.numpy(), policy.normalizer.std.numpy())
    request, files = with_support(request, deployed(fitted, data, policy), statistics)
    info, graph = request.support, files[SUPPORT_NAME]
    assert info is not None
    guard = GuardedEpisodes(open_session(graph, "cpu"), info, episodes)
    runs = run_case(policy, task, Case(), episodes, seed, guard)
    return {
        "guarded_success": [int(one) for one in runs.success],
        "held": int(guard.held.sum()),
        "slowed": int(guard.slowed.sum()),
        "check_us": check_cost(info, graph, seen.reshape(-1, seen.shape[-1])),
        "export_difference": info.max_relative_difference,
        "kilobytes": len(graph) / 1e3,
    }


def check_cost(info: SupportInfo, graph: bytes, rows: NDArray[np.float32]) -> dict[str, float]:
    """p50 and p99 of one check, us."""
    ports = dict.fromkeys(("observation", "previous"), ("float32", (rows.shape[1],)))
    runtime = SupportRuntime(info, start_graph(graph, "cpu", ports, {"score": ("float32", ())}))
    times = np.empty(CALLS)
    for k in range(-WARM_UP, CALLS):
        row = rows[k % len(rows)]
        began = time.perf_counter_ns()
        runtime.check(row)
        if k >= 0:
            times[k] = (time.perf_counter_ns() - began) / 1e3
    return {"p50": float(np.percentile(times, 50)), "p99": float(np.percentile(times, 99))}
