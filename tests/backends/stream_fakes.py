"""The two ends of a line in memory: an owner that writes down what it is told, and a network that the test works."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from consoled.core.seams import Backend, Line


class Owner:
    """A `LineOwner` that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def received(self, data: bytes) -> None:
        self.told.append(("received", data))

    def lost(self, why: str) -> None:
        self.told.append(("lost", why))

    @property
    def output(self) -> bytes:
        return b"".join(what for event, what in self.told if event == "received")


class Wire(StringTransport):
    """A transport over nothing, with a real socket for its options; it is gone one turn after it was told to go."""

    def __init__(self, reactor: MemoryReactorClock, protocol: Any) -> None:
        super().__init__()
        self.socket = socket.socket()
        self._reactor = reactor
        self._protocol = protocol
        protocol.makeConnection(self)

    def loseConnection(self) -> None:
        assert self.producer is None, "it would wait for its producer"
        self._go(ConnectionDone())

    def abortConnection(self) -> None:
        self.disconnected = True
        self._go(ConnectionAborted())

    def _go(self, error: Exception) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self._reactor.callLater(0, self.hang_up, error)

    def hang_up(self, error: Exception | None = None) -> None:
        self.socket.close()
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connectionLost(Failure(error or ConnectionDone()))

    def says(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def sent(self) -> bytes:
        """What was written since the last time."""
        data = self.value()
        self.clear()
        return data


class Dial:
    """A dial under way: `result` is a line, a failure, or None so far."""

    def __init__(self, backend: Backend) -> None:
        self.owner = Owner()
        self.result: Any = None
        self.deferred: Deferred[Line] = backend.dial(self.owner)
        self.deferred.addBoth(self._ended)

    def _ended(self, result: Any) -> None:
        assert self.result is None
        assert self.owner.told == [], "nothing is told before dial has fired"
        self.result = result

    @property
    def line(self) -> Line:
        assert self.result is not None, "still dialling"
        assert not isinstance(self.result, Failure), self.result
        return self.result

    @property
    def error(self) -> str:
        assert isinstance(self.result, Failure)
        return self.result.getErrorMessage()


class Network:
    """A reactor whose outgoing connections the test accepts or refuses."""

    def __init__(self) -> None:
        self.reactor = MemoryReactorClock()
        self.wires: list[Wire] = []

    @property
    def calls(self) -> list[Any]:
        return self.reactor.tcpClients or self.reactor.unixClients

    def accept(self) -> Wire:
        factory = self.calls[-1][2 if self.reactor.tcpClients else 1]
        wire = Wire(self.reactor, factory.buildProtocol(None))
        self.wires.append(wire)
        return wire

    def refuse(self, error: Exception) -> None:
        factory = self.calls[-1][2 if self.reactor.tcpClients else 1]
        factory.clientConnectionFailed(self.reactor.connectors[-1], Failure(error))

    def turn(self, seconds: float = 0) -> None:
        self.reactor.advance(seconds)

    def assert_quiet(self) -> None:
        """Nothing is left behind."""
        assert self.reactor.getDelayedCalls() == []


@contextmanager
def network() -> Iterator[Network]:
    net = Network()
    yield net
    for wire in net.wires:
        wire.socket.close()
