from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from sealegs_contract.errors import BundleError
from sealegs_deploy import bundle as bundle_module
from sealegs_deploy.bundle import load_bundle, write_bundle, zip_bytes
from sealegs_deploy.manifest import MANIFEST_NAME, POLICY_NAME, parse_manifest
from sealegs_deploy.signing import SIGNATURE_NAME, SigningKey

FLIPS_PER_FILE = 150


@pytest.fixture
def archive(bundle_path: Path, tmp_path: Path) -> Path:
    """The same bundle as one .zip."""
    path = tmp_path / "bundle.zip"
    path.write_bytes(zip_bytes({file.name: file.read_bytes() for file in bundle_path.iterdir()}))
    return path


def flipped(data: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(len(data) * 8)
    changed = bytearray(data)
    changed[position // 8] ^= 1 << position % 8
    return bytes(changed)


def test_a_sound_bundle_loads_from_folder_and_zip(bundle_path: Path, archive: Path, key: SigningKey):
    folder, packed = load_bundle(bundle_path), load_bundle(archive)
    assert dict(folder.files) == dict(packed.files)
    assert set(folder.files) == {MANIFEST_NAME, POLICY_NAME}
    assert folder.key_id == key.id
    assert folder.manifest == packed.manifest == parse_manifest((bundle_path / MANIFEST_NAME).read_bytes())


@pytest.mark.parametrize("name", [MANIFEST_NAME, POLICY_NAME, SIGNATURE_NAME])
def test_every_single_bit_flip_is_refused(bundle_path: Path, name: str):
    rng = random.Random(name)
    file = bundle_path / name
    sound = file.read_bytes()
    for _ in range(FLIPS_PER_FILE):
        file.write_bytes(flipped(sound, rng))
        with pytest.raises(BundleError):
            load_bundle(bundle_path)
    file.write_bytes(sound)
    load_bundle(bundle_path)


def test_every_bit_flip_of_a_zip_is_refused_metadata_included(archive: Path):
    rng = random.Random(3)
    sound = archive.read_bytes()
    directory = sound.rindex(b"PK\x01\x02") - 200
    for number in range(2 * FLIPS_PER_FILE):
        # Half of the flips into the headers, where a lenient reader would not notice them.
        start = directory if number % 2 else 0
        archive.write_bytes(sound[:start] + flipped(sound[start:], rng))
        with pytest.raises(BundleError):
            load_bundle(archive)


def test_a_changed_file_is_named(bundle_path: Path):
    with (bundle_path / POLICY_NAME).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match=r"policy\.onnx was changed"):
        load_bundle(bundle_path)


@pytest.mark.parametrize("name", [MANIFEST_NAME, POLICY_NAME, SIGNATURE_NAME])
def test_a_missing_file_is_named(bundle_path: Path, name: str):
    (bundle_path / name).unlink()
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        load_bundle(bundle_path)


def test_an_extra_file_or_folder_is_named(bundle_path: Path):
    (bundle_path / "notes.txt").write_text("hello")
    with pytest.raises(BundleError, match=r"notes\.txt, which nobody signed"):
        load_bundle(bundle_path)
    (bundle_path / "notes.txt").unlink()
    (bundle_path / "weights").mkdir()
    with pytest.raises(BundleError, match="weights"):
        load_bundle(bundle_path)


def test_swapped_files_are_refused(bundle_path: Path):
    policy, manifest = bundle_path / POLICY_NAME, bundle_path / MANIFEST_NAME
    one, two = policy.read_bytes(), manifest.read_bytes()
    policy.write_bytes(two)
    manifest.write_bytes(one)
    with pytest.raises(BundleError):
        load_bundle(bundle_path)


def test_a_graph_from_another_signed_bundle_is_refused(bundle_path: Path, tmp_path: Path, key: SigningKey):
    """Mix and match of two bundles by one signer."""
    files = {name: (bundle_path / name).read_bytes() for name in (MANIFEST_NAME, POLICY_NAME)}
    other = write_bundle(files | {POLICY_NAME: files[POLICY_NAME] + b"\0"}, tmp_path / "other", key)
    load_bundle(other)
    shutil.copy(other / POLICY_NAME, bundle_path / POLICY_NAME)
    with pytest.raises(BundleError, match=r"policy\.onnx was changed"):
        load_bundle(bundle_path)


def test_links_of_either_kind_and_pipes_are_refused(bundle_path: Path, tmp_path: Path):
    policy = bundle_path / POLICY_NAME
    elsewhere = tmp_path / "elsewhere.onnx"
    shutil.move(policy, elsewhere)
    policy.symlink_to(elsewhere)
    with pytest.raises(BundleError, match="is a link"):
        load_bundle(bundle_path)
    policy.unlink()
    os.link(elsewhere, policy)
    with pytest.raises(BundleError, match="hard-linked"):
        load_bundle(bundle_path)
    policy.unlink()
    os.mkfifo(policy)
    with pytest.raises(BundleError, match="not a regular file"):
        load_bundle(bundle_path)
    (tmp_path / "alias").symlink_to(bundle_path)
    with pytest.raises(BundleError, match="symbolic link"):
        load_bundle(tmp_path / "alias")


def test_an_older_version_is_refused(bundle_path: Path):
    version = load_bundle(bundle_path).manifest.version
    assert load_bundle(bundle_path, minimum_version=version).manifest.version == version
    with pytest.raises(BundleError, match="older than"):
        load_bundle(bundle_path, minimum_version=version + 1)


def test_verified_bytes_do_not_follow_a_later_swap_of_the_file(bundle_path: Path):
    loaded = load_bundle(bundle_path)
    digest = hashlib.sha256(loaded.policy).hexdigest()
    (bundle_path / POLICY_NAME).write_bytes(b"swapped")
    assert hashlib.sha256(loaded.policy).hexdigest() == digest
    with pytest.raises(TypeError):
        loaded.files[POLICY_NAME] = b"swapped"  # type: ignore[index]


@pytest.mark.parametrize("name", ["../escape", "/tmp/escape", "a/b", "..", ".hidden", "a\\b", "x" * 65, "", "a\0b"])
def test_zip_slip_is_refused_and_writes_nothing(archive: Path, tmp_path: Path, name: str):
    before = sorted(tmp_path.rglob("*"))
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(zipfile.ZipInfo(name), b"evil")
    with pytest.raises(BundleError):
        load_bundle(archive)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_zip_bomb_is_refused_before_it_expands(tmp_path: Path):
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr(POLICY_NAME, b"\0" * 50_000_000)
    assert bomb.stat().st_size < 1_000_000
    tracemalloc.start()
    with pytest.raises(BundleError, match="compressed"):
        load_bundle(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_zip_with_many_repeated_or_linked_entries_is_refused(archive: Path, tmp_path: Path):
    many = tmp_path / "many.zip"
    with zipfile.ZipFile(many, "w") as opened:
        for number in range(20):
            opened.writestr(f"f{number}", b"")
    with pytest.raises(BundleError, match="more than the 16 files"):
        load_bundle(many)
    twice = tmp_path / "twice.zip"
    with zipfile.ZipFile(twice, "w") as opened:
        opened.writestr(POLICY_NAME, b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            opened.writestr(POLICY_NAME, b"2")
    with pytest.raises(BundleError, match="twice"):
        load_bundle(twice)
    linked = tmp_path / "linked.zip"
    info = zipfile.ZipInfo(POLICY_NAME)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(linked, "w") as opened:
        opened.writestr(info, b"/etc/passwd")
    with pytest.raises(BundleError, match="neither a bundle folder"):
        load_bundle(linked)


def test_truncated_and_foreign_files_are_refused(archive: Path, tmp_path: Path):
    data = archive.read_bytes()
    rng = random.Random(5)
    for _ in range(50):
        archive.write_bytes(data[: rng.randrange(len(data))])
        with pytest.raises(BundleError):
            load_bundle(archive)
    archive.write_bytes(data + b"trailing")
    with pytest.raises(BundleError):
        load_bundle(archive)
    (tmp_path / "empty").mkdir()
    for foreign in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(BundleError):
            load_bundle(foreign)


def test_oversized_files_are_refused_without_being_read_whole(bundle_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bundle_module, "MAXIMUM_FILE_BYTES", 1000)
    with pytest.raises(BundleError, match=r"policy\.onnx is larger than the 1000 bytes"):
        load_bundle(bundle_path)
    monkeypatch.undo()
    with (bundle_path / MANIFEST_NAME).open("ab") as file:
        file.truncate(1 << 40)
    with pytest.raises(BundleError, match=r"manifest\.json is larger"):
        load_bundle(bundle_path)


def test_writing_never_replaces_what_is_no_bundle(bundle_path: Path, tmp_path: Path, key: SigningKey):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(BundleError, match="no bundle"):
            write_bundle({POLICY_NAME: b"x"}, precious, key, overwrite)
    assert (precious / "thesis.txt").read_text() == "years of work"
    with pytest.raises(BundleError, match="--overwrite"):
        write_bundle({POLICY_NAME: b"x"}, bundle_path, key)
    write_bundle({POLICY_NAME: b"x"}, bundle_path, key, overwrite=True)
    assert sorted(path.name for path in bundle_path.iterdir()) == [POLICY_NAME, SIGNATURE_NAME]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    with pytest.raises(BundleError, match="no file name"):
        write_bundle({"../x": b""}, tmp_path / "new", key)


def test_zip_bytes_are_those_of_the_standard_library(bundle_path: Path):
    files = {file.name: file.read_bytes() for file in bundle_path.iterdir()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, files[name])
    assert zip_bytes(dict(reversed(files.items()))) == buffer.getvalue()


def test_a_signed_manifest_that_contradicts_itself_is_refused(bundle_path: Path, tmp_path: Path, key: SigningKey):
    """A signer's mistake is caught too: the signature says who, not that it makes sense."""
    files = {name: (bundle_path / name).read_bytes() for name in (MANIFEST_NAME, POLICY_NAME)}
    text = files[MANIFEST_NAME].decode()
    for number, (old, new, message) in enumerate(
        (
            ('"rate_hz": 50.0,\n "robot"', '"rate_hz": 25.0,\n "robot"', "rate 25.0 Hz"),
            ('"tolerance_rad": 1e-05', '"tolerance_rad": 1e-12', "above its tolerance"),
            ('"tolerance_rad": 1e-05', '"tolerance_rad": 1.0', "tolerance_rad"),
            ('"schema_version": 1,\n "support"', '"schema_version": 2,\n "support"', "schema_version"),
            ('"name": "small"', '"name": "sm/all"', "name"),
            ('"created"', '"creatd"', "creat"),
        )
    ):
        assert old in text
        path = write_bundle(
            files | {MANIFEST_NAME: text.replace(old, new, 1).encode()}, tmp_path / f"wrong{number}", key
        )
        with pytest.raises(BundleError, match=message):
            load_bundle(path)
    path = write_bundle(files | {MANIFEST_NAME: b"[" * 100_000}, tmp_path / "deep", key)
    with pytest.raises(BundleError, match="not JSON"):
        load_bundle(path)


def test_the_directory_of_a_zip_is_never_parsed(archive: Path):
    """A directory of 200,000 entries, of which Python's zipfile would make as many objects before they are counted."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, *[0] * 6) + b"a"
    directory = entry * 200_000
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 16, 16, len(directory), archive.stat().st_size, 0)
    archive.write_bytes(archive.read_bytes() + directory + end)
    tracemalloc.start()
    with pytest.raises(BundleError, match="neither a bundle folder"):
        load_bundle(archive)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * archive.stat().st_size
