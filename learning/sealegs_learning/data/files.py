"""The files of a dataset, read with suspicion: whatever is malformed becomes a DatasetError of one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError

from sealegs_contract.errors import DatasetError, available
from sealegs_learning.data import schema
from sealegs_learning.data.schema import ACTION, STAMP, STATE, EpisodeRow, SealegsMeta
from sealegs_learning.data.settle import settle

MAXIMUM_JSON_BYTES = 256 << 20


def read_info(path: Path) -> dict[str, Any]:
    """meta/info.json of a v3 dataset, checked. Raises DatasetError."""
    if not path.exists():
        settle(path)  # an import may have been killed while it replaced this one
    if not path.is_dir():
        raise DatasetError(f"no dataset at {path}")
    if not (path / schema.INFO_PATH).is_file():
        raise DatasetError(f"{path} is no dataset: it has no {schema.INFO_PATH}")
    info = read_json(path / schema.INFO_PATH)
    version = str(info.get("codebase_version"))
    if not version.startswith("v3."):
        raise DatasetError(f"{path} has format {version}, expected {schema.CODEBASE_VERSION} (LeRobot can convert it)")
    needed = {"features", "fps", "total_frames", "total_episodes"}
    if missing := sorted(needed - set(info)):
        raise DatasetError(f"{path / schema.INFO_PATH} lacks {', '.join(missing)}")
    features = info["features"]
    entries = features.values() if isinstance(features, dict) else [None]
    if not all(isinstance(entry, dict) and {"dtype", "shape"} <= entry.keys() for entry in entries):
        raise DatasetError(f"{path / schema.INFO_PATH}: malformed features")
    for name in (STATE, ACTION, "timestamp", "frame_index", "episode_index", "task_index"):
        if name not in features:
            raise DatasetError(f"{path} has no feature {name!r}; {available(features)}")
    return info


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises DatasetError."""
    try:
        if path.stat().st_size > MAXIMUM_JSON_BYTES:
            raise DatasetError(f"{path} has {path.stat().st_size} bytes; at most {MAXIMUM_JSON_BYTES} are read")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise DatasetError(f"{path} is not readable as JSON: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def read_sealegs(path: Path) -> SealegsMeta | None:
    """Our metadata, checked; None where there is none. Raises DatasetError."""
    if not (path / schema.SEALEGS_PATH).is_file():
        return None
    try:
        return SealegsMeta.model_validate(read_json(path / schema.SEALEGS_PATH))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DatasetError(f"{path / schema.SEALEGS_PATH}: {where}: {first['msg']}") from error


def data_files(path: Path) -> list[Path]:
    """Parquet files of the rows, in order."""
    return sorted((path / "data").glob("chunk-*/file-*.parquet"))


def read_table(path: Path, info: dict[str, Any]) -> pa.Table:
    """Every column that is no image. Raises DatasetError."""
    wanted = [STATE, ACTION, "timestamp", "frame_index", "episode_index", "task_index"]
    if STAMP in info["features"]:
        wanted.append(STAMP)
    files = data_files(path)
    if not files:
        raise DatasetError(f"{path} has no data/chunk-*/file-*.parquet")
    tables = []
    for file in files:
        try:
            present = set(pq.read_schema(file).names)
            if missing := [name for name in wanted if name not in present]:
                raise DatasetError(f"{file} lacks column(s) {', '.join(missing)}")
            table = pq.read_table(file, columns=wanted, memory_map=True, partitioning=None)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DatasetError(f"{file} is unreadable: {one_line(error)}") from error
        tables.append(table)
    return pa.concat_tables(tables, promote_options="permissive")


def lerobot_episodes(path: Path) -> tuple[EpisodeRow, ...]:
    """Episodes of a dataset that LeRobot wrote."""
    try:
        files = sorted((path / "meta/episodes").glob("chunk-*/file-*.parquet"))
        wanted = ["episode_index", "tasks", "length", "dataset_from_index"]
        rows = [row for file in files for row in pq.read_table(file, columns=wanted, partitioning=None).to_pylist()]
        rows.sort(key=lambda row: row["episode_index"])
        return tuple(
            EpisodeRow(index=r["episode_index"], start=r["dataset_from_index"], length=r["length"],
                       task=(r["tasks"] or [""])[0], task_text=(r["tasks"] or [""])[0]) for r in rows
        )  # fmt: skip
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: its episode table is unreadable: {one_line(error)}") from error


def matrix(table: pa.Table, name: str, path: Path) -> NDArray[np.float32]:
    """A list column as (N, size) float32."""
    column = table.column(name).combine_chunks()
    flat = column.flatten() if hasattr(column, "flatten") and pa.types.is_nested(column.type) else column
    if not pa.types.is_floating(flat.type) or column.null_count or flat.null_count:
        raise DatasetError(f"{path}: column {name} is {column.type} with {column.null_count} null(s), expected floats")
    values: NDArray[np.float32] = flat.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    if len(column) == 0 or values.size % len(column):
        raise DatasetError(f"{path}: column {name} holds {values.size} values in {len(column)} rows")
    if pa.types.is_list(column.type) and len(set(np.diff(column.offsets.to_numpy()))) > 1:
        raise DatasetError(f"{path}: column {name} has rows of different sizes")
    return values.reshape(len(column), -1)


def column(table: pa.Table, name: str, dtype: Any) -> NDArray[Any]:
    """A scalar column as (N,)."""
    values: NDArray[Any] = table.column(name).to_numpy().astype(dtype, copy=False)
    return values


def one_line(error: BaseException) -> str:
    """An error's text on one line, not too long."""
    return " ".join(str(error).split())[:200]
