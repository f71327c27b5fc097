"""The kind `tcp`: a raw TCP port, such as a terminal server's or ser2net's, with TLS if asked for.

What comes from the port is the node's output, byte for byte; what is typed goes to it the same way.  A port that
speaks telnet is of the kind `telnet`: nothing is guessed.  Made by `tap` from `TcpSettings`, dialled by the link.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from consoled.backends.address import Address
from consoled.backends.settings import ConsoleSettings, Surroundings
from consoled.backends.stream import StreamLine
from consoled.backends.tcp_socket import prepare
from consoled.backends.tls import TlsSettings
from consoled.core.seams import Backend, Line, LineOwner


class TcpSettings(ConsoleSettings, tag="tcp", frozen=True, kw_only=True):
    """A console on a raw TCP port."""

    address: str
    """`"host:port"`; the name is resolved at each dial, both address families are tried."""
    tls: TlsSettings | None = None
    """If present, even empty: speak TLS."""

    def __post_init__(self) -> None:
        Address.parse(self.address)

    def backend(self, around: Surroundings) -> Backend:
        return TcpBackend(self, around.reactor)


class TcpBackend:
    """Dials a raw TCP port."""

    def __init__(self, settings: TcpSettings, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self._at = Address.parse(settings.address)
        self.address = f"<{self._at}>"
        self.host = self._at.host

    def dial(self, owner: LineOwner) -> Deferred[Line]:
        line = TcpLine(owner, self._settings)
        return line.dial(endpoint(self._reactor, self._at), self._at.host)


class TcpLine(StreamLine):
    """One connection to a raw TCP port."""

    def __init__(self, owner: LineOwner, settings: TcpSettings) -> None:
        super().__init__(owner, settings.tls)
        self._keepalive = settings.keepalive

    def connectionMade(self) -> None:
        prepare(self.transport.socket, self._keepalive)
        super().connectionMade()


def endpoint(reactor: Any, at: Address) -> IStreamClientEndpoint:
    """The way to `at`; names are resolved by the reactor (see `names`), and the only time limit is the link's.

    An address needs none of what is made to resolve a name, which is half of the work of a dial.
    """
    if isIPAddress(at.host):
        return TCP4ClientEndpoint(reactor, at.host, at.port, timeout=None)  # type: ignore[arg-type]
    if isIPv6Address(at.host):
        return TCP6ClientEndpoint(reactor, at.host, at.port, timeout=None)
    return HostnameEndpoint(reactor, at.host, at.port, timeout=None)  # type: ignore[arg-type]
