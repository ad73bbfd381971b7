"""Checkpoints: a folder with checkpoint.json (what it is) and weights.safetensors (every tensor of the run).

The JSON holds the SHA-256 of the weights file, so a truncated or mixed-up checkpoint is an error, not a wrong policy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from sealegs_contract.errors import LearningError
from sealegs_contract.robot import RobotProfile
from sealegs_contract.spec import ActionSpec, ObservationSpec
from sealegs_contract.temporal import TemporalSpec
from sealegs_learning.files import replaced_folder, settled, write_json
from sealegs_learning.networks import GaussianActor, Normalizer, Policy
from sealegs_learning.policies.cloned import ClonedPolicy
from sealegs_learning.training.card import add_evaluation

SCHEMA_VERSION = 1
# Of a safetensors file: 100 bytes a tensor, which the library itself allows 100 MB.
MAXIMUM_HEADER_BYTES = 4 * 1024 * 1024
JSON_NAME, WEIGHTS_NAME, EVALUATION_NAME = "checkpoint.json", "weights.safetensors", "evaluation.json"
POLICY_PREFIX = "networks.policy."


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: `description` is checkpoint.json, `tensors` all tensors by name."""

    description: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def update(self) -> int:
        """Units done: gradient updates, or environment steps of an online learner."""
        return int(self.description["update"])


def describe_policy(policy: GaussianActor) -> dict[str, Any]:
    """What rebuilds the policy around its weights; JSON. A benchmark's actor has no robot and no specs."""
    sizes = {"observations": policy.observations, "actions": policy.actions, "hidden": list(policy.hidden)}
    sizes |= {"activation": policy.activation, "bound": policy.bound}
    if not isinstance(policy, Policy):
        return {**sizes, "task": policy.task}
    if isinstance(policy, ClonedPolicy):
        sizes["cloned"] = {"bins": policy.bins, "sharpness": policy.sharpness}
    return {
        **sizes,
        "temporal": policy.temporal.model_dump(mode="json"),
        "task": policy.task,
        "robot": policy.robot.model_dump(mode="json"),
        "robot_digest": policy.robot.digest,
        "observation_spec": policy.observation_spec.model_dump(mode="json"),
        "action_spec": policy.action_spec.model_dump(mode="json"),
    }


