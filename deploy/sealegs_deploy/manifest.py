"""manifest.json: everything a robot must know about a policy before it runs it, in full-precision JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from sealegs_contract.errors import BundleError, available
from sealegs_contract.robot import Finite, FrozenModel, Name, Positive, RobotProfile, differences
from sealegs_contract.spec import FIELD_UNITS, ActionSpec, ObservationSpec
from sealegs_contract.temporal import TemporalSpec
from sealegs_deploy.support_info import SupportInfo

MANIFEST_NAME = "manifest.json"
POLICY_NAME = "policy.onnx"
REWARD_NAME = "reward.onnx"
PARITY_TOLERANCE_RAD = 1e-5


BUNDLE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


class TimingContract(FrozenModel):
    """What the policy was trained to meet, in ms.

    A stream older than `observation_timeout_ms` stops the policy; a command holds for `command_horizon_ms` after its
    stamp; an inference longer than `inference_budget_ms` counts as a miss, one longer than the horizon is discarded.
    """

    period_ms: Positive
    observation_timeout_ms: Positive
    command_horizon_ms: Positive
    inference_budget_ms: Positive

    @model_validator(mode="after")
    def _ordered(self) -> TimingContract:
        if not self.inference_budget_ms <= self.period_ms <= self.command_horizon_ms:
            raise ValueError(
                f"inference budget {self.inference_budget_ms} ms <= period {self.period_ms} ms <= command horizon "
                f"{self.command_horizon_ms} ms does not hold"
            )
        return self

    @classmethod
    def of(cls, robot: RobotProfile, observation: ObservationSpec) -> TimingContract:
        """The usual contract: commands hold for five periods, inference takes at most half of one."""
        period = 1e3 / robot.control_rate_hz
        return cls(
            period_ms=period,
            observation_timeout_ms=observation.timeout_ms,
            command_horizon_ms=5.0 * period,
            inference_budget_ms=0.5 * period,
        )


class Metric(FrozenModel):
    """A measured figure with its confidence interval, for example success over `episodes` episodes."""

    name: str
    value: Finite
    interval: tuple[Finite, Finite] | None = None
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    episodes: int | None = None
    note: str = ""


class ExportParity(FrozenModel):
    """How far onnxruntime and torch differed at export, over `inputs` observations, in rad."""

    inputs: Annotated[int, Field(ge=1)]
    max_abs_difference_rad: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
    tolerance_rad: Annotated[float, Field(gt=0.0, le=PARITY_TOLERANCE_RAD)] = PARITY_TOLERANCE_RAD
    seed: int = 0


class GraphInfo(FrozenModel):
    """The graph's inputs and output; `graph.ports_of` gives their shapes.

    `observation` float32 (batch, history * D), raw; `image_CAMERA` uint8 (batch, height, width, 3) for each camera of
    the observation; out comes `action` float32 in rad, (batch, J), or (batch, chunk, J) for a chunk.
    """

    file: Literal["policy.onnx"] = "policy.onnx"
    input: Literal["observation"] = "observation"
    output: Literal["action"] = "action"
    opset: int
    normalisation_inside: Literal[True] = True
    action_scaling_inside: Literal[True] = True


class BestOfN(FrozenModel):
    """reward.onnx: an ensemble that scores actions at one observation, and how candidates are drawn.

    In go `observation` float32 (batch, history * D), raw, and `action` float32 (batch, J) in rad; out comes `score`
    float32 (batch, members). Only differences between the actions of one observation mean anything. `std` is the
    candidates' deviation in the action's own unit, of which full scale is 1.
    """

    file: Literal["reward.onnx"] = "reward.onnx"
    members: Annotated[int, Field(ge=1, le=64)]
    std: tuple[Positive, ...]
    reward: str
    reward_fingerprint: str = ""
    opset: int
    inputs: Annotated[int, Field(ge=1)]
    max_relative_difference: Annotated[float, Field(ge=0.0, le=PARITY_TOLERANCE_RAD)]


class InputStatistics(FrozenModel):
    """Mean and deviation of the training data, by which the graph normalises its vector input.

    One value for each of the history * D elements, in the input's own unit: that of the field after its scale and
    offset. A deviation may have been raised to the learner's floor. `sealegs gate` holds graph and bags against them.
    """

    mean: tuple[Finite, ...]
    std: tuple[Positive, ...]


class Provenance(FrozenModel):
    """Where a policy came from. `training` is the learner's configuration as it was used."""

    task: str = ""
    task_text: str = ""
    learner: str = ""
    run_path: str = ""
    dataset_fingerprint: str = ""
    reward_fingerprint: str = ""
    training: Mapping[str, Any] = Field(default_factory=dict)


