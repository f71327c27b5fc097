"""The gathering: connections that nobody watches are read together, and not more often than is of use.

A node that says a line a hundred times a second is read a hundred times a second, if its bytes are taken as they come;
and to find out about each costs Twisted more than the read.  That is right where somebody waits for them.  Where
nobody does, `backends.stream` gives the connection to the gathering: an epoll of its own, which is one reader in the
reactor's.  When anything has come to any of them, all that have something are read, and then none for `REST` seconds,
while the kernel gathers what comes.  A flood is not gathered, nor is what somebody watches: the line takes it out.

Only ordinary reads are done here.  A connection that ends or hangs up is given back, and so is one that has something
to write: the reactor, whose epoll reports it again, ends it in its own ways, for which it must see both directions.
Pausing and resuming need nothing: a transport asks its reactor for them, and to its transports the gathering *is* the
reactor, that lets all through but who is to be read.

What epoll reports is a hint.  A line may close, pause or replace any connection while others of the same batch wait;
so each is looked up anew, and to read where nothing is does no harm.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from select import EPOLLIN, epoll
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

REST = 0.04
"""Seconds in which nothing is read, after everything was."""
BATCH = 128
"""The most that are read before clients and timers have their turn.  Those left out come first the next time."""

_log = Logger()


def gather(transport: Any) -> None:
    """Read the connected `transport` together with others from now on, if that can be done with it."""
    if not isinstance(transport, Connection) or not isinstance(transport.reactor, EPollReactor):
        return
    # One that has something to write would have to be given back at once.
    is_writing = transport.dataBuffer or transport._tempDataBuffer or transport.disconnecting
    if transport.connected and not is_writing:
        _gathering(transport.reactor).take(transport)


def is_gathered(transport: Any) -> bool:
    """Whether it is one of those."""
    return isinstance(getattr(transport, "reactor", None), Gathering)


def give_back(transport: Any) -> None:
    """Read it as soon as there is something, as Twisted does.  Harmless when it is not gathered."""
    if is_gathered(transport):
        transport.reactor.give_back(transport)


@implementer(IReadDescriptor)
class Gathering:
    """All that are gathered in one reactor: a reader to it, and to them the reactor."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._epoll = epoll()
        self._members: dict[int, Any] = {}
        """Those that are read here, by their descriptors."""
        self._left = 0
        """How many may still be read before the next rest."""
        self._resting: Any = None

    def take(self, transport: Any) -> None:
        """From now on this is `transport`'s reactor.  It reads."""
        transport.stopReading()
        transport.reactor = self
        transport.startReading()

    def give_back(self, transport: Any) -> None:
        """From now on the reactor itself is."""
        reads = self._leave(transport)
        transport.reactor = self._reactor
        if reads:
            transport.startReading()

    # The transports call these.

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def addReader(self, transport: Any) -> None:
        number = transport.fileno()
        if self._members.get(number) is not transport:
            self._epoll.register(number, EPOLLIN)
            self._members[number] = transport
            if len(self._members) == 1 and self._resting is None:
                self._reactor.addReader(self)

    def removeReader(self, transport: Any) -> None:
        self._leave(transport)

    def addWriter(self, transport: Any) -> None:
        self.give_back(transport)
        transport.startWriting()

    def _leave(self, transport: Any) -> bool:
        """Read it here no more.  Whether it was."""
        number = transport.fileno()
        if self._members.get(number) is not transport:
            # It was paused; or somebody has closed the socket behind its back.
            number = next((number for number, one in self._members.items() if one is transport), -1)
            if number < 0:
                return False
        del self._members[number]
        with suppress(OSError):  # the kernel has forgotten what was closed
            self._epoll.unregister(number)
        if not self._members:
            self._reactor.removeReader(self)
            if self._resting is not None:
                self._resting.cancel()
                self._resting = None
        return True

    # The reactor calls these.

    def fileno(self) -> int:
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        return "gathering"

    def doRead(self) -> None:
        self._left = self._left or len(self._members)
        events = self._epoll.poll(0, min(self._left, BATCH))
        self._left -= len(events)
        for number, event in events:
            transport = self._members.get(number)
            if transport is None:
                continue
            try:
                end = transport.doRead() if event & EPOLLIN else CONNECTION_DONE
            except Exception:
                _log.failure("a line failed")
                end = Failure()
            if end is CONNECTION_DONE:
                self.give_back(transport)  # the end can be read again
            elif end:
                transport.connectionLost(Failure(end) if isinstance(end, Exception) else end)
        # Each is read once, although some may speak again meanwhile: then comes the rest.
        if self._members and (self._left == 0 or len(events) < BATCH):
            self._left = 0
            self._reactor.removeReader(self)
            self._resting = self._reactor.callLater(REST, self._go_on)

    def _go_on(self) -> None:
        self._resting = None
        self._reactor.addReader(self)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""
        for transport in list(self._members.values()):
            transport.connectionLost(reason)


@cache
def _gathering(reactor: EPollReactor) -> Gathering:
    return Gathering(reactor)
