"""One onnxruntime session whose inputs and output are bound once: a call copies values, and allocates nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import ActionError
from sealegs_deploy.aside import considerate
from sealegs_deploy.providers import ProviderError, open_session

Ports = Mapping[str, tuple[str, tuple[int, ...]]]
"""By name: element type, and the sizes after the batch."""
WARM_UP_CALLS = 20
AGREEMENT_RAD = 1e-3
"""How far a provider's output may be from the CPU's: a twentieth of a degree."""
AGREEMENT_INPUTS = 4


class BoundGraph:
    """`inputs` by name and `output` are arrays (batch, ...) in host memory: fill the inputs, `run`, read the output.

    `device`: where the graph's own buffers are, `cpu` or `cuda`.
    """

    def __init__(self, session: Any, inputs: Ports, output: Ports, device: str = "cpu", batch: int = 1) -> None:
        self.session = session
        self.inputs = {name: np.zeros((batch, *sizes), np.dtype(dtype)) for name, (dtype, sizes) in inputs.items()}
        ((self._output_name, (_, sizes)),) = output.items()
        self.output: NDArray[np.float32] = np.zeros((batch, *sizes), np.float32)
        self._binding = session.io_binding()
        self._took_ns = 0
        self._on_device = device != "cpu"
        if self._on_device:
            self._bind_device(device)
        else:
            self._bind_host()

    def _bind_host(self) -> None:
        for name, array in self.inputs.items():
            self._binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        array = self.output
        self._binding.bind_output(self._output_name, "cpu", 0, np.float32, array.shape, array.ctypes.data)

    def _bind_device(self, device: str) -> None:
        # Host memory must not be bound here: onnxruntime copies it to the device when it is bound, not when it runs,
        # so that every call would see the first observation.
        from onnxruntime import OrtValue

        self._device_inputs = {
            name: OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type, device, 0)
            for name, array in self.inputs.items()
        }
        self._device_output = OrtValue.ortvalue_from_shape_and_type(self.output.shape, np.float32, device, 0)
        for name, value in self._device_inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_ortvalue_output(self._output_name, self._device_output)

    def run(self) -> None:
        """Compute `output` from `inputs`. ActionError when onnxruntime fails; `output` is NaN then."""
        # A provider that fails silently must not repeat the last action.
        self.output.fill(np.nan)
        try:
            if self._on_device:
                self._run_on_device()
            else:
                self._took_ns = considerate(self._compute, self._took_ns)
        except Exception as error:
            # onnxruntime's exceptions share no base class of their own.
            raise ActionError(f"the policy failed to run: {type(error).__name__}: {str(error)[:300]}") from error

    def _compute(self) -> None:
        self.session.run_with_iobinding(self._binding)

    def _run_on_device(self) -> None:
        for name, value in self._device_inputs.items():
            value.update_inplace(self.inputs[name])
        self._device_output.update_inplace(self.output)
        self.session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        np.copyto(self.output, self._device_output.numpy())

    def run_batch(self, feed: dict[str, Any]) -> NDArray[np.float32]:
        """Output (B, ...) of inputs (B, ...) by name, past the bound buffers."""
        output: NDArray[np.float32] = self.session.run([self._output_name], feed)[0]
        return output


def start_graph(data: bytes, name: str, inputs: Ports, output: Ports, batch: int = 1) -> BoundGraph:
    """The graph on provider `name`, warm. ProviderError where a GPU does not run it as the CPU does."""
    device = "cpu" if name == "cpu" else "cuda"
    try:
        graph = BoundGraph(open_session(data, name), inputs, output, device, batch)
        for _ in range(WARM_UP_CALLS):
            graph.run()
        if name != "cpu":
            check_agreement(graph, BoundGraph(open_session(data, "cpu"), inputs, output, batch=batch))
    except ProviderError:
        raise
    except Exception as error:
        if name == "cpu":
            raise
        raise ProviderError(f"does not run this policy: {' '.join(str(error).split())[:300]}") from error
    return graph


def check_agreement(graph: BoundGraph, reference: BoundGraph, seed: int = 0) -> None:
    """ProviderError unless both give the same output on seeded inputs, one after the other through the same buffers."""
    rng = np.random.default_rng(seed)
    for _ in range(AGREEMENT_INPUTS):
        for name, array in graph.inputs.items():
            values = rng.integers(0, 256, array.shape) if array.dtype == np.uint8 else rng.standard_normal(array.shape)
            array[...] = reference.inputs[name][...] = values
        graph.run()
        reference.run()
        if not np.allclose(graph.output, reference.output, rtol=0.0, atol=AGREEMENT_RAD, equal_nan=True):
            worst = float(np.abs(graph.output - reference.output).max())
            raise ProviderError(f"its output differs from the CPU's by {worst:.3g} rad (allowed: {AGREEMENT_RAD:g})")
