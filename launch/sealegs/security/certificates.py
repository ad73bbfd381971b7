"""Keys and X.509 certificates of a keystore: elliptic curve P-256 (DDS Security 9.3.1), SHA-256, PEM files.

A file must be what writing its contents again would give, so that every changed byte is found.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sealegs_contract.errors import SecurityError

CA_NAME = "sealegsCA"


@dataclass(frozen=True)
class Validity:
    """From when to when (UTC, whole seconds)."""

    begin: dt.datetime
    end: dt.datetime

    @classmethod
    def days_from_now(cls, days: int) -> Validity:
        """A day early, as `ros2 security` has it: clocks differ."""
        now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        return cls(now - dt.timedelta(days=1), now + dt.timedelta(days=days))

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Validity:
        """A certificate's own."""
        return cls(certificate.not_valid_before_utc, certificate.not_valid_after_utc)

    def problem(self, now: dt.datetime) -> str | None:
        """Why `now` lies outside, or None."""
        if self.begin <= now <= self.end:
            return None
        return f"valid from {self.begin:%Y-%m-%d} to {self.end:%Y-%m-%d} only"


def name_of(common_name: str) -> x509.Name:
    """A name with nothing but a common name: `ros2 security` puts the enclave's path there."""
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


def new_key() -> ec.EllipticCurvePrivateKey:
    """A private key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def make_certificate(
    subject: str, key: ec.EllipticCurvePrivateKey, ca_key: ec.EllipticCurvePrivateKey, validity: Validity
) -> x509.Certificate:
    """A certificate for `key`, signed by the CA's key; the CA's own where both are one."""
    is_ca = key is ca_key
    return (
        x509.CertificateBuilder()
        .subject_name(name_of(subject))
        .issuer_name(name_of(CA_NAME))
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.begin)
        .not_valid_after(validity.end)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=1 if is_ca else None), critical=is_ca)
        .sign(ca_key, hashes.SHA256())
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """As it is written to a file."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """As it is written to a file: not encrypted, because the middleware asks nobody for a password."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read_certificate(pem: bytes) -> x509.Certificate:
    """The one certificate of a file. Raises SecurityError."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        same = certificate_pem(certificate) == pem
        _p256(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SecurityError("not a PEM certificate") from error
    if not same:
        raise SecurityError("more or other than one PEM certificate")
    return certificate


def read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """The one private key of a file. Raises SecurityError."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SecurityError("not an unencrypted PEM private key") from error
    _p256(key)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key_pem(key) != pem:
        raise SecurityError("more or other than one PEM private key")
    return key


def check_issued(certificate: x509.Certificate, ca: x509.Certificate) -> None:
    """SecurityError unless `ca` signed `certificate`, and is a CA exactly where it signed itself."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise SecurityError(f"not signed by {ca.subject.rfc4514_string()}") from error
    try:
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError) as error:
        raise SecurityError("does not say whether it is a CA (basic constraints)") from error
    if is_ca != (certificate == ca):
        raise SecurityError("is a CA, which a node must not be" if is_ca else "is not a CA")


def same_key(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    """Whether the certificate is this key's."""
    return bool(certificate.public_key() == key.public_key())


def _p256(key: object) -> None:
    curve = getattr(getattr(key, "curve", None), "name", type(key).__name__)
    if curve != "secp256r1":
        raise SecurityError(f"its key is {curve}, expected P-256 (secp256r1)")
