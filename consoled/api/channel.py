"""One HTTP connection: Twisted's parser, and what it lacks: limits that no trickle of bytes puts off, and words.

Made by `site` for each connection.  What the parser refuses, or waits for too long, is answered in JSON like every
other refusal, and hung up on (RFC 9112 section 9.5, RFC 6585 section 5).  Nothing of a WebSocket passes here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.web.http import RESPONSES, HTTPChannel
from zope.interface import implementer

TARGET = 8192
"""Bytes of a request line."""
HEADERS = 100
"""Headers of a request."""
GOODBYE = 15.0
"""Seconds for a client to take the last answer and close, before it is cut off."""


@implementer(IHandshakeListener)
class Channel(HTTPChannel):
    """One connection."""

    maxHeaders = HEADERS
    transport: Any
    site: Any
    """The site, with its `limits`."""
    _limit: Any = None
    _refused = False

    # Twisted calls these.

    def connectionMade(self) -> None:
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.totalHeadersSize = self.MAX_LENGTH = self.site.limits.headers
        if isinstance(self.transport, TLSMemoryBIOProtocol):
            self._within(self.site.limits.handshake, self._abort)

    def handshakeCompleted(self) -> None:
        self._in_time()

    def dataReceived(self, data: bytes) -> None:
        if self._refused:
            return
        if self._limit is None and not self._handlingRequest:
            self._within(self.site.limits.request, self._too_slow)
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def lineReceived(self, line: bytes) -> None:
        if self._in_head and line[:1] in (b" ", b"\t"):
            # Obsolete, and a means to show a proxy and us different headers (RFC 9112 section 5.2).
            self._refuse(400, "A header is continued on a second line")
        elif not self._in_head and len(line) > TARGET:
            self._too_long()
        else:
            super().lineReceived(line)  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, line: bytes) -> None:
        self._too_long()

    def allContentReceived(self) -> None:
        self._in_time()
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def timeoutConnection(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:
        self._in_time()
        self._within(GOODBYE, self._abort)
        super().loseConnection()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._in_time()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def _respondToBadRequestAndDisconnect(self) -> None:
        # All that the parser says, whatever was wrong.
        if self._receivedHeaderCount > HEADERS:
            self._refuse(431, f"A request may have {HEADERS} headers")
        elif self._receivedHeaderSize > self.site.limits.headers:
            self._too_long()
        else:
            self._refuse(400, "This is not a proper HTTP/1.1 request")

    # Ours.

    @property
    def _in_head(self) -> bool:
        """Whether the request line is read and the headers are not."""
        return hasattr(self, "_command")

    def _within(self, seconds: float, late: Callable[[], None]) -> None:
        """Call `late` unless `_in_time` is called within `seconds`."""
        self._limit = self.callLater(seconds, late)  # type: ignore[no-untyped-call]

    def _in_time(self) -> None:
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        self._limit = None

    def _too_long(self) -> None:
        if self._in_head:
            self._refuse(431, f"The headers of a request may have {self.site.limits.headers} bytes")
        else:
            self._refuse(414, f"A request line may have {TARGET} bytes")

    def _too_slow(self) -> None:
        self._refuse(408, f"A request must arrive within {self.site.limits.request:g} s")

    def _refuse(self, status: int, message: str) -> None:
        if self._refused:
            return
        self._refused = True
        body = msgspec.json.encode({"message": message})
        self.transport.write(
            b"HTTP/1.1 %d %s\r\nServer: consoled\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
            b"Connection: close\r\n\r\n%s" % (status, RESPONSES.get(status, b"Refused"), len(body), body)
        )
        self.loseConnection()

    def _abort(self) -> None:
        self._limit = None
        self.transport.abortConnection()
