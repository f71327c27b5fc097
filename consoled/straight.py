"""The fast path: bytes go straight to the socket while nothing waits before them.

`transport.write` never sends.  It queues, asks epoll for the socket, sends in the reactor's next turn and tells epoll
to forget it again: 10 to 20 us for each client, where the kernel takes a short frame in 2 to 5 us if asked at once.
Sessions (`api.session`) write their frames this way, and lines (`backends.line`) write keystrokes.

It changes no order and no limit, because it is a shortcut past an *empty* buffer only.  What the kernel does not take
goes to `transport.write`, and so does all that follows until the transport has got rid of that.  So the transport still
paces its producer, and it meets every error by itself: here an error is a send of nothing.

What waits in the transport only private attributes of Twisted tell.  They are looked for when a connection is new; a
transport that has not got them (another Twisted, a wrapper of another kind) keeps its own `write`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.tcp import Connection
from twisted.protocols.tls import TLSMemoryBIOProtocol

RECORD = 16384
"""The most bytes that one TLS record carries (RFC 8446 section 5.1)."""
_ENCRYPTED = RECORD + 256
"""The most bytes that such a record has (section 5.2)."""
_AT_ONCE = 512 * 1024
"""How much of what waits the transport may send in one turn, so that who has to wait in a flood can catch up."""


class Straight:
    """The quickest way to write to one transport, for as long as that lives."""

    __slots__ = ("_tcp", "write")

    write: Callable[[bytes], None]
    """Send the bytes now, or as soon as the transport can."""

    def __init__(self, transport: Any, queued: Callable[[], None] = lambda: None) -> None:
        """`queued` is called whenever bytes could not go straight, and wait in the transport now."""
        self._tcp: Any = None
        self.write = _queueing(transport.write, queued)
        transport = _beneath(transport)
        over_tls = isinstance(transport, TLSMemoryBIOProtocol)
        tcp = _beneath(transport.transport) if over_tls else transport
        if not isinstance(tcp, Connection) or tcp.TLS or not hasattr(tcp, "_tempDataLen"):
            return
        if not over_tls:
            self.write = _plain(tcp, queued)
        elif hasattr(transport, "_appSendBuffer") and hasattr(getattr(transport, "_aggregator", None), "_buffer"):
            self.write = _encrypted(transport, _plain(tcp, queued), queued)
        self._tcp = tcp
        tcp.SEND_LIMIT = _AT_ONCE

    @property
    def waiting(self) -> int:
        """How many bytes wait in the transport; any number, if that cannot be known."""
        tcp = self._tcp
        return sys.maxsize if tcp is None else len(tcp.dataBuffer) - tcp.offset + tcp._tempDataLen


def _beneath(transport: Any) -> Any:
    """The transport itself, if this is a wrapper that says so because it does nothing to the bytes."""
    # Its own attribute only: Twisted's wrappers, TLS among them, have all those of what they wrap, too.
    return getattr(transport, "__dict__", {}).get("beneath", transport)


def _queueing(queue: Callable[[bytes], None], queued: Callable[[], None]) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        queue(data)
        queued()

    return write


def _plain(tcp: Any, queued: Callable[[], None]) -> Callable[[bytes], None]:
    send = tcp.socket.send

    def write(data: bytes) -> None:
        if not (tcp.dataBuffer or tcp._tempDataLen):
            try:
                sent = send(data)
            except OSError:
                sent = 0  # full, or broken: the transport will see
            if sent == len(data):
                return
            data = data[sent:]
        tcp.write(data)
        queued()

    return write


def _encrypted(tls: Any, send: Callable[[bytes], None], queued: Callable[[], None]) -> Callable[[bytes], None]:
    """Twisted gathers, encrypts in a later turn and queues; here the records are made and sent at once."""
    connection, gathered = tls.getHandle(), tls._aggregator._buffer

    def write(data: bytes) -> None:
        sent = 0
        if not (gathered or tls._appSendBuffer):
            records = []
            try:
                while sent < len(data):
                    sent += connection.send(data[sent : sent + RECORD])
                    records.append(connection.bio_read(_ENCRYPTED))
            except SSL.Error:
                pass  # it wants to read first, or is broken: the transport will see
            if records:
                send(b"".join(records))
        if sent < len(data):
            tls.write(data[sent:])
            queued()

    return write
