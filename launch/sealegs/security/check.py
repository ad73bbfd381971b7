"""Checks a keystore without ROS: the files there are, their modes, certificates, signatures, and what is allowed.

Nothing here replaces a run with enforcement on; it says that the middleware is given what it should be given.
"""

from __future__ import annotations

import datetime as dt
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from sealegs.security.certificates import (
    Validity,
    check_issued,
    name_of,
    read_certificate,
    read_key,
    same_key,
)
from sealegs.security.documents import Permissions, read_governance, read_permissions
from sealegs.security.graph import DISCOVERY
from sealegs.security.keystore import ENCLAVES, PRIVATE, PUBLIC, ROLES
from sealegs.security.signing import verified
from sealegs_contract import topics
from sealegs_contract.errors import SecurityError

MAXIMUM_FILE_BYTES = 1 << 20
LINKED = (*(f"{role}.cert.pem" for role in ROLES), "governance.p7s")
ENCLAVE_FILES = frozenset({"cert.pem", "key.pem", "permissions.xml", "permissions.p7s", *LINKED})
CA_FILES = {kind: frozenset(f"{name}.{kind}.pem" for name in ("ca", *ROLES)) for kind in ("cert", "key")}
GOVERNANCE_FILES = frozenset({"governance.xml", "governance.p7s"})


@dataclass
class Report:
    """What was found: one line for each problem, and what each enclave may do."""

    problems: list[str] = field(default_factory=list)
    permissions: dict[str, Permissions] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def commanders(self) -> list[str]:
        """Enclaves that may command a robot."""
        return [
            enclave
            for enclave, granted in self.permissions.items()
            if any(name.rsplit("/", 1)[-1] == topics.JOINT_TRAJECTORY for name in granted.publish)
        ]

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        """Whatever is wrong in here is wrong with `where`."""
        try:
            yield
        except SecurityError as error:
            self.problems.append(f"{where}: {error}")
        except OSError as error:
            self.problems.append(f"{where}: {error.strerror or error}")


def check_keystore(path: Path, now: dt.datetime | None = None) -> Report:
    """Look at everything. Raises SecurityError where there is no keystore at all."""
    if not (path / ENCLAVES).is_dir() or not (path / PUBLIC).is_dir():
        raise SecurityError(f"no keystore at {path}: expected folders {ENCLAVES}/ and {PUBLIC}/ in it")
    now = now or dt.datetime.now(dt.UTC)
    report = Report()
    enclaves = sorted({file.parent for name in ("cert.pem", "key.pem") for file in (path / ENCLAVES).rglob(name)})
    _check_files(path, enclaves, report)
    authorities: dict[str, x509.Certificate] = {}
    for role in ROLES:
        with report.at(f"{PUBLIC}/{role}.cert.pem"):
            authorities[role] = ca = read_certificate(_content(path, path / PUBLIC / f"{role}.cert.pem"))
            check_issued(ca, ca)
            _check_time(Validity.of(ca), now)
        if (path / PRIVATE).is_dir() and role in authorities:
            with report.at(f"{PRIVATE}/{role}.key.pem"):
                _check_key(path, path / PRIVATE / f"{role}.key.pem", authorities[role])
    if len(authorities) < len(ROLES):
        return report
    domains: frozenset[int] = frozenset()
    with report.at(f"{ENCLAVES}/governance.p7s"):
        domains = read_governance(_signed(path, path / ENCLAVES, "governance", authorities["permissions_ca"]))
    for folder in enclaves:
        _check_enclave(path, folder, authorities, domains, now, report)
    if not enclaves:
        report.problems.append(f"{ENCLAVES}: no enclave in it")
    if not (path / PRIVATE).is_dir():
        report.notes.append("without the CA's private key, as a robot's copy should be")
    return report


