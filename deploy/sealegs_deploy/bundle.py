"""A policy bundle: a folder (or an uncompressed .zip) with policy.onnx, manifest.json and signature.json.

Reading is the security boundary. Every file is read once, within caps, never through a link; those bytes are verified
and handed on, so that what runs is what was signed, whatever happens to the files afterwards.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import stat
import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from sealegs_contract.errors import BundleError
from sealegs_deploy import signing
from sealegs_deploy.manifest import MANIFEST_NAME, POLICY_NAME, Manifest, parse_manifest
from sealegs_deploy.own_files import replace_file, replace_folder
from sealegs_deploy.signing import SIGNATURE_NAME, SigningKey

MAXIMUM_FILES = 16
MAXIMUM_TOTAL_BYTES = 512 * 1024 * 1024
MAXIMUM_BYTES = {MANIFEST_NAME: 1024 * 1024, SIGNATURE_NAME: 64 * 1024}
MAXIMUM_FILE_BYTES = 256 * 1024 * 1024
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# version, flags, method, time, date, CRC-32, packed size, size, length of the name, length of the extra field
_ZIP_ENTRY = struct.Struct("<5H3I2H")
_ZIP_ENTRY_MAGIC = b"PK\x03\x04"
_ZIP_VERSION, _ZIP_UNIX = 20, 3
# 1980-01-01, the first day that a zip can express: the same content always gives the same bytes.
_ZIP_DATE = 33


@dataclass(frozen=True)
class VerifiedBundle:
    """The content of a bundle whose every byte a trusted key signed."""

    manifest: Manifest
    files: Mapping[str, bytes]
    key_id: str
    path: Path

    @property
    def policy(self) -> bytes:
        """The ONNX graph."""
        return self.files[POLICY_NAME]


def load_bundle(
    path: str | Path,
    trusted_keys: Iterable[str | Path] | None = None,
    minimum_version: int = 0,
    trusted_public_keys: Iterable[str] = (),
) -> VerifiedBundle:
    """Read and verify a bundle.

    `trusted_keys`: files with public keys to trust, beside the user's own keys and trusted_keys file.
    `trusted_public_keys`: further public keys, as 64 hex digits each.
    `minimum_version`: refuse manifests with a lower version counter (rollback).
    Raises BundleError naming the file and the reason for anything changed, missing, extra, oversized or not trusted.
    """
    path = Path(path)
    files = _read(path)
    try:
        if SIGNATURE_NAME not in files:
            raise BundleError(f"no {SIGNATURE_NAME}: this is no bundle, or it was never signed")
        signature = signing.parse_signature(files.pop(SIGNATURE_NAME))
        trusted = signing.trusted_keys(trusted_keys or ()).union(trusted_public_keys)
        signing.verify_files(files, signature, trusted)
        for name in (MANIFEST_NAME, POLICY_NAME):
            if name not in files:
                raise BundleError(f"no {name} in it")
        manifest = parse_manifest(files[MANIFEST_NAME])
        if manifest.version < minimum_version:
            raise BundleError(f"version {manifest.version} is older than {minimum_version}, the oldest allowed here")
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error
    return VerifiedBundle(manifest, MappingProxyType(files), signature.key_id, path)


def check_unchanged(bundle: VerifiedBundle) -> None:
    """BundleError unless the bundle on the disk still holds the very bytes that were verified."""
    files = _read(bundle.path)
    files.pop(SIGNATURE_NAME, None)
    if files != dict(bundle.files):
        raise BundleError(f"{bundle.path} was changed since it was read")


def write_bundle(files: Mapping[str, bytes], out: str | Path, key: SigningKey, overwrite: bool = False) -> Path:
    """Sign `files` and write them to the folder `out` or, if it ends in .zip, the archive: whole or not at all."""
    out = Path(out)
    _check_names(files)
    check_free(out, overwrite)
    content = dict(files) | {SIGNATURE_NAME: signing.sign(files, key)}
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".zip":
        replace_file(out, zip_bytes(content))
    else:
        _replace_folder(out, content)
    return out


def check_free(out: Path, overwrite: bool) -> None:
    """BundleError unless `out` may be written: a mistyped path must not delete anything but a bundle."""
    if not out.exists():
        return
    empty = out.is_dir() and not any(out.iterdir())
    if not (out.is_file() if out.suffix == ".zip" else empty or (out / SIGNATURE_NAME).is_file()):
        raise BundleError(f"{out} exists and is no bundle; choose another name")
    if not overwrite:
        raise BundleError(f"{out} exists already; choose another name or pass --overwrite")


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """The one .zip of `files`: sorted, stored, without times, comments or extra fields."""
    return b"".join(zip_pieces(files))


def zip_pieces(files: Mapping[str, bytes]) -> Iterator[bytes]:
    """`zip_bytes` in order: header and bytes of each file, the directory, and its end (APPNOTE.TXT 4.3)."""
    directory, start = b"", 0
    for name in sorted(files):
        data, size = files[name], len(files[name])
        entry = _ZIP_ENTRY.pack(_ZIP_VERSION, 0, 0, 0, _ZIP_DATE, zlib.crc32(data), size, size, len(name), 0)
        head = _ZIP_ENTRY_MAGIC + entry + name.encode("ascii")
        yield head
        yield data
        mode = (stat.S_IFREG | 0o644) << 16
        directory += b"PK\x01\x02" + bytes([_ZIP_VERSION, _ZIP_UNIX]) + entry
        directory += struct.pack("<3H2I", 0, 0, 0, mode, start) + name.encode("ascii")
        start += len(head) + size
    yield directory
    yield b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, len(files), len(files), len(directory), start, 0)


def _read(path: Path) -> dict[str, bytes]:
    if path.is_symlink():
        raise BundleError(f"{path} is a symbolic link; give the bundle itself")
    if path.is_dir():
        return _read_folder(path)
    if path.is_file():
        return _read_zip(path)
    raise BundleError(f"no bundle at {path}")


def _read_folder(path: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    left = MAXIMUM_TOTAL_BYTES
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in itertools.islice(entries, MAXIMUM_FILES + 1)]
        _check_names(names, str(path))
        for name in sorted(names):
            files[name] = _read_once(folder, name, path, left)
            left -= len(files[name])
    finally:
        os.close(folder)
    return files


def _read_once(folder: int, name: str, path: Path, left: int) -> bytes:
    """Bytes of one regular file that has one name only. O_NONBLOCK: a pipe must not stall the robot."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        raise BundleError(f"{path}: {name} is a link or cannot be read ({error.strerror})") from error
    limit = min(left, MAXIMUM_BYTES.get(name, MAXIMUM_FILE_BYTES))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path}: {name} is not a regular file")
        if status.st_nlink != 1:
            raise BundleError(f"{path}: {name} is hard-linked ({status.st_nlink} names); copy the bundle instead")
        return _read_whole(descriptor, status.st_size, limit, f"{path}: {name}")
    finally:
        os.close(descriptor)


