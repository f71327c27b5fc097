"""The kind `triton`: a machine's console behind vmadmd's TCP proxy, whose port is asked for at each dial.

The port is new whenever the machine starts or moves, so nothing is kept between dials.  Not configurable: `machines`
makes such a console when somebody wants one, and the link dials it as any other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from consoled.backends.address import Address
from consoled.backends.settings import ConsoleSettings
from consoled.backends.tcp import TcpLine, TcpSettings, endpoint
from consoled.core.seams import Line, LineOwner
from consoled.fetch import Unreachable
from consoled.triton import UnknownMachine

CONNECT = 5.0
"""Seconds for the TCP connection (RFD 189)."""
DIAL = 12.0
"""Seconds for all of it: VMAPI's and CNAPI's answers, three each, and the connection."""

NO_SOCKET = "Failed to retrieve console socket details"
NOT_CONNECTED = "Failed to connect to console server"
TIMED_OUT = "Timeout while connecting to console server"

Find = Callable[[], Awaitable[tuple[str, int]]]
"""Where the console listens now.  Raises `Unreachable` or `UnknownMachine`."""


class TritonBackend:
    """Dials one machine's console."""

    host = ""

    def __init__(self, settings: ConsoleSettings, find: Find, reactor: Any) -> None:
        self.address = f"<machine {settings.name}>"
        self.trouble = NOT_CONNECTED
        """How the last dial failed, in the words that CloudAPI's clients are told."""
        self._line_settings = TcpSettings(name=settings.name, address="console:1", keepalive=settings.keepalive)
        self._find = find
        self._reactor = reactor

    def dial(self, owner: LineOwner) -> Deferred[Line]:
        """See `core.seams.Backend`."""
        return Deferred.fromCoroutine(self._dial(owner))

    async def _dial(self, owner: LineOwner) -> Line:
        try:
            host, port = await self._find()
        except (Unreachable, UnknownMachine) as error:
            self.trouble = NO_SOCKET
            raise ConnectionError(f"{NO_SOCKET}: {error}") from None
        self.trouble = NOT_CONNECTED
        line = TcpLine(owner, self._line_settings)
        dialing = line.dial(endpoint(self._reactor, Address(host, port)), host)
        return await dialing.addTimeout(CONNECT, self._reactor, self._too_slow)

    def _too_slow(self, result: Any, limit: float) -> Any:
        if isinstance(result, Failure):
            self.trouble = TIMED_OUT
            raise ConnectionError(f"no connection within {limit:g} s")
        return result
