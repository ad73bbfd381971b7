"""Write simulated episodes as bags with the topics and serialisers of the live nodes, faster than real time."""

from __future__ import annotations

from sealegs.collect import CollectConfig as Config

__all__ = ["Config", "run"]


def run(config: Config) -> int:
    """Collect, and say how many episodes succeeded."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sealegs.collect import collect

    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        line = bar.add_task("collecting", total=config.episodes)

        def advance(done: int, total: int) -> None:
            bar.update(line, completed=done, total=total)

        result = collect(config, advance)
    kept = sum(episode.skipped for episode in result.episodes)
    note = f" ({kept} of them from an earlier run)" if kept else ""
    console.print(
        f"{len(result.episodes)} episodes{note}, {result.successes} successful, in {config.out}", soft_wrap=True
    )
    return 0
