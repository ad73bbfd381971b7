"""Does a policy normalise with the numbers that it was trained with, and do the bags look as those numbers say?

    z = scale x + offset    with scale = 1 / deviation, offset = -mean / deviation of the training data

z of the training data has mean 0 and deviation 1. The manifest says which numbers these are; the graph is read for the
numbers that it uses: the operators by element, with constants, that its observation goes through first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sealegs_deploy.bundle import VerifiedBundle
from sealegs_deploy.gate_figures import FloatArray
from sealegs_deploy.gate_probe import SensorNoise
from sealegs_deploy.gate_replay import Replayed
from sealegs_deploy.manifest import Manifest
from sealegs_deploy.runtime import PolicyRuntime

LEAST_PROBES = 100
MOVING = 2.0
"""Deviations of the sensor's noise from which on an element of the bags moves."""


@dataclass(frozen=True)
class Normalisation:
    """z = scale x + offset, of every element (n,) of the graph's vector input."""

    scale: FloatArray
    offset: FloatArray

    def __call__(self, x: FloatArray) -> FloatArray:
        """z (..., n)."""
        return self.scale * x + self.offset

    @classmethod
    def of(cls, manifest: Manifest) -> Normalisation | None:
        """The one that the manifest records; None where it records none."""
        said = manifest.input_statistics
        return cls(1.0 / np.array(said.std), -np.array(said.mean) / np.array(said.std)) if said else None


def normalisation_in(graph: Any, name: str, size: int) -> Normalisation | None:
    """What an ONNX graph does to each element of its input `name` first; None where that is no normalisation.

    Add, Sub, Mul and Div with constants are followed while nobody else uses the value on the way. A normalisation has
    a scale and an offset that differ from element to element.
    """
    constants = _constants(graph)
    scale, offset = np.ones(size), np.zeros(size)
    while (step := _next_step(graph, name, constants)) is not None:
        name, (factor, term) = step
        scale, offset = factor * scale, factor * offset + term
    each = scale.shape == offset.shape == (size,) and np.ptp(scale) > 0.0 and np.ptp(offset) > 0.0
    return Normalisation(scale, offset) if each and np.isfinite([scale, offset]).all() else None


def _constants(graph: Any) -> dict[str, FloatArray]:
    from onnx import numpy_helper

    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        values = [a.t for a in node.attribute if a.name == "value"]
        if node.op_type == "Constant" and values:
            found[node.output[0]] = numpy_helper.to_array(values[0])
    return {name: v.astype(np.float64) for name, v in found.items() if v.dtype.kind == "f" and v.ndim < 2}


def _next_step(
    graph: Any, name: str, constants: dict[str, FloatArray]
) -> tuple[str, tuple[FloatArray | float, FloatArray | float]] | None:
    """The value after `name`, and (factor, term) of value = factor x + term; None where it is no such step."""
    users = [node for node in graph.node if name in node.input]
    if len(users) != 1:
        return None
    node = users[0]
    if node.op_type == "Identity":
        return node.output[0], (1.0, 0.0)
    if len(node.input) != 2:
        return None
    first = node.input[0] == name
    c = constants.get(node.input[1 if first else 0])
    if c is None:
        return None
    match node.op_type, first:
        case "Add", _:
            return node.output[0], (1.0, c)
        case "Sub", True:
            return node.output[0], (1.0, -c)
        case "Sub", False:
            return node.output[0], (-1.0, c)
        case "Mul", _:
            return node.output[0], (c, 0.0)
        case "Div", True if np.all(c != 0.0):
            return node.output[0], (1.0 / c, 0.0)
    return None


def mismatch(used: Normalisation, said: Normalisation) -> float:
    """Largest difference of z where it should be 0 or 1: z_used = (s / s') z + (o - s o' / s') of z = s' x + o'."""
    factor = used.scale / said.scale
    return float(max(np.abs(factor - 1.0).max(), np.abs(used.offset - factor * said.offset).max()))


