"""Make a signing key of your own; an existing one is never replaced."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """Options of `sealegs keys make`."""

    name: str = ""
    """Name of a further key (`export --key` chooses it); empty: the key that exports sign with by default."""


def run(config: Config) -> int:
    """Print where the key is, and how others come to trust it."""
    from sealegs_deploy.keyring import make_key, public_half

    key = make_key(config.name)
    public = public_half(key.path)
    print(f"wrote {key.path} (private, keep it) and {public}")
    print(f"key {key.id}; on the robot, run:\n  sealegs keys trust {public.read_text(encoding='utf-8').strip()}")
    return 0
