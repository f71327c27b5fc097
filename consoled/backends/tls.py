"""TLS towards a node: whose certificate is good enough, and which one we show.

Called by `stream` at each dial.  The files are read each time, so a renewed certificate needs no restart.  There
are four ways to know the server: by an authority and its name (RFC 6125, the default), by the very certificate
(`fingerprint`, for a BMC that signed its own), by its key (`public_key`, which outlives a renewal), or not at all,
which `config` warns about at each start.  TLS 1.2 is the least that is spoken.
"""

from __future__ import annotations

from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import VerificationError
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import Certificate, CertificateOptions, optionsForClientTLS, trustRootFromCertificates
from twisted.python.failure import Failure

from consoled.units import FilePath


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `tls` of a console.  An empty table asks for TLS with every check."""

    ca: FilePath = FilePath()
    """A PEM file of the authorities that may sign.  Empty: the system's, which take a megabyte for each connection."""
    server_name: str = ""
    """The name or IP address that the certificate must bear.  Empty: the host of the console's address."""
    fingerprint: str = ""
    """The SHA-256 of the server's certificate, in hex with or without colons: then neither authority nor name count."""
    public_key: str = ""
    """The same of its public key (the SubjectPublicKeyInfo, as in RFC 7858 section 4.2)."""
    unsafe_any_certificate: bool = False
    """Take whatever certificate comes: whoever sits between may read and type."""
    certificate: FilePath = FilePath()
    """A PEM file of our own certificate, with its chain."""
    key: FilePath = FilePath()
    """A PEM file of its key, not encrypted.  Empty: it is in the certificate's file."""

    def __post_init__(self) -> None:
        others = [name for name in ("fingerprint", "public_key", "unsafe_any_certificate") if getattr(self, name)]
        if (self.ca or self.server_name) and others:
            raise ValueError(f'"ca" and "server_name" are not asked with "{others[0]}"')
        if len(others) > 1:
            raise ValueError(f'"{others[0]}" and "{others[1]}" contradict one another')
        if self.key and not self.certificate:
            raise ValueError('"key" needs a "certificate"')
        for name in ("fingerprint", "public_key"):
            if text := getattr(self, name):
                _sha256(name, text)

    @property
    def needs_name(self) -> bool:
        """Whether a name must be known to check the server's certificate."""
        return not (self.server_name or self._knows_no_authority)

    @property
    def _knows_no_authority(self) -> bool:
        return bool(self.fingerprint or self.public_key or self.unsafe_any_certificate)

    def wrap(self, endpoint: IStreamClientEndpoint, host: str) -> IStreamClientEndpoint:
        """`endpoint` with TLS to `host` on top.  Reads the files; raises `OSError` or `ValueError` that names them."""
        ours = _identity(self.certificate, self.key or self.certificate) if self.certificate else {}
        if self._knows_no_authority:
            return wrapClientTLS(CertificateOptions(verify=False, **ours), endpoint)
        roots = None
        if self.ca:
            trusted = [Certificate(X509.from_cryptography(one)) for one in _certificates(self.ca)]
            roots = trustRootFromCertificates(trusted)
        creator = optionsForClientTLS(self.server_name or host, trustRoot=roots, extraCertificateOptions=ours)
        return wrapClientTLS(creator, endpoint)

    def objection(self, transport: Any) -> str:
        """What the finished handshake leaves to be said against the server; empty if nothing."""
        if not (self.fingerprint or self.public_key):
            return ""
        certificate = transport.getPeerCertificate().to_cryptography()
        if self.fingerprint:
            what, seen = "certificate", certificate.fingerprint(SHA256())
            wanted = _sha256("fingerprint", self.fingerprint)
        else:
            key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            what, seen, wanted = "public key", sha256(key).digest(), _sha256("public_key", self.public_key)
        if compare_digest(seen, wanted):
            return ""
        return f"the server's {what} is not the pinned one: its SHA-256 is {seen.hex()}"


def explain(reason: Failure) -> str:
    """Why a connection ended, in a line for operators, if need be out of OpenSSL's lists."""
    error = reason.value
    if isinstance(error, VerificationError):
        return "the server's certificate bears another name"
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list):
        said = "; ".join(entry[-1] for entry in error.args[0])
        if "certificate verify failed" in said:
            said += " (unknown authority, expired, or not yet valid)"
        return said or "TLS failed"
    return reason.getErrorMessage()


def _sha256(name: str, text: str) -> bytes:
    try:
        digest = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise ValueError(f'"{name}" {text!r} is not a SHA-256: write its 64 hex digits')
    return digest


def _certificates(file: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(Path(file).read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _identity(certificate: str, key: str) -> dict[str, Any]:
    """Our certificate, its chain and its key, as `CertificateOptions` takes them."""
    own, *chain = _certificates(certificate)
    try:
        private = load_pem_private_key(Path(key).read_bytes(), password=None)
    except (ValueError, TypeError) as error:  # TypeError: it is encrypted
        raise ValueError(f"{key}: {error}") from error
    if private.public_key() != own.public_key():
        raise ValueError(f"{key}: not the key of {certificate}")
    return {"certificate": own, "extraCertChain": chain, "privateKey": private}
