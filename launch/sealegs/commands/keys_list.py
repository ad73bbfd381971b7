"""Show whose bundles run here: your own keys, and the signers that you trust."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """No options."""


def run(config: Config) -> int:
    """A line for every key: id, whose, name and file."""
    from sealegs_deploy.keyring import known_keys

    keys = known_keys()
    if not keys:
        print("no keys yet: `sealegs keys make`, or the first export, makes your own; `sealegs keys trust` adds others")
    width = max((len(repr(key.name)) for key in keys), default=0)
    for key in keys:
        print(f"{key.id}  {'own    ' if key.own else 'trusted'}  {key.name!r:<{width}}  {key.file}")
    return 0
