"""Show what a bag, dataset, bundle, checkpoint or demo run holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Config:
    """Options of `sealegs info`."""

    path: tyro.conf.Positional[Path]
    """A bag (folder or .mcap), a folder of bags, a dataset, a bundle, a checkpoint, or the folder of a demo run."""
    json: bool = False
    """Print JSON instead of tables."""


def run(config: Config) -> int:
    """Print it."""
    import json

    from rich.console import Console

    from sealegs.inspection import describe

    description = describe(config.path)
    if config.json:
        print(json.dumps(description.content, indent=2, ensure_ascii=False, default=str))
        return 0
    console = Console()
    for part in description.render():
        renderable: RenderableType = part
        console.print(renderable)
    return 0
