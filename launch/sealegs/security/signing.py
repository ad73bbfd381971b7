"""S/MIME signatures over governance and permissions, as DDS Security wants them: clear text, ECDSA on P-256, SHA-256.

Verification is strict: a document must be byte for byte what its signed text, its signed attributes and the signer's
certificate make. So every changed byte is found, also where OpenSSL would not mind.
"""

from __future__ import annotations

import base64
import hashlib
import re

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from sealegs_contract.errors import SecurityError

_SEQUENCE, _SET, _OCTETS, _ATTRIBUTES = 0x30, 0x31, 0x04, 0xA0
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_DATA = bytes.fromhex("06092a864886f70d010701")
_MESSAGE_DIGEST = bytes.fromhex("06092a864886f70d010904")
_SHA256 = bytes.fromhex("300d06096086480165030402010500")
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_VERSION_1 = bytes.fromhex("020101")
_TEXT_HEADER = b"Content-Type: text/plain\r\n\r\n"
_FRAME = re.compile(
    rb'MIME-Version: 1\.0\r\nContent-Type: multipart/signed; protocol="application/x-pkcs7-signature"; '
    rb'micalg="sha-256"; boundary="(?P<boundary>[=0-9]{20,60})"\r\n\r\nThis is an S/MIME signed message\r\n\r\n'
    rb"--(?P=boundary)\r\n(?P<text>Content-Type: text/plain\r\n\r\n.*)\r\n--(?P=boundary)\r\n"
    rb'Content-Type: application/x-pkcs7-signature; name="smime\.p7s"\r\nContent-Transfer-Encoding: base64\r\n'
    rb'Content-Disposition: attachment; filename="smime\.p7s"\r\n\r\n(?P<signature>[A-Za-z0-9+/=\r\n]+)\r\n\r\n'
    rb"--(?P=boundary)--\r\n",
    re.DOTALL,
)


def sign(content: bytes, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The S/MIME document: what `ros2 security` writes, and `openssl smime -verify -text` checks."""
    builder = pkcs7.PKCS7SignatureBuilder().set_data(content).add_signer(certificate, key, hashes.SHA256())
    options = [pkcs7.PKCS7Options.Text, pkcs7.PKCS7Options.DetachedSignature]
    return builder.sign(serialization.Encoding.SMIME, options)


def verified(document: bytes, certificate: x509.Certificate) -> bytes:
    """The signed content, with line feeds. Raises SecurityError unless exactly `certificate` signed it."""
    match = _FRAME.fullmatch(document)
    if match is None:
        raise SecurityError("not an S/MIME document as `sealegs security init` and `ros2 security` write them")
    signature, text = match["signature"].replace(b"\r\n", b""), match["text"]
    try:
        der = base64.b64decode(signature, validate=True)
        attributes, value = _signer(der)
        digests = [value for kind, value in map(_attribute, _elements(attributes)) if kind == _MESSAGE_DIGEST]
    except (ValueError, IndexError) as error:
        raise SecurityError("its signature is not readable") from error
    if base64.b64encode(der) != signature or der != _signed_data(certificate, attributes, value):
        raise SecurityError("its signature is not one of this permissions CA, or holds more than a signature")
    if digests != [_element(_OCTETS, hashlib.sha256(text).digest())]:
        raise SecurityError("its text is not what was signed")
    public = certificate.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise SecurityError("the permissions CA has no elliptic-curve key")
    try:
        # RFC 5652, 5.4: the attributes are signed as a SET, whatever their tag in the message.
        public.verify(value, _element(_SET, attributes), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise SecurityError("its signature is wrong") from error
    return text.removeprefix(_TEXT_HEADER).replace(b"\r\n", b"\n")


def _signed_data(certificate: x509.Certificate, attributes: bytes, signature: bytes) -> bytes:
    """RFC 5652 ContentInfo of detached SignedData by one signer, from what can differ between two of them."""
    serial = _element(0x02, certificate.serial_number.to_bytes(certificate.serial_number.bit_length() // 8 + 1, "big"))
    signer = _element(
        _SEQUENCE, _VERSION_1, _element(_SEQUENCE, certificate.issuer.public_bytes(), serial), _SHA256,
        _element(_ATTRIBUTES, attributes), _ECDSA_SHA256, _element(_OCTETS, signature),
    )  # fmt: skip
    der = certificate.public_bytes(serialization.Encoding.DER)
    data = _element(
        _SEQUENCE, _VERSION_1, _element(_SET, _SHA256), _element(_SEQUENCE, _DATA), _element(0xA0, der),
        _element(_SET, signer),
    )  # fmt: skip
    return _element(_SEQUENCE, _SIGNED_DATA, _element(0xA0, data))


def _signer(der: bytes) -> tuple[bytes, bytes]:
    """Signed attributes (contents of the set) and signature of the one signer."""
    content_info = _elements(_elements(der)[0][1])
    signed_data = _elements(_elements(content_info[1][1])[0][1])
    signer = _elements(_elements(signed_data[4][1])[0][1])
    return signer[3][1], signer[5][1]


def _attribute(element: tuple[int, bytes]) -> tuple[bytes, bytes]:
    (kind, oid), (_, values) = _elements(element[1])
    return _element(kind, oid), values


def _element(tag: int, *contents: bytes) -> bytes:
    """One DER element."""
    body = b"".join(contents)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + body


def _elements(der: bytes) -> list[tuple[int, bytes]]:
    """Tags and contents of the DER elements in a row. Raises ValueError or IndexError on anything else."""
    found = []
    while der:
        tag, size, start = der[0], der[1], 2
        if size & 0x80:
            start = 2 + (size & 0x7F)
            size = int.from_bytes(der[2:start], "big")
        if start + size > len(der):
            raise ValueError("an element is longer than what holds it")
        found.append((tag, der[start : start + size]))
        der = der[start + size :]
    return found
