"""Ed25519 signatures over the SHA-256 of every file of a bundle.

The signed message is `sealegs-bundle-v1` and then one line `sha256  name` per file, sorted by name, so that it binds
the exact file set. The key is a PEM file of mode 0600; trusted keys are lines `ed25519 <64 hex digits> comment`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sealegs_contract.errors import BundleError
from sealegs_deploy.own_files import replace_file

SIGNATURE_NAME = "signature.json"
_HEADER = b"sealegs-bundle-v1\n"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")
_TRUST_LINE = re.compile(r"ed25519 ([0-9a-f]{64})(?: (.*))?")
MAXIMUM_KEY_FILE_BYTES = 64 * 1024


def configuration_folder() -> Path:
    """`$XDG_CONFIG_HOME/sealegs`, by default ~/.config/sealegs."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "sealegs"


def default_key_path() -> Path:
    """Where the own key is made on first use."""
    return configuration_folder() / "keys" / "signing.pem"


def trusted_keys_path() -> Path:
    """The user's list of foreign signers; it need not exist."""
    return configuration_folder() / "trusted_keys"


def key_id(public_key: str) -> str:
    """Short name of a public key (64 hex digits): the start of its SHA-256."""
    return hashlib.sha256(bytes.fromhex(public_key)).hexdigest()[:16]


@dataclass(frozen=True)
class SigningKey:
    """A private key and where it lies."""

    private: Ed25519PrivateKey
    path: Path

    @property
    def public_key(self) -> str:
        """64 hex digits."""
        return self.private.public_key().public_bytes_raw().hex()

    @property
    def id(self) -> str:
        """Short name: see `key_id`."""
        return key_id(self.public_key)


