"""rosbag2's metadata.yaml, version 9 (Jazzy), as pure functions, and a file that is written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rclpy.qos import QoSProfile

from sealegs_ros.definitions import type_hash

METADATA_FILE = "metadata.yaml"
_UNLIMITED = {"sec": 9223372036, "nsec": 854775807}


@dataclass(slots=True)
class TopicCount:
    """One topic of a bag and how many messages it holds."""

    name: str
    type_name: str
    qos: QoSProfile
    count: int = 0


def qos_entry(qos: QoSProfile) -> dict[str, Any]:
    """One entry of `offered_qos_profiles`; deadlines, lifespans and leases are not used, that is: unlimited."""
    return {
        "history": qos.history.short_key,
        "depth": qos.depth,
        "reliability": qos.reliability.short_key,
        "durability": qos.durability.short_key,
        "deadline": dict(_UNLIMITED),
        "lifespan": dict(_UNLIMITED),
        "liveliness": "automatic",
        "liveliness_lease_duration": dict(_UNLIMITED),
        "avoid_ros_namespace_conventions": False,
    }


def qos_text(qos: QoSProfile) -> str:
    """`offered_qos_profiles` as an MCAP channel's metadata holds it."""
    return str(yaml.safe_dump([qos_entry(qos)], sort_keys=False))


def bag_metadata(
    file_name: str, topics: Sequence[TopicCount], first_ns: int, last_ns: int, custom_data: Mapping[str, str]
) -> dict[str, Any]:
    """Content of metadata.yaml for a bag of one MCAP file whose log times span [first_ns, last_ns]."""
    count = sum(topic.count for topic in topics)
    start = {"nanoseconds_since_epoch": first_ns}
    duration = {"nanoseconds": last_ns - first_ns}
    information = {
        "version": 9,
        "storage_identifier": "mcap",
        "duration": duration,
        "starting_time": start,
        "message_count": count,
        "topics_with_message_count": [
            {
                "topic_metadata": {
                    "name": topic.name,
                    "type": topic.type_name,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": [qos_entry(topic.qos)],
                    "type_description_hash": type_hash(topic.type_name),
                },
                "message_count": topic.count,
            }
            for topic in topics
        ],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": [file_name],
        "files": [{"path": file_name, "starting_time": start, "duration": duration, "message_count": count}],
        "custom_data": dict(custom_data),
        "ros_distro": os.environ.get("ROS_DISTRO", "jazzy"),
    }
    return {"rosbag2_bagfile_information": information}


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def write_metadata(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `folder`/metadata.yaml atomically and durably: a reader sees all of it or none."""
    text = yaml.dump(dict(content), Dumper=_NoAliases, sort_keys=False, width=2**20)
    partial = folder / f".{METADATA_FILE}.partial"
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(folder / METADATA_FILE)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make the folder's entries survive power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
