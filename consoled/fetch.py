"""Asking another service over HTTP: one bounded request, one bounded answer.

Called by whoever has to ask somebody else (an identity provider's keys, a tenant service, a vault).  The server is
known by its certificate, always; redirects are not followed, cookies not kept, and an answer that is compressed, too
long or too late is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from hmac import compare_digest
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import VerificationError
from treq.client import HTTPClient
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, CertificateOptions, optionsForClientTLS, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web._newclient import HTTP11ClientProtocol
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone, _HTTP11ClientFactory
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IPolicyForHTTPS
from zope.interface import implementer

LIMIT: Final = 3.0
"""Seconds for one answer, its body included: a decision has four in all."""
LARGEST: Final = 1 << 18
"""Bytes of an answer."""
HEAD: Final = 1 << 16
"""Bytes of its headers; what puts a body into chunks may be as long as the body."""


def is_private(url: str) -> bool:
    """Whether nobody between can read or change what is said there: it is TLS, or never leaves this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost"))


class Unreachable(Exception):
    """There was no answer of any use; the text says why, for operators, and has none of what was sent but the URL."""


class Fetcher:
    """Asks servers that it knows in one way: by their authority and name, or by their very certificate."""

    def __init__(
        self, reactor: Any, *, ca: str = "", fingerprint: str = "", limit: float = LIMIT, largest: int = LARGEST
    ) -> None:
        """`ca`: a PEM file of the authorities to trust, instead of the system's.  `fingerprint`: the SHA-256 of the
        server's certificate, in hex; then neither authority nor name count.  `limit` in seconds, `largest` in bytes.

        Raises `OSError` or `ValueError` if they cannot be used.
        """
        self._reactor = reactor
        self._limit = limit
        self._largest = largest
        policy = _Pinned(fingerprint) if fingerprint else _Known(ca)
        pool = HTTPConnectionPool(reactor, persistent=False)
        line = partial(_Line, reactor=reactor, limit=limit, most=2 * largest + HEAD)
        pool._factory = partial(_Lines, line=line)  # type: ignore[assignment]
        self._http = HTTPClient(_Plain(Agent(reactor, policy, connectTimeout=limit, pool=pool)))

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Deferred[tuple[int, bytes]]:
        """See `request`."""
        return self.request("GET", url, headers)

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Deferred[tuple[int, bytes]]:
        """The status and the body of the answer, whatever the status is.

        Fails with `Unreachable` that names the URL.  Cancelling it hangs up.
        """
        return Deferred.fromCoroutine(self._request(method, url, headers or {}, body))

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        late: list[bool] = []
        answer = Deferred.fromCoroutine(self._ask(method, url, headers, body))

        def give_up() -> None:
            late.append(True)
            answer.cancel()

        timer = self._reactor.callLater(self._limit, give_up)
        try:
            return await answer
        except Exception as error:
            cause = _cause(error)
            if isinstance(cause, CancelledError) and not late:
                raise CancelledError from None
            why = f"no answer within {self._limit:g} s" if late else _explained(cause)
            raise Unreachable(f"{url}: {why}") from None
        finally:
            if timer.active():
                timer.cancel()

    async def _ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes]:
        wanted = Headers({"Accept": ["application/json"]})
        for name, value in headers.items():
            wanted.setRawHeaders(name, [value])
        response = await self._http.request(
            method, url, headers=wanted, data=body, allow_redirects=False, unbuffered=True, reactor=self._reactor
        )
        reading = _Body(self._largest)
        response.deliverBody(reading)
        return response.code, await reading.whole


@implementer(IAgent)
class _Plain:
    """An agent below treq's, which would unpack 64 KiB to 64 MiB before anybody sees their size, and keep cookies."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def request(self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: Any = None) -> Any:
        plain = Headers() if headers is None else headers.copy()
        plain.setRawHeaders(b"Accept-Encoding", [b"identity"])
        return self._agent.request(method, uri, plain, bodyProducer).addCallback(self._looked_at)

    @staticmethod
    def _looked_at(response: Any) -> Any:
        response.headers.removeHeader(b"set-cookie")
        if response.headers.getRawHeaders(b"content-encoding", [b"identity"]) != [b"identity"]:
            response.deliverBody(_Unread())
            raise Unreachable("the answer is compressed, which was not asked for")
        return response


class _Unread(Protocol):
    """Hangs up on an answer's body."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


class _Line(HTTP11ClientProtocol):
    """One connection for one answer: it takes so many bytes and lasts so long, whatever the server does.

    Twisted's takes headers without end, and a server that does not close its side of TLS keeps the connection.
    """

    transport: Any

    def __init__(self, quiescent: Any, reactor: Any, limit: float, most: int) -> None:
        super().__init__(quiescent)  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._limit = limit
        self._left = most
        self._end: Any = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self._end = self._reactor.callLater(self._limit, self._cut)

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left >= 0:
            super().dataReceived(data)  # type: ignore[no-untyped-call]
        else:
            self._giveUp(Failure(Unreachable("the answer has no end")))  # type: ignore[no-untyped-call]
            self._cut()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._end is not None and self._end.active():
            self._end.cancel()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def _cut(self) -> None:
        self.transport.abortConnection()


class _Lines(_HTTP11ClientFactory):
    """Makes them, without two lines in the log for every request."""

    noisy = False

    def __init__(self, quiescent: Any, metadata: Any, *, line: Callable[[Any], _Line]) -> None:
        super().__init__(quiescent, metadata)  # type: ignore[no-untyped-call]
        self._make = partial(line, quiescent)

    def buildProtocol(self, addr: Any) -> _Line:
        return self._make()


class _Body(Protocol):
    """Keeps an answer's body, up to a limit."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._bytes = bytearray()
        self.whole: Deferred[bytes] = Deferred(lambda _: self._hang_up())
        """Fires with it.  Cancelling hangs up."""

    def dataReceived(self, data: bytes) -> None:
        if self.whole.called:
            return
        self._bytes += data
        if len(self._bytes) > self._largest:
            self._hang_up()
            self.whole.errback(Unreachable(f"the answer is larger than {self._largest} bytes"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.whole.called:
            return
        # Without a length, the end of the connection is the end of the body (RFC 9112, section 6.3).
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(bytes(self._bytes))
        else:
            self.whole.errback(reason)

    def _hang_up(self) -> None:
        self._bytes.clear()
        if self.transport is not None:
            self.transport.loseConnection()


@implementer(IPolicyForHTTPS)
class _Known:
    """The server's name by service-identity (RFC 6125), its authority against a file or the system's."""

    def __init__(self, ca: str) -> None:
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
class _Pinned:
    """The very certificate, looked at before the first byte of a request is sent."""

    def __init__(self, fingerprint: str) -> None:
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


def _cause(error: BaseException) -> BaseException:
    """What is inside of what twisted.web wraps around the reason for no answer."""
    reasons = getattr(error, "reasons", None)
    return _cause(reasons[0].value) if reasons else error


def _explained(error: BaseException) -> str:
    """Why there was no answer."""
    if isinstance(error, Unreachable):
        return str(error)
    if isinstance(error, VerificationError):
        return "the server's certificate bears another name"
    if isinstance(error, _Stranger):
        return "the server's certificate is not the pinned one"
    if isinstance(error, SSL.Error):
        said = "; ".join(entry[-1] for entry in error.args[0]) if error.args and error.args[0] else ""
        return f"TLS: {said or 'the connection was dropped'}"
    return Failure(error).getErrorMessage() or type(error).__name__
