"""Torch module -> signed bundle: normalisation and action scaling inside the graph, and proof that it still agrees.

The only module of deployment that imports torch, and only while it works.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import BundleError
from sealegs_contract.robot import FrozenModel, RobotProfile
from sealegs_contract.spec import ActionSpec, ObservationField, ObservationSpec
from sealegs_deploy.bundle import check_free, write_bundle
from sealegs_deploy.manifest import (
    BUNDLE_NAME,
    MANIFEST_NAME,
    PARITY_TOLERANCE_RAD,
    POLICY_NAME,
    ExportParity,
    GraphInfo,
    Manifest,
    Metric,
    Provenance,
    TimingContract,
    units_of,
)
from sealegs_deploy.signing import SigningKey

if TYPE_CHECKING:
    import torch

OPSET = 20
PARITY_INPUTS = 10_000
WIDE_FACTOR = 5.0
# A policy works in [-1, 1]; float32 rounding at the bounds is no violation.
ACTION_ROUNDING = 1e-5


# Mean and deviation, (D,) each.
Statistics = tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]


class ExportRequest(FrozenModel):
    """What to write beside the graph."""

    name: str
    robot: RobotProfile
    observation: ObservationSpec
    action: ActionSpec
    provenance: Provenance = Provenance()
    metrics: tuple[Metric, ...] = ()
    timing: TimingContract | None = None
    seed: int = 0


def export_bundle(
    module: torch.nn.Module,
    request: ExportRequest,
    out: str | Path,
    key: SigningKey,
    statistics: Statistics | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Write a signed bundle of `module`, which maps raw observations (B, D) to actions (B, J) in [-1, 1].

    `statistics`: mean and deviation of the training data, from which the comparison inputs are drawn; without them
    they come from the robot's limits. `out`: a folder, or a file ending in .zip.
    Raises BundleError when torch and onnxruntime differ by more than 1e-5 rad on any of 10,000 inputs.
    """
    check_free(Path(out), overwrite)
    if not re.fullmatch(BUNDLE_NAME, request.name):
        raise BundleError(f"{request.name!r} is no name for a bundle: up to 64 letters, digits, '.', '_' and '-'")
    inputs = comparison_inputs(request.robot, request.observation, statistics, request.seed)
    check_actions(module, inputs, request.action.size)
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
        graph=GraphInfo(opset=OPSET),
        timing=request.timing or TimingContract.of(request.robot, request.observation),
        provenance=request.provenance,
        metrics=request.metrics,
        versions=_versions(),
        parity=ExportParity(inputs=len(inputs), max_abs_difference_rad=difference, seed=request.seed),
    )
    write_bundle({POLICY_NAME: data, MANIFEST_NAME: manifest.to_bytes()}, out, key, overwrite)
    return manifest


