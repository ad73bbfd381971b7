"""The files of a dataset, read with suspicion: whatever is malformed becomes a DatasetError of one line."""

from __future__ import annotations

import json
import os
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

MAXIMUM_JSON_BYTES = 32 << 20


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
    _check_numbers(path, info)
    return info


def _check_numbers(path: Path, info: dict[str, Any]) -> None:
    for name in ("total_frames", "total_episodes", "fps"):
        value = info[name]
        number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 2**53
        if not number or (name == "fps" and not value):
            raise DatasetError(f"{path / schema.INFO_PATH}: {name} is {one_line(repr(value))}, expected a number")


def own_file(path: Path, file: Path) -> Path:
    """`file` if it is a common file inside the dataset at `path`, links followed. Raises DatasetError."""
    try:
        real = file.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # a link to nowhere, or to itself
        raise DatasetError(f"{file} is unreadable: {one_line(error)}") from error
    if not real.is_relative_to(path.resolve()):
        raise DatasetError(f"{file} leads outside the dataset, to {real}; copy the file to where the link is")
    if not real.is_file():
        raise DatasetError(f"{file} is no common file")
    return real


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises DatasetError."""
    own_file(path.parent.parent, path)
    try:
        if path.stat().st_size > MAXIMUM_JSON_BYTES:
            raise DatasetError(f"{path} has {path.stat().st_size} bytes; at most {MAXIMUM_JSON_BYTES} are read")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, MemoryError, OSError) as error:
        raise DatasetError(f"{path} is not readable as JSON: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def read_sealegs(path: Path) -> SealegsMeta | None:
    """Our metadata, checked; None where there is none. Raises DatasetError."""
    if not os.path.lexists(path / schema.SEALEGS_PATH):
        return None
    try:
        return SealegsMeta.model_validate(read_json(path / schema.SEALEGS_PATH))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DatasetError(f"{path / schema.SEALEGS_PATH}: {where}: {first['msg']}") from error


def data_files(path: Path) -> list[Path]:
    """Parquet files of the rows, in order. DatasetError where one is not the dataset's own."""
    return _tables(path, "data")


def _tables(path: Path, part: str) -> list[Path]:
    files = sorted((path / part).glob("chunk-*/file-*.parquet"))
    for file in files:
        own_file(path, file)
    return files


def check_rows(path: Path, files: list[Path], expected: int) -> None:
    """Before anything is read: files with as many rows as are said to be there, which fit into memory at all.

    A parquet file of some kilobytes can hold billions of rows.
    """
    rows = needed = 0
    try:
        for file in files:
            footer = pq.read_metadata(file)
            rows += footer.num_rows
            needed += footer.num_rows * _row_bytes(footer.schema.to_arrow_schema())
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DatasetError(f"{file} is unreadable: {one_line(error)}") from error
    if rows != expected:
        raise DatasetError(f"{path}: {rows} rows, but info.json says {expected}")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise DatasetError(f"{path}: {rows} rows take {needed >> 20} MiB, and this machine has {memory >> 20}")


def _row_bytes(table: pa.Schema) -> int:
    """At least so many bytes a row has in memory, without images."""
    fixed = [int(field.type.list_size) for field in table if pa.types.is_fixed_size_list(field.type)]
    return 4 * sum(fixed) + 4 * (len(table) - len(fixed))


def read_table(path: Path, info: dict[str, Any]) -> pa.Table:
    """Every column that is no image. Raises DatasetError."""
    wanted = [STATE, ACTION, "timestamp", "frame_index", "episode_index", "task_index"]
    if STAMP in info["features"]:
        wanted.append(STAMP)
    files = data_files(path)
    if not files:
        raise DatasetError(f"{path} has no data/chunk-*/file-*.parquet")
    check_rows(path, files, info["total_frames"])
    tables = []
    for file in files:
        try:
            present = set(pq.read_schema(file).names)
            if missing := [name for name in wanted if name not in present]:
                raise DatasetError(f"{file} lacks column(s) {', '.join(missing)}")
            table = pq.read_table(file, columns=wanted, memory_map=True, partitioning=None)
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise DatasetError(f"{file} is unreadable: {one_line(error)}") from error
        tables.append(table)
    return pa.concat_tables(tables, promote_options="permissive")


def lerobot_episodes(path: Path, info: dict[str, Any]) -> tuple[EpisodeRow, ...]:
    """Episodes of a dataset that LeRobot wrote."""
    files = _tables(path, "meta/episodes")
    check_rows(path, files, info["total_episodes"])
    try:
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


def column(table: pa.Table, name: str, dtype: Any, path: Path) -> NDArray[Any]:
    """A scalar column as (N,)."""
    found = table.column(name)
    if found.null_count or not (pa.types.is_integer(found.type) or pa.types.is_floating(found.type)):
        raise DatasetError(f"{path}: column {name} is {found.type} with {found.null_count} null(s), expected numbers")
    values: NDArray[Any] = found.to_numpy().astype(dtype, copy=False)
    return values


def column_bytes(group: Any, name: str) -> int:
    """Bytes of a column and its parts in a parquet row group, decompressed, as its header says."""
    columns = [group.column(number) for number in range(group.num_columns)]
    return sum(int(part.total_uncompressed_size) for part in columns if part.path_in_schema.startswith(f"{name}."))


def one_line(error: BaseException | str) -> str:
    """An error's text on one line, not too long."""
    return " ".join(str(error).split())[:200]