def _read_whole(descriptor: int, size: int, limit: int, where: str) -> bytes:
    """All `size` bytes of an open file, no more than `limit`, and nothing that grows or shrinks meanwhile."""
    if size > limit:
        raise BundleError(f"{where} is larger than the {limit} bytes allowed: {size}")
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        data = file.read(size + 1)
    if len(data) != size:
        raise BundleError(f"{where} changed while it was read")
    return data


def _read_zip(path: Path) -> dict[str, bytes]:
    """Only the very bytes that `zip_bytes` writes: nothing compressed, nothing hidden between the files.

    Front to back: the directory at the end of a .zip may hold millions of entries, or many over the same bytes.
    """
    with path.open("rb") as file:
        data = _read_whole(file.fileno(), os.fstat(file.fileno()).st_size, MAXIMUM_TOTAL_BYTES, str(path))
    files: dict[str, bytes] = {}
    start = 0
    while data.startswith(_ZIP_ENTRY_MAGIC, start):
        name, start, end = _entry(data, start, path)
        _check_names([*files, name], str(path))
        files[name] = data[start:end]
        start = end
    if not _consists_of(data, zip_pieces(files)):
        raise BundleError(
            f"{path} is neither a bundle folder nor a .zip as `sealegs export --zip` writes it; if it is another .zip "
            "of a bundle, unpack it and use the folder"
        )
    return files


def _consists_of(data: bytes, pieces: Iterable[bytes]) -> bool:
    start = 0
    for piece in pieces:
        if not data.startswith(piece, start):
            return False
        start += len(piece)
    return start == len(data)


def _entry(data: bytes, start: int, path: Path) -> tuple[str, int, int]:
    """Name, first byte and end of the file in the .zip whose entry starts at `start`."""
    start += len(_ZIP_ENTRY_MAGIC)
    if len(data) - start < _ZIP_ENTRY.size:
        raise BundleError(f"{path} is cut short")
    _, flags, method, _, _, _, packed, size, named, extra = _ZIP_ENTRY.unpack_from(data, start)
    start += _ZIP_ENTRY.size + named + extra
    name = data[start - named - extra : start - extra].decode("ascii", errors="replace")
    if flags or method or packed != size:
        raise BundleError(f"{path}: {name[:80]!r} is compressed or encrypted; a bundle's .zip stores its files")
    limit = MAXIMUM_BYTES.get(name, MAXIMUM_FILE_BYTES)
    if size > limit:
        raise BundleError(f"{path}: {name[:80]!r} is larger than the {limit} bytes allowed: {size}")
    if start + size > len(data):
        raise BundleError(f"{path}: {name[:80]!r} reaches beyond the end of the archive")
    return name, start, start + size


def _check_names(names: Iterable[str], where: str = "bundle") -> None:
    listed = list(names)
    if len(listed) > MAXIMUM_FILES:
        raise BundleError(f"{where}: more than the {MAXIMUM_FILES} files that a bundle may have")
    for name in listed:
        if not _FILE_NAME.fullmatch(name):
            raise BundleError(
                f"{where}: {name[:80]!r} is no file name of a bundle (letters, digits, . _ -, no folders)"
            )
    if len(set(listed)) != len(listed):
        raise BundleError(f"{where}: a file name comes twice")


def _replace_folder(out: Path, files: Mapping[str, bytes]) -> None:
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        for name, data in files.items():
            replace_file(temporary / name, data)
        temporary.chmod(0o755)
        replace_folder(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
