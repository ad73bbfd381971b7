"""Where a run comes from, for its card: the dataset, the policy that it started from, and the source that ran."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sealegs_contract.errors import LearningError
from sealegs_learning.revision import revision
from sealegs_learning.training.card import JSON_NAME
from sealegs_learning.training.checkpoint import find_checkpoint, load_checkpoint
from sealegs_learning.training.config import TrainConfig

# Of the card of a policy that training started from; `init` is the policy that it started from itself.
KEPT = ("command", "task", "robot", "robot_profile", "data", "reward", "seeds", "source", "versions", "init")


def origin_of(config: TrainConfig, data: Any = None) -> dict[str, Any]:
    """`source`, and `data` and `init` where the run has them."""
    origin: dict[str, Any] = {"source": revision()}
    if data is not None:
        origin["data"] = describe_data(data)
    if config.init is not None:
        origin["init"] = describe_start(config.init)
    return origin


def describe_data(data: Any) -> dict[str, Any]:
    """A dataset's path and size, and the names of the bags that it was made from where it knows them."""
    meta = getattr(data, "sealegs", None)
    return {
        "dataset": str(data.path),
        "dataset_fingerprint": data.fingerprint,
        "episodes": len(data.episodes),
        "rows": len(data.state),
        "bags": [] if meta is None else [Path(source.path).name for source in meta.sources],
    }


def describe_start(path: Path) -> dict[str, Any]:
    """The checkpoint at `path`: the digest of its weights, its settings, and what its card says of how to make it."""
    description = load_checkpoint(path).description
    settings = description.get("config", {})
    found = {
        "checkpoint": str(path),
        "weights_sha256": description["weights_sha256"],
        "learner": settings.get("learner", ""),
        "unit": description.get("unit", "update"),
        "update": description["update"],
        "config": settings,
    }
    return {**found, **_kept(find_checkpoint(path) / JSON_NAME)}


def _kept(file: Path) -> dict[str, Any]:
    """What is kept of a card; nothing where an older release wrote none."""
    if not file.is_file():
        return {}
    try:
        card: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return {name: card[name] for name in KEPT if name in card}
    except (ValueError, TypeError) as error:
        raise LearningError(f"{file} is damaged: {type(error).__name__}: {error}; delete it or train again") from error
