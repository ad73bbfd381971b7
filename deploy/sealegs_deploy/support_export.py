"""A support model in torch -> support.onnx and its entry in the manifest, compared with torch like the policy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import BundleError
from sealegs_contract.support import WINDOW
from sealegs_deploy.comparison import Statistics, comparison_inputs
from sealegs_deploy.export import OPSET, ExportRequest, compare, onnx_of
from sealegs_deploy.support_info import SUPPORT_NAME, SupportCalibration, SupportInfo

TOLERANCE = 1e-3
"""Of max(1, score): no threshold has more digits that mean anything."""
EXAMPLES = 5_000
LARGEST_SLOW = 0.9
"""Of the hold threshold: with few calibration episodes both are the same score."""


class SupportModel(NamedTuple):
    """What is to become support.onnx.

    `module`, of torch, maps observation and previous (B, history * D) to scores (B,).
    `examples`: observations (N, history * D) of one episode after another, on which torch and onnxruntime are compared.
    `slow` and `hold` are its thresholds. `calibrations` say what bounds false alarms and slowing down, and for which
    episodes; `fitted` how many fitted and tuned it.
    """

    module: Any
    examples: NDArray[np.float32]
    kind: str
    slow: float
    hold: float
    calibrations: tuple[SupportCalibration, ...]
    fitted: tuple[int, int]
    dataset_fingerprint: str = ""


def with_support(
    request: ExportRequest, support: SupportModel, statistics: Statistics | None = None
) -> tuple[ExportRequest, dict[str, bytes]]:
    """The request and the files of a bundle that has `support`.

    Raises BundleError when torch and onnxruntime differ by more than TOLERANCE of a score.
    """
    if not (np.isfinite(support.hold) and support.hold > 0.0):
        raise BundleError(f"the support's hold threshold is {support.hold}; it must be positive and finite")
    drawn = comparison_inputs(request.robot, request.observation, statistics, request.seed, request.temporal.history)
    inputs = _inputs(support.examples, drawn["observation"])
    module = support.module.cpu().eval()
    data = onnx_of(module, {name: values[:2] for name, values in inputs.items()}, "score", {})
    difference = compare(module, data, inputs, relative=True, tolerance=TOLERANCE)
    info = SupportInfo(
        kind=support.kind,
        slow=min(support.slow, LARGEST_SLOW * support.hold),
        hold=support.hold,
        window=WINDOW,
        false_alarms=max(one.false_alarms for one in support.calibrations),
        slow_downs=max(one.slow_downs for one in support.calibrations),
        episodes=(*support.fitted, sum(one.episodes for one in support.calibrations)),
        calibrated_on=" and ".join(one.on for one in support.calibrations),
        calibrations=support.calibrations,
        dataset_fingerprint=support.dataset_fingerprint,
        opset=OPSET,
        inputs=len(inputs["observation"]),
        max_relative_difference=difference,
    )
    return request.model_copy(update={"support": info}), {SUPPORT_NAME: data}


def _inputs(examples: NDArray[np.float32], drawn: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """What the robot sees, and after it what it never should."""
    rows = np.concatenate([examples[:EXAMPLES], drawn]).astype(np.float32)
    return {"observation": rows[1:], "previous": rows[:-1]}
