"""A digest over what a dataset says, not over how its files happen to be compressed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ORDERING = ("episode_index", "frame_index", "task_index", "stamp_ns")


def content_digest(
    state: NDArray[Any],
    action: NDArray[Any],
    columns: Mapping[str, NDArray[Any]],
    episodes: Sequence[tuple[str, str, str]],
    specification: str,
    images_digest: str,
) -> str:
    """SHA-256 (hex) over shapes and bytes of state and action, the index columns, (task, text, outcome) of each
    episode, the specification JSON, and the digest of the images."""
    digest = hashlib.sha256(b"sealegs dataset 1\n")
    for name, values in (("state", state), ("action", action)):
        digest.update(f"{name}:{values.shape}:".encode())
        digest.update(np.ascontiguousarray(values, dtype="<f4").tobytes())
    for name in ORDERING:
        if name in columns:
            digest.update(f"{name}:".encode())
            digest.update(np.ascontiguousarray(columns[name], dtype="<i8").tobytes())
    digest.update(json.dumps([list(map(list, episodes)), specification, images_digest], ensure_ascii=True).encode())
    return digest.hexdigest()
