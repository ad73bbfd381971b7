"""Reward sidecars: DATASET/rewards/NAME.parquet (one row per frame), NAME.json (how it came about), NAME.safetensors.

A sidecar belongs to one content of the dataset: it is refused once the dataset's fingerprint differs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from sealegs_contract.errors import LearningError, available
from sealegs_learning.files import replaced_file, write_json
from sealegs_learning.networks import Normalizer
from sealegs_learning.reward.builtin import BUILTIN_REWARDS, HasEpisodes, constant_reward, true_progress
from sealegs_learning.reward.model import RewardEnsemble

SCHEMA_VERSION = 1


class RewardDataset(HasEpisodes, Protocol):
    """A dataset that reward sidecars can lie beside."""

    @property
    def path(self) -> Path:
        """Its folder."""
        ...

    @property
    def fingerprint(self) -> str:
        """Digest of its content."""
        ...

    @property
    def episode_index(self) -> NDArray[np.int64]:
        """Episode of each row (N,)."""
        ...

    @property
    def frame_index(self) -> NDArray[np.int64]:
        """Frame within the episode (N,)."""
        ...


class Reward(NamedTuple):
    """Mean and spread (N,) float32 for the dataset's rows, in order."""

    mean: NDArray[np.float32]
    spread: NDArray[np.float32]


def sidecar_path(dataset: RewardDataset, name: str, suffix: str) -> Path:
    """DATASET/rewards/NAME.suffix. LearningError on a name that is no plain word or is built in."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise LearningError(f"reward name {name!r}: use letters, digits, '_', '-' and '.', at most 64")
    if name in BUILTIN_REWARDS:
        raise LearningError(f"reward name {name!r} is built in; choose another")
    return Path(dataset.path) / "rewards" / f"{name}.{suffix}"


def reward_names(dataset: RewardDataset) -> list[str]:
    """Built-in rewards and the sidecars of this dataset."""
    return [*BUILTIN_REWARDS, *sorted(p.stem for p in (Path(dataset.path) / "rewards").glob("*.parquet"))]


def write_reward(
    dataset: RewardDataset, name: str, reward: Reward, about: Mapping[str, Any], model: RewardEnsemble
) -> Path:
    """Write the sidecar and the model; the JSON, which names the others' digests, comes last. Returns its path."""
    count = len(dataset.state)
    if reward.mean.shape != (count,) or reward.spread.shape != (count,):
        raise LearningError(f"the dataset has {count} rows, but the reward came with shape {reward.mean.shape}")
    if not (np.isfinite(reward.mean).all() and np.isfinite(reward.spread).all()):
        raise LearningError(f"reward {name!r} holds values that are not finite")
    table = pa.table(
        {
            "index": np.arange(count, dtype=np.int64),
            "episode_index": np.asarray(dataset.episode_index, dtype=np.int64),
            "frame_index": np.asarray(dataset.frame_index, dtype=np.int64),
            "mean": reward.mean.astype(np.float32),
            "spread": reward.spread.astype(np.float32),
        }
    )
    parquet, weights = sidecar_path(dataset, name, "parquet"), sidecar_path(dataset, name, "safetensors")
    with replaced_file(weights) as temporary:
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, temporary)
    with replaced_file(parquet) as temporary:
        pq.write_table(table, temporary)
    description = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "dataset_fingerprint": dataset.fingerprint,
        "rows": count,
        "normalisation": "each member standardised over the dataset; mean and deviation over members",
        "parquet_sha256": _digest(parquet),
        "model_sha256": _digest(weights),
        "model": describe_model(model),
        **about,
    }
    path = sidecar_path(dataset, name, "json")
    write_json(path, description)
    return path


def describe_reward(dataset: RewardDataset, name: str) -> dict[str, Any]:
    """NAME.json, checked against the dataset. A built-in reward describes itself by its name."""
    if name in BUILTIN_REWARDS:
        return {"name": name, "dataset_fingerprint": dataset.fingerprint}
    path = sidecar_path(dataset, name, "json")
    if not path.is_file():
        raise LearningError(f"no reward {name!r} for {dataset.path}; {available(reward_names(dataset))}")
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        fingerprint, rows = about["dataset_fingerprint"], about["rows"]
    except (ValueError, TypeError, KeyError) as error:
        raise LearningError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    if fingerprint != dataset.fingerprint or rows != len(dataset.state):
        raise LearningError(
            f"reward {name!r} was made for another content of {dataset.path} (fingerprint {str(fingerprint)[:12]}, now "
            f"{dataset.fingerprint[:12]}): learn it again with `sealegs reward`"
        )
    return about


def read_reward(dataset: RewardDataset, name: str) -> Reward:
    """Mean and spread (N,) of a sidecar or a built-in reward. LearningError if missing, stale or damaged."""
    about = describe_reward(dataset, name)
    if name in BUILTIN_REWARDS:
        mean = true_progress(dataset) if name == "true" else constant_reward(dataset)
        return Reward(mean, np.zeros_like(mean))
    path = sidecar_path(dataset, name, "parquet")
    if not path.is_file() or _digest(path) != about["parquet_sha256"]:
        raise LearningError(f"{path} is missing, truncated or was changed: learn it again with `sealegs reward`")
    table = pq.read_table(path, columns=["mean", "spread"])
    return Reward(table["mean"].to_numpy(), table["spread"].to_numpy())


def describe_model(model: RewardEnsemble) -> dict[str, Any]:
    """What rebuilds the model around its weights; JSON."""
    encoder = model.encoder
    return {
        "members": model.members,
        "hidden": [weight.shape[-1] for weight in list(model.head.weights)[:-1]],
        "state_size": len(model.normalizer.mean) if model.normalizer else 0,
        "frame_channels": encoder.weights[0].shape[1] if encoder else 0,
        "image_size": encoder.image_size if encoder else 0,
    }


def load_reward_model(dataset: RewardDataset, name: str) -> RewardEnsemble:
    """The ensemble behind a sidecar, in evaluation mode."""
    about = describe_reward(dataset, name)
    path = sidecar_path(dataset, name, "safetensors")
    if not path.is_file() or _digest(path) != about["model_sha256"]:
        raise LearningError(f"{path} is missing, truncated or was changed: learn it again with `sealegs reward`")
    shape = about["model"]
    size = shape["state_size"]
    normalizer = Normalizer(torch.zeros(size), torch.ones(size)) if size else None
    model = RewardEnsemble(
        shape["members"],
        tuple(shape["hidden"]),
        torch.Generator(),
        normalizer,
        shape["frame_channels"],
        shape["image_size"] or 64,
    )
    try:
        model.load_state_dict(load(path.read_bytes()))
    except (SafetensorError, RuntimeError) as error:
        raise LearningError(f"{path} does not hold the reward that its JSON describes: {error}") from error
    return model.eval().requires_grad_(False)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
