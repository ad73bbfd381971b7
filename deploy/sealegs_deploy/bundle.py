"""A policy bundle: a folder (or an uncompressed .zip) with policy.onnx, manifest.json and signature.json.

Reading is the security boundary. Every file is read once, within caps, never through a link; those bytes are verified
and handed on, so that what runs is what was signed, whatever happens to the files afterwards.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from sealegs_contract.errors import BundleError
from sealegs_deploy import signing
from sealegs_deploy.manifest import MANIFEST_NAME, POLICY_NAME, Manifest, parse_manifest
from sealegs_deploy.signing import SIGNATURE_NAME, SigningKey

MAXIMUM_FILES = 16
MAXIMUM_TOTAL_BYTES = 512 * 1024 * 1024
MAXIMUM_BYTES = {MANIFEST_NAME: 1024 * 1024, SIGNATURE_NAME: 64 * 1024}
MAXIMUM_FILE_BYTES = 256 * 1024 * 1024
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# The first moment that a zip can express: the same content always gives the same bytes.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


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


def write_bundle(files: Mapping[str, bytes], out: str | Path, key: SigningKey, overwrite: bool = False) -> Path:
    """Sign `files` and write them to the folder `out` or, if it ends in .zip, the archive: whole or not at all."""
    out = Path(out)
    _check_names(files)
    check_free(out, overwrite)
    content = dict(files) | {SIGNATURE_NAME: signing.sign(files, key)}
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".zip":
        _replace_file(out, zip_bytes(content))
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
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _ZIP_TIME)
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, files[name])
    return buffer.getvalue()


def _read(path: Path) -> dict[str, bytes]:
    if path.is_symlink():
        raise BundleError(f"{path} is a symbolic link; give the bundle itself")
    if path.is_dir():
        return _read_folder(path)
    if path.is_file():
        return _read_zip(path)
    raise BundleError(f"no bundle at {path}")


def _read_folder(path: Path) -> dict[str, bytes]:
    names = os.listdir(path)
    _check_names(names, str(path))
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    files: dict[str, bytes] = {}
    try:
        for name in sorted(names):
            files[name] = _read_once(folder, name, path)
            _check_total(files, path)
    finally:
        os.close(folder)
    return files


def _read_once(folder: int, name: str, path: Path) -> bytes:
    """Bytes of one regular file that has one name only. O_NONBLOCK: a pipe must not stall the robot."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        raise BundleError(f"{path}: {name} is a link or cannot be read ({error.strerror})") from error
    limit = MAXIMUM_BYTES.get(name, MAXIMUM_FILE_BYTES)
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
    """Only the very bytes that `zip_bytes` writes: nothing compressed, nothing hidden between the files."""
    with path.open("rb") as file:
        data = _read_whole(file.fileno(), os.fstat(file.fileno()).st_size, MAXIMUM_TOTAL_BYTES, str(path))
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check_names([entry.filename for entry in entries], str(path))
            for entry in entries:
                _check_entry(entry, path)
            files = {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError, OverflowError) as error:
        raise BundleError(f"{path} is neither a bundle folder nor a sound .zip of one: {error}") from error
    if zip_bytes(files) != data:
        raise BundleError(f"{path} is not as `sealegs export --zip` writes it; unpack it and use the folder")
    return files


def _check_entry(entry: zipfile.ZipInfo, path: Path) -> None:
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise BundleError(f"{path}: {entry.filename} is compressed; a bundle's .zip stores its files")
    if not stat.S_ISREG(entry.external_attr >> 16):
        raise BundleError(f"{path}: {entry.filename} is not a regular file")
    limit = MAXIMUM_BYTES.get(entry.filename, MAXIMUM_FILE_BYTES)
    if entry.file_size > limit:
        raise BundleError(f"{path}: {entry.filename} is larger than the {limit} bytes allowed")


def _check_names(names: Iterable[str], where: str = "bundle") -> None:
    listed = list(names)
    if len(listed) > MAXIMUM_FILES:
        raise BundleError(f"{where}: {len(listed)} files; a bundle has at most {MAXIMUM_FILES}")
    for name in listed:
        if not _FILE_NAME.fullmatch(name):
            raise BundleError(
                f"{where}: {name[:80]!r} is no file name of a bundle (letters, digits, . _ -, no folders)"
            )
    if len(set(listed)) != len(listed):
        raise BundleError(f"{where}: a file name comes twice")


def _check_total(files: Mapping[str, bytes], path: Path) -> None:
    if sum(map(len, files.values())) > MAXIMUM_TOTAL_BYTES:
        raise BundleError(f"{path} is larger than the {MAXIMUM_TOTAL_BYTES} bytes allowed")


def _replace_file(out: Path, data: bytes) -> None:
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def _replace_folder(out: Path, files: Mapping[str, bytes]) -> None:
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        for name, data in files.items():
            (temporary / name).write_bytes(data)
        temporary.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
