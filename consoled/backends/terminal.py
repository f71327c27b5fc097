"""A terminal's descriptor as a Twisted transport: what a serial device and the master side of a pty have in common.

Between the kernel and a `TransportLine`.  Made by `serial_port` and `process` when their line is usable.

Twisted's own `SerialPort` is not used: it takes a read of nothing for the end (and pyserial's VMIN 0 makes such
reads normal), forgets the errno, cannot abort, and flushes what arrived before it was made.
"""

# mypy: allow-untyped-calls
# (FileDescriptor and Failure have no annotations.)

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionAborted
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

_READ_SIZE = 16384


class Terminal(FileDescriptor):
    """Owns a non-blocking descriptor; `close` gives it back to the system, once.

    `connectionLost` of the protocol gets `ConnectionDone` at a hangup, `ConnectionAborted` after
    `abortConnection`, or the `OSError` that the kernel gave.
    """

    connected = 1
    reactor: Any

    def __init__(self, reactor: Any, descriptor: int, close: Callable[[], None]) -> None:
        super().__init__(reactor)
        self.waiting = 0
        """Bytes that the kernel has not taken yet."""
        self._descriptor = descriptor
        self._close = close
        self._aborting = False
        self._protocol: Protocol | None = None

    def attach(self, protocol: Protocol) -> None:
        """Begin to read, from the reactor's next turn on."""
        self._protocol = protocol
        protocol.makeConnection(self)
        self.startReading()

    # Twisted calls these.

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: bytes) -> None:
        if self.connected:
            self.waiting += len(data)
            super().write(data)

    def doRead(self) -> BaseException | None:
        try:
            data = os.read(self._descriptor, _READ_SIZE)
        except BlockingIOError:
            return None
        except OSError as error:
            return error
        if not data:
            return CONNECTION_DONE
        assert self._protocol is not None
        self._protocol.dataReceived(data)
        return None

    def writeSomeData(self, data: bytes) -> int | BaseException:
        try:
            taken = os.write(self._descriptor, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            return error
        self.waiting -= taken
        return taken

    def abortConnection(self) -> None:
        if self.connected and not self._aborting:
            self._aborting = True
            self.stopReading()
            self.stopWriting()
            self.reactor.callLater(0, self.connectionLost, Failure(ConnectionAborted()))

    def connectionLost(self, reason: Failure) -> None:
        if self.disconnected:
            return
        super().connectionLost(reason)
        self._close()
        assert self._protocol is not None
        self._protocol.connectionLost(reason)
