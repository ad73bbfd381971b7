"""Support guard: is what the policy sees like what it was trained on? First the robot slows down, then it holds.

m_t = median of the newest `window` scores of support.onnx (before the start they count as 0)
speed = 1 for m <= slow, then linearly down to `lowest_speed` at m = hold; m > hold is an alarm.

A score that is not finite is an alarm at once. It watches the observation vector, not camera images, and says nothing
of what looks familiar and is dangerous all the same.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import ActionError, BundleError
from sealegs_deploy.bundle import VerifiedBundle
from sealegs_deploy.graph import Ports, check_onnx, ports_of
from sealegs_deploy.manifest import Manifest
from sealegs_deploy.runtime import all_finite
from sealegs_deploy.session import BoundGraph, start_graph
from sealegs_deploy.support_info import SUPPORT_NAME, SupportInfo


@dataclass(frozen=True, slots=True)
class SupportVerdict:
    """The filtered score, the share in (0, 1] of the policy's step to take, and why to hold instead, if one must."""

    score: float
    speed: float
    alarm: str = ""


class Support(Protocol):
    """Judges one observation a control period."""

    def check(self, observation: NDArray[np.float32]) -> SupportVerdict:
        """The verdict on this period's observation (history * D,), raw."""
        ...

    def forget(self) -> None:
        """Begin anew: no past."""
        ...


class SupportRuntime:
    """The support model of a bundle. Not for use from two threads at once."""

    def __init__(self, info: SupportInfo, graph: BoundGraph) -> None:
        self.info = info
        self._graph = graph
        self._now, self._then = graph.inputs["observation"][0], graph.inputs["previous"][0]
        self._scores: deque[float] = deque(maxlen=info.window)
        self.forget()

    def forget(self) -> None:
        """Begin anew: no past."""
        self._started = False
        self._scores.extend([0.0] * self.info.window)

    def check(self, observation: NDArray[np.float32]) -> SupportVerdict:
        """See Support. ActionError on another shape."""
        if observation.shape != self._now.shape:
            raise ActionError(f"observation has shape {observation.shape}, the support expects {self._now.shape}")
        np.copyto(self._then, self._now if self._started else observation)
        np.copyto(self._now, observation)
        self._started = True
        if not all_finite(self._now):  # a maximum in the graph may pass over NaN
            return SupportVerdict(math.inf, self.info.lowest_speed, "the observation is not finite")
        try:
            self._graph.run()
        except ActionError as error:
            return SupportVerdict(math.inf, self.info.lowest_speed, f"no score: {error}")
        score = float(self._graph.output[0])
        if not math.isfinite(score):
            self._scores.append(math.inf)
            return SupportVerdict(math.inf, self.info.lowest_speed, "the score is not finite")
        self._scores.append(max(score, 0.0))
        return verdict_on(median_of(self._scores), self.info)


def median_of(scores: deque[float]) -> float:
    """The middle one, the upper of two: as `sealegs_contract.support.filtered`."""
    return sorted(scores)[len(scores) // 2]


def verdict_on(middle: float, info: SupportInfo) -> SupportVerdict:
    """As `sealegs_contract.support.speed_of`, for one number."""
    share = min(max((middle - info.slow) / (info.hold - info.slow), 0.0), 1.0)
    alarm = ""
    if middle > info.hold:
        alarm = (
            f"unlike the training data for {info.window // 2 + 1} periods: {middle:.3g}, holds above {info.hold:.3g}"
        )
    return SupportVerdict(middle, 1.0 - (1.0 - info.lowest_speed) * share, alarm)


def support_ports(manifest: Manifest) -> tuple[Ports, Ports]:
    """Inputs and output of support.onnx."""
    seen = ports_of(manifest)[0][manifest.graph.input]
    return {"observation": seen, "previous": seen}, {"score": ("float32", ())}


def load_support(bundle: VerifiedBundle) -> Support | None:
    """The support guard of a bundle; None where it has none.

    BundleError where its graph is missing, reaches outside its bytes, or has other inputs and outputs.
    """
    manifest, data = bundle.manifest, bundle.files.get(SUPPORT_NAME)
    if manifest.support is None:
        if data is not None:
            raise BundleError(f"bundle {manifest.name} holds {SUPPORT_NAME}, but its manifest does not say so")
        return None
    if data is None:
        raise BundleError(f"bundle {manifest.name} has no {SUPPORT_NAME}, though its manifest says so")
    inputs, outputs = support_ports(manifest)
    check_onnx(data, SUPPORT_NAME, inputs, outputs)
    # On the CPU whatever runs the policy: so small a graph takes longer to reach a GPU than to run.
    return SupportRuntime(manifest.support, start_graph(data, "cpu", inputs, outputs))
