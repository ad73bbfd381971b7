"""Best of N: candidate actions around the policy's own, scored by reward.onnx; the ensemble's minimum picks.

    a_0 = pi(o),   a_i = clip(a_0 + std z_i, -1, 1)        z antithetic: z, -z, z', -z', ...
    gain_i = min_k (score_k(o, a_i) - score_k(o, a_0)),    i* = argmax_i gain_i,   gain_0 = 0

Scores are compared within a member and at one observation only. A candidate is taken only where every member prefers
it to the policy's own action; anything else, and any score that is not finite, leaves the policy's action as it is.
The noise is a function of the seed and the observation: a replay, a shadow and the robot draw the same candidates.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import ActionError, BundleError
from sealegs_contract.spec import ActionSpec
from sealegs_deploy.bundle import VerifiedBundle
from sealegs_deploy.graph import Ports, check_onnx, ports_of
from sealegs_deploy.manifest import REWARD_NAME, BestOfN, Manifest
from sealegs_deploy.player import Policy
from sealegs_deploy.providers import ProviderChoice, start_first
from sealegs_deploy.runtime import NO_IMAGES, PolicyRuntime
from sealegs_deploy.session import BoundGraph, start_graph
from sealegs_deploy.timing import NS_PER_MS

FloatArray = NDArray[np.float64]
MAXIMUM_CANDIDATES = 256
WARM_UP_CALLS = 50
Pick = Callable[[NDArray[np.float32]], int]
"""Which candidate (index) from the scores (N, K), finite."""


def antithetic_noise(seed: int, observation: NDArray[np.float32], count: int, size: int) -> FloatArray:
    """(count, size): z, -z, z', -z', ... of N(0, 1), drawn by the seed and the bytes of the observation.

    Where scores are nearly linear in the action, one of each pair is better than the middle.
    """
    rng = np.random.default_rng((seed, zlib.crc32(observation.tobytes())))
    half = rng.standard_normal(((count + 1) // 2, size))
    return np.stack([half, -half], axis=1).reshape(-1, size)[:count]


def candidate_outputs(output: FloatArray, noise: FloatArray, std: FloatArray, action: ActionSpec) -> FloatArray:
    """(N, J) rad: the policy's output (J,) bit for bit, then one for each row of `noise` (N - 1, J)."""
    own = action.to_action(output)
    return np.concatenate([output[None], action.to_output(np.clip(own + std * noise, -1.0, 1.0))])


