"""A scorer of actions in torch -> reward.onnx and its entry in the manifest, compared with torch like the policy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sealegs_deploy.comparison import Statistics, comparison_inputs
from sealegs_deploy.export import OPSET, ExportRequest, compare, onnx_of
from sealegs_deploy.manifest import REWARD_NAME, BestOfN


class Scorer(NamedTuple):
    """What is to become reward.onnx.

    `module`, of torch, maps raw observations (B, history * D) and actions (B, J) in rad to scores (B, members).
    `std`: the candidates' deviation (J,), in the action's own unit.
    """

    module: Any
    members: int
    std: tuple[float, ...]
    reward: str
    reward_fingerprint: str = ""


def with_scorer(
    request: ExportRequest, scorer: Scorer, statistics: Statistics | None = None
) -> tuple[ExportRequest, dict[str, bytes]]:
    """The request and the files of a bundle in which `scorer` is reward.onnx.

    Raises BundleError when torch and onnxruntime differ by more than 1e-5 of max(1, |score|).
    """
    history, action = request.temporal.history, request.action
    inputs = comparison_inputs(request.robot, request.observation, statistics, request.seed, history)
    drawn = np.random.default_rng(request.seed).uniform(-1.0, 1.0, (len(inputs["observation"]), action.size))
    inputs = {"observation": inputs["observation"], "action": action.to_output(drawn).astype(np.float32)}
    data = onnx_of(scorer.module, {name: values[:2] for name, values in inputs.items()}, "score", {})
    best = BestOfN(
        members=scorer.members,
        std=scorer.std,
        reward=scorer.reward,
        reward_fingerprint=scorer.reward_fingerprint,
        opset=OPSET,
        inputs=len(drawn),
        max_relative_difference=compare(scorer.module, data, inputs, relative=True),
    )
    return request.model_copy(update={"best_of_n": best}), {REWARD_NAME: data}
