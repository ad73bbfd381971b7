"""Write one self-contained HTML page about a run from its summary.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Config:
    """Options of `sealegs report`."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder, with the summary.json that `sealegs demo` writes."""
    out: Path | None = None
    """Where to write the page; report.html in the run folder if not given."""
    images: Path | None = None
    """Also write the main charts as SVG files into this folder, for a README or slides."""


def run(config: Config) -> int:
    """Rewrite the page."""
    from sealegs.report.page import write_images, write_report
    from sealegs.report.summary import read_summary

    out = config.out or config.run / "report.html"
    summary = read_summary(config.run / "summary.json")
    write_report(summary, config.run, out)
    print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
    if config.images is not None:
        for path in write_images(summary, config.run, config.images):
            print(f"wrote {path}")
    return 0
