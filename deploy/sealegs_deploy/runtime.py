"""PolicyRuntime: one verified graph in one onnxruntime session, one thread, buffers allocated once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import ActionError
from sealegs_deploy.bundle import VerifiedBundle
from sealegs_deploy.graph import check_graph, image_input, ports_of
from sealegs_deploy.providers import start_first
from sealegs_deploy.session import start_graph

NO_IMAGES: Mapping[str, NDArray[np.uint8]] = MappingProxyType({})


class PolicyRuntime:
    """Runs the graph of a verified bundle. Not for use from two threads at once.

    `provider`: cpu, cuda, tensorrt or auto. One that does not start here is replaced by the next slower one, and
    `choice` says so; under `strict` it raises BundleError. So does a graph that does not fit the manifest.
    """

    def __init__(self, bundle: VerifiedBundle, provider: str = "cpu", strict: bool = False) -> None:
        self.manifest = bundle.manifest
        check_graph(bundle.policy, self.manifest)
        inputs, output = ports_of(self.manifest)
        start = partial(start_graph, bundle.policy, inputs=inputs, output=output)
        self._graph, self.choice = start_first(provider, strict, start)
        self._input = self._graph.inputs[self.manifest.graph.input][0]
        cameras = [image.camera for image in self.manifest.observation.images]
        self._images = {camera: self._graph.inputs[image_input(camera)][0] for camera in cameras}
        self._output = self._graph.output[0]
        self._flat_output = self._output.reshape(-1)

    def infer(
        self, observation: NDArray[np.float32], images: Mapping[str, NDArray[np.uint8]] = NO_IMAGES
    ) -> NDArray[np.float64]:
        """Policy output (J,) in rad, or (chunk, J), from one raw observation (history * D,) and its cameras' pixels.

        `images` by camera, (height, width, 3) as the manifest says.
        Raises ActionError on a wrong shape, on a value that is not finite in or out, and when onnxruntime fails.
        """
        if observation.shape != self._input.shape:
            raise ActionError(f"observation has shape {observation.shape}, the policy expects {self._input.shape}")
        np.copyto(self._input, observation)
        if not all_finite(self._input):
            raise ActionError(f"observation is not finite: {observation.tolist()}")
        for camera, buffer in self._images.items():
            pixels = images.get(camera)
            if pixels is None or pixels.shape != buffer.shape or pixels.dtype != np.uint8:
                came = "nothing" if pixels is None else f"{pixels.dtype} {pixels.shape}"
                raise ActionError(f"camera {camera} gave {came}, the policy expects uint8 {buffer.shape}")
            np.copyto(buffer, pixels)
        self._graph.run()
        if not all_finite(self._flat_output):
            raise ActionError(f"policy output is not finite: {self._output.tolist()}")
        result: NDArray[np.float64] = self._output.astype(np.float64)
        return result

    def infer_batch(
        self, observations: NDArray[np.float32], images: Mapping[str, NDArray[np.uint8]] = NO_IMAGES
    ) -> NDArray[np.float32]:
        """Outputs (B, ...) in rad of raw observations (B, history * D) and pixels, not checked: for use offline."""
        feed: dict[str, Any] = {self.manifest.graph.input: observations}
        feed |= {image_input(camera): pixels for camera, pixels in images.items()}
        return self._graph.run_batch(feed)


def all_finite(values: NDArray[np.float32]) -> bool:
    """Whether every value (n,) is finite.

    x.x is a sum of terms >= 0: finite only where all are, at a third of the cost of asking each. It may overflow.
    """
    return math.isfinite(values.dot(values)) or bool(np.isfinite(values).all())
