"""Torch module -> signed bundle: normalisation and action scaling inside the graph, and proof that it still agrees.

The only module of deployment that imports torch, and only while it works.
"""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import BundleError
from sealegs_contract.robot import FrozenModel, RobotProfile
from sealegs_contract.spec import ActionSpec, ObservationSpec
from sealegs_contract.temporal import TemporalSpec
from sealegs_deploy.bundle import check_free, write_bundle
from sealegs_deploy.comparison import Inputs, Statistics, comparison_inputs, pieces
from sealegs_deploy.export_parts import metadata, quiet, strip, versions
from sealegs_deploy.graph import image_input
from sealegs_deploy.manifest import (
    BUNDLE_NAME,
    MANIFEST_NAME,
    PARITY_TOLERANCE_RAD,
    POLICY_NAME,
    BestOfN,
    ExportParity,
    GraphInfo,
    InputStatistics,
    Manifest,
    Metric,
    Provenance,
    TimingContract,
    units_of,
)
from sealegs_deploy.signing import SigningKey
from sealegs_deploy.support_info import SupportInfo

if TYPE_CHECKING:
    import torch

OPSET = 20
# A policy works in [-1, 1]; float32 rounding at the bounds is no violation.
ACTION_ROUNDING = 1e-5


class ExportRequest(FrozenModel):
    """What to write beside the graph."""

    name: str
    robot: RobotProfile
    observation: ObservationSpec
    action: ActionSpec
    temporal: TemporalSpec = TemporalSpec()
    provenance: Provenance = Provenance()
    metrics: tuple[Metric, ...] = ()
    timing: TimingContract | None = None
    best_of_n: BestOfN | None = None
    support: SupportInfo | None = None
    seed: int = 0


def export_bundle(
    module: torch.nn.Module,
    request: ExportRequest,
    out: str | Path,
    key: SigningKey,
    statistics: Statistics | None = None,
    overwrite: bool = False,
    files: Mapping[str, bytes] | None = None,
) -> Manifest:
    """Write a signed bundle of `module`, which maps raw observations (B, history * D) to actions (B, J) in [-1, 1].

    A chunk is (B, chunk, J); the cameras of the observation follow as further arguments (B, height, width, 3) uint8.
    `statistics`: mean and deviation of the training data by which `module` normalises, (history * D,) each. They go
    into the manifest, and the comparison inputs are drawn from them; without them from the robot's limits. `out`: a
    folder, or a file ending in .zip. `files`: further files, as the policy's card; they are signed as well.
    Raises BundleError when torch and onnxruntime differ by more than 1e-5 rad on any of the comparison inputs.
    """
    check_free(Path(out), overwrite)
    if not re.fullmatch(BUNDLE_NAME, request.name):
        raise BundleError(f"{request.name!r} is no name for a bundle: up to 64 letters, digits, '.', '_' and '-'")
    inputs = comparison_inputs(request.robot, request.observation, statistics, request.seed, request.temporal.history)
    check_actions(module, inputs, request.action.size, request.temporal.chunk)
    graph = scaled_module(module, request.action)
    data = to_onnx(graph, request)
    difference = compare(graph, data, inputs)
    now = time.time()
    manifest = Manifest(
        name=request.name,
        # Seconds since 1970 need no memory of earlier exports and only ever grow.
        version=int(now),
        created=datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        robot=request.robot,
        profile_digest=request.robot.digest,
        joint_names=request.robot.joint_names,
        units=units_of(request.observation),
        rate_hz=request.robot.control_rate_hz,
        observation=request.observation,
        action=request.action,
        temporal=request.temporal,
        graph=GraphInfo(opset=OPSET),
        best_of_n=request.best_of_n,
        support=request.support,
        input_statistics=_recorded(statistics),
        timing=request.timing or TimingContract.of(request.robot, request.observation),
        provenance=request.provenance,
        metrics=request.metrics,
        versions=versions(),
        parity=ExportParity(inputs=len(inputs["observation"]), max_abs_difference_rad=difference, seed=request.seed),
    )
    write_bundle({**(files or {}), POLICY_NAME: data, MANIFEST_NAME: manifest.to_bytes()}, out, key, overwrite)
    return manifest