def scaled_module(module: torch.nn.Module, action: ActionSpec) -> torch.nn.Module:
    """`module` followed by ActionSpec.to_output: raw observation (B, D) -> output (B, J) in rad, in evaluation mode."""
    import torch

    class Scaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module
            self.register_buffer("scale", torch.tensor(action.scale_rad, dtype=torch.float32))
            self.register_buffer("offset", torch.tensor(action.offset_rad, dtype=torch.float32))

        def forward(self, observation: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.module(observation) * self.scale + self.offset
            return output

    return Scaled().cpu().eval()


def check_actions(module: torch.nn.Module, inputs: NDArray[np.float32], moved: int) -> None:
    """BundleError unless the policy returns (B, moved), finite and within [-1, 1], for every input (B, D)."""
    import torch

    with torch.no_grad():
        action = module.eval()(torch.from_numpy(inputs)).numpy()
    if action.shape != (len(inputs), moved):
        raise BundleError(f"the policy returns shape {action.shape}, expected {(len(inputs), moved)}")
    if not np.isfinite(action).all() or np.abs(action).max() > 1.0 + ACTION_ROUNDING:
        raise BundleError(
            f"the policy's actions lie in [{action.min()}, {action.max()}]; they must be finite and within [-1, 1]"
        )


def comparison_inputs(
    robot: RobotProfile,
    spec: ObservationSpec,
    statistics: Statistics | None = None,
    seed: int = 0,
    count: int = PARITY_INPUTS,
) -> NDArray[np.float32]:
    """Inputs (count, D): half Gaussian with the mean and deviation of the data, half five times as wide.

    Without data, mean and deviation are those of uniform values within the robot's limits (objects: within 1 m).
    """
    mean, deviation = _limits_statistics(robot, spec)
    if statistics is not None:
        mean, deviation = statistics
        if mean.shape != (spec.size,) or deviation.shape != (spec.size,):
            raise BundleError(f"statistics have shapes {mean.shape} and {deviation.shape}, expected ({spec.size},)")
    rng = np.random.default_rng(seed)
    width = np.where(np.arange(count) % 2 == 0, 1.0, WIDE_FACTOR)[:, None]
    inputs: NDArray[np.float32] = (mean + width * deviation * rng.standard_normal((count, spec.size))).astype(
        np.float32
    )
    return np.asarray(inputs, dtype=np.float32)


def compare(module: torch.nn.Module, data: bytes, inputs: NDArray[np.float32]) -> float:
    """Largest absolute difference, in rad, between torch and onnxruntime, in one batch and one by one as on the robot.

    Raises BundleError above the tolerance, naming the input.
    """
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = module(torch.from_numpy(inputs)).numpy()
    batched = session.run(None, {"observation": inputs})[0]
    single = np.concatenate([session.run(None, {"observation": row[None]})[0] for row in inputs])
    if batched.shape != expected.shape:
        raise BundleError(f"onnxruntime returns shape {batched.shape}, torch {expected.shape}")
    difference = np.maximum(np.abs(batched - expected), np.abs(single - expected)).max(axis=1)
    worst = int(np.argmax(difference))
    # `not <=` also catches NaN.
    if not difference[worst] <= PARITY_TOLERANCE_RAD:
        raise BundleError(
            f"onnxruntime differs from torch by {difference[worst]:.3g} rad (allowed: {PARITY_TOLERANCE_RAD:g}) "
            f"on input {worst} of {len(inputs)}: {single[worst].tolist()} instead of {expected[worst].tolist()}"
        )
    return float(difference[worst])


def to_onnx(module: torch.nn.Module, request: ExportRequest) -> bytes:
    """ONNX bytes of `module`: input `observation` (batch, D), output `action` (batch, J), all data inside."""
    import torch

    example = torch.zeros(2, request.observation.size)
    with _quiet():
        program = torch.onnx.export(
            module,
            (example,),
            None,
            dynamo=True,
            opset_version=OPSET,
            input_names=["observation"],
            output_names=["action"],
            dynamic_shapes={"observation": {0: torch.export.Dim("batch")}},
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise BundleError("torch.onnx returned no program")
    model = program.model_proto
    _strip(model)
    model.producer_name = "sealegs"
    for key, value in metadata(request).items():
        model.metadata_props.add(key=key, value=value)
    return bytes(model.SerializeToString(deterministic=True))


def metadata(request: ExportRequest) -> dict[str, str]:
    """`metadata_props` as mjlab's readers expect them, in full precision. Gains belong to the robot node."""
    return {
        "joint_names": ",".join(request.action.joints),
        "default_joint_pos": ",".join(repr(joint.home_rad) for joint in request.robot.joints),
        "action_scale": ",".join(map(repr, request.action.scale_rad)),
        "observation_names": ",".join(request.observation.element_names),
        "command_names": "",
        "run_path": request.provenance.run_path,
        "profile_digest": request.robot.digest,
    }


def _limits_statistics(robot: RobotProfile, spec: ObservationSpec) -> Statistics:
    """Mean and deviation (D,) of uniform values within the limits, scaled as the assembler scales them."""
    joints = {joint.name: joint for joint in robot.joints}

    def bounds(field: ObservationField) -> list[tuple[float, float]]:
        match field.kind:
            case "joint_position":
                return [(joints[n].position_min_rad, joints[n].position_max_rad) for n in field.joints]
            case "joint_velocity":
                return [(-joints[n].velocity_max_rad_s, joints[n].velocity_max_rad_s) for n in field.joints]
            case "joint_effort":
                return [(-joints[n].effort_max_n_m, joints[n].effort_max_n_m) for n in field.joints]
        return [(-1.0, 1.0)] * field.size

    rows = [(low, high, f.scale, f.offset) for f in spec.fields for low, high in bounds(f)]
    low, high, scale, offset = np.array(rows).T
    return (low + high) / 2 * scale + offset, np.abs(scale) * (high - low) / np.sqrt(12.0)


def _strip(model: Any) -> None:
    """Remove the exporter's notes: they hold stack traces with paths of this machine."""
    model.ClearField("metadata_props")
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer, *graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress lines and the warnings of its own libraries; errors still raise."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def _versions() -> dict[str, str]:
    found = {}
    for package in ("sealegs", "torch", "onnx", "onnxscript", "onnxruntime", "numpy"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
