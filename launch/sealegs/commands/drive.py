"""Run closed-loop episodes over ROS 2 on the simulated robot node: with a bundle, or recording a behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sealegs.drive import DriveOutcome

SLOW_SHARE = 0.01  # of the commands: fewer too late do not change how an episode goes


@dataclass(frozen=True)
class Config:
    """Options of `sealegs drive`. Give --bundle, or --record with --behaviour."""

    bundle: Path | None = None
    """Bundle that the policy node serves."""
    record: Path | None = None
    """Folder for bags: a behaviour drives and the recorder node records."""
    behaviour: str = "mixed"
    """Who drives when recording: scripted, noisy, mixed, random or still."""
    task: str = "drawer"
    """Task of the simulated robot."""
    robot: str = "so101"
    """Robot profile: a shipped name, or a file."""
    episodes: int = 5
    """How many episodes."""
    seed: int = 1_000_000
    """Seed of the first episode's start; the next ones follow."""
    out: Path | None = None
    """Write the outcome of every episode, and the nodes' timing, as JSON."""
    logs: Path | None = None
    """Folder for the nodes' logs and timing files; a temporary one if not given."""
    film: Path | None = None
    """Folder for the camera frames of the first success, or of the first episode where none succeeds."""
    trust: str = ""
    """Files with further public keys to trust, separated by ':'."""
    provider: str = "cpu"
    """ONNX Runtime's execution provider: cpu, cuda, tensorrt or auto. One that does not start is replaced."""
    viewer: bool = False
    """Open MuJoCo's window on the simulated robot; needs a display."""


def run(config: Config) -> int:
    """Drive, print one line an episode, and the success rate with its interval."""
    import tempfile

    from sealegs.os_errors import require_folder
    from sealegs_contract.errors import BackendError
    from sealegs_learning.statistics import wilson_interval

    if (config.bundle is None) == (config.record is None):
        raise BackendError("give either --bundle (a policy drives) or --record (a behaviour drives and is recorded)")
    if config.episodes < 1:
        raise BackendError(f"--episodes must be at least 1, got {config.episodes}")
    for folder in (config.record, config.logs, config.film, config.out and config.out.parent):
        if folder is not None:
            require_folder(folder)
    with tempfile.TemporaryDirectory(prefix="sealegs-drive-") as temporary:
        outcome = _drive(config, config.logs or Path(temporary))
    if config.out is not None:
        from sealegs_learning.files import write_json

        config.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(config.out, outcome.to_json())
    if config.film is not None:
        config.film.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(outcome.film):
            (config.film / f"{number:04d}.jpg").write_bytes(data)
    total = len(outcome.episodes)
    low, high = wilson_interval(outcome.successes, total)
    print(f"success {outcome.successes} of {total}: {outcome.successes / total:.2f} ({low:.2f} to {high:.2f}, 95%)")
    for line in _too_slow(outcome):
        print(line)
    return 0


def _too_slow(outcome: DriveOutcome) -> list[str]:
    """What to know about figures from a machine that did not keep up: the robot refuses late commands, and holds."""
    timing = outcome.robot_timing
    expired, accepted = int(timing.get("commands_expired", 0)), int(timing.get("commands_accepted", 0))
    late = int(timing.get("commands_late", 0))
    lines = []
    if expired > SLOW_SHARE * (expired + accepted):
        lines.append(
            f"this machine was too slow: {expired} of {expired + accepted} commands came too late and were refused"
        )
    if late:
        lines.append(f"{late} of {accepted} commands came after their tick: those episodes differ from `evaluate`'s")
    return lines


def _drive(config: Config, logs: Path) -> DriveOutcome:
    from sealegs.drive import DriveOptions, drive_bundle, record_behaviour

    seeds = tuple(config.seed + k for k in range(config.episodes))
    options = DriveOptions(config.task, seeds, logs, config.robot, config.viewer)

    def progress(done: int, total: int) -> None:
        print(f"{done}/{total} episodes", flush=True)

    if config.bundle is not None:
        return drive_bundle(config.bundle, options, progress, config.trust, config.provider)
    assert config.record is not None  # `run` has checked that one of the two is given
    return record_behaviour(config.behaviour, config.record, options, progress)