def _recorded(statistics: Statistics | None) -> InputStatistics | None:
    """What the manifest says of them. BundleError where they cannot be what inputs are normalised by."""
    if statistics is None:
        return None
    mean, std = (values.astype(np.float64) for values in statistics)
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0.0).all()):
        raise BundleError(
            f"statistics must be finite, with deviations above 0; they have means in [{mean.min()}, {mean.max()}] and "
            f"deviations in [{std.min()}, {std.max()}]"
        )
    return InputStatistics(mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def scaled_module(module: torch.nn.Module, action: ActionSpec) -> torch.nn.Module:
    """`module` followed by ActionSpec.to_output: raw inputs -> output (B, J) or (B, chunk, J) in rad, evaluating."""
    import torch

    class Scaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module
            self.register_buffer("scale", torch.tensor(action.scale_rad, dtype=torch.float32))
            self.register_buffer("offset", torch.tensor(action.offset_rad, dtype=torch.float32))

        def forward(self, observation: torch.Tensor, *images: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.module(observation, *images) * self.scale + self.offset
            return output

    return Scaled().cpu().eval()


def check_actions(module: torch.nn.Module, inputs: Inputs, moved: int, chunk: int = 1) -> None:
    """BundleError unless the policy's actions are finite, within [-1, 1], and (B, moved) or (B, chunk, moved)."""
    action = _run_torch(module.eval(), inputs)
    expected = (len(action), moved) if chunk == 1 else (len(action), chunk, moved)
    if action.shape != expected:
        raise BundleError(f"the policy returns shape {action.shape}, expected {expected}")
    if not np.isfinite(action).all() or np.abs(action).max() > 1.0 + ACTION_ROUNDING:
        raise BundleError(
            f"the policy's actions lie in [{action.min()}, {action.max()}]; they must be finite and within [-1, 1]"
        )


def compare(
    module: torch.nn.Module,
    data: bytes,
    inputs: Inputs,
    relative: bool = False,
    tolerance: float = PARITY_TOLERANCE_RAD,
) -> float:
    """Largest absolute difference, in rad, between torch and onnxruntime, in batches and one by one as on the robot.

    `relative`: in units of max(1, |expected|), for outputs that are no angles.
    Raises BundleError above the tolerance, naming the input.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    expected = _run_torch(module, inputs)
    batched = np.concatenate([session.run(None, dict(piece))[0] for piece in pieces(inputs)])
    single = np.concatenate([session.run(None, dict(piece))[0] for piece in pieces(inputs, 1)])
    if batched.shape != expected.shape:
        raise BundleError(f"onnxruntime returns shape {batched.shape}, torch {expected.shape}")
    difference = (
        np.maximum(np.abs(batched - expected), np.abs(single - expected)).reshape(len(expected), -1).max(axis=1)
    )
    if relative:
        difference /= np.maximum(1.0, np.abs(expected).reshape(len(expected), -1).max(axis=1))
    worst = int(np.argmax(difference))
    # `not <=` also catches NaN.
    if not difference[worst] <= tolerance:
        raise BundleError(
            f"onnxruntime differs from torch by {difference[worst]:.3g}{'' if relative else ' rad'} "
            f"(allowed: {tolerance:g}) on input {worst} of {len(expected)}: "
            f"{single[worst].tolist()} instead of {expected[worst].tolist()}"
        )
    return float(difference[worst])


def _run_torch(module: torch.nn.Module, inputs: Inputs) -> NDArray[np.float32]:
    import torch

    with torch.no_grad():
        parts = [module(*map(torch.from_numpy, piece.values())).numpy() for piece in pieces(inputs)]
    return np.concatenate(parts)


def to_onnx(module: torch.nn.Module, request: ExportRequest) -> bytes:
    """ONNX bytes of `module`, with the inputs and the output of `graph.ports_of`, all data inside."""
    observation = request.observation
    example: dict[str, NDArray[Any]] = {
        "observation": np.zeros((2, request.temporal.history * observation.size), np.float32)
    }
    example |= {image_input(i.camera): np.zeros((2, i.height, i.width, 3), np.uint8) for i in observation.images}
    return onnx_of(module, example, "action", metadata(request))


def onnx_of(module: torch.nn.Module, example: Inputs, output: str, notes: Mapping[str, str]) -> bytes:
    """ONNX bytes of `module`, which takes `example` in order; the first axis of all is free, all data inside."""
    import torch

    rows = {0: torch.export.Dim("batch")}
    shapes: dict[str, Any] = {}
    for parameter in inspect.signature(module.forward).parameters.values():
        rest = len(example) - len(shapes)
        if parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            shapes[parameter.name] = rows
        elif rest:
            shapes[parameter.name] = (rows,) * rest
    with quiet():
        program = torch.onnx.export(
            module,
            tuple(torch.from_numpy(values) for values in example.values()),
            None,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(example),
            output_names=[output],
            dynamic_shapes=shapes,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise BundleError("torch.onnx returned no program")
    model = program.model_proto
    strip(model)
    model.producer_name = "sealegs"
    for key, value in notes.items():
        model.metadata_props.add(key=key, value=value)
    return bytes(model.SerializeToString(deterministic=True))
