"""Writes a dataset in the LeRobot v3.0 layout, episode by episode, beside its destination; a rename completes it.

A camera slower than the control rate repeats its frame in many rows: each episode is one row group whose images are
dictionary-encoded, so a repeated frame is stored once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sealegs_contract.errors import DatasetError
from sealegs_contract.sample import ImageSample
from sealegs_learning.data import schema
from sealegs_learning.data.align import Segment
from sealegs_learning.data.fingerprint import content_digest
from sealegs_learning.data.schema import ACTION, DONE, IMAGE_PREFIX, STAMP, STATE, SUCCESS, EpisodeRow
from sealegs_learning.data.settle import partial_folder, put_in_place, settle
from sealegs_learning.data.stats import array_stats, image_stats

IMAGES_FOR_STATISTICS = 64


class DatasetWriter:
    """A context: leaving it without `finish`, or by an error, removes everything that was written.

    Raises DatasetError when `out` exists and `overwrite` is False.
    """

    def __init__(self, out: Path, features: Mapping[str, Mapping[str, Any]], fps: float, overwrite: bool) -> None:
        settle(out)
        if out.exists() and not overwrite:
            raise DatasetError(f"{out} exists; choose another --out, or pass --overwrite")
        if out.exists() and not (out / schema.INFO_PATH).is_file():
            raise DatasetError(f"{out} exists and is no dataset; it is not overwritten")
        self.out, self.features, self.fps = out, {key: dict(value) for key, value in features.items()}, fps
        self.folder = partial_folder(out)
        self.schema = schema.table_schema(self.features)
        self.cameras = tuple(k.removeprefix(IMAGE_PREFIX) for k in self.features if k.startswith(IMAGE_PREFIX))
        self.episodes: list[EpisodeRow] = []
        self.tasks: list[str] = []
        self.images_digest = hashlib.sha256()
        self._episode_table: list[dict[str, Any]] = []
        self._arrays: dict[str, list[NDArray[Any]]] = {}
        self._sampled: dict[str, list[bytes]] = {camera: [] for camera in self.cameras}
        self._writer: pq.ParquetWriter | None = None
        self._file = -1
        self.rows = 0

    def __enter__(self) -> DatasetWriter:
        self.folder.mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def add_episode(self, segment: Segment, row: EpisodeRow) -> EpisodeRow:
        """Append one episode; index, start and length of `row` are set here."""
        row = row.model_copy(update={"index": len(self.episodes), "start": self.rows, "length": len(segment)})
        if row.task_text not in self.tasks:
            self.tasks.append(row.task_text)
        columns = self._columns(segment, row)
        table = pa.table([self._arrow(name, columns, segment) for name in self.schema.names], schema=self.schema)
        writer = self._open_file()
        chunk, file = divmod(self._file, schema.FILES_PER_CHUNK)
        writer.write_table(table, row_group_size=max(len(segment), 1))
        for name, values in columns.items():
            self._arrays.setdefault(name, []).append(values)
        for camera in self.cameras:
            self._digest_images(camera, segment.images[camera])
        self._episode_table.append(self._episode_entry(row, columns, chunk, file))
        self.episodes.append(row)
        self.rows += len(segment)
        return row

    def _columns(self, segment: Segment, row: EpisodeRow) -> dict[str, NDArray[Any]]:
        count = len(segment)
        frame = np.arange(count, dtype=np.int64)
        last = frame == count - 1
        columns: dict[str, NDArray[Any]] = {
            STATE: np.stack(segment.state).astype(np.float32),
            ACTION: np.stack(segment.action).astype(np.float32),
            "timestamp": (frame / self.fps).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.full(count, row.index, np.int64),
            "index": self.rows + frame,
            "task_index": np.full(count, self.tasks.index(row.task_text), np.int64),
            STAMP: np.asarray(segment.stamp_ns, np.int64),
            DONE: last,
        }
        if SUCCESS in self.features:
            columns[SUCCESS] = last & (row.outcome == "success")
        return columns

    def _arrow(self, name: str, columns: Mapping[str, NDArray[Any]], segment: Segment) -> pa.Array:
        if name.startswith(IMAGE_PREFIX):
            images = segment.images[name.removeprefix(IMAGE_PREFIX)]
            data = pa.array([image.data for image in images], pa.binary())
            paths = pa.nulls(len(images), pa.string())
            return pa.StructArray.from_arrays([data, paths], fields=list(schema.IMAGE_TYPE))
        values = columns[name]
        if values.ndim == 2:
            return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        return pa.array(values)

    def _open_file(self) -> pq.ParquetWriter:
        """The file to write to; a new one when the present one is full."""
        path = self._path(schema.DATA_PATH, max(self._file, 0))
        if self._writer is None or path.stat().st_size > schema.DATA_FILE_MB * 2**20:
            if self._writer is not None:
                self._writer.close()
            self._file += 1
            path = self._path(schema.DATA_PATH, self._file)
            path.parent.mkdir(parents=True, exist_ok=True)
            images = [f"{IMAGE_PREFIX}{camera}.bytes" for camera in self.cameras]
            self._writer = pq.ParquetWriter(
                path,
                self.schema,
                compression="zstd",
                use_dictionary=images or False,
                dictionary_pagesize_limit=1 << 30,
                # Statistics of images would put whole frames into the footer.
                write_statistics=[name for name in self.schema.names if name in schema.INDICES],
            )
        return self._writer

    def _path(self, template: str, number: int) -> Path:
        chunk, file = divmod(number, schema.FILES_PER_CHUNK)
        return self.folder / template.format(chunk_index=chunk, file_index=file)

    def _digest_images(self, camera: str, images: Sequence[ImageSample]) -> None:
        previous: bytes | None = None
        for position, image in enumerate(images):
            if image.data != previous:
                self.images_digest.update(f"{camera}:{len(self.episodes)}:{position}:{len(image.data)}:".encode())
                self.images_digest.update(image.data)
            previous = image.data
        if len(self._sampled[camera]) < IMAGES_FOR_STATISTICS:
            self._sampled[camera].append(images[len(self.episodes) * 37 % len(images)].data)

    def _episode_entry(
        self, row: EpisodeRow, columns: Mapping[str, NDArray[Any]], chunk: int, file: int
    ) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "episode_index": row.index,
            "tasks": [row.task_text],
            "length": row.length,
            "dataset_from_index": row.start,
            "dataset_to_index": row.start + row.length,
            "data/chunk_index": chunk,
            "data/file_index": file,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
            "outcome": row.outcome,
            "operator": row.operator,
            "policy": row.policy,
            "source": row.source,
        }
        for name, values in columns.items():
            entry.update({f"stats/{name}/{stat}": value for stat, value in array_stats(values).items()})
        return entry

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every column but the images, over all rows."""
        return {name: np.concatenate(parts) for name, parts in self._arrays.items()}

    def fingerprint(self, specification: str) -> str:
        """Digest of the content written so far; `specification` is the JSON of robot and specs."""
        arrays = self.arrays()
        outcomes = [(row.task, row.task_text, row.outcome) for row in self.episodes]
        images = self.images_digest.hexdigest()
        return content_digest(arrays[STATE], arrays[ACTION], arrays, outcomes, specification, images)

    def finish(self, robot: str, sealegs: schema.SealegsMeta) -> None:
        """Write the metadata and put the dataset in place, replacing an old one only now."""
        if self._writer is None:
            raise DatasetError("nothing to write: no rows")
        self._writer.close()
        self._writer = None
        (self.folder / "meta").mkdir(exist_ok=True)
        episodes_path = self._path(schema.EPISODES_PATH, 0)
        episodes_path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(self._episode_table), episodes_path, compression="zstd")
        pq.write_table(schema.tasks_table(self.tasks), self.folder / schema.TASKS_PATH)
        info = schema.info_json(self.features, robot, self.fps, len(self.episodes), self.rows, len(self.tasks))
        stats: dict[str, Any] = {name: array_stats(values) for name, values in self.arrays().items()}
        stats.update({IMAGE_PREFIX + camera: image_stats(data) for camera, data in self._sampled.items()})
        write_json(self.folder / schema.INFO_PATH, info)
        write_json(self.folder / schema.STATS_PATH, stats)
        write_json(self.folder / schema.SEALEGS_PATH, sealegs.model_dump(mode="json"))
        self._put_in_place()

    def _put_in_place(self) -> None:
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                with path.open("rb") as stream:
                    os.fsync(stream.fileno())
        put_in_place(self.folder, self.out)


def write_json(path: Path, content: Any) -> None:
    """JSON without NaN, indented, UTF-8."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
