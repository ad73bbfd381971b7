"""Turn a checkpoint into a signed ONNX bundle, after comparing it with torch on 10,000 inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Config:
    """Options of `sealegs export`."""

    policy: Path
    """Checkpoint, or the training run that holds it."""
    out: Path
    """Bundle to write: a folder, or a file ending in .zip."""
    key: Path | None = None
    """Private key to sign with (PEM, mode 0600); without it your own, made on first use."""
    name: str = ""
    """Name of the policy in the manifest; by default task and learner."""
    zip: bool = False
    """Write one .zip file."""
    overwrite: bool = False
    """Replace a bundle that is there already."""


def run(config: Config) -> int:
    """Export, then read the bundle back as the robot will."""
    from rich.console import Console

    from sealegs.exporting import export_checkpoint
    from sealegs_deploy.bundle import load_bundle
    from sealegs_deploy.runtime import PolicyRuntime
    from sealegs_deploy.signing import own_key

    out = config.out.with_name(f"{config.out.name}.zip") if config.zip and config.out.suffix != ".zip" else config.out
    key = own_key(config.key)
    with Console(stderr=True).status("exporting and comparing 10,000 outputs"):
        manifest = export_checkpoint(config.policy, out, config.key, config.name, config.overwrite)
        PolicyRuntime(load_bundle(out, trusted_public_keys=(key.public_key,)))
    size = sum(file.stat().st_size for file in out.iterdir()) if out.is_dir() else out.stat().st_size
    difference = manifest.parity.max_abs_difference_rad
    print(f"wrote {out} ({size / 1e6:.2f} MB): {manifest.name} version {manifest.version}, signed by {key.id}")
    print(f"torch and onnxruntime differ by at most {difference:.2g} rad over {manifest.parity.inputs:,} inputs")
    return 0
