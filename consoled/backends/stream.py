"""A dialled stream: a line's way from "dial" to "usable", shared by the kinds `tcp`, `unix` and `telnet`.

It stands between an endpoint and the link.  A connection is not yet a usable line: TLS, a greeting or a negotiation
may come first.  So the line itself keeps the promise that `Backend.dial` gave: it fires once the kind says
`usable()`, keeps what the node said before that, and turns every failure on the way into the promise's.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IHandshakeListener, IStreamClientEndpoint
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from consoled.backends.gathering import gather, give_back, is_gathered
from consoled.backends.line import TransportLine
from consoled.backends.tls import TlsSettings, explain
from consoled.core.seams import Line, LineOwner

MUCH = 16384
"""Bytes in one read that are not gathered: the kernel has room for a few times as many, and the node would wait."""


@implementer(IHandshakeListener)
class StreamLine(TransportLine):
    """A line that becomes usable some time after its transport is there.

    Kinds extend `opened`, and what Twisted calls.
    """

    def __init__(self, owner: LineOwner, tls: TlsSettings | None = None) -> None:
        super().__init__(owner)
        self.up = False
        """Whether `dial` has fired."""
        self.stage = "the TLS handshake"
        """What is under way before that, for people."""
        self._tls = tls
        self._connecting: Deferred[Any] | None = None
        self._dialed: Deferred[Line] | None = None
        self._early = bytearray()
        self._why = ""

    def dial(self, endpoint: IStreamClientEndpoint, host: str = "") -> Deferred[Line]:
        """Keep `Backend.dial`'s promise through `endpoint`; `host` is the name that a certificate must bear."""
        if self._tls is not None:
            try:
                endpoint = self._tls.wrap(endpoint, host)
            except (OSError, ValueError) as error:
                return fail(ConnectionError(f"tls: {error}"))
        self._dialed = dialed = Deferred[Line](self._cancelled)
        # The endpoint fires after `connectionMade`, which is soon enough for us: only its failure counts here.
        factory = Factory.forProtocol(lambda: self)
        factory.noisy = False
        self._connecting = connecting = endpoint.connect(factory)
        connecting.addErrback(self._failed)
        return dialed

    # Kinds extend or call these.

    def opened(self) -> None:
        """Bytes can be exchanged, privately if that was asked for."""
        self.usable()

    def usable(self) -> None:
        """The link can have the line, and then what came early."""
        dialed, self._dialed = self._dialed, None
        if dialed is None:
            return
        self.up = True
        early, self._early = bytes(self._early), bytearray()
        dialed.callback(self)
        if early and self.transport is not None:
            self.owner.received(early)

    def deliver(self, data: bytes) -> None:
        """Hand output on, or keep it until the link can have it."""
        if not self.up:
            self._early += data
            return
        is_awaited = self.owner.received(data) or self._flooding or len(data) >= MUCH
        if is_awaited == is_gathered(self.transport):
            (give_back if is_awaited else gather)(self.transport)

    def drop(self, error: Exception) -> None:
        """Give the connection up, in any state, for a reason of ours."""
        self._why = str(error)
        self._failed(Failure(error))
        self.abort()

    # The link calls this.

    def write(self, data: bytes) -> bool:
        give_back(self.transport)  # somebody waits for the echo
        return super().write(data)

    # Twisted calls these.

    def connectionMade(self) -> None:
        self._connecting = None
        if self._tls is None and hasattr(self.transport, "protocol"):
            # Endpoints put a protocol of theirs in between, which has done its work and would pass on every read.
            self.transport.protocol = self
        super().connectionMade()
        if self._tls is None:
            self.opened()

    def handshakeCompleted(self) -> None:
        objection = self._tls and self._tls.objection(self.transport)
        if objection:
            self.drop(ConnectionError(objection))
        else:
            self.opened()

    def dataReceived(self, data: bytes) -> None:
        self.was_read(len(data))
        self.deliver(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.let_go()
        why = self._why or explain(reason)
        if self.up:
            self.owner.lost(why)
        else:
            error = ConnectionError(f"lost during {self.stage}: {why}")
            self._failed(Failure(error))

    # The promise.

    def _failed(self, failure: Failure) -> None:
        self._connecting = None
        dialed, self._dialed = self._dialed, None
        if dialed is not None:
            dialed.errback(failure)

    def _cancelled(self, _: Deferred[Line]) -> None:
        self._dialed = None
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        else:
            self.abort()
