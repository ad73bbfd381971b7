from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sealegs_contract.errors import BundleError
from sealegs_deploy.signing import (
    SigningKey,
    key_id,
    load_key,
    own_key,
    parse_signature,
    read_trusted_keys,
    sign,
    signed_message,
    trust_line,
    trusted_keys,
    verify_files,
)


def test_first_use_makes_a_private_key_that_only_its_owner_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert trusted_keys() == frozenset()
    key = own_key()
    assert key.path == tmp_path / "sealegs" / "keys" / "signing.pem"
    assert stat.S_IMODE(key.path.stat().st_mode) == 0o600
    assert own_key().public_key == key.public_key
    assert trusted_keys() == {key.public_key}
    assert sorted(path.name for path in key.path.parent.iterdir()) == ["signing.pem", "signing.pub"]


def test_signed_message_is_exactly_header_and_sorted_lines():
    message = signed_message({"b.json": "22" * 32, "a.onnx": "11" * 32})
    assert message == b"sealegs-bundle-v1\n" + b"11" * 32 + b"  a.onnx\n" + b"22" * 32 + b"  b.json\n"


def test_signature_verifies_with_the_bare_library(key: SigningKey):
    files = {"a": b"abc", "b": b""}
    content = json.loads(sign(files, key))
    # SHA-256 of "abc" and of nothing, from FIPS 180-4.
    assert content["files"] == {
        "a": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "b": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(content["public_key"]))
    public.verify(bytes.fromhex(content["signature"]), signed_message(content["files"]))
    assert content["key_id"] == key_id(content["public_key"]) == key.id


def test_verify_names_the_changed_missing_and_extra_file(key: SigningKey):
    files = {"a": b"abc", "b": b"def"}
    signature = parse_signature(sign(files, key))
    trusted = frozenset({key.public_key})
    verify_files(files, signature, trusted)
    for changed, named in (
        ({"a": b"abc", "b": b"deg"}, "b was changed"),
        ({"a": b"abc"}, "lacks b"),
        ({**files, "c": b""}, "holds c"),
        ({"a": b"def", "b": b"abc"}, "a was changed"),
    ):
        with pytest.raises(BundleError, match=named):
            verify_files(changed, signature, trusted)


def test_unknown_signer_is_refused_with_its_id_and_the_line_that_trusts_it(key: SigningKey, tmp_path: Path):
    foreign = SigningKey(Ed25519PrivateKey.generate(), tmp_path / "foreign.pem")
    signature = parse_signature(sign({"a": b"abc"}, foreign))
    with pytest.raises(BundleError, match=foreign.id) as refusal:
        verify_files({"a": b"abc"}, signature, frozenset({key.public_key}))
    line = str(refusal.value).split("`")[1]
    (tmp_path / "trust").write_text(line + "\n")
    assert read_trusted_keys(tmp_path / "trust") == {foreign.public_key}
    verify_files({"a": b"abc"}, signature, trusted_keys([tmp_path / "trust"]))


def test_signature_of_another_file_set_with_the_key_swapped_is_refused(key: SigningKey, tmp_path: Path):
    """A trusted public key beside a foreign signature."""
    foreign = SigningKey(Ed25519PrivateKey.generate(), tmp_path / "foreign.pem")
    content = json.loads(sign({"a": b"abc"}, foreign))
    content |= {"public_key": key.public_key, "key_id": key.id}
    forged = parse_signature((json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
    with pytest.raises(BundleError, match="not that of key"):
        verify_files({"a": b"abc"}, forged, frozenset({key.public_key}))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.upper(),
        lambda text: text.replace("\n", ""),
        lambda text: text + " ",
        lambda text: text.replace('"ed25519"', '"none"'),
        lambda text: text.replace('{\n "algorithm"', '{\n "algorithm": "x",\n "algorithm"'),
        lambda text: "[]",
        lambda text: "[" * 100_000,
        lambda text: '{"files": 3}',
        lambda text: "",
    ],
)
def test_only_the_exact_bytes_of_a_signature_parse(key: SigningKey, change):
    text = sign({"a": b"abc"}, key).decode()
    parse_signature(text.encode())
    with pytest.raises(BundleError):
        parse_signature(change(text).encode())


def test_keys_that_others_may_read_or_of_another_kind_are_refused(key: SigningKey, tmp_path: Path):
    path = tmp_path / "key.pem"
    path.write_bytes(key.path.read_bytes())
    path.chmod(0o644)
    with pytest.raises(BundleError, match="chmod 600"):
        load_key(path)
    path.chmod(0o600)
    assert load_key(path).public_key == key.public_key
    other = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(other)
    with pytest.raises(BundleError, match="expected an Ed25519"):
        load_key(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(BundleError, match="not an unencrypted PEM"):
        load_key(path)
    path.write_bytes(b"x" * 100_000)
    with pytest.raises(BundleError, match="larger than"):
        load_key(path)
    with pytest.raises(BundleError, match="no signing key"):
        own_key(tmp_path / "absent.pem")


def test_trusted_keys_files_are_strict(key: SigningKey, tmp_path: Path):
    path = tmp_path / "trust"
    path.write_text(f"# comment\n\n{trust_line(key.public_key, 'me and others')}ed25519 {'0' * 64}\n")
    assert read_trusted_keys(path) == {key.public_key, "0" * 64}
    path.write_text(f"{trust_line(key.public_key, 'me')}rsa abc\n")
    with pytest.raises(BundleError, match=r"trust:2: expected"):
        read_trusted_keys(path)
    with pytest.raises(BundleError, match="no trusted-keys file"):
        trusted_keys([tmp_path / "absent"])


def test_a_key_made_twice_at_once_is_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whoever loses the race uses the winner's key."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    winner = own_key()
    monkeypatch.setattr(Path, "exists", lambda self: False if self.name == "signing.pem" else os.path.exists(self))
    assert own_key().public_key == winner.public_key
