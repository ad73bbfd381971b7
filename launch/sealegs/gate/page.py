"""The gate's report: one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sealegs.gate import pictures
from sealegs.report import charts, html, svg
from sealegs.report.page import whole_page
from sealegs.report.summary import Timing
from sealegs_deploy.certificate import Certificate
from sealegs_deploy.gate import Examination
from sealegs_deploy.gate_findings import EpisodeFigures
from sealegs_deploy.gate_thresholds import Verdict
from sealegs_deploy.manifest import Manifest

DASH = "\N{EN DASH}"


@dataclass(frozen=True)
class GateReport:
    """What the page shows. `notes`: what of the bags could not be used."""

    manifest: Manifest
    certificate: Certificate
    """What a certificate says or, of a refused bundle, would say."""
    examination: Examination
    notes: tuple[str, ...] = ()


def render(report: GateReport) -> str:
    """The page as text."""
    body = _heading(report) + _verdicts(report.certificate.verdicts) + _beside(report) + _episodes(report)
    body += _value(report) + _examined(report)
    return whole_page(f"Sealegs gate: {report.manifest.name}", body)


def _heading(report: GateReport) -> str:
    certificate, figures = report.certificate, report.certificate.figures
    verdict = "passed" if certificate.passed else "refused"
    about = f"{report.manifest.robot.name}, task {report.manifest.provenance.task or 'unknown'}, {certificate.created}"
    kept = sum(line.passed for line in certificate.verdicts)
    tiles = [
        (f"{kept} of {len(certificate.verdicts)}", "thresholds kept"),
        (str(figures.episodes), f"episodes replayed, {figures.minutes:.1f} minutes of the robot's time"),
        (_number(figures.agreement), "agreement with the record, over a linear fit's"),
        (_number(figures.inference_p99_ms, " ms"), "inference here, 99th percentile"),
    ]
    title = f"{report.manifest.name} version {report.manifest.version}: {verdict}"
    brand = html.paragraph("Sealegs replay gate", "brand")
    return f"<header>{brand}<h1>{html.escape(title)}</h1>{html.paragraph(about, 'soft')}{html.tiles(tiles)}</header>\n"


def _verdicts(lines: Sequence[Verdict]) -> str:
    rows = [
        (
            line.meaning,
            _number(line.value),
            f"{'at least' if line.at_least else 'at most'} {line.limit:g}",
            ("\N{CHECK MARK} kept", "holds") if line.passed else ("\N{MULTIPLICATION X} failed", "fails"),
        )
        for line in sorted(lines, key=lambda line: line.passed)
    ]
    table = html.table(("figure", "measured", "must be", "verdict"), rows, numeric={1, 2})
    lead = "One failed line refuses the bundle. A dash was not measured, and fails unless the thresholds let it."
    return html.section("Verdicts", lead, table)


def _beside(report: GateReport) -> str:
    """One episode beside its record, the joints' correlations, and the inference times."""
    found, manifest = report.examination, report.manifest
    shown = _typical(found)
    if shown is None:
        return ""
    one = found.replayed[shown]
    action, recorded = manifest.action.to_action(one.output), manifest.action.to_action(one.recorded)
    wide = _drawn(
        pictures.traces(manifest.joint_names, action, recorded, manifest.rate_hz), charts.STRIP_WIDTH, "actions"
    )
    matrix = _drawn(pictures.joint_matrix(manifest.joint_names, found.correlations), charts.WIDTH, "correlations")
    asked = np.concatenate([r.elapsed_ns for r in found.replayed]) / 1e6
    timing = charts.timing_histogram(Timing.of(asked[asked > 0.0]), "inference on this machine", "s1")
    figures = [
        html.figure(matrix, "A good policy is strong on the diagonal."),
        html.figure(_drawn(timing, charts.WIDTH, "inference")),
    ]
    lead = "What the policy would have done, moment by moment, beside what was done. Nothing moved."
    caption = f"Episode {one.name}, whose correlation with the record is the median. 1 is full scale."
    return html.section("Beside the record", lead, html.figure(wide, caption, wide=True), html.cards(*figures))


def _typical(found: Examination) -> int | None:
    """Index of the episode with the median correlation; None where none acted."""
    acted = [k for k, one in enumerate(found.replayed) if one.armed]
    if not acted:
        return None
    return sorted(acted, key=lambda k: found.episodes[k].correlation or -2.0)[len(acted) // 2]


def _episodes(report: GateReport) -> str:
    head = ("episode", "outcome", "periods", "guarded", "correlation", "change", "holds", "inference p99, ms")
    rows = [_episode_row(one) for one in report.examination.episodes]
    lead = "Guarded: periods in which the guard changed the command. Change: of the action a period, over the record's."
    notes = "".join(html.paragraph(note, "soft") for note in report.notes)
    return html.section("Episodes", lead, html.table(head, rows, numeric=set(range(2, 8))), notes)


def _episode_row(one: EpisodeFigures) -> tuple[str, ...]:
    outcome = {True: "success", False: "failure", None: "unknown"}[one.succeeded]
    holds = [*one.policy_holds, *one.stream_holds]
    return (
        one.name,
        outcome,
        str(one.periods),
        _percent(one.limited_share),
        _number(one.correlation),
        _number(one.jump_ratio),
        f"{len(holds)}: {holds[0]}" if holds else "0",
        _number(one.inference_p99_ms),
    )


def _value(report: GateReport) -> str:
    figures = report.certificate.figures
    lead = "Fitted Q evaluation from these bags alone: what the policy would earn, against what the record earned."
    if figures.value is None:
        return html.section("Off-policy value", lead, html.paragraph(figures.value_note or "not measured"))
    v = figures.value
    drawing = _drawn(pictures.values(v), charts.WIDTH, "values")
    gain = f"{v.gain:+.4g} [{v.gain_interval[0]:.4g}, {v.gain_interval[1]:.4g}] against the record, reward {v.reward!r}"
    caption = f"{gain}. The intervals are over resampled episodes; what the bags hardly tried is a guess."
    return html.section("Off-policy value", lead, html.cards(html.figure(drawing, caption)))


def _examined(report: GateReport) -> str:
    certificate = report.certificate
    files = html.pairs(list(certificate.files.items()))
    bags = html.pairs([(bag.name, f"{bag.episodes} episode(s), sha256 {bag.sha256}") for bag in certificate.bags])
    thresholds = html.pairs([(k, str(v)) for k, v in certificate.thresholds.model_dump().items()])
    whole = html.pairs([(k, str(v)) for k, v in certificate.figures.model_dump().items()])
    lead = "The exact bytes, by SHA-256. A certificate holds for these files and no others."
    folds = (("Files", files), ("Bags", bags), ("Thresholds", thresholds), ("All figures", whole))
    return html.section("What was examined", lead, *(html.folded(title, content) for title, content in folds))


def _drawn(picture: charts.Drawn, width: float, about: str) -> str:
    body, height = picture
    return svg.drawing(width, height, body, about)


def _number(value: float | None, unit: str = "") -> str:
    return DASH if value is None else f"{value:.3g}{unit}"


def _percent(value: float | None) -> str:
    return DASH if value is None else charts.percent(value)
