"""Asking another service over HTTP: one bounded request, one bounded answer.

Called by whoever has to ask somebody else (an identity provider's keys, a tenant service, a vault).  The server is
known by its certificate, always; redirects are not followed, cookies not kept, and an answer that is compressed, too
long or too late is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web._newclient import HTTP11ClientProtocol
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone, _HTTP11ClientFactory
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent
from zope.interface import implementer

from consoled import pinning

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


class Late(Unreachable):
    """It took too long."""


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
        policy = pinning.ByCertificate(fingerprint) if fingerprint else pinning.ByAuthority(ca)
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
        is_late = is_left = False
        answer = Deferred.fromCoroutine(self._ask(method, url, headers, body))

        def give_up() -> None:
            nonlocal is_late
            is_late = True
            answer.cancel()

        def leave(_: object) -> None:
            nonlocal is_left
            is_left = True
            answer.cancel()

        def tell(result: Any) -> None:
            if not is_left:  # what a connection says that is given up in its making is many things
                waiting.callback(result)

        waiting: Deferred[tuple[int, bytes]] = Deferred(leave)
        answer.addBoth(tell)
        timer = self._reactor.callLater(self._limit, give_up)
        try:
            return await waiting
        except Exception as error:
            if is_left:
                raise
            if is_late:
                raise Late(f"{url}: no answer within {self._limit:g} s") from None
            raise Unreachable(f"{url}: {_explained(_cause(error))}") from None
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


def _cause(error: BaseException) -> BaseException:
    """What is inside of what twisted.web wraps around the reason for no answer."""
    reasons = getattr(error, "reasons", None)
    return _cause(reasons[0].value) if reasons else error


def _explained(error: BaseException) -> str:
    """Why there was no answer."""
    if isinstance(error, Unreachable):
        return str(error)
    return pinning.explained(error) or Failure(error).getErrorMessage() or type(error).__name__
