"""The one road from an HTTP request to a WebSocket.

Every face sends its upgrade requests through `Road.take`: first the face decides (who, which console, may they),
within a time limit, and everything that can be refused is refused with an ordinary HTTP answer; only then the
socket is handed to autobahn (RFC 6455 section 4.2).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Coroutine, Sequence
from io import BytesIO
from typing import Any, TypeVar

from autobahn.twisted.resource import WebSocketResource
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.server import Request

from consoled.api.answers import HttpRefusal
from consoled.api.doors import rise
from consoled.api.meters import Meters
from consoled.api.session import Conversation, Session, Sessions
from consoled.core.faults import Fault
from consoled.core.seams import Clock

DECISION = 4.0
"""Seconds for everything that is asked before the upgrade: stock clients give up after five."""

T = TypeVar("T")

_log = Logger()


class Road:
    """Takes requests that a face has decided on to their sessions."""

    def __init__(self, sessions: Sessions, clock: Clock, meters: Meters) -> None:
        self._sessions = sessions
        self._clock = clock
        self._meters = meters

    def take(
        self,
        request: Request,
        decision: Coroutine[Any, Any, Conversation],
        refuse: Callable[[Request, Exception], None],
    ) -> None:
        """Await `decision`, then open a session for its conversation, or `refuse` with what it raised."""
        began = self._clock.seconds()

        def count(result: str) -> None:
            self._meters.upgrades.labels(result).inc()
            self._meters.handshakes.observe(self._clock.seconds() - began)

        def opened(conversation: Conversation) -> None:
            count("101")
            self._open(request, conversation)

        def refused(request: Request, error: Exception) -> None:
            refuse(request, error)
            count(str(request.code))

        self.decide(request, decision, opened, refused)

    def decide(
        self,
        request: Request,
        decision: Coroutine[Any, Any, T],
        then: Callable[[T], None],
        refuse: Callable[[Request, Exception], None],
    ) -> None:
        """Await `decision` and give what it returns to `then`, or what it raised to `refuse`.

        The decision is cancelled when the client leaves, and when it takes too long: then `refuse` gets a
        `TimeoutError`.
        """
        deciding = Deferred.fromCoroutine(decision)
        gone = False

        def left(_: Failure) -> None:
            nonlocal gone
            gone = True
            deciding.cancel()

        def decided(what: T) -> None:
            if not gone:
                then(what)

        def refused(failure: Failure) -> None:
            if gone:
                failure.trap(CancelledError, Fault, HttpRefusal)
            elif isinstance(failure.value, Exception):
                refuse(request, failure.value)

        def broken(bug: Failure) -> None:
            _log.failure("a request failed", bug)
            request.loseConnection()

        request.notifyFinish().addErrback(left)
        deciding.addTimeout(DECISION, self._clock, _too_slow)
        deciding.addCallbacks(decided, refused).addErrback(broken)

    def _open(self, request: Request, conversation: Conversation) -> None:
        rise(request)
        session = Session(conversation)
        session.factory = self._sessions
        # autobahn parses the request again and logs it: it gets a handshake without secrets or anything to object to.
        request.uri = b"/"
        request.requestHeaders = Headers(
            {
                b"Host": [b"consoled"],
                b"Upgrade": [b"websocket"],
                b"Connection": [b"Upgrade"],
                b"Sec-WebSocket-Version": [b"13"],
                b"Sec-WebSocket-Key": request.requestHeaders.getRawHeaders(b"sec-websocket-key") or [],
            }
        )
        if conversation.subprotocol is not None:
            request.requestHeaders.setRawHeaders(b"Sec-WebSocket-Protocol", [conversation.subprotocol.encode()])
        # A hasty client's first messages have come with its request, or since: the HTTP channel has kept them.
        channel: Any = request.channel
        request.content = BytesIO(b"".join(channel._dataBuffer))
        channel.rawDataReceived = session.dataReceived
        WebSocketResource(_One(session)).render(request)


class _One:
    """A factory of the one session that is there already."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def buildProtocol(self, _: object) -> Session:
        return self._session


def asks_for_upgrade(request: Request) -> bool:
    """Whether `request` wants to become a WebSocket, properly or not."""
    headers = request.requestHeaders
    return b"websocket" in _tokens(headers.getRawHeaders(b"upgrade")) and b"upgrade" in _tokens(
        headers.getRawHeaders(b"connection")
    )


def demand_upgrade(request: Request) -> None:
    """Raise an `HttpRefusal` unless `request` is a proper opening handshake (RFC 6455 section 4.2.1)."""
    headers = request.requestHeaders
    if not asks_for_upgrade(request):
        raise _bad("This is a WebSocket endpoint: the request must ask for an upgrade")
    if headers.getRawHeaders(b"sec-websocket-version") != [b"13"]:
        raise _bad("Sec-WebSocket-Version must be 13")
    keys = headers.getRawHeaders(b"sec-websocket-key") or []
    try:
        [key] = keys
        good = len(base64.b64decode(key.strip(), validate=True)) == 16
    except (ValueError, binascii.Error):
        good = False
    if not good:
        raise _bad("Sec-WebSocket-Key must be 16 bytes in base64")
    if request.clientproto != b"HTTP/1.1" or request.requestHeaders.getRawHeaders(b"host") is None:
        raise _bad("A WebSocket needs HTTP/1.1 and a Host header")


def _bad(message: str) -> HttpRefusal:
    return HttpRefusal(400, message, {"Sec-WebSocket-Version": "13"})


def _tokens(values: Sequence[bytes] | None) -> set[bytes]:
    return {token.strip().lower() for value in values or [] for token in value.split(b",")}


def _too_slow(result: object, limit: float) -> object:
    if isinstance(result, Failure):
        raise TimeoutError(f"no decision within {limit:g} s")
    return result
