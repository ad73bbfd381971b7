"""The LeRobot v3.0 layout, and our one file beside it.

Format facts checked against the public LeRobot sources: data and episode tables under chunk-XXX/file-XXX.parquet,
images as struct<bytes, path> in the data table, tasks as the pandas index of tasks.parquet, timestamp = frame / fps.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from sealegs_contract.robot import FrozenModel, RobotProfile, canonical_json
from sealegs_contract.spec import ActionSpec, ObservationSpec
from sealegs_learning.data.report import ImportReport

CODEBASE_VERSION = "v3.0"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
TASKS_PATH = "meta/tasks.parquet"
INFO_PATH = "meta/info.json"
STATS_PATH = "meta/stats.json"
SEALEGS_PATH = "meta/sealegs.json"
STATE, ACTION, STAMP, DONE, SUCCESS = "observation.state", "action", "stamp_ns", "next.done", "next.success"
IMAGE_PREFIX = "observation.images."
FILES_PER_CHUNK = 1000
DATA_FILE_MB = 100
IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
INDICES = {"timestamp": "float32"} | dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64")


class SourceBag(FrozenModel):
    """A bag that a dataset was made from."""

    path: str
    sha256: str


class EpisodeRow(FrozenModel):
    """One episode: rows [start, start + length) of the dataset. `segment` > 0 where a gap in the bag split it."""

    index: int
    start: int
    length: int
    task: str
    task_text: str
    outcome: str = "unknown"
    operator: str = ""
    policy: str = ""
    origin: str = ""
    seed: int | None = None
    source: str = ""
    segment: int = 0


class SealegsMeta(FrozenModel):
    """meta/sealegs.json: what LeRobot's files have no place for."""

    schema_version: int = 1
    robot: RobotProfile
    profile_digest: str
    observation_spec: ObservationSpec
    action_spec: ActionSpec
    cameras: tuple[str, ...]
    episodes: tuple[EpisodeRow, ...]
    sources: tuple[SourceBag, ...]
    options: dict[str, Any]
    report: ImportReport
    images_digest: str
    fingerprint: str


def specification(robot: RobotProfile, spec: ObservationSpec, actions: ActionSpec) -> str:
    """Canonical JSON of what gives the arrays their meaning; part of the fingerprint."""
    return canonical_json([robot.digest, spec.model_dump(mode="json"), actions.model_dump(mode="json")])


def features(
    spec: ObservationSpec, joints: tuple[str, ...], cameras: dict[str, tuple[int, int]], outcomes_known: bool
) -> dict[str, dict[str, Any]]:
    """The features of info.json. `cameras`: (height, width) by name."""
    result: dict[str, dict[str, Any]] = {
        STATE: {"dtype": "float32", "shape": [spec.size], "names": list(spec.element_names)},
        ACTION: {"dtype": "float32", "shape": [len(joints)], "names": [f"{joint}.target_rad" for joint in joints]},
    }
    for camera, (height, width) in cameras.items():
        names = ["height", "width", "channels"]
        result[IMAGE_PREFIX + camera] = {"dtype": "image", "shape": [height, width, 3], "names": names}
    scalars = {**INDICES, STAMP: "int64", DONE: "bool", **({SUCCESS: "bool"} if outcomes_known else {})}
    result.update({name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in scalars.items()})
    return result


def table_schema(feature_map: dict[str, dict[str, Any]]) -> pa.Schema:
    """Arrow schema of the data table, with the metadata from which Hugging Face `datasets` knows images."""
    fields: list[pa.Field] = []
    hub: dict[str, dict[str, Any]] = {}
    for name, feature in feature_map.items():
        dtype, size = feature["dtype"], feature["shape"][0]
        if dtype == "image":
            fields.append(pa.field(name, IMAGE_TYPE))
            hub[name] = {"_type": "Image"}
        elif name in {STATE, ACTION}:
            value = {"dtype": dtype, "_type": "Value"}
            fields.append(pa.field(name, pa.list_(pa.float32(), size)))
            hub[name] = {"feature": value, "length": size, "_type": "Sequence"}
        else:
            kind = {"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_()}[dtype]
            fields.append(pa.field(name, kind))
            hub[name] = {"dtype": dtype, "_type": "Value"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": hub}})})


def info_json(
    feature_map: dict[str, dict[str, Any]], robot: str, fps: float, episodes: int, frames: int, tasks: int
) -> dict[str, Any]:
    """Content of meta/info.json."""
    return {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": robot,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": DATA_FILE_MB,
        "video_files_size_in_mb": 200,
        "fps": int(fps) if float(fps).is_integer() else fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA_PATH,
        "video_path": None,
        "features": feature_map,
    }


def tasks_table(texts: list[str]) -> pa.Table:
    """tasks.parquet: task_index by task sentence, the sentences being the pandas index."""
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {"name": name, "field_name": name, "pandas_type": pandas_type, "numpy_type": numpy_type, "metadata": None}
            for name, pandas_type, numpy_type in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
        ],
        "creator": {"library": "sealegs", "version": "1"},
        "pandas_version": "2.2.0",
    }
    table = pa.table({"task_index": pa.array(range(len(texts)), pa.int64()), "task": pa.array(texts, pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})
