"""`[tls]`: what it takes to speak TLS with clients.  Read by `config`, used by `contexts` and `listeners`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from consoled.units import FilePath


class CertificateFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `tls.certificates`."""

    certificate: FilePath
    """A PEM file of the certificate, followed by its chain."""
    key: FilePath
    """A PEM file of its key, not encrypted, that not everybody may read."""


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[tls]`."""

    listen: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("tcp6:8443",)
    """Twisted server endpoint descriptions."""
    certificates: Annotated[tuple[CertificateFiles, ...], msgspec.Meta(min_length=1)]
    """Whichever bears the name that the client asks for is shown (SNI, RFC 6066 section 3); else the first."""
    client_ca: FilePath = FilePath()
    """A PEM file of the authorities that may sign clients' certificates.  Empty: clients are not asked for one."""
    client_certificates: Literal["optional", "required"] = "optional"
    """With `client_ca`: whether a client may come without."""
    crl: FilePath = FilePath()
    """A PEM file with a revocation list of each of those authorities.  Empty: nothing is revoked."""

    def __post_init__(self) -> None:
        if not self.client_ca and (self.client_certificates == "required" or self.crl):
            raise ValueError('client_certificates = "required" and crl need a client_ca')
