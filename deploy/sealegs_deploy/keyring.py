"""Whom this user trusts, as a list that can be shown and changed: own keys, and the signers in trusted_keys."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sealegs_contract.errors import BundleError, available
from sealegs_deploy.own_files import locked, replace_file
from sealegs_deploy.signing import (
    SigningKey,
    create_key,
    default_key_path,
    key_id,
    load_key,
    own_public_keys,
    parse_trust_line,
    trust_line,
    trust_lines,
    trusted_keys_path,
)

_KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAXIMUM_COMMENT = 80


@dataclass(frozen=True)
class KnownKey:
    """A public key that is trusted here: whose, and the file that says so."""

    public_key: str
    name: str
    file: Path
    own: bool

    @property
    def id(self) -> str:
        """As bundles and messages name it."""
        return key_id(self.public_key)


def known_keys() -> list[KnownKey]:
    """All trusted keys: the own ones, then those of the trusted_keys file."""
    files = [(path, True) for path in own_public_keys()]
    if trusted_keys_path().is_file():
        files.append((trusted_keys_path(), False))
    return [KnownKey(key, name, path, own) for path, own in files for key, name in trust_lines(path).items()]


def make_key(name: str = "") -> SigningKey:
    """A new own key, by default the one that signs exports. BundleError where that key is there already."""
    if name and not _KEY_NAME.fullmatch(name):
        raise BundleError(f"{name!r} is no name for a key: up to 64 letters, digits, '.', '_' and '-'")
    path = default_key_path().with_name(f"{name}.pem") if name else default_key_path()
    if not create_key(path):
        raise BundleError(f"there is a key at {path} already, which is never replaced; choose another --name")
    key = load_key(path)
    replace_file(public_half(path), trust_line(key.public_key, name or "own key").encode())
    return key


def public_half(path: Path) -> Path:
    """The .pub file beside a private key."""
    return path.with_name(f"{path.name.removesuffix('.pem')}.pub")


def trust(given: str, name: str = "") -> list[KnownKey]:
    """Add the key of an `ed25519 ...` line, or those of a .pub file, to trusted_keys; those that are new there.

    `name` replaces the comment of one key. BundleError on anything malformed; nothing is written then.
    """
    if given.startswith("ed25519 "):
        offered = dict([parse_trust_line(given, "the line")])
    elif Path(given).is_file():
        offered = trust_lines(Path(given))
    else:
        raise BundleError(f"no file {given}; expected a .pub file, or a line `ed25519 <64 hex digits> comment`")
    if not offered:
        raise BundleError(f"{given} holds no key")
    if name and len(offered) > 1:
        raise BundleError(f"{given} holds {len(offered)} keys, and --name would be the name of one")
    offered = {key: name or comment for key, comment in offered.items()}
    _check_comments(offered.values())
    path = trusted_keys_path()
    with locked(path.parent):
        there = trust_lines(path) if path.is_file() else {}
        new = {key: comment for key, comment in offered.items() if key not in there}
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        # A last line without its newline must not swallow the first new one.
        before += "" if before.endswith("\n") or not before else "\n"
        if new:
            replace_file(path, (before + "".join(trust_line(*entry) for entry in new.items())).encode())
    return [KnownKey(key, comment, path, own=False) for key, comment in new.items()]


def revoke(identity: str) -> KnownKey:
    """Remove the key of that id from trusted_keys. BundleError for own and unknown ones."""
    path = trusted_keys_path()
    with locked(path.parent):
        known = known_keys()
        found = next((key for key in known if key.id == identity and not key.own), None)
        own = next((key for key in known if key.id == identity and key.own), None)
        if found is None and own is not None:
            raise BundleError(f"{identity} is your own key; to trust it no longer, delete {own.file} and its .pem")
        if found is None:
            raise BundleError(f"no trusted key {identity!r}; {available(key.id for key in known if not key.own)}")
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not line.strip().startswith(f"ed25519 {found.public_key}")]
        replace_file(path, "".join(kept).encode())
    return found


def _check_comments(comments: Iterable[str]) -> None:
    """They are printed to a terminal and stand in a file of lines."""
    for comment in comments:
        if not comment.isprintable() or len(comment) > MAXIMUM_COMMENT:
            raise BundleError(
                f"{comment[:MAXIMUM_COMMENT]!r} is no name for a signer: up to {MAXIMUM_COMMENT} printable characters"
            )
