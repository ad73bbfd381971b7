"""What a full run leaves in the documentation: its results file and its main pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from sealegs.demo.stages import write_json
from sealegs_contract.errors import MachineError


def publish(run: Path, docs: Path) -> list[Path]:
    """Copy `run`'s results to docs/results/NAME.json and its charts to docs/images; the files written."""
    from sealegs.report.page import write_images
    from sealegs.report.summary import read_summary

    summary = read_summary(run / "summary.json")
    if summary.arguments.get("quick"):
        raise MachineError(f"{run} is a quick run: its figures mean little and are not published")
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    target = docs / "results" / f"{results['name']}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, results)
    images = docs / "images" / results["name"]
    shutil.rmtree(images, ignore_errors=True)
    images.mkdir(parents=True)
    return [target, *write_images(summary, run, images)]