class Manifest(FrozenModel):
    """The whole manifest. Raises (pydantic) where its parts contradict each other."""

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=f"^{BUNDLE_NAME}$")]
    version: Annotated[int, Field(ge=0)]
    created: str
    robot: RobotProfile
    profile_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    joint_names: tuple[Name, ...]
    units: Mapping[str, str]
    rate_hz: Positive
    observation: ObservationSpec
    action: ActionSpec
    temporal: TemporalSpec = TemporalSpec()
    graph: GraphInfo
    best_of_n: BestOfN | None = None
    support: SupportInfo | None = None
    input_statistics: InputStatistics | None = None
    timing: TimingContract
    provenance: Provenance = Provenance()
    metrics: tuple[Metric, ...] = ()
    versions: Mapping[str, str] = Field(default_factory=dict)
    parity: ExportParity

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        if self.profile_digest != self.robot.digest:
            raise ValueError(
                f"profile_digest {self.profile_digest} is not that of the profile inside: {self.robot.digest}"
            )
        if not self.joint_names == self.robot.joint_names == self.action.joints:
            raise ValueError(
                f"joints differ: {self.joint_names} in the manifest, {self.robot.joint_names} in its profile, "
                f"{self.action.joints} in the action spec"
            )
        if self.rate_hz != self.robot.control_rate_hz:
            raise ValueError(f"rate {self.rate_hz} Hz is not its profile's {self.robot.control_rate_hz} Hz")
        if self.best_of_n and (len(self.best_of_n.std) != self.action.size or self.temporal.chunk > 1):
            raise ValueError(
                f"best_of_n has {len(self.best_of_n.std)} deviations and the policy chunks of {self.temporal.chunk}; "
                f"it needs {self.action.size} deviations, and single actions"
            )
        if said := self.input_statistics:
            size = self.temporal.history * self.observation.size
            if not len(said.mean) == len(said.std) == size:
                raise ValueError(
                    f"input_statistics have {len(said.mean)} means and {len(said.std)} deviations; the policy's input "
                    f"has {size} elements"
                )
        if self.parity.max_abs_difference_rad > self.parity.tolerance_rad:
            raise ValueError(
                f"the export differs from torch by {self.parity.max_abs_difference_rad:.3g} rad, "
                f"above its tolerance of {self.parity.tolerance_rad:.3g} rad"
            )
        return self

    def to_bytes(self) -> bytes:
        """Canonical, readable, full-precision JSON."""
        return (json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def units_of(observation: ObservationSpec) -> dict[str, str]:
    """Unit of every observation field (before its scale and offset) and of the action."""
    return {"action": "rad"} | {field.name: FIELD_UNITS[field.kind] for field in observation.fields}


def parse_manifest(data: bytes) -> Manifest:
    """A manifest from its bytes, or BundleError naming the first problem."""
    try:
        return Manifest.model_validate(json.loads(data))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise BundleError(f"{MANIFEST_NAME}: {where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{MANIFEST_NAME}: not JSON: {error}") from error


def summary(manifest: Manifest) -> dict[str, str]:
    """What a person wants to know of a bundle, as labelled lines."""
    parity, timing, origin, temporal = manifest.parity, manifest.timing, manifest.provenance, manifest.temporal
    frames = f", newest {temporal.history} frames" if temporal.history > 1 else ""
    chunk = f", {temporal.execute} of each {temporal.chunk} executed" if temporal.chunk > 1 else ""
    lines = {
        "policy": f"{manifest.name} version {manifest.version}, created {manifest.created}",
        "task": f"{origin.task or 'unknown'}: {origin.task_text or 'no sentence'}",
        "robot": f"{manifest.robot.name}, {manifest.rate_hz:g} Hz, profile {manifest.profile_digest[:12]}",
        "joints": ", ".join(manifest.joint_names),
        "observation": f"{manifest.observation.size} values from {', '.join(manifest.observation.streams)}{frames}",
        "action": f"{manifest.action.kind}, {manifest.action.size} values in rad{chunk}",
        "timing": f"commands hold {timing.command_horizon_ms:g} ms, streams {timing.observation_timeout_ms:g} ms",
        "export": f"differs from torch by {parity.max_abs_difference_rad:.2g} rad over {parity.inputs:,} inputs",
        "data": f"dataset {origin.dataset_fingerprint[:12] or '?'}, reward {origin.reward_fingerprint[:12] or 'none'}",
    }
    if best := manifest.best_of_n:
        lines["best of n"] = f"{best.file}: {best.members} members, reward {best.reward}"
    if manifest.support:
        lines["support"] = manifest.support.line
    for metric in manifest.metrics:
        interval = f" [{metric.interval[0]:.3g}, {metric.interval[1]:.3g}]" if metric.interval else ""
        over = f" over {metric.episodes} episodes" if metric.episodes else ""
        lines[metric.name] = f"{metric.value:.3g}{interval}{over}"
    return lines


def check_fits(manifest: Manifest, robot: RobotProfile) -> None:
    """Refuse a bundle that was not made for the LOCAL profile `robot`; BundleError names the first difference."""
    if manifest.joint_names != robot.joint_names:
        raise BundleError(
            f"bundle {manifest.name} moves joints {list(manifest.joint_names)}, "
            f"but robot {robot.name} has {list(robot.joint_names)}"
        )
    if manifest.rate_hz != robot.control_rate_hz:
        raise BundleError(
            f"bundle {manifest.name} runs at {manifest.rate_hz:g} Hz, "
            f"but robot {robot.name} at {robot.control_rate_hz:g} Hz"
        )
    expected = units_of(manifest.observation)
    if dict(manifest.units) != expected:
        raise BundleError(f"bundle {manifest.name} has units {dict(manifest.units)}, expected {expected}")
    _check_streams(manifest, robot)
    if manifest.profile_digest != robot.digest:
        found = differences(manifest.robot.model_dump(mode="json"), robot.model_dump(mode="json"))
        changes = [f"{path} is {theirs!r} in the bundle, {ours!r} here" for path, theirs, ours in found]
        listed = "; ".join(changes[:3]) + (f"; {len(changes) - 3} more" if len(changes) > 3 else "")
        raise BundleError(
            f"bundle {manifest.name} was made for another profile of robot {manifest.robot.name} "
            f"(digest {manifest.profile_digest[:12]}, here {robot.digest[:12]}): {listed}"
        )


def _check_streams(manifest: Manifest, robot: RobotProfile) -> None:
    """The observation must come from what this robot publishes, in its joints."""
    cameras = [camera.name for camera in robot.cameras]
    for image in manifest.observation.images:
        if image.camera not in cameras:
            raise BundleError(
                f"bundle {manifest.name} sees camera {image.camera}, which robot {robot.name} does not have; "
                f"{available(cameras)}"
            )
    measured = [field.joints for field in manifest.observation.fields if field.kind == "joint_position"]
    if not any(set(joints) == set(robot.joint_names) for joints in measured):
        raise BundleError(f"bundle {manifest.name} does not observe the position of every joint, which control needs")
    for field in manifest.observation.fields:
        unknown = [joint for joint in field.joints if joint not in robot.joint_names]
        if unknown or (field.object_name and field.object_name not in robot.objects):
            raise BundleError(
                f"bundle {manifest.name} observes {', '.join(unknown) or field.object_name}, which robot {robot.name} "
                f"does not publish; joints: {', '.join(robot.joint_names)}; "
                f"objects: {', '.join(robot.objects) or 'none'}"
            )
