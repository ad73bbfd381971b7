"""Writes a keystore in the layout of `ros2 security`, which the middleware reads (ROS_SECURITY_KEYSTORE).

public/      ca.cert.pem and its two roles: identity_ca.cert.pem, permissions_ca.cert.pem
private/     ca.key.pem and its two roles; it never goes to a robot
enclaves/    governance.xml, governance.p7s, and for each enclave a folder ENCLAVE/
    cert.pem, key.pem, permissions.xml, permissions.p7s
    identity_ca.cert.pem, permissions_ca.cert.pem, governance.p7s (links)
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sealegs.security.certificates import (
    CA_NAME,
    Validity,
    certificate_pem,
    key_pem,
    make_certificate,
    new_key,
)
from sealegs.security.documents import governance_xml, permissions_xml
from sealegs.security.graph import Access
from sealegs.security.signing import sign
from sealegs_contract.errors import SecurityError

PUBLIC, PRIVATE, ENCLAVES = "public", "private", "enclaves"
ROLES = ("identity_ca", "permissions_ca")
MAXIMUM_DOMAIN = 232  # beyond it DDS runs out of ports
MAXIMUM_DAYS = 36_500


@dataclass(frozen=True)
class Settings:
    """What holds for the whole keystore."""

    domain: int = 0
    days: int = 3650

    def check(self) -> None:
        """SecurityError on values that DDS or X.509 cannot hold."""
        if not 0 <= self.domain <= MAXIMUM_DOMAIN:
            raise SecurityError(f"domain {self.domain} is not from 0 to {MAXIMUM_DOMAIN}")
        if not 1 <= self.days <= MAXIMUM_DAYS:
            raise SecurityError(f"certificates can be valid for 1 to {MAXIMUM_DAYS} days, got {self.days}")


def write_keystore(path: Path, accesses: Mapping[str, Access], settings: Settings) -> None:
    """A new keystore at `path`, whole or not at all. Raises SecurityError where something is there already."""
    settings.check()
    if os.path.lexists(path):
        raise SecurityError(
            f"{path} exists already, and a keystore is never overwritten: name another --out, or move it away"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))  # mode 0700
    try:
        _fill(made, accesses, settings)
        made.rename(path)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _fill(root: Path, accesses: Mapping[str, Access], settings: Settings) -> None:
    validity = Validity.days_from_now(settings.days)
    for name in (PUBLIC, PRIVATE, ENCLAVES):
        (root / name).mkdir(mode=0o700)
    ca_key = new_key()
    ca = make_certificate(CA_NAME, ca_key, ca_key, validity)
    _write(root / PUBLIC / "ca.cert.pem", certificate_pem(ca))
    _write(root / PRIVATE / "ca.key.pem", key_pem(ca_key), 0o600)
    for role in ROLES:
        (root / PUBLIC / f"{role}.cert.pem").symlink_to("ca.cert.pem")
        (root / PRIVATE / f"{role}.key.pem").symlink_to("ca.key.pem")
    governance = governance_xml(settings.domain)
    _write(root / ENCLAVES / "governance.xml", governance)
    _write(root / ENCLAVES / "governance.p7s", sign(governance, ca, ca_key))
    for enclave, access in accesses.items():
        folder = root / ENCLAVES / enclave.strip("/")
        folder.mkdir(parents=True, mode=0o700)
        key = new_key()
        permissions = permissions_xml(enclave, access, settings.domain, validity)
        _write(folder / "key.pem", key_pem(key), 0o600)
        _write(folder / "cert.pem", certificate_pem(make_certificate(enclave, key, ca_key, validity)))
        _write(folder / "permissions.xml", permissions)
        _write(folder / "permissions.p7s", sign(permissions, ca, ca_key))
        shared = [root / PUBLIC / f"{role}.cert.pem" for role in ROLES] + [root / ENCLAVES / "governance.p7s"]
        for target in shared:
            (folder / target.name).symlink_to(os.path.relpath(target, folder))


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """A new file, of its final mode from the first moment on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
