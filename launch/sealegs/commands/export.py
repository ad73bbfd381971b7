"""Turn a checkpoint into a signed ONNX bundle, after comparing it with torch on 10,000 inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sealegs.exporting import BestOfNOptions


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
    previous_if_damaged: bool = False
    """Where the newest checkpoint is damaged, export the one before it, which training kept, instead of refusing."""
    support: bool = True
    """Fit a support guard to the data that the policy was trained on, where they are known and there."""
    support_data: Path | None = None
    """Dataset to fit it on instead."""
    support_runs: Path | None = None
    """Dataset of this policy's own episodes with all in order: the thresholds then also bound ITS false alarms."""
    support_simulated: int = 200
    """Without those: as many own runs in simulation, where data and task are simulated. 0: calibrate on logs alone."""
    false_alarms: float = 0.01
    """Share of episodes with all in order in which the guard may hold."""
    best_of_n: BestOfNOptions = field(default_factory=BestOfNOptions)
    """Add a scorer, so that the policy node can choose the best of N candidate actions."""


def run(config: Config) -> int:
    """Export, then read the bundle back as the robot will."""
    from rich.console import Console

    from sealegs.exporting import export_checkpoint
    from sealegs.support_fitting import advice, find_support_data
    from sealegs_deploy.bundle import load_bundle
    from sealegs_deploy.runtime import PolicyRuntime
    from sealegs_deploy.scoring import best_of_n
    from sealegs_deploy.signing import own_key
    from sealegs_deploy.support import load_support
    from sealegs_learning.training.checkpoint import find_checkpoint

    out = config.out.with_name(f"{config.out.name}.zip") if config.zip and config.out.suffix != ".zip" else config.out
    key = own_key(config.key)
    folder = find_checkpoint(config.policy, config.previous_if_damaged)
    options, why_not = find_support_data(
        folder,
        config.support,
        config.support_data,
        config.support_runs,
        config.false_alarms,
        config.support_simulated,
    )
    with Console(stderr=True).status("exporting and comparing 10,000 outputs"):
        manifest = export_checkpoint(
            folder, out, config.key, config.name, config.overwrite, config.best_of_n, support=options
        )
        bundle = load_bundle(out, trusted_public_keys=(key.public_key,))
        runtime = PolicyRuntime(bundle)
        load_support(bundle)
        if manifest.best_of_n is not None:
            best_of_n(bundle, runtime, 2)
    size = sum(file.stat().st_size for file in out.iterdir()) if out.is_dir() else out.stat().st_size
    difference = manifest.parity.max_abs_difference_rad
    print(f"wrote {out} ({size / 1e6:.2f} MB): {manifest.name} version {manifest.version}, signed by {key.id}")
    if folder not in {config.policy, config.policy / "checkpoint"}:
        print(f"of {folder}, the checkpoint before the newest one")
    print(f"torch and onnxruntime differ by at most {difference:.2g} rad over {manifest.parity.inputs:,} inputs")
    if best := manifest.best_of_n:
        print(
            f"{best.file}: {best.members} members, reward {best.reward}, differs by {best.max_relative_difference:.2g}"
        )
    print(advice(manifest.support, config.false_alarms) if manifest.support else f"support guard: none: {why_not}")
    return 0
