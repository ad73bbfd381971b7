"""Say what this machine has and lacks, with the fix for each. Exit code 0 if the demo can run, 2 otherwise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """No choices but the form of the answer."""

    json: bool = False
    """Print the findings as JSON instead of a table."""


def run(config: Config) -> int:
    """Examine the machine and print what was found."""
    from dataclasses import asdict
    from pathlib import Path

    from sealegs.doctor import examine

    checks = examine(Path.cwd())
    failed = [check for check in checks if check.state == "fails"]
    if config.json:
        import json

        print(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        marks = {"ok": "[green]ok[/]", "lacks": "[yellow]lacks[/]", "fails": "[red]FAILS[/]"}
        table = Table("", "", "found", "what to do", show_edge=False)
        for check in checks:
            table.add_row(marks[check.state], check.name, escape(check.found), escape(check.fix))
        console = Console()
        console.print(table)
        verdict = "The demo can run." if not failed else f"The demo cannot run: {', '.join(c.name for c in failed)}."
        console.print(f"\n{verdict}")
    return 2 if failed else 0
