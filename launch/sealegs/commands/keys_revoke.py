"""Trust a signer no longer: bundles that they signed are refused from then on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Config:
    """Options of `sealegs keys revoke`."""

    id: Annotated[str, tyro.conf.Positional]
    """The key's id, as `sealegs keys list` shows it."""


def run(config: Config) -> int:
    """Print what was removed."""
    from sealegs_deploy.keyring import revoke

    key = revoke(config.id)
    print(
        f"removed key {key.id} {key.name!r} from {key.file}; nodes that run its policies keep them until they restart"
    )
    return 0