def load_key(path: Path) -> SigningKey:
    """A private key from a PEM file that only its owner may read. Raises BundleError otherwise."""
    if not path.is_file():
        raise BundleError(f"no signing key at {path}; leave --key out and one is made on first use")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise BundleError(f"signing key {path} has mode {mode:04o}, so others may read it; run: chmod 600 {path}")
    try:
        private = serialization.load_pem_private_key(_read_small(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BundleError(f"{path} is not an unencrypted PEM private key") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise BundleError(f"{path} holds a {type(private).__name__}, expected an Ed25519 private key")
    return SigningKey(private, path)


def own_key(path: Path | None = None) -> SigningKey:
    """The key at `path` (which must exist), or the default key, made on first use with its public half beside it."""
    if path is not None:
        return load_key(path)
    path = default_key_path()
    if not path.exists():
        create_key(path)
    key = load_key(path)
    public = path.with_suffix(".pub")
    if not public.exists():
        replace_file(public, trust_line(key.public_key, "own key").encode())
    return key


def create_key(path: Path) -> bool:
    """Write a new private key to `path`; False where there is one already, which stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return _create_once(path, pem)


def trust_line(public_key: str, comment: str) -> str:
    """One line of a trusted-keys file."""
    return f"ed25519 {public_key} {comment}\n"


def read_trusted_keys(path: Path) -> frozenset[str]:
    """Public keys (64 hex digits each) of a trusted-keys or .pub file."""
    return frozenset(trust_lines(path))


def trust_lines(path: Path) -> dict[str, str]:
    """Comment of every public key of a trusted-keys or .pub file. Empty lines and # comments are skipped."""
    if not path.is_file():
        raise BundleError(f"no trusted-keys file at {path}")
    if path.stat().st_mode & stat.S_IWOTH:
        raise BundleError(f"anyone may write {path}, and so choose whom you trust; run: chmod o-w {path}")
    keys = {}
    for number, line in enumerate(_read_small(path).decode("utf-8", errors="replace").splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            public_key, comment = parse_trust_line(line, f"{path}:{number}")
            keys[public_key] = comment
    return keys


def parse_trust_line(line: str, where: str) -> tuple[str, str]:
    """Public key and comment of `ed25519 <64 hex digits> comment`. BundleError names `where`."""
    match = _TRUST_LINE.fullmatch(line.strip())
    if match is None:
        raise BundleError(f"{where}: expected `ed25519 <64 hex digits> comment`, got {line[:80]!r}")
    return match[1], (match[2] or "").strip()


def own_public_keys() -> list[Path]:
    """The public halves of the own keys."""
    return sorted((configuration_folder() / "keys").glob("*.pub"))


def trusted_keys(extra: Iterable[str | Path] = ()) -> frozenset[str]:
    """Whom this user trusts: the own keys (keys/*.pub), the user's trusted_keys file, and the files in `extra`."""
    files = own_public_keys()
    if trusted_keys_path().is_file():
        files.append(trusted_keys_path())
    files += [Path(path) for path in extra]
    return frozenset().union(*(read_trusted_keys(path) for path in files))


def signed_message(digests: Mapping[str, str]) -> bytes:
    """The bytes that are signed: header, then `sha256  name` lines sorted by name."""
    return _HEADER + b"".join(f"{digests[name]}  {name}\n".encode() for name in sorted(digests))


def sign(files: Mapping[str, bytes], key: SigningKey) -> bytes:
    """signature.json for `files`."""
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return _encode(
        {
            "algorithm": "ed25519",
            "files": digests,
            "key_id": key.id,
            "public_key": key.public_key,
            "signature": key.private.sign(signed_message(digests)).hex(),
        }
    )


@dataclass(frozen=True)
class Signature:
    """A parsed signature.json; nothing in it is believed before `verify_files`."""

    digests: Mapping[str, str]
    public_key: str
    signature: str

    @property
    def key_id(self) -> str:
        """Short name of the signer."""
        return key_id(self.public_key)


def parse_signature(data: bytes) -> Signature:
    """Strict: only the exact bytes that `sign` writes for this content are accepted, so that no byte is free."""
    try:
        content = json.loads(data)
        digests, public_key, signature = content["files"], content["public_key"], content["signature"]
        sound = (
            all(_DIGEST.fullmatch(digest) for digest in digests.values())
            and _DIGEST.fullmatch(public_key)
            and _SIGNATURE.fullmatch(signature)
            and content["algorithm"] == "ed25519"
            and content["key_id"] == key_id(public_key)
            and len(content) == 5
            and _encode(content) == data
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BundleError(f"{SIGNATURE_NAME} is malformed ({type(error).__name__})") from error
    if not sound:
        raise BundleError(f"{SIGNATURE_NAME} was changed: it is not as a signer writes it")
    return Signature(digests, public_key, signature)


def verify_files(files: Mapping[str, bytes], signature: Signature, trusted: frozenset[str]) -> None:
    """`files` must be exactly what a trusted key signed. Raises BundleError naming the signer or the file at fault."""
    if signature.public_key not in trusted:
        raise BundleError(
            f"signed by key {signature.key_id}, which is not trusted here; if you know this signer, run sealegs keys "
            f"trust with `{trust_line(signature.public_key, 'their name').strip()}`, which adds that line to "
            f"{trusted_keys_path()}, or pass a file with it (--trust)"
        )
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.public_key)).verify(
            bytes.fromhex(signature.signature), signed_message(signature.digests)
        )
    except (InvalidSignature, ValueError) as error:
        raise BundleError(
            f"{SIGNATURE_NAME} was changed: its signature is not that of key {signature.key_id}"
        ) from error
    missing, extra = sorted(signature.digests.keys() - files.keys()), sorted(files.keys() - signature.digests.keys())
    if missing or extra:
        what = f"lacks {', '.join(missing)}" if missing else f"holds {', '.join(extra)}, which nobody signed"
        raise BundleError(f"the bundle {what}; expected exactly {', '.join(sorted(signature.digests))}")
    for name, data in sorted(files.items()):
        if hashlib.sha256(data).hexdigest() != signature.digests[name]:
            raise BundleError(f"{name} was changed after it was signed")


def _encode(content: Mapping[str, object]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _read_small(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAXIMUM_KEY_FILE_BYTES + 1)
    if len(data) > MAXIMUM_KEY_FILE_BYTES:
        raise BundleError(f"{path} is larger than the {MAXIMUM_KEY_FILE_BYTES} bytes that a key file may have")
    return data


def _create_once(path: Path, data: bytes) -> bool:
    """Write a 0600 file whole or not at all; False for whoever comes second, and finds the first one's."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".key-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True