def _check_enclave(
    root: Path,
    folder: Path,
    authorities: dict[str, x509.Certificate],
    domains: frozenset[int],
    now: dt.datetime,
    report: Report,
) -> None:
    enclave = f"/{folder.relative_to(root / ENCLAVES).as_posix()}"
    where = f"{ENCLAVES}{enclave}"
    with report.at(f"{where}/cert.pem"):
        certificate = read_certificate(_content(root, folder / "cert.pem"))
        check_issued(certificate, authorities["identity_ca"])
        _check_time(Validity.of(certificate), now)
        if certificate.subject != name_of(enclave):
            raise SecurityError(f"made out to {certificate.subject.rfc4514_string()}, expected CN={enclave}")
        with report.at(f"{where}/key.pem"):
            _check_key(root, folder / "key.pem", certificate)
    for name in LINKED:
        with report.at(f"{where}/{name}"):
            shared = root / (ENCLAVES if name.startswith("governance") else PUBLIC) / name
            if _content(root, folder / name) != _content(root, shared):
                raise SecurityError(f"is not {shared.relative_to(root)}")
    with report.at(f"{where}/permissions.p7s"):
        granted = read_permissions(_signed(root, folder, "permissions", authorities["permissions_ca"]))
        report.permissions[enclave] = granted
        if granted.subject != f"CN={enclave}":
            raise SecurityError(f"grants to {granted.subject}, expected CN={enclave}")
        _check_time(granted.validity, now)
        if not granted.domains <= domains:
            raise SecurityError(f"grants in domain(s) {sorted(granted.domains)}; governance covers {sorted(domains)}")
        if not (granted.may_publish(DISCOVERY) and granted.may_subscribe(DISCOVERY)):
            raise SecurityError(f"does not allow {DISCOVERY}, without which nodes do not see each other")


def _signed(root: Path, folder: Path, name: str, ca: x509.Certificate) -> bytes:
    """The text of NAME.p7s, which must be signed, and what NAME.xml says."""
    content = verified(_content(root, folder / f"{name}.p7s"), ca)
    if content != _content(root, folder / f"{name}.xml"):
        raise SecurityError(f"what is signed is not what {name}.xml says")
    return content


def _check_key(root: Path, path: Path, certificate: x509.Certificate) -> None:
    if not same_key(certificate, read_key(_content(root, path))):
        raise SecurityError("is not the key of its certificate")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise SecurityError(f"has mode {mode:04o}, so others may read it; run: chmod 600 {path}")


def _check_time(validity: Validity, now: dt.datetime) -> None:
    problem = validity.problem(now)
    if problem:
        raise SecurityError(problem)


def _content(root: Path, path: Path) -> bytes:
    """A file's bytes. A link may lead to another file of the keystore, and nowhere else."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise SecurityError(f"leads out of the keystore, to {path.resolve()}")
    if not path.is_file():
        raise SecurityError("is missing")
    if path.stat().st_size > MAXIMUM_FILE_BYTES:
        raise SecurityError(f"has {path.stat().st_size} bytes, more than {MAXIMUM_FILE_BYTES}")
    return path.read_bytes()


def _check_files(root: Path, enclaves: list[Path], report: Report) -> None:
    """The exact files: one that is missing or too many is a problem; so is one that others may write."""
    wanted: dict[Path, frozenset[str]] = dict.fromkeys(enclaves, ENCLAVE_FILES)
    wanted |= {root / PUBLIC: CA_FILES["cert"], root / ENCLAVES: GOVERNANCE_FILES}
    if (root / PRIVATE).is_dir():
        wanted[root / PRIVATE] = CA_FILES["key"]

    def stop(error: OSError) -> None:
        raise error

    with report.at(str(root)):
        for folder, files in _walk(root, stop):
            expected = wanted.get(folder, frozenset())
            inside = "" if folder == root else f"{folder.relative_to(root)}/"
            report.problems += [f"{inside}{name}: does not belong into a keystore" for name in sorted(files - expected)]
            report.problems += [f"{inside}{name}: is missing" for name in sorted(expected - files)]
            for path in (folder, *(folder / name for name in sorted(files))):
                if not path.is_symlink() and path.stat().st_mode & 0o022:
                    where = path.relative_to(root) if path != root else root
                    report.problems.append(f"{where}: others may write it; run: chmod go-w {path}")


def _walk(root: Path, stop: Callable[[OSError], None]) -> Iterator[tuple[Path, set[str]]]:
    """Every folder, and the names in it that are no folders; links to folders count as files."""
    for name, folders, files in os.walk(root, onerror=stop):
        links = {one for one in folders if (Path(name) / one).is_symlink()}
        yield Path(name), {*files, *links}
