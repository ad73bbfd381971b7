"""PolicyRuntime: one verified graph in one onnxruntime session, one thread, buffers allocated once."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import ActionError, BundleError, available
from sealegs_deploy.bundle import VerifiedBundle
from sealegs_deploy.graph import check_graph

Provider = Literal["cpu", "cuda", "tensorrt", "auto"]
PROVIDERS = {"tensorrt": "TensorrtExecutionProvider", "cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
WARM_UP_CALLS = 20


def choose_provider(wanted: str) -> str:
    """`wanted` if onnxruntime offers it here; `auto`: the fastest offered. Raises BundleError naming those offered."""
    import onnxruntime

    offered = set(onnxruntime.get_available_providers())
    here = [name for name, provider in PROVIDERS.items() if provider in offered]
    if wanted == "auto":
        return here[0]
    if wanted not in here:
        hint = "" if wanted not in PROVIDERS else "; install the extra 'gpu' on a machine with a driver"
        raise BundleError(f"execution provider {wanted!r} is not offered here{hint}; {available([*here, 'auto'])}")
    return wanted


class PolicyRuntime:
    """Runs the graph of a verified bundle. Not for use from two threads at once.

    `provider` is the one in use. Raises BundleError when the graph does not fit the manifest or no provider runs it.
    """

    def __init__(self, bundle: VerifiedBundle, provider: str = "cpu") -> None:
        self.manifest = bundle.manifest
        check_graph(bundle.policy, self.manifest)
        self._session, self.provider = _open_session(bundle.policy, provider)
        graph, size, joints = self.manifest.graph, self.manifest.observation.size, self.manifest.action.size
        self._input = np.zeros((1, size), dtype=np.float32)
        self._output = np.zeros((1, joints), dtype=np.float32)
        # Bound once: a call copies D floats in and J out, and allocates nothing but its result.
        self._binding = self._session.io_binding()
        self._binding.bind_input(graph.input, "cpu", 0, np.float32, self._input.shape, self._input.ctypes.data)
        self._binding.bind_output(graph.output, "cpu", 0, np.float32, self._output.shape, self._output.ctypes.data)
        for _ in range(WARM_UP_CALLS):
            self._run()

    def infer(self, observation: NDArray[np.float32]) -> NDArray[np.float64]:
        """Policy output (J,) in rad from one raw observation (D,).

        Raises ActionError on a wrong shape, on a value that is not finite in or out, and when onnxruntime fails.
        """
        if observation.shape != self._input.shape[1:]:
            raise ActionError(f"observation has shape {observation.shape}, the policy expects {self._input.shape[1:]}")
        if not np.isfinite(observation).all():
            raise ActionError(f"observation is not finite: {observation.tolist()}")
        self._input[0] = observation
        # A provider that fails silently must not repeat the last action.
        self._output.fill(np.nan)
        self._run()
        if not np.isfinite(self._output).all():
            raise ActionError(f"policy output is not finite: {self._output[0].tolist()}")
        result: NDArray[np.float64] = self._output[0].astype(np.float64)
        return result

    def infer_batch(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs (B, J) in rad of raw observations (B, D), not checked: for evaluation offline."""
        graph = self.manifest.graph
        output: NDArray[np.float32] = self._session.run([graph.output], {graph.input: observations})[0]
        return output

    def _run(self) -> None:
        try:
            self._session.run_with_iobinding(self._binding)
            if self.provider != "cpu":
                self._binding.synchronize_outputs()
        except Exception as error:
            # onnxruntime's exceptions share no base class of their own.
            raise ActionError(f"the policy failed to run: {type(error).__name__}: {str(error)[:300]}") from error


def _open_session(data: bytes, wanted: str) -> tuple[Any, str]:
    """A one-thread session on the wanted provider, and that provider's name."""
    import onnxruntime

    provider = choose_provider(wanted)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    chain = [PROVIDERS[provider]] + ([] if provider == "cpu" else [PROVIDERS["cpu"]])
    try:
        session = onnxruntime.InferenceSession(data, options, providers=chain)
        session.disable_fallback()
    except Exception as error:
        raise BundleError(f"onnxruntime cannot load policy.onnx: {type(error).__name__}: {str(error)[:300]}") from error
    if session.get_providers()[0] != PROVIDERS[provider]:
        raise BundleError(
            f"execution provider {provider!r} did not start (driver or library missing?); got {session.get_providers()}"
        )
    return session, provider
