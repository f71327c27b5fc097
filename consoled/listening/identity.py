"""One certificate with its chain and key, as `tls.certificates` names their files; and the names that it is good for.

Read by `contexts` at start and whenever a file has changed.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from consoled.listening.settings import CertificateFiles

LARGEST = 1 << 20
"""Bytes of a file: lists of authorities and revocations have some hundred KiB."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are, under some names."""

    file: str
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: PrivateKeyTypes
    names: frozenset[str]
    """DNS names, in lower case, some perhaps `*.example.com`."""


def read_identity(files: CertificateFiles) -> Identity:
    """Read one.  Raises `OSError`, or `ValueError` that names the file."""
    certificate, *chain = read_certificates(files.certificate)
    try:
        key = load_pem_private_key(read(files.key, private=True), password=None)
    except (ValueError, TypeError) as error:  # TypeError: it is encrypted
        raise ValueError(f"{files.key}: {error}") from None
    if key.public_key() != certificate.public_key():
        raise ValueError(f"{files.key} is not the key of {files.certificate}")
    return Identity(files.certificate, certificate, tuple(chain), key, _names(certificate))


def read_certificates(file: str) -> list[x509.Certificate]:
    """All certificates of a PEM file, one at least.  Raises `OSError`, or `ValueError` that names the file."""
    try:
        return x509.load_pem_x509_certificates(read(file))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def read(file: str, *, private: bool = False) -> bytes:
    """The bytes of a regular file.  Raises `OSError`, or `ValueError` for one that everybody may read if `private`."""
    with open(file, "rb", opener=_open) as opened:  # Path has no opener
        mode = os.fstat(opened.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError("not a regular file")
        if private and mode & stat.S_IRWXO:
            raise ValueError("everybody may read or write it: chmod o-rwx")
        data = opened.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"larger than {LARGEST} bytes")
    return data


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a FIFO would stop the daemon


def _names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(name.lower() for name in names.get_values_for_type(x509.DNSName))
