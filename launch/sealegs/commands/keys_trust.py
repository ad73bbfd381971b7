"""Trust a signer: their .pub file, or its line. Bundles that they signed run here from then on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Config:
    """Options of `sealegs keys trust`."""

    key: Annotated[tuple[str, ...], tyro.conf.Positional]
    """A .pub file, or a line `ed25519 <64 hex digits> comment`."""
    name: str = ""
    """What to call the signer, in place of the comment."""


def run(config: Config) -> int:
    """Print what was added."""
    from sealegs_deploy.keyring import trust
    from sealegs_deploy.signing import trusted_keys_path

    added = trust(" ".join(config.key), config.name)
    for key in added:
        print(f"trusted key {key.id} {key.name!r} in {key.file}")
    if not added:
        print(f"already in {trusted_keys_path()}; nothing changed")
    return 0