def gains(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """By how much each member (K) prefers each candidate to the first: (N, K) -> (N, K)."""
    return scores - scores[:1]


def pick_minimum(scores: NDArray[np.float32]) -> int:
    """argmax_i min_k gain_ik of scores (N, K); 0 where no candidate is better in the eyes of all members."""
    return int(gains(scores).min(axis=1).argmax())


def reward_ports(manifest: Manifest, best: BestOfN) -> tuple[Ports, Ports]:
    """Inputs and outputs of reward.onnx."""
    inputs, outputs = ports_of(manifest)
    seen = {manifest.graph.input: inputs[manifest.graph.input]}
    return seen | outputs, {"score": ("float32", (best.members,))}


@dataclass
class Counts:
    """How often a candidate was taken, the policy's own action was best, and why there was no choice otherwise."""

    taken: int = 0
    kept: int = 0
    not_finite: int = 0
    failed: int = 0


class BestOfNPolicy:
    """`policy` with a scorer behind it: one call of each graph an inference. For use from one thread.

    `graph` is reward.onnx bound to a batch of N. Observations, outputs and errors are those of PolicyRuntime.
    """

    def __init__(
        self, policy: PolicyRuntime, best: BestOfN, graph: BoundGraph, seed: int = 0, pick: Pick = pick_minimum
    ) -> None:
        self.manifest, self.counts = policy.manifest, Counts()
        self._policy, self._graph, self._seed, self._pick = policy, graph, seed, pick
        self._std = np.array(best.std)
        self._observation = graph.inputs[self.manifest.graph.input]
        self._action = graph.inputs[self.manifest.graph.output]
        self.candidates = len(self._action)

    def infer(
        self, observation: NDArray[np.float32], images: Mapping[str, NDArray[np.uint8]] = NO_IMAGES
    ) -> FloatArray:
        """The best candidate (J,) in rad; the policy's own output where there is no better one or no score."""
        output = self._policy.infer(observation, images)
        noise = antithetic_noise(self._seed, observation, self.candidates - 1, output.size)
        outputs = candidate_outputs(output, noise, self._std, self.manifest.action)
        self._observation[...] = observation
        self._action[...] = outputs
        try:
            self._graph.run()
        except ActionError:
            self.counts.failed += 1
            return output
        scores = self._graph.output
        if not np.isfinite(scores).all():
            self.counts.not_finite += 1
            return output
        chosen = self._pick(scores)
        self.counts.taken += int(chosen > 0)
        self.counts.kept += int(chosen == 0)
        return output if chosen == 0 else outputs[chosen].copy()


def make_policy(
    bundle: VerifiedBundle, provider: str = "cpu", strict: bool = False, candidates: int = 1
) -> tuple[Policy, ProviderChoice]:
    """What acts for the bundle: its policy alone, or with `candidates` > 1 the best of so many; and on which provider.

    Raises BundleError as PolicyRuntime does, where the bundle has no scorer, and where scoring so many typically takes
    longer here than the inference budget: fewer would not be what the operator asked for and what was evaluated.
    """
    runtime = PolicyRuntime(bundle, provider, strict)
    if candidates == 1:
        return runtime, runtime.choice
    policy = best_of_n(bundle, runtime, candidates, provider, strict)
    note = check_budget(policy, bundle.manifest.timing.inference_budget_ms)
    policy.counts = Counts()
    return policy, replace(runtime.choice, note=note)


def best_of_n(
    bundle: VerifiedBundle,
    runtime: PolicyRuntime,
    candidates: int,
    provider: str = "cpu",
    strict: bool = False,
    pick: Pick = pick_minimum,
) -> BestOfNPolicy:
    """The scorer of a bundle around its policy. BundleError where there is none, or not the one of the manifest."""
    if not 1 <= candidates <= MAXIMUM_CANDIDATES:
        raise BundleError(f"{candidates} candidates: expected 1 to {MAXIMUM_CANDIDATES}")
    manifest, data = bundle.manifest, bundle.files.get(REWARD_NAME)
    if manifest.best_of_n is None or data is None:
        raise BundleError(
            f"{candidates} candidates, but bundle {manifest.name} has no {REWARD_NAME} to choose by: export it with "
            "`sealegs export --best-of-n.dataset DATASET`, or use candidates 1"
        )
    inputs, output = reward_ports(manifest, manifest.best_of_n)
    check_onnx(data, REWARD_NAME, inputs, output)
    start: Any = partial(start_graph, data, inputs=inputs, output=output, batch=candidates)
    graph, _ = start_first(provider, strict, start)
    return BestOfNPolicy(runtime, manifest.best_of_n, graph, pick=pick)


def check_budget(policy: BestOfNPolicy, budget_ms: float) -> str:
    """What an inference takes here, for the log. BundleError where that is more than the budget.

    The median decides: one slow call is a miss, which is counted as it happens.
    """
    inputs, _ = ports_of(policy.manifest)
    observation = np.zeros(inputs[policy.manifest.graph.input][1], np.float32)
    images = {i.camera: np.zeros((i.height, i.width, 3), np.uint8) for i in policy.manifest.observation.images}
    took = np.empty(WARM_UP_CALLS)
    for k in range(WARM_UP_CALLS):
        began = time.perf_counter_ns()
        policy.infer(observation, images)
        took[k] = (time.perf_counter_ns() - began) / NS_PER_MS
    typical, slow = float(np.median(took)), float(np.percentile(took, 99))
    if typical > budget_ms:
        fits = max(1, int(policy.candidates * budget_ms / typical))
        raise BundleError(
            f"{policy.candidates} candidates take {typical:.2f} ms here (median of {WARM_UP_CALLS}), the inference "
            f"budget is {budget_ms:g} ms; about {fits} would fit"
        )
    return (
        f"best of {policy.candidates}: {typical:.2f} ms typical, {slow:.2f} ms p99 of {WARM_UP_CALLS}, "
        f"budget {budget_ms:g} ms"
    )
