"""A dataset opened for learning: LeRobot v3.0 files, with or without our metadata beside them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from sealegs_contract.errors import DatasetError, available
from sealegs_contract.robot import RobotProfile, canonical_json
from sealegs_contract.spec import ActionSpec, ObservationSpec
from sealegs_learning.data import schema
from sealegs_learning.data.files import (
    column,
    column_bytes,
    data_files,
    lerobot_episodes,
    matrix,
    one_line,
    read_info,
    read_sealegs,
    read_table,
)
from sealegs_learning.data.fingerprint import content_digest
from sealegs_learning.data.schema import ACTION, IMAGE_PREFIX, STAMP, STATE, EpisodeRow, SealegsMeta

IMAGE_CACHE_BYTES = 256 << 20
MAXIMUM_IMAGES_BYTES = 1 << 31
"""Of one camera in one row group, decompressed: what arrow can hold in one array."""


class Dataset:
    """Open with `Dataset.open(path)`. N rows, observation size D, J joints.

    state (N, D) float32, action (N, J) float32 [absolute joint targets, rad], timestamp (N,) float32 [s, from the
    start of the episode], frame_index, episode_index, task_index (N,) int64, stamp_ns (N,) int64 or None.
    `sealegs` is None for a dataset that Sealegs did not write.
    """

    def __init__(self, path: Path, info: dict[str, Any], table: pa.Table, episodes: tuple[EpisodeRow, ...],
                 sealegs: SealegsMeta | None) -> None:  # fmt: skip
        self.path, self.info, self.episodes, self.sealegs = path, info, episodes, sealegs
        self.state: NDArray[np.float32] = matrix(table, STATE, path)
        self.action: NDArray[np.float32] = matrix(table, ACTION, path)
        self.episode_index = column(table, "episode_index", np.int64, path)
        self.frame_index = column(table, "frame_index", np.int64, path)
        self.task_index = column(table, "task_index", np.int64, path)
        self.timestamp = column(table, "timestamp", np.float32, path)
        self.stamp_ns = column(table, STAMP, np.int64, path) if STAMP in table.column_names else None
        self.cameras = tuple(k.removeprefix(IMAGE_PREFIX) for k, f in info["features"].items() if f["dtype"] == "image")
        self.fps = float(info["fps"])
        self._row_groups: list[tuple[Path, int, int, int]] | None = None
        self._cache: OrderedDict[tuple[str, int], list[pa.Array]] = OrderedDict()
        self._cached_bytes = 0

    @classmethod
    def open(cls, path: Path | str) -> Dataset:
        """Read everything but the images. Raises DatasetError for a missing, malformed or changed dataset."""
        path = Path(path)
        try:
            info = read_info(path)
            table = read_table(path, info)
            sealegs = read_sealegs(path)
            episodes = sealegs.episodes if sealegs is not None else lerobot_episodes(path, info)
            dataset = cls(path, info, table, episodes, sealegs)
            dataset._check()
        except MemoryError as error:
            raise DatasetError(f"{path} does not fit into memory") from error
        return dataset

    def __len__(self) -> int:
        return len(self.state)

    @property
    def robot(self) -> RobotProfile:
        """Profile of the robot; DatasetError for a plain LeRobot dataset."""
        return self._own("robot profile").robot

    @property
    def observation_spec(self) -> ObservationSpec:
        """Spec of `state`: fields only, no images; DatasetError for a plain LeRobot dataset."""
        return self._own("observation spec").observation_spec

    @property
    def action_spec(self) -> ActionSpec:
        """What a policy trained on this outputs; DatasetError for a plain LeRobot dataset."""
        return self._own("action spec").action_spec

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the content: equal for equal rows, texts, outcomes, specs and images."""
        if self.sealegs is not None:
            return self.sealegs.fingerprint
        return self._digest(canonical_json(self.info["features"]), self._image_file_digest())

    def images(self, camera: str, indices: ArrayLike) -> list[bytes]:
        """Compressed image (JPEG or PNG bytes) of each global row in `indices`.

        Raises DatasetError for an unknown camera or a row outside [0, N).
        """
        if camera not in self.cameras:
            raise DatasetError(f"{self.path} has no camera {camera!r}; {available(self.cameras)}")
        rows = np.atleast_1d(np.asarray(indices, dtype=np.int64))
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise DatasetError(f"{self.path}: rows {rows.min()}..{rows.max()} asked for, but it has {len(self)}")
        groups = self._groups()
        starts = np.array([start for _, _, start, _ in groups])
        result: list[bytes] = [b""] * len(rows)
        number = np.searchsorted(starts, rows, side="right") - 1
        for group in np.unique(number):  # each row group is decompressed once per call
            data = self._image_group(camera, int(group))
            for position in np.flatnonzero(number == group):
                result[position] = _value_at(data, int(rows[position] - starts[group]))
        return result

    def episode(self, index: int) -> EpisodeRow:
        """Episode by index; DatasetError when there is none."""
        if not 0 <= index < len(self.episodes):
            raise DatasetError(f"{self.path} has no episode {index}; it has 0..{len(self.episodes) - 1}")
        return self.episodes[index]

    def rows(self, index: int) -> slice:
        """Rows of an episode."""
        episode = self.episode(index)
        return slice(episode.start, episode.start + episode.length)

    def verify(self) -> None:
        """Read every image too, and raise DatasetError when anything differs from what was imported."""
        meta = self._own("fingerprint")
        digest = hashlib.sha256()
        for episode in self.episodes:
            for camera in meta.cameras:
                previous: bytes | None = None
                rows = np.arange(episode.start, episode.start + episode.length)
                for position, data in enumerate(self.images(camera, rows)):
                    if data != previous:
                        digest.update(f"{camera}:{episode.index}:{position}:{len(data)}:".encode())
                        digest.update(data)
                    previous = data
        if digest.hexdigest() != meta.images_digest:
            raise DatasetError(f"{self.path}: its images were changed after the import")

    def _own(self, what: str) -> SealegsMeta:
        if self.sealegs is None:
            raise DatasetError(
                f"{self.path} is a plain LeRobot dataset without {schema.SEALEGS_PATH}, so it has no {what}; "
                "datasets made by `sealegs import` have one"
            )
        return self.sealegs

    def _digest(self, specification: str, images_digest: str) -> str:
        columns = {"episode_index": self.episode_index, "frame_index": self.frame_index, "task_index": self.task_index}
        if self.stamp_ns is not None:
            columns[STAMP] = self.stamp_ns
        outcomes = [(row.task, row.task_text, row.outcome) for row in self.episodes]
        return content_digest(self.state, self.action, columns, outcomes, specification, images_digest)

    def _image_file_digest(self) -> str:
        if not self.cameras:
            return ""
        digest = hashlib.sha256()
        for path in data_files(self.path):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def _check(self) -> None:
        count = len(self)
        lengths = [row.length for row in self.episodes]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(int)
        if count != self.info["total_frames"] or starts[-1] != count or len(lengths) != self.info["total_episodes"]:
            raise DatasetError(
                f"{self.path}: {count} rows, but info.json says {self.info['total_frames']} in "
                f"{self.info['total_episodes']} episodes and the episode table sums to {starts[-1]} in {len(lengths)}"
            )
        expected = np.repeat(np.arange(len(lengths)), lengths)
        if [row.start for row in self.episodes] != starts[:-1].tolist() or not (self.episode_index == expected).all():
            raise DatasetError(f"{self.path}: the rows do not lie in the order of its episode table")
        for name, values in ((STATE, self.state), (ACTION, self.action)):
            if not np.isfinite(values).all():
                row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
                raise DatasetError(f"{self.path}: {name} of row {row} is not finite")
        if self.sealegs is None:
            return
        meta = self.sealegs
        if self.state.shape[1] != meta.observation_spec.size or self.action.shape[1] != meta.action_spec.size:
            raise DatasetError(
                f"{self.path}: state and action have {self.state.shape[1]} and {self.action.shape[1]} elements, "
                f"expected {meta.observation_spec.size} and {meta.action_spec.size} by its specs"
            )
        specification = schema.specification(meta.robot, meta.observation_spec, meta.action_spec)
        if self._digest(specification, meta.images_digest) != meta.fingerprint:
            raise DatasetError(f"{self.path} was changed after the import: its content does not match its fingerprint")

    def _groups(self) -> list[tuple[Path, int, int, int]]:
        """(file, row group, first row, rows) in row order."""
        if self._row_groups is None:
            self._row_groups, start = [], 0
            for path in data_files(self.path):
                metadata = pq.read_metadata(path)
                for number in range(metadata.num_row_groups):
                    rows = metadata.row_group(number).num_rows
                    self._row_groups.append((path, number, start, rows))
                    start += rows
        return self._row_groups

    def _image_group(self, camera: str, group: int) -> list[pa.Array]:
        key = (camera, group)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        path, number, _, _ = self._groups()[group]
        name = IMAGE_PREFIX + camera
        try:
            # Dictionary-encoded on the way in, so that a repeated frame is held once.
            file = pq.ParquetFile(path, read_dictionary=[f"{name}.bytes"])
            if (size := column_bytes(file.metadata.row_group(number), name)) > MAXIMUM_IMAGES_BYTES:
                raise DatasetError(f"{path}: images of {camera} take {size >> 20} MiB in one row group")
            chunks = [chunk.field("bytes") for chunk in file.read_row_group(number, columns=[name]).column(0).chunks]
        except (pa.ArrowException, OSError, KeyError, ValueError, IndexError, AttributeError, MemoryError) as error:
            raise DatasetError(f"{path}: images of {camera} are unreadable: {one_line(error)}") from error
        self._cache[key] = chunks
        self._cached_bytes += sum(chunk.nbytes for chunk in chunks)
        while self._cached_bytes > IMAGE_CACHE_BYTES and len(self._cache) > 1:
            _, evicted = self._cache.popitem(last=False)
            self._cached_bytes -= sum(chunk.nbytes for chunk in evicted)
        return chunks


def _value_at(chunks: Sequence[pa.Array], row: int) -> bytes:
    for chunk in chunks:
        if row < len(chunk):
            value = chunk[row].as_py()
            if value is None:
                raise DatasetError("an image is stored outside the parquet file; only embedded images are read")
            return bytes(value)
        row -= len(chunk)
    raise DatasetError(f"row {row} lies beyond its row group")
