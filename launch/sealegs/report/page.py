"""`write_report`: the whole page. It needs no other file and asks no network for anything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from sealegs.report import charts, sections, svg
from sealegs.report.summary import Summary, parse_summary

# The browser itself is told to refuse anything from outside the file.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def render_report(summary: Summary, run_dir: Path) -> str:
    """The page as text. Frames and films come from `run_dir`; captions count those that are missing."""
    body = "".join(
        (
            sections.heading(summary),
            sections.claims(summary),
            sections.closed_loop(summary, run_dir),
            sections.policies(summary),
            sections.reward(summary, run_dir),
            sections.labels(summary),
            sections.data(summary),
            sections.bundle(summary),
            sections.what_was_run(summary),
        )
    )
    script = f"<script>{_resource('player.js')}</script>" if summary.ros and summary.ros.films else ""
    return whole_page(f"Sealegs: {summary.task or summary.name}", body, script)


def whole_page(title: str, body: str, script: str = "") -> str:
    """A self-contained page around the sections `body`."""
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_resource('page.css')}{svg.MARK_STYLE}</style></head>"
    )
    return f"{head}<body><main>\n{body}</main>{script}</body></html>\n"


def write_report(summary: Summary | Mapping[str, Any], run_dir: Path, out: Path) -> None:
    """Write the page about a run to `out`, atomically. Raises ReportError for a malformed summary or image."""
    whole = summary if isinstance(summary, Summary) else parse_summary(dict(summary), "summary")
    write_page(out, render_report(whole, run_dir))


def write_images(summary: Summary, run_dir: Path, folder: Path) -> list[Path]:
    """The main charts as SVG files of their own (for a README): success.svg, reward.svg, latency.svg, labels.svg."""
    drawn: list[tuple[str, float, charts.Drawn]] = []
    if rows := sections.success_rows(summary):
        drawn.append(("success", charts.WIDTH, charts.success_bars(rows)))
    if summary.reward is not None and summary.reward.strips:
        body, height, _ = sections.strip_body(_best_strip(summary), run_dir)
        drawn.append(("reward", charts.STRIP_WIDTH, (body, height)))
    if summary.ros is not None and summary.ros.command_latency is not None:
        timing = summary.ros.command_latency
        chart = charts.timing_histogram(timing, "observation to command", "s1", sections.LATENCY_TARGET_MS)
        drawn.append(("latency", charts.WIDTH, chart))
    if summary.labels is not None and summary.labels.bins:
        drawn.append(("labels", charts.WIDTH, charts.label_accuracy(summary.labels.bins)))
    paths = []
    for name, width, (body, height) in drawn:
        path = folder / f"{name}.svg"
        write_page(path, svg.drawing(width, height, body, f"{name} of the run {summary.name}", standalone=True))
        paths.append(path)
    return paths


def _best_strip(summary: Summary) -> Any:
    strips = summary.reward.strips if summary.reward is not None else ()
    return next((strip for strip in strips if strip.outcome == "success"), strips[0])


def _resource(name: str) -> str:
    return resources.files("sealegs.report").joinpath(name).read_text(encoding="utf-8")


def write_page(path: Path, content: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(content, encoding="utf-8")
    os.replace(part, path)
