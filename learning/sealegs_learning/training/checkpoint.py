"""Checkpoints: a folder with checkpoint.json (what it is) and weights.safetensors (every tensor of the run).

The JSON holds the SHA-256 of the weights file and of itself, so a truncated or damaged checkpoint is never a wrong
policy: whoever loads it gets the one before it, which is kept beside it, and a line that says so.
"""

from __future__ import annotations

import hashlib
import json
import logging
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
from sealegs_learning.files import previous_of, replaced_folder, write_json
from sealegs_learning.networks import GaussianActor, Normalizer, Policy
from sealegs_learning.policies.cloned import ClonedPolicy
from sealegs_learning.training.card import add_evaluation

SCHEMA_VERSION = 2
UNSEALED_VERSION = 1
"""Checkpoints of earlier releases, whose JSON has no digest of itself."""
# Of a safetensors file: 100 bytes a tensor, which the library itself allows 100 MB.
MAXIMUM_HEADER_BYTES = 4 * 1024 * 1024
JSON_NAME, WEIGHTS_NAME, EVALUATION_NAME = "checkpoint.json", "weights.safetensors", "evaluation.json"
SEAL = "description_sha256"
POLICY_PREFIX = "networks.policy."
_logger = logging.getLogger(__name__)
_said: set[str] = set()


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: `description` is checkpoint.json, `tensors` all tensors by name."""

    description: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    folder: Path
    """Where it lies."""

    @property
    def update(self) -> int:
        """Units done: gradient updates, or environment steps of an online learner."""
        return int(self.description["update"])


def describe_policy(policy: GaussianActor) -> dict[str, Any]:
    """What rebuilds the policy around its weights; JSON. A benchmark's actor has no robot and no specs.

    `input_statistics` repeats what it normalises by as it learns: whoever uses the weights later can tell.
    """
    normalizer = policy.normalizer
    sizes = {"observations": policy.observations, "actions": policy.actions, "hidden": list(policy.hidden)}
    sizes |= {"activation": policy.activation, "bound": policy.bound}
    sizes["input_statistics"] = {"mean": normalizer.mean.tolist(), "std": normalizer.std.tolist()}
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
    """Write or replace the checkpoint at `folder`, atomically, with further `files` (the card) beside it.

    The one that it replaces is kept as FOLDER.old.
    """
    with replaced_folder(folder) as temporary:
        for name, content in (files or {}).items():
            (temporary / name).write_bytes(content)
        weights = temporary / WEIGHTS_NAME
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, weights)
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        # As it will be read: keys become texts, and sort as such.
        about = json.loads(json.dumps({"schema_version": SCHEMA_VERSION, **description, "weights_sha256": digest}))
        write_json(temporary / JSON_NAME, {**about, SEAL: _seal(about)})


def _seal(content: Mapping[str, Any]) -> str:
    """SHA-256 of what a checkpoint.json says, but for the seal itself."""
    said = {key: value for key, value in content.items() if key != SEAL}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def find_checkpoint(path: Path, previous: bool = True) -> Path:
    """The folder of `load_checkpoint(path, previous)`."""
    return load_checkpoint(path, previous).folder


def _kept(path: Path) -> list[Path]:
    """Folders of the newest checkpoint at `path` and of the one before it; `path` may be the run's folder."""
    for newest in (path, path / "checkpoint"):
        found = [
            one for one in (newest, previous_of(newest)) if any((one / n).exists() for n in (JSON_NAME, WEIGHTS_NAME))
        ]
        if found:
            return found
    return []


def checkpoints_in(path: Path) -> list[Path]:
    """The checkpoint at `path`; where `path` holds runs of several seeds (seed0, seed1, ...), one of each, in order."""
    runs = {found.parent for found in path.glob("seed*/checkpoint*")}
    seeds = sorted(runs, key=lambda run: (len(run.name), run.name))
    return seeds if seeds and not _kept(path) else [find_checkpoint(path) and path]


def load_checkpoint(path: Path, previous: bool = True) -> Checkpoint:
    """The newest checkpoint at `path` that is whole: its own folder, or the run's folder that holds `checkpoint/`.

    Where the newest is damaged the one before it is given, and a warning logged; without `previous` that is a
    LearningError, as it is when there is none, or none of them is whole.
    """
    folders = _kept(path)
    if not folders:
        raise LearningError(f"no checkpoint at {path}: expected a folder with {JSON_NAME} and {WEIGHTS_NAME}")
    damage: list[str] = []
    for folder in folders:
        try:
            found = _read(folder)
        except LearningError as error:
            damage.append(str(error))
            continue
        before = f"the one before it, {folder}, of {found.description.get('unit', 'update')} {found.update}"
        if not previous and folder not in {path, path / "checkpoint"}:
            what = damage[0] if damage else f"{path} has no newest checkpoint any more"
            raise LearningError(f"{what}; {before}, is whole: give its folder, or --previous-if-damaged")
        for line in damage:
            _say(f"{line}; using {before}")
        return found
    raise LearningError("; and the one before it: ".join(damage) + "; train again or restore the file")


def _say(text: str) -> None:
    """A warning line, once."""
    if text not in _said:
        _said.add(text)
        _logger.warning("sealegs: warning: %s", text)


def _read(folder: Path) -> Checkpoint:
    """Read and verify one folder. LearningError when it is incomplete, truncated, changed or of another version."""
    description = _description(folder / JSON_NAME)
    weights = folder / WEIGHTS_NAME
    try:
        content = weights.read_bytes() if weights.is_file() else b""
    except OSError as error:
        raise LearningError(f"{weights} cannot be read: {error.strerror or error}") from error
    actual, digest = hashlib.sha256(content).hexdigest(), description["weights_sha256"]
    if actual != digest:
        raise LearningError(
            f"{weights} is truncated or was changed: {len(content)} bytes with SHA-256 {actual[:12]}, "
            f"but {JSON_NAME} expects {digest[:12]}"
        )
    header = int.from_bytes(content[:8], "little")
    if header > MAXIMUM_HEADER_BYTES:
        raise LearningError(f"{weights} has a header of {header} bytes; expected at most {MAXIMUM_HEADER_BYTES}")
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise LearningError(f"{weights} is not a safetensors file: {error}") from error
    return Checkpoint(description, tensors, folder)


def _description(file: Path) -> dict[str, Any]:
    """A checkpoint.json whose version and seal are right."""
    try:
        description: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version, digest, update = description["schema_version"], description["weights_sha256"], description["update"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise LearningError(f"{file} is damaged: {type(error).__name__}: {error}") from error
    if version not in {SCHEMA_VERSION, UNSEALED_VERSION}:
        raise LearningError(
            f"{file.parent} has checkpoint schema version {version}; this release reads {SCHEMA_VERSION}"
        )
    sealed = version == UNSEALED_VERSION or description.get(SEAL) == _seal(description)
    if not sealed or not isinstance(digest, str) or not isinstance(update, int):
        raise LearningError(f"{file} was changed: it does not say what was written")
    return description


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

    It carries `task`, `provenance` (dataset and reward fingerprints, configuration, updates, input statistics) and
    `metrics` (the newest evaluation, if one was recorded); a Policy if it was trained for a robot.
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
    if said := checkpoint.description["policy"].get("input_statistics"):
        policy.provenance["input_statistics"] = said
    policy.metrics = {**checkpoint.description.get("metrics", {}), **_evaluation(checkpoint.folder)}
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
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        _say(f"{file} is damaged, and left out: {error}; evaluate again")
        return {}
