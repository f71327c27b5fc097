"""TLS with clients, kept fresh: renewed certificates are taken up by the next connection, and nobody is dropped.

`listeners` puts it under each TLS port; OpenSSL's connections are made here, one for each client.  `tap` has it `look`
at the files every few seconds.  It takes them all up, or, if one cannot be used (half written, a key that is not the
certificate's), none: the old ones stay in force, and the log and `trouble` say so until it is mended.

TLS 1.2 at least, with forward secrecy and authenticated encryption only; no compression, no renegotiation, no session
tickets: sessions are long, so resuming them saves nothing, and each one should prove its certificate anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

from consoled.listening.identity import Identity, read, read_certificates, read_identity
from consoled.listening.settings import TlsSettings

LOOK = 5.0
"""Seconds between two looks at the files."""
NOTICE = 14 * 86400.0
"""Seconds before its end that a certificate is warned about, once a day."""
CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; those of 1.3 are all good."""

_DAY = 86400.0
_log = Logger()


@dataclass(frozen=True, slots=True)
class _Generation:
    """All that the files say, at one time."""

    default: SSL.Context
    identities: tuple[Identity, ...]
    revocations: tuple[x509.CertificateRevocationList, ...]


@implementer(IOpenSSLServerConnectionCreator)
class Contexts:
    """What each new connection is served with."""

    def __init__(self, settings: TlsSettings, now: Callable[[], float]) -> None:
        """Reads the files; `now` is the wall clock.  Raises `OSError` or `ValueError` that names key and file."""
        self._settings = settings
        self._now = now
        self._files = [file for pair in settings.certificates for file in (pair.certificate, pair.key)]
        self._files += [file for file in (settings.client_ca, settings.crl) if file]
        self._stamps = self._stamp()
        self._generation = self._read()
        self._failure = ""
        self._warned: dict[str, float] = {}

    @property
    def trouble(self) -> str | None:
        """What is wrong, for people; None if nothing is."""
        return self._failure or "; ".join(text for text, left in self._ends() if left <= 0) or None

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """Twisted calls this for each client that connects."""
        return SSL.Connection(self._generation.default)

    def look(self) -> None:
        """Take up what has changed, and warn of what is about to end."""
        stamps = self._stamp()
        # After a failure again each time: what was wrong may pass without a trace on the files.
        if stamps != self._stamps or self._failure:
            self._stamps = stamps
            try:
                self._generation = self._read()
            except (OSError, ValueError) as error:
                failure = f"{error}; the certificates of before stay in force"
                if failure != self._failure:
                    _log.error("{failure}", failure=failure)
                self._failure = failure
            else:
                self._failure = ""
                self._warned.clear()
                _log.info("certificates read: {files}", files=", ".join(self._files))
        for text, left in self._ends():
            if left <= NOTICE and self._now() - self._warned.get(text, -_DAY) >= _DAY:
                self._warned[text] = self._now()
                _log.warn("{text}", text=text)

    def is_revoked(self, certificate: x509.Certificate) -> bool:
        """Whether one of the lists in force has a client's `certificate`."""
        return any(
            one.issuer == certificate.issuer
            and one.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
            for one in self._generation.revocations
        )

    def _ends(self) -> list[tuple[str, float]]:
        """What comes to an end, how that is said, and the seconds that are left."""
        ends = [
            (f"{one.file}: the certificate ends at {one.certificate.not_valid_after_utc:%F %T} UTC", one.certificate)
            for one in self._generation.identities
        ]
        left = [(text, self._left(certificate.not_valid_after_utc)) for text, certificate in ends]
        for one in self._generation.revocations:
            if (until := one.next_update_utc) is not None and (gone := self._left(until)) <= 0:
                left.append((f"{self._settings.crl}: a list ended at {until:%F %T} UTC; its clients are refused", gone))
        return left

    def _left(self, until: datetime) -> float:
        return until.timestamp() - self._now()

    def _stamp(self) -> list[tuple[int, ...] | None]:
        """What tells a file from what it was: None for one that is not there."""
        stamps: list[tuple[int, ...] | None] = []
        for file in self._files:
            try:
                found = os.stat(file)  # noqa: PTH116
            except OSError:
                stamps.append(None)
            else:
                stamps.append((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
        return stamps

    def _read(self) -> _Generation:
        settings = self._settings
        identities = []
        for at, files in enumerate(settings.certificates):
            with _naming(f"tls.certificates[{at}]"):
                identities.append(read_identity(files))
        authorities: list[x509.Certificate] = []
        revocations: tuple[x509.CertificateRevocationList, ...] = ()
        with _naming("tls.client_ca"):
            if settings.client_ca:
                authorities = read_certificates(settings.client_ca)
        with _naming("tls.crl"):
            if settings.crl:
                revocations = _read_lists(settings.crl)
        contexts = []
        for at, identity in enumerate(identities):
            with _naming(f"tls.certificates[{at}]"):
                contexts.append(_context(identity, authorities, revocations, settings))
        by_name: dict[str, SSL.Context] = {}
        for identity, context in zip(identities, contexts, strict=True):
            for name in identity.names:
                by_name.setdefault(name, context)
        contexts[0].set_tlsext_servername_callback(partial(_choose, by_name))
        return _Generation(contexts[0], tuple(identities), revocations)


def _context(
    identity: Identity,
    authorities: list[x509.Certificate],
    revocations: tuple[x509.CertificateRevocationList, ...],
    settings: TlsSettings,
) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET | SSL.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(CIPHERS)
    context.set_alpn_select_callback(_only_http_1_1)
    try:
        context.use_certificate(identity.certificate)
        for one in identity.chain:
            context.add_extra_chain_cert(one)
        context.use_privatekey(identity.key)  # type: ignore[arg-type]  # of a kind that is none for TLS, it raises
    except (SSL.Error, TypeError) as error:
        raise ValueError(f"{identity.file}: {_words(error)}") from None
    if authorities:
        store = context.get_cert_store()
        assert store is not None
        for authority in authorities:
            store.add_cert(X509.from_cryptography(authority))
            context.add_client_ca(authority)
        for revoked in revocations:
            store.add_crl(revoked)
        if revocations:
            store.set_flags(X509StoreFlags.CRL_CHECK)
        context.set_session_id(b"consoled")  # OpenSSL wants one where clients show certificates
        required = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if settings.client_certificates == "required" else 0
        context.set_verify(SSL.VERIFY_PEER | required)
    return context


def _choose(by_name: Mapping[str, SSL.Context], connection: SSL.Connection) -> None:
    """OpenSSL asks for the context of the name that the client wants."""
    name = (connection.get_servername() or b"").decode("latin-1").lower()
    context = by_name.get(name) or by_name.get("*." + name.partition(".")[2])
    if context is not None:
        connection.set_context(context)


def _only_http_1_1(connection: SSL.Connection, offered: list[bytes]) -> Any:
    # A WebSocket needs it (RFC 6455); whoever offers only something else learns that from the answer.
    return b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _read_lists(file: str) -> tuple[x509.CertificateRevocationList, ...]:
    end = b"-----END X509 CRL-----"
    try:
        blocks = read(file).split(end)[:-1]
        if not blocks:
            raise ValueError("there is no revocation list in it")
        return tuple(x509.load_pem_x509_crl(block + end) for block in blocks)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _words(error: Exception) -> str:
    said = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return "; ".join(entry[-1] for entry in said) or "OpenSSL refuses it"


class _naming:
    """What goes wrong within is an error of the same kind that begins with the `key` it comes from."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError):
            raise ValueError(f"{self._key}: {error.filename}: {error.strerror}") from None
        if isinstance(error, ValueError):
            raise ValueError(f"{self._key}: {error}") from None
