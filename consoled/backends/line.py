"""A line over a Twisted transport: the part that every stream-like kind shares.

Extended by the kinds' protocols.  It stands between the transport and the link: output goes to the owner as it
comes, keystrokes are taken only while the transport's buffer has room.  A node that floods is read in larger pieces, so
that a flood costs the processor little more than its two copies, in and out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from consoled.backends.sluice import LARGE, sluice
from consoled.core.seams import LineOwner
from consoled.straight import Straight

READ = 65536
"""The most bytes in one read, as Twisted has it."""
FLOOD = 256 * 1024
"""The same after a read that was filled, until one is less than half full."""

# A read allocates room for the most that may come, and gives back what did not.  From 128 KiB on glibc asks the kernel
# for each such piece, which costs more than reading it, until it has seen one given back whole.
bytearray(2 * FLOOD)


@implementer(IPushProducer)
class TransportLine(Protocol):
    """One connection.  A node that does not read gets at most the transport's buffer and one write more: 64 KiB, or
    256 KiB while it floods.
    """

    transport: Any

    def __init__(self, owner: LineOwner) -> None:
        self.owner = owner
        self._full = False
        self._flooding = False
        self._send: Callable[[bytes], None] | None = None
        """The straight way, from the first keystroke on: at most consoles nobody types."""

    # Twisted calls these.

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        self.was_read(len(data))
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
        if self._send is None:
            self._send = Straight(self.transport).write
        self._send(data)
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

    def was_read(self, size: int) -> None:
        """Kinds that extend `dataReceived` say how much came: the next read is as large as the flood wants it."""
        if self._flooding:
            if size <= FLOOD // 2:
                self._flood(False)
        elif size == READ:
            self._flood(True)
        if size >= LARGE and sluice.is_shut:
            sluice.hold(self)

    def _flood(self, begins: bool) -> None:
        if getattr(self.transport, "bufferSize", 0) in (READ, FLOOD):
            self._flooding = begins
            self.transport.bufferSize = FLOOD if begins else READ
            (sluice.flooding.add if begins else sluice.flooding.discard)(self)

    def let_go(self) -> None:
        """The transport is gone: forget it, and take nothing more."""
        self._full = True
        self.transport = self._send = None
        sluice.flooding.discard(self)
