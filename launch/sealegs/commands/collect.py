"""Write simulated episodes as bags with the topics and serialisers of the live nodes, faster than real time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Config:
    """Options of `sealegs collect`."""

    out: Path
    """Folder for the bags; complete ones in it are kept, so an interrupted run goes on where it stopped."""
    task: str = "drawer"
    """Task: reach, push or drawer."""
    policy: str = "mixed"
    """Behaviour: scripted, noisy, random, still, or mixed (operators of unequal skill)."""
    episodes: int = 10
    """Number of episodes."""
    seed: int = 0
    """Episode i uses seed + i; equal seeds give equal bags."""
    robot: str = "so101"
    """Robot: a shipped profile's name, or a profile file."""
    cameras: tuple[str, ...] | None = None
    """Cameras to record; all of the robot's unless named."""
    images: bool = True
    """--no-images records no cameras, which is much faster."""
    jobs: int = 2
    """Processes to share the work."""


def run(config: Config) -> int:
    """Collect, and say how many episodes succeeded."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sealegs.collect import CollectConfig, collect

    console = Console()
    cameras = config.cameras if config.images else ()
    settings = CollectConfig(
        config.out, config.task, config.policy, config.episodes, config.seed, config.robot, cameras, config.jobs
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        line = bar.add_task("collecting", total=config.episodes)

        def advance(done: int, total: int) -> None:
            bar.update(line, completed=done, total=total)

        result = collect(settings, advance)
    kept = sum(episode.skipped for episode in result.episodes)
    note = f" ({kept} of them from an earlier run)" if kept else ""
    console.print(
        f"{len(result.episodes)} episodes{note}, {result.successes} successful, in {config.out}", soft_wrap=True
    )
    return 0