def bag_moments(own: Normalisation, mean: FloatArray, deviation: FloatArray, noise: FloatArray) -> tuple[float, float]:
    """Largest |mean| and largest deviation of z over the elements, of bags with these moments.

    0 and at most about 1 for the training data. A sensor's noise is no movement: an element that the training data
    hardly moved counts in units of the noise, not of its tiny deviation.
    """
    unit = np.maximum(1.0, np.abs(own.scale) * noise)
    return float((np.abs(own(mean)) / unit).max()), float((np.abs(own.scale) * deviation / unit).max())


def renormalised(
    own: Normalisation, inputs: FloatArray, mean: FloatArray, deviation: FloatArray, noise: FloatArray
) -> FloatArray:
    """Inputs whose z is what the bags' own moments would give, where the bags move: scale x' + offset = (x - m) / s."""
    moved = (deviation > MOVING * noise) & (own.scale != 0.0)
    z = (inputs - mean) / np.where(moved, deviation, 1.0)
    return np.where(moved, (z - own.offset) / np.where(moved, own.scale, 1.0), inputs)


def renormalised_gain(action: FloatArray, anew: FloatArray, recorded: FloatArray) -> float:
    """ln(|b - a|^2 / |b - a'|^2), summed: how much more of the record b the actions a' explain than the actions a."""
    left, anew_left = float(((recorded - action) ** 2).sum()), float(((recorded - anew) ** 2).sum())
    return float(np.log(left / anew_left)) if left > 0.0 and anew_left > 0.0 else 0.0


def normalisation_figures(
    bundle: VerifiedBundle, runtime: PolicyRuntime, replayed: Sequence[Replayed], noise: SensorNoise
) -> dict[str, float | None]:
    """The figures; None where neither graph nor manifest says how the policy normalises, or the bags are empty."""
    import onnx

    manifest = bundle.manifest
    history = manifest.temporal.history
    graph = onnx.ModelProto.FromString(bundle.policy).graph
    used = normalisation_in(graph, manifest.graph.input, history * manifest.observation.size)
    said = Normalisation.of(manifest)
    found: dict[str, float | None] = {}
    if used is not None and said is not None:
        found["normalisation_mismatch"] = mismatch(used, said)
    own = used or said
    observed = np.concatenate([one.observed for one in replayed]).astype(np.float64)
    if own is None or len(observed) < 2:
        return found
    moments = np.tile(observed.mean(axis=0), history), np.tile(observed.std(axis=0), history)
    spread = noise.deviations(manifest.observation, history)
    found["input_shift"], found["input_spread"] = bag_moments(own, *moments, spread)
    found["renormalised_gain"] = _gain(runtime, replayed, own, moments, spread)
    return found


def _gain(
    runtime: PolicyRuntime,
    replayed: Sequence[Replayed],
    own: Normalisation,
    moments: tuple[FloatArray, FloatArray],
    noise: FloatArray,
) -> float | None:
    """`renormalised_gain` at the inputs that were kept and have a record; None for policies with images."""
    manifest = runtime.manifest
    kept = [one for one in replayed if len(one.inputs)]
    if manifest.observation.images or not kept:
        return None
    inputs = np.concatenate([np.stack(one.inputs) for one in kept]).astype(np.float64)
    recorded = np.concatenate([one.recorded[one.asked] for one in kept])
    known = np.isfinite(recorded).all(axis=1)
    if known.sum() < LEAST_PROBES:
        return None
    to_action = manifest.action.to_action
    answers = [_first(runtime.infer_batch(x.astype(np.float32)))
               for x in (inputs[known], renormalised(own, inputs[known], *moments, noise))]  # fmt: skip
    b = np.clip(to_action(recorded[known]), -1.0, 1.0)
    gain = renormalised_gain(to_action(answers[0]), to_action(answers[1]), b)
    return gain if np.isfinite(gain) else None


def _first(output: Any) -> FloatArray:
    """The first action (N, J) of outputs (N, J) or chunks (N, chunk, J)."""
    wide: FloatArray = output.astype(np.float64)
    return wide if wide.ndim == 2 else wide[:, 0]
