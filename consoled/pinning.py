"""How a server that is asked over TLS is known: by its authority and its name, or by its very certificate.

`fetch` makes one for all servers that it asks; nothing of a request is sent before the certificate is found good.
"""

from __future__ import annotations

from hmac import compare_digest
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import VerificationError
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, CertificateOptions, optionsForClientTLS, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer


@implementer(IPolicyForHTTPS)
class ByAuthority:
    """The server's name by service-identity (RFC 6125), its authority against a file or the system's."""

    def __init__(self, ca: str) -> None:
        """`ca` is a PEM file, or empty.  Raises `OSError` or `ValueError` if it cannot be used."""
        self._trust = None
        if ca:
            try:
                found = x509.load_pem_x509_certificates(Path(ca).read_bytes())
            except ValueError:
                raise ValueError(f"{ca}: there is no certificate in it, or one that cannot be read") from None
            self._trust = trustRootFromCertificates([Certificate(X509.from_cryptography(one)) for one in found])

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        return optionsForClientTLS(hostname.decode("ascii"), trustRoot=self._trust)


class _Stranger(Exception):
    """The server showed another certificate than the pinned one."""


@implementer(IPolicyForHTTPS)
class ByCertificate:
    """The very certificate, looked at before the first byte of a request is sent."""

    def __init__(self, fingerprint: str) -> None:
        """`fingerprint` is its SHA-256 in hex.  Raises `ValueError` if it is none."""
        try:
            self._digest = bytes.fromhex(fingerprint.replace(":", ""))
        except ValueError:
            self._digest = b""
        if len(self._digest) != 32:
            raise ValueError(f"{fingerprint!r} is not a SHA-256: write its 64 hex digits")
        self._context = CertificateOptions(verify=False).getContext()
        self._context.set_info_callback(self._shook_hands)

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        return _Connections(self._context, hostname)

    def _shook_hands(self, connection: SSL.Connection, where: int, status: int) -> None:
        if not where & SSL.SSL_CB_HANDSHAKE_DONE:
            return
        shown = connection.get_peer_certificate(as_cryptography=True)
        if shown is None or not compare_digest(shown.fingerprint(SHA256()), self._digest):
            connection.get_app_data().failVerification(Failure(_Stranger()))


@implementer(IOpenSSLClientConnectionCreator)
class _Connections:
    """Makes connections of one context, which say whom they want to speak to (SNI, RFC 6066, section 3)."""

    def __init__(self, context: SSL.Context, hostname: bytes) -> None:
        self._context = context
        self._hostname = hostname

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(tlsProtocol)
        name = self._hostname.decode("ascii")
        if not isIPAddress(name) and not isIPv6Address(name):
            connection.set_tlsext_host_name(self._hostname)
        return connection


def explained(error: BaseException) -> str:
    """Why a server is not known, for people; empty for an error of another sort."""
    if isinstance(error, VerificationError):
        return "the server's certificate bears another name"
    if isinstance(error, _Stranger):
        return "the server's certificate is not the pinned one"
    if isinstance(error, SSL.Error):
        said = "; ".join(entry[-1] for entry in error.args[0]) if error.args and error.args[0] else ""
        return f"TLS: {said or 'the connection was dropped'}"
    return ""
