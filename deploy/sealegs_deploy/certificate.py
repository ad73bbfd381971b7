"""gate.json: what the replay gate examined and found, inside the bundle that passed it, under the same signature.

It speaks of exact bytes: every other file of the bundle by digest. Whoever changes one, or leaves one out, loses it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from sealegs_contract.errors import BundleError
from sealegs_contract.robot import FrozenModel
from sealegs_deploy.bundle import VerifiedBundle, check_unchanged, write_bundle
from sealegs_deploy.gate_findings import Figures
from sealegs_deploy.gate_thresholds import Thresholds, Verdict, default_thresholds, failures, judge
from sealegs_deploy.signing import SigningKey

GATE_NAME = "gate.json"
MAXIMUM_BYTES = 1024 * 1024
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ExaminedBag(FrozenModel):
    """A bag that was replayed."""

    name: str
    sha256: Digest
    episodes: Annotated[int, Field(ge=0)]


class Certificate(FrozenModel):
    """The content of gate.json. `files`: SHA-256 of every other file of the bundle, by name.

    `candidates`: actions among which the bundle's scorer chose, as on a robot that runs the best of so many.
    """

    schema_version: Literal[1] = 1
    created: str
    policy: str
    version: int
    files: Mapping[str, Digest]
    candidates: Annotated[int, Field(ge=1)] = 1
    bags: Annotated[tuple[ExaminedBag, ...], Field(min_length=1)]
    thresholds: Thresholds
    figures: Figures

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Computed from figures and thresholds, never read: a certificate cannot say that it passed."""
        return judge(self.figures, self.thresholds)

    @property
    def passed(self) -> bool:
        """Whether every line did."""
        return all(line.passed for line in self.verdicts)

    @property
    def summary(self) -> str:
        """One line for people."""
        known = sum(line.value is not None for line in self.verdicts)
        missing = f", {len(self.verdicts) - known} not measured" if known < len(self.verdicts) else ""
        bags = f"{self.figures.episodes} episodes of {len(self.bags)} bags"
        chosen = f", best of {self.candidates}" if self.candidates > 1 else ""
        return f"{self.created}: {bags}{chosen}, {known} thresholds kept{missing}"

    def to_bytes(self) -> bytes:
        """Canonical, readable JSON."""
        return (json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def examined_files(files: Mapping[str, bytes]) -> dict[str, str]:
    """Digests of all files of a bundle but a certificate."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items()) if name != GATE_NAME}


def make_certificate(
    bundle: VerifiedBundle,
    bags: tuple[ExaminedBag, ...],
    thresholds: Thresholds,
    figures: Figures,
    candidates: int = 1,
) -> Certificate:
    """What was examined, of these bytes, now."""
    return Certificate(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        policy=bundle.manifest.name,
        version=bundle.manifest.version,
        files=examined_files(bundle.files),
        candidates=candidates,
        bags=bags,
        thresholds=thresholds,
        figures=figures,
    )


def parse_certificate(data: bytes) -> Certificate:
    """A certificate from its bytes, or BundleError naming the first problem."""
    if len(data) > MAXIMUM_BYTES:
        raise BundleError(f"{GATE_NAME} is larger than the {MAXIMUM_BYTES} bytes allowed: {len(data)}")
    try:
        return Certificate.model_validate(json.loads(data))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BundleError(f"{GATE_NAME}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{GATE_NAME}: not JSON: {error}") from error


def check_certificate(bundle: VerifiedBundle, thresholds: Thresholds | None = None, candidates: int = 1) -> Certificate:
    """The certificate of a bundle that passed the gate. BundleError where it has none, or one of other bytes.

    `thresholds`: a robot's own, by which the certificate's figures must pass as well: those in the certificate are its
    signer's choice. `candidates`: among how many actions the bundle is to choose; the gate must have examined as many,
    or more.
    """
    if GATE_NAME not in bundle.files:
        raise BundleError(
            f"{bundle.path}: no gate certificate ({GATE_NAME}): run "
            f"`sealegs gate {bundle.path} --bags DIR --certify` with bags that its training did not see"
        )
    certificate = parse_certificate(bundle.files[GATE_NAME])
    if certificate.files != (found := examined_files(bundle.files)):
        names = certificate.files.keys() | found.keys()
        changed = sorted(name for name in names if certificate.files.get(name) != found.get(name))
        raise BundleError(
            f"{bundle.path}: its gate certificate is of other files than these: {', '.join(changed)} differ; "
            "run sealegs gate again"
        )
    if candidates > certificate.candidates:
        raise BundleError(
            f"{bundle.path}: {candidates} candidates are asked for, but the gate examined {certificate.candidates}: "
            f"run `sealegs gate {bundle.path} --bags DIR --candidates {candidates} --certify`, or use fewer"
        )
    if failed := _failures(certificate, certificate.thresholds):
        raise BundleError(f"{bundle.path}: it did not pass the gate: {failed}")
    if thresholds and (failed := _failures(certificate, thresholds)):
        raise BundleError(f"{bundle.path}: its gate certificate does not keep this robot's thresholds: {failed}")
    return certificate


def _failures(certificate: Certificate, thresholds: Thresholds) -> str:
    return "; ".join(failures(certificate.figures, certificate.thresholds, thresholds))


def gate_line(bundle: VerifiedBundle) -> str:
    """For people: `passed ...`, or why not; and whether a robot that judges by the shipped thresholds agrees."""
    try:
        certificate = check_certificate(bundle)
    except BundleError as error:
        return "none" if GATE_NAME not in bundle.files else str(error)
    failed = _failures(certificate, default_thresholds())
    return f"passed {certificate.summary}" + (f"; not by the shipped thresholds: {failed}" if failed else "")


def certify(bundle: VerifiedBundle, certificate: Certificate, key: SigningKey) -> Path:
    """Put the certificate into the bundle and sign it again: whole or not at all, a folder or a .zip.

    Raises BundleError when it did not pass, or when the bundle on the disk is no longer what was examined.
    """
    certified = VerifiedBundle(
        bundle.manifest, {**bundle.files, GATE_NAME: certificate.to_bytes()}, key.id, bundle.path
    )
    check_certificate(certified)
    check_unchanged(bundle)
    return write_bundle(certified.files, bundle.path, key, overwrite=True)


def revoke(bundle: VerifiedBundle, key: SigningKey) -> bool:
    """Take an earlier certificate out of a bundle of ours that is now refused; False where there is none.

    A stranger's bundle is left alone: signing what is left of it would vouch for what was just refused.
    """
    if GATE_NAME not in bundle.files or bundle.key_id != key.id:
        return False
    check_unchanged(bundle)
    files = {name: data for name, data in bundle.files.items() if name != GATE_NAME}
    write_bundle(files, bundle.path, key, overwrite=True)
    return True
