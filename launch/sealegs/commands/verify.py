"""Check a bundle: signature, every file's digest, manifest and graph; exit code 2 if anything is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Config:
    """Options of `sealegs verify`."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """Bundle: a folder or a .zip."""
    trust: tuple[Path, ...] = ()
    """Files with further public keys to trust (`ed25519 <64 hex digits> comment` lines, or a .pub file)."""
    robot: str = ""
    """Also check that it fits this robot: a shipped profile's name, or a file."""
    minimum_version: int = 0
    """Refuse a lower version counter."""


def run(config: Config) -> int:
    """Print what the bundle is."""
    from sealegs_contract.robot import load_robot
    from sealegs_deploy.bundle import load_bundle
    from sealegs_deploy.certificate import gate_line
    from sealegs_deploy.manifest import check_fits, summary
    from sealegs_deploy.runtime import PolicyRuntime
    from sealegs_deploy.support import load_support

    bundle = load_bundle(config.bundle, config.trust, config.minimum_version)
    PolicyRuntime(bundle)
    load_support(bundle)
    if config.robot:
        check_fits(bundle.manifest, load_robot(config.robot))
    rows = {"signed by": f"key {bundle.key_id}, trusted here"} | summary(bundle.manifest)
    rows["gate"] = gate_line(bundle)
    width = max(map(len, rows))
    print(f"{config.bundle}: verified")
    for label, text in rows.items():
        print(f"  {label:<{width}}  {text}")
    return 0
