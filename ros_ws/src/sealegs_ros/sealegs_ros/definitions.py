"""Message definitions and type hashes, read from the installed message packages: a bag must explain itself.

Works from wheels and from a ROS installation, without AMENT_PREFIX_PATH.
"""

from __future__ import annotations

import importlib
import json
import os
import re
from functools import cache
from pathlib import Path

from sealegs_contract.errors import BagError

_BUILTIN = {"bool", "byte", "char", "string", "wstring", "float32", "float64"}
_BUILTIN |= {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_FIELD_TYPE = re.compile(r"^([A-Za-z][A-Za-z0-9_/]*)")


@cache
def message_class(type_name: str) -> type:
    """The Python class of `sensor_msgs/msg/JointState`."""
    try:
        package, kind, name = type_name.split("/")
        found: type = getattr(importlib.import_module(f"{package}.{kind}"), name)
    except (ValueError, ImportError, AttributeError) as error:
        raise BagError(f"message type {type_name!r} is not installed here ({error})") from error
    return found


def type_name_of(message_type: type) -> str:
    """`sensor_msgs/msg/JointState` of its class."""
    package, kind = message_type.__module__.split(".")[:2]
    return f"{package}/{kind}/{message_type.__name__}"


@cache
def message_definition(type_name: str) -> str:
    """The type's `.msg` text followed by those of all types that it contains (MCAP schema encoding `ros2msg`)."""
    texts = {type_name: _text(type_name)}
    queue = [type_name]
    while queue:
        current = queue.pop(0)
        for part in _parts(texts[current], package=current.split("/")[0]):
            if part not in texts:
                texts[part] = _text(part)
                queue.append(part)
    head, *others = texts.items()
    # Contained types are headed `MSG: package/Name`, as rosbag2 writes them.
    blocks = [f"{'=' * 80}\nMSG: {name.replace('/msg/', '/')}\n{text}" for name, text in others]
    return "\n".join([head[1], *blocks])


@cache
def type_hash(type_name: str) -> str:
    """REP-2016 hash (`RIHS01_...`); empty where the package was built without it (before Iron)."""
    path = _file(type_name, ".json")
    if path is None:
        return ""
    hashes = json.loads(path.read_text(encoding="utf-8"))["type_hashes"]
    return str(next(entry["hash_string"] for entry in hashes if entry["type_name"] == type_name))


def _parts(text: str, package: str) -> list[str]:
    """Types of the fields in a `.msg` text that are messages themselves."""
    parts = []
    for line in text.splitlines():
        field = _FIELD_TYPE.match(line.split("#")[0].strip())
        if field is None or field[1] in _BUILTIN:
            continue
        owner, _, name = field[1].replace("/msg/", "/").rpartition("/")
        parts.append(f"{owner or package}/msg/{name}")
    return parts


def _text(type_name: str) -> str:
    path = _file(type_name, ".msg")
    if path is None:
        raise BagError(f"no definition of {type_name} is installed: expected share/{type_name}.msg beside its package")
    return path.read_text(encoding="utf-8")


def _file(type_name: str, suffix: str) -> Path | None:
    """`share/PACKAGE/msg/NAME.suffix` under the prefix that the Python package lies in, or under AMENT_PREFIX_PATH."""
    package = type_name.split("/")[0]
    module = importlib.import_module(package)
    prefixes = [*Path(str(module.__file__)).parents, *map(Path, os.environ.get("AMENT_PREFIX_PATH", "").split(":"))]
    for prefix in prefixes:
        path = prefix / "share" / f"{type_name}{suffix}"
        if path.is_file():
            return path
    return None
