"""Replay recorded bags through a bundle in the real controller, and refuse what fails.

Exit codes: 0 passed, 1 refused, 2 not examined, for whatever reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from sealegs.gate.bags import Recording
    from sealegs_deploy.bundle import VerifiedBundle
    from sealegs_deploy.certificate import Certificate
    from sealegs_deploy.gate import Examination
    from sealegs_deploy.gate_findings import Figures
    from sealegs_deploy.support import Support


@dataclass(frozen=True)
class Config:
    """Options of `sealegs gate`."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """Bundle: a folder or a .zip."""
    bags: tuple[Path, ...]
    """Bags, or folders of bags, that its training did not see."""
    thresholds: Path | None = None
    """YAML file with other thresholds than the shipped ones; what it leaves out is as there."""
    out: Path | None = None
    """Write the report, one HTML page, to this file."""
    json: Path | None = None
    """Write all figures and verdicts to this file."""
    candidates: int = 1
    """Examine the best of so many candidate actions, as a node with that parameter runs; 1: the policy alone."""
    certify: bool = False
    """After a pass, put gate.json into the bundle and sign it; after a refusal, take an earlier one out."""
    trust: tuple[Path, ...] = ()
    """Files with further public keys to trust."""
    key: Path | None = None
    """Signing key for the certificate; the own one by default."""
    robot: str = ""
    """Robot: a shipped profile's name, or a file; by default the profile inside the bundle."""
    value: bool = True
    """--no-value leaves the off-policy value out, which takes the longest."""
    dataset: Path | None = None
    """Dataset that was imported from the bags, for a reward sidecar that lies beside it."""
    reward: str = ""
    """Reward of the off-policy value: a sidecar of --dataset, `true` (a simulated task's progress), or `outcomes`; by
    default `true` where the task is simulated, else `outcomes` where some succeeded and some failed."""


def run(config: Config) -> int:
    """Examine, print a verdict a line, and write what was asked for; 0 passed, 1 refused."""
    from sealegs.gate.bags import read_recording
    from sealegs.os_errors import require_file
    from sealegs_contract.robot import load_robot
    from sealegs_deploy.bundle import load_bundle
    from sealegs_deploy.certificate import make_certificate
    from sealegs_deploy.gate import examine
    from sealegs_deploy.gate_thresholds import default_thresholds, load_thresholds

    for path in (config.out, config.json):
        if path is not None:
            require_file(path)
    thresholds = load_thresholds(config.thresholds) if config.thresholds else default_thresholds()
    bundle = load_bundle(config.bundle, config.trust)
    robot = load_robot(config.robot) if config.robot else bundle.manifest.robot
    recording = read_recording(config.bags, bundle.manifest, robot)
    found = examine(bundle, robot, recording.episodes, thresholds, _support_of(bundle), candidates=config.candidates)
    found = replace(found, figures=_with_value(config, bundle, recording, found))
    certificate = make_certificate(bundle, recording.bags, thresholds, found.figures, config.candidates)
    _show(certificate, recording)
    _write(config, bundle, certificate, found, recording)
    if config.certify:
        _certify(config, bundle, certificate)
    return 0 if certificate.passed else 1


def _with_value(config: Config, bundle: VerifiedBundle, recording: Recording, found: Examination) -> Figures:
    """The figures with an off-policy value, or with the reason why it was not measured."""
    if not config.value:
        return found.figures.with_value(None, "not measured: left out by --no-value")
    if config.candidates > 1:
        return found.figures.with_value(None, "not measured: it would be that of the policy alone")
    from rich.progress import Progress

    from sealegs.gate.value import measure_value

    with Progress(transient=True) as bar:
        job = bar.add_task("off-policy value", total=None)
        value, note = measure_value(
            bundle,
            recording.paths,
            config.dataset,
            config.reward,
            progress=lambda done, total: bar.update(job, completed=done, total=total),
        )
    return found.figures.with_value(value, note)


def _show(certificate: Certificate, recording: Recording) -> None:
    """A line a verdict, the failed ones last, where the eye rests."""
    figures, lines = certificate.figures, sorted(certificate.verdicts, key=lambda line: not line.passed)
    width = max(len(line.threshold) for line in lines)
    print(f"{figures.episodes} episodes, {figures.minutes:.1f} minutes of robot time")
    for note in recording.notes:
        print(f"note: {note}")
    for line in lines:
        print(f"  {'pass' if line.passed else 'FAIL'}  {line.threshold:<{width}}  {line.text}: {line.meaning}")
    if figures.value:
        v = figures.value
        print(f"  value {v.policy:.4g} against the record's {v.record:.4g}, reward {v.reward!r}")
    else:
        print(f"  value {figures.value_note}")
    failed = sum(not line.passed for line in lines)
    print(f"{certificate.policy} version {certificate.version}: {f'REFUSED ({failed})' if failed else 'passed'}")


def _write(
    config: Config, bundle: VerifiedBundle, certificate: Certificate, found: Examination, recording: Recording
) -> None:
    """The report and the figures, as asked for."""
    if config.out is not None:
        from sealegs.gate.page import GateReport, render
        from sealegs.report.page import write_page

        write_page(config.out, render(GateReport(bundle.manifest, certificate, found, recording.notes)))
        print(f"wrote {config.out}")
    if config.json is not None:
        from sealegs_learning.files import write_json

        content = {**certificate.model_dump(mode="json"), "passed": certificate.passed}
        content["verdicts"] = [line.model_dump(mode="json") for line in certificate.verdicts]
        content["by_episode"] = [one.model_dump(mode="json") for one in found.episodes]
        write_json(config.json, content)


def _certify(config: Config, bundle: VerifiedBundle, certificate: Certificate) -> None:
    """A certificate after a pass; none after a refusal."""
    from sealegs_deploy.certificate import certify, revoke
    from sealegs_deploy.gate_thresholds import default_thresholds, failures
    from sealegs_deploy.signing import own_key

    key = own_key(config.key)
    if certificate.passed:
        certify(bundle, certificate, key)
        print(f"certified {bundle.path}, signed by key {key.id}")
        if lax := failures(certificate.figures, certificate.thresholds, default_thresholds()):
            print(f"note: a node needs gate_thresholds of its own to run it under require_gate: {'; '.join(lax)}")
    elif revoke(bundle, key):
        print(f"took the earlier certificate out of {bundle.path}")


def _support_of(bundle: VerifiedBundle) -> Callable[[], Support | None]:
    from sealegs_deploy.support import load_support

    return lambda: load_support(bundle)
