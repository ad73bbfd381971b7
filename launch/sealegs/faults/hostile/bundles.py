"""Archives, bundles, profiles and checkpoints as an enemy would hand them out: each function makes one in a folder.

Where `Signer` signs them, a trusted signer went wrong, and the content itself must be refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sealegs.faults.hostile.payloads import Payload, varint
from sealegs.faults.hostile.signed import Signer, policy_files, policy_graph
from sealegs_deploy.bundle import MAXIMUM_FILE_BYTES, MAXIMUM_TOTAL_BYTES, zip_bytes
from sealegs_deploy.manifest import POLICY_NAME
from sealegs_deploy.signing import SIGNATURE_NAME, sign

ESCAPE = "sealegs-escape"
"""Name of every file that must not come into being."""
MIB = 1 << 20
ENDLESS = 1 << 40
Make = Callable[[Signer, Path], Path]


def signed_files(signer: Signer) -> dict[str, bytes]:
    """A sound bundle, signature included."""
    files = policy_files(0)
    return files | {SIGNATURE_NAME: sign(files, signer.key)}


# Archives


def zip_with(signer: Signer, folder: Path, name: str, data: bytes = b"evil", mode: int = 0o100644) -> Path:
    """A sound bundle, and one more entry."""
    path = folder / "bundle.zip"
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that come twice
        for file, content in signed_files(signer).items():
            archive.writestr(file, content)
        info = zipfile.ZipInfo("name")
        info.filename, info.create_system, info.external_attr = name, 3, mode << 16
        archive.writestr(info, data)
    return path


def deflated(signer: Signer, folder: Path) -> Path:
    """256 MiB in 256 KiB."""
    path = folder / "bundle.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(POLICY_NAME, bytes(256 * MIB))
    return path


def overlapping(signer: Signer, folder: Path) -> Path:
    """16 stored entries, each of which holds all that follow: 512 MiB in 32."""
    body, entries = bytes(32 * MIB), []
    for number in reversed(range(16)):
        name = f"f{number:02}".encode()
        fields = struct.pack("<5H3I2H", 20, 0, 0, 0, 33, zlib.crc32(body), len(body), len(body), len(name), 0)
        body = b"PK\x03\x04" + fields + name + body
        entries.append((len(body), fields, name))
    directory = b"".join(
        b"PK\x01\x02\x14\x03" + fields + struct.pack("<3H2I", 0, 0, 0, 0o100644 << 16, len(body) - length) + name
        for length, fields, name in entries
    )
    return _write(folder / "bundle.zip", body + directory + _end(16, len(directory), len(body)))


def many_entries(signer: Signer, folder: Path) -> Path:
    """A directory of half a million entries, which the end of the archive says are 16."""
    sound = zip_bytes(signed_files(signer))
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, *[0] * 6) + b"a"
    return _write(folder / "bundle.zip", sound + entry * 500_000 + _end(16, len(entry) * 500_000, len(sound)))


def wrong_sizes(signer: Signer, folder: Path, size: int) -> Path:
    """The first file claims another size, in its header and in the directory; -1 stands for zip64."""
    sound = bytearray(zip_bytes(signed_files(signer)))
    for start in (18, sound.index(b"PK\x01\x02") + 20):
        struct.pack_into("<2I", sound, start, size & 0xFFFFFFFF, size & 0xFFFFFFFF)
    return _write(folder / "bundle.zip", bytes(sound))


def zip64(signer: Signer, folder: Path) -> Path:
    """Sizes of -1 in the extra field of zip64."""
    path = folder / "bundle.zip"
    with zipfile.ZipFile(path, "w") as archive, archive.open(POLICY_NAME, "w", force_zip64=True) as file:
        file.write(b"x")
    data = path.read_bytes()
    return _write(path, data.replace(struct.pack("<2Q", 1, 1), struct.pack("<2q", -1, -1)))


def largest(signer: Signer, folder: Path) -> Path:
    """As large as an archive may be: two files of zeros, and no directory."""
    path = folder / "bundle.zip"
    with path.open("wb") as file:
        for name in (b"a", b"b"):
            size = MAXIMUM_FILE_BYTES - 100
            file.write(b"PK\x03\x04" + struct.pack("<5H3I2H", 20, 0, 0, 0, 33, 0, size, size, 1, 0) + name)
            file.seek(size, os.SEEK_CUR)
        file.truncate(MAXIMUM_TOTAL_BYTES)
    return path


def prefixed(signer: Signer, folder: Path) -> Path:
    """As self-extracting archives are."""
    return _write(folder / "bundle.zip", b"#!/bin/sh\n" + zip_bytes(signed_files(signer)))


def endless(signer: Signer, folder: Path, name: str) -> Path:
    """A file of a tebibyte that takes no room: the archive, or a file of the folder."""
    bundle = signer.write(policy_files(0), folder / "bundle")
    file = bundle / name if name else folder / "bundle.zip"
    file.touch()
    os.truncate(file, ENDLESS)
    return bundle if name else file


# Folders


def crowded(signer: Signer, folder: Path) -> Path:
    """5,000 files beside those of the bundle."""
    bundle = signer.write(policy_files(0), folder / "bundle")
    for number in range(5_000):
        (bundle / f"f{number}").touch()
    return bundle


def replaced(signer: Signer, folder: Path, name: str, data: Callable[[Path], bytes], signs: bool = True) -> Path:
    """A bundle with other content in a file, signed anew or not."""
    content = data(folder / ESCAPE)
    if signs:
        return signer.write(policy_files(0) | {name: content}, folder / "bundle")
    bundle = signer.write(policy_files(0), folder / "bundle")
    (bundle / name).write_bytes(content)
    return bundle


def nested_zip(escape: Path) -> bytes:
    """A .zip in place of a file, with an entry that leads out of it."""
    return zip_bytes({f"../{escape.name}": b"evil"})


def pickled(escape: Path) -> bytes:
    """Makes a file when it is unpickled."""
    return pickle.dumps(Payload(escape))


def deep(escape: Path) -> bytes:
    """JSON, and YAML, of 100,000 levels."""
    return b'{"a":' * 100_000


def digits(escape: Path) -> bytes:
    """A number that takes minutes to convert."""
    return b'{"version": ' + b"9" * 200_000 + b"}"


def huge_tensor(escape: Path) -> bytes:
    """A weight that claims 2^60 elements."""
    model = policy_graph(0)
    model.graph.initializer[0].dims[:] = [1 << 30, 1 << 30]
    return bytes(model.SerializeToString())


def swelling_graph(escape: Path) -> bytes:
    """A graph that asks for 4 TiB when it runs."""
    from onnx import helper, numpy_helper

    model = policy_graph(0)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1 << 40]), "size"))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["size"], ["huge"]))
    model.graph.node.append(helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0))
    model.graph.node[2].output[0] = "clean"
    model.graph.node.append(helper.make_node("Add", ["clean", "sum"], ["action"]))
    return bytes(model.SerializeToString())


def deep_graph(escape: Path) -> bytes:
    """A protobuf message of 15,000 levels: a graph in an attribute of a node of a graph."""
    data = b""
    for _ in range(5_000):
        for field in (6, 5, 1):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
            data = bytes([field << 3 | 2]) + varint(len(data)) + data
    return bytes([7 << 3 | 2]) + varint(len(data)) + data


# Robot profiles and checkpoints


def profile(signer: Signer, folder: Path, data: Callable[[Path], bytes]) -> Path:
    """A robot profile with that content."""
    return _write(folder / "robot.yaml", data(folder / ESCAPE))


def alias_bomb(escape: Path) -> bytes:
    """9^9 strings in 600 bytes."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    return "\n".join(lines).encode()


def merge_bomb(escape: Path) -> bytes:
    """The same by merge keys."""
    lines = ["a: &a {x: 1}"]
    for old, new in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}]}}")
    return "\n".join(lines).encode()


def yaml_call(escape: Path) -> bytes:
    """A tag that runs a command where YAML is not loaded safely."""
    return f"!!python/object/apply:os.system ['touch {escape}']".encode()


def checkpoint(signer: Signer, folder: Path, weights: Callable[[Path], bytes], description: bytes = b"") -> Path:
    """A checkpoint whose description goes with its weights."""
    content = weights(folder / ESCAPE)
    said = {"schema_version": 1, "weights_sha256": hashlib.sha256(content).hexdigest()}
    _write(folder / "weights.safetensors", content)
    _write(folder / "checkpoint.json", description or json.dumps(said).encode())
    return folder


def header(escape: Path, claimed: int = 0, text: bytes = b"") -> bytes:
    """A safetensors file with a header of `claimed` bytes by its own account."""
    return struct.pack("<Q", claimed or len(text)) + text


def _end(count: int, size: int, start: int) -> bytes:
    return struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, size, start, 0)


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
