"""A line over a Twisted transport: the part that every stream-like kind shares.

Extended by the kinds' protocols.  It stands between the transport and the link: output goes to the owner as it
comes, keystrokes are taken only while the transport's buffer has room.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from consoled.core.seams import LineOwner


@implementer(IPushProducer)
class TransportLine(Protocol):
    """One connection.  A node that does not read gets at most the transport's buffer (64 KiB) and one write more."""

    transport: Any

    def __init__(self, owner: LineOwner) -> None:
        self.owner = owner
        self._full = False

    # Twisted calls these.

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        self.owner.received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.let_go()
        self.owner.lost(reason.getErrorMessage())

    def pauseProducing(self) -> None:
        self._full = True

    def resumeProducing(self) -> None:
        self._full = False

    def stopProducing(self) -> None:
        self._full = True

    # The link calls these.

    @property
    def note(self) -> str:
        return ""

    def write(self, data: bytes) -> bool:
        if self._full:
            return False
        self.transport.write(data)
        return True

    def send_break(self) -> bool:
        return False

    def close(self) -> None:
        if self.transport is not None:
            # A registered streaming producer keeps loseConnection waiting for ever.
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()

    def let_go(self) -> None:
        """The transport is gone: forget it, and take nothing more."""
        self._full = True
        self.transport = None