def save_checkpoint(
    folder: Path,
    description: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Write or replace the checkpoint at `folder`, atomically, with further `files` (the card) beside it."""
    with replaced_folder(folder) as temporary:
        for name, content in (files or {}).items():
            (temporary / name).write_bytes(content)
        weights = temporary / WEIGHTS_NAME
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, weights)
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        write_json(
            temporary / JSON_NAME,
            {"schema_version": SCHEMA_VERSION, **description, "weights_sha256": digest},
        )


def find_checkpoint(path: Path) -> Path:
    """The checkpoint folder at `path`, which may also be the training run's folder that holds `checkpoint/`."""
    for candidate in (settled(path), settled(path / "checkpoint")):
        if (candidate / JSON_NAME).is_file():
            return candidate
    raise LearningError(f"no checkpoint at {path}: expected a folder with {JSON_NAME} and {WEIGHTS_NAME}")


def checkpoints_in(path: Path) -> list[Path]:
    """The checkpoint at `path`; where `path` holds runs of several seeds (seed0, seed1, ...), one of each, in order."""
    seeds = sorted(path.glob("seed*/checkpoint"), key=lambda found: (len(found.parent.name), found.parent.name))
    holds_one = any((folder / JSON_NAME).is_file() for folder in (settled(path), settled(path / "checkpoint")))
    return [found.parent for found in seeds] if seeds and not holds_one else [find_checkpoint(path) and path]


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and verify a checkpoint. LearningError when it is missing, truncated, changed or of another version."""
    folder = find_checkpoint(path)
    try:
        description = json.loads((folder / JSON_NAME).read_text(encoding="utf-8"))
        version, digest = description["schema_version"], description["weights_sha256"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise LearningError(f"{folder / JSON_NAME} is damaged: {type(error).__name__}: {error}") from error
    if version != SCHEMA_VERSION:
        raise LearningError(f"{folder} has checkpoint schema version {version}; this release reads {SCHEMA_VERSION}")
    weights = folder / WEIGHTS_NAME
    content = weights.read_bytes() if weights.is_file() else b""
    actual = hashlib.sha256(content).hexdigest()
    if actual != digest:
        raise LearningError(
            f"{weights} is truncated or was changed: {len(content)} bytes with SHA-256 {actual[:12]}, "
            f"but {JSON_NAME} expects {digest[:12]}; train again or restore the file"
        )
    header = int.from_bytes(content[:8], "little")
    if header > MAXIMUM_HEADER_BYTES:
        raise LearningError(f"{weights} has a header of {header} bytes; expected at most {MAXIMUM_HEADER_BYTES}")
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise LearningError(f"{weights} is not a safetensors file: {error}") from error
    return Checkpoint(description, tensors)


def load_policy(path: Path | str) -> Policy:
    """The trained policy of a robot: as `load_actor`, with `robot`, `observation_spec` and `action_spec`."""
    policy = load_actor(path)
    if not isinstance(policy, Policy):
        raise LearningError(
            f"{path} holds the actor of benchmark {policy.task!r}, which has no robot: "
            "expected a policy that was trained on a robot's task or dataset"
        )
    return policy


def load_actor(path: Path | str) -> GaussianActor:
    """The trained policy of a checkpoint, in evaluation mode: raw observation (B, D) -> action (B, J) in [-1, 1].

    It carries `task`, `provenance` (dataset and reward fingerprints, configuration, updates) and `metrics` (the
    newest evaluation, if one was recorded); a Policy if it was trained for a robot.
    """
    checkpoint = load_checkpoint(Path(path))
    try:
        policy = _rebuilt(checkpoint.description["policy"])
    except (KeyError, TypeError, ValueError) as error:
        raise LearningError(
            f"{path}: {JSON_NAME} does not describe a policy: {type(error).__name__}: {error}"
        ) from error
    state = {k.removeprefix(POLICY_PREFIX): v for k, v in checkpoint.tensors.items() if k.startswith(POLICY_PREFIX)}
    try:
        policy.load_state_dict(state)
    except RuntimeError as error:
        raise LearningError(f"{path}: the weights do not fit the policy: {str(error).splitlines()[-1]}") from error
    policy.provenance = {k: v for k, v in checkpoint.description.items() if k not in {"policy", "metrics"}}
    policy.metrics = {**checkpoint.description.get("metrics", {}), **_evaluation(find_checkpoint(Path(path)))}
    return policy.eval().requires_grad_(False)


def _rebuilt(about: Mapping[str, Any]) -> GaussianActor:
    """The network that `describe_policy` described, with weights of no meaning."""
    hidden, task, generator = tuple(int(units) for units in about["hidden"]), str(about["task"]), torch.Generator()
    shape = (about.get("activation", "relu"), about.get("bound", "tanh"))
    if "robot" not in about:
        size = int(about["observations"])
        return GaussianActor(size, int(about["actions"]), hidden, _identity(size), generator, task, *shape)
    robot = RobotProfile.model_validate(about["robot"])
    observation = ObservationSpec.model_validate(about["observation_spec"])
    action = ActionSpec.model_validate(about["action_spec"])
    temporal = TemporalSpec.model_validate(about.get("temporal", {}))
    parts = (robot, observation, action, _identity(temporal.history * observation.size), hidden, generator, task)
    if "cloned" in about:
        cloned = about["cloned"]
        return ClonedPolicy(*parts, temporal, int(cloned["bins"]), float(cloned["sharpness"]))
    return Policy(*parts, *shape, temporal)


def _identity(size: int) -> Normalizer:
    return Normalizer(torch.zeros(size), torch.ones(size))


def record_evaluation(path: Path, evaluation: Mapping[str, Any]) -> Path:
    """Keep an evaluation beside the checkpoint's files, where `load_policy` finds it, and put it on the card."""
    file = find_checkpoint(path) / EVALUATION_NAME
    write_json(file, {"evaluation": dict(evaluation)})
    add_evaluation(file.parent, evaluation)
    return file


def _evaluation(folder: Path) -> dict[str, Any]:
    file = folder / EVALUATION_NAME
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LearningError(f"{file} is damaged: {error}; delete it or evaluate again") from error
    return dict(content)
