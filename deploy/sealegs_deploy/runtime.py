"""PolicyRuntime: one verified graph in one onnxruntime session, one thread, buffers allocated once."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import ActionError
from sealegs_deploy.bundle import VerifiedBundle
from sealegs_deploy.graph import check_graph
from sealegs_deploy.providers import start_first
from sealegs_deploy.session import Ports, start_graph


class PolicyRuntime:
    """Runs the graph of a verified bundle. Not for use from two threads at once.

    `provider`: cpu, cuda, tensorrt or auto. One that does not start here is replaced by the next slower one, and
    `choice` says so; under `strict` it raises BundleError. So does a graph that does not fit the manifest.
    """

    def __init__(self, bundle: VerifiedBundle, provider: str = "cpu", strict: bool = False) -> None:
        self.manifest = bundle.manifest
        check_graph(bundle.policy, self.manifest)
        graph = self.manifest.graph
        inputs: Ports = {graph.input: ("float32", (self.manifest.observation.size,))}
        output: Ports = {graph.output: ("float32", (self.manifest.action.size,))}
        start = partial(start_graph, bundle.policy, inputs=inputs, output=output)
        self._graph, self.choice = start_first(provider, strict, start)
        self._input = self._graph.inputs[self.manifest.graph.input][0]
        self._output = self._graph.output[0]
        self._flat_output = self._output.reshape(-1)

    def infer(self, observation: NDArray[np.float32]) -> NDArray[np.float64]:
        """Policy output (J,) in rad from one raw observation (D,).

        Raises ActionError on a wrong shape, on a value that is not finite in or out, and when onnxruntime fails.
        """
        if observation.shape != self._input.shape:
            raise ActionError(f"observation has shape {observation.shape}, the policy expects {self._input.shape}")
        np.copyto(self._input, observation)
        if not all_finite(self._input):
            raise ActionError(f"observation is not finite: {observation.tolist()}")
        self._graph.run()
        if not all_finite(self._flat_output):
            raise ActionError(f"policy output is not finite: {self._output.tolist()}")
        result: NDArray[np.float64] = self._output.astype(np.float64)
        return result

    def infer_batch(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs (B, J) in rad of raw observations (B, D), not checked: for evaluation offline."""
        return self._graph.run_batch({self.manifest.graph.input: observations})


def all_finite(values: NDArray[np.float32]) -> bool:
    """Whether every value (n,) is finite.

    x.x is a sum of terms >= 0: finite only where all are, at a third of the cost of asking each. It may overflow.
    """
    return math.isfinite(values.dot(values)) or bool(np.isfinite(values).all())
