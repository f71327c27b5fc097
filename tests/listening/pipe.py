"""A TLS connection in memory: our server as Twisted sees it, and Python's own `ssl` at the other end."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trustme
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IConsumer, ITCPTransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

PEER = IPv4Address("TCP", "192.0.2.7", 40112)


def write_pair(directory: Path, name: str, leaf: trustme.LeafCert) -> dict[str, str]:
    """The two files of a certificate, as `[tls]` names them."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key.touch(0o600)
    key.write_bytes(leaf.private_key_pem.bytes())
    return {"certificate": str(certificate), "key": str(key)}


def client_context(authority: trustme.CA, mine: trustme.LeafCert | None = None, **more: Any) -> ssl.SSLContext:
    # Not the default one, which reads all the system's authorities.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    if mine is not None:
        mine.configure_cert(context)
    for name, value in more.items():
        setattr(context, name, value)
    return context


@implementer(ITCPTransport, IConsumer)
class Socket:
    """The server's end of the wire."""

    def __init__(self, peer: Any = PEER) -> None:
        self.sent = bytearray()
        self.protocol: Any = None
        self.disconnecting = False
        self.closed = False
        self.aborted = False
        self._peer = peer

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.sent += data

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.disconnecting = True
        self.lose(ConnectionDone())

    def abortConnection(self) -> None:
        self.aborted = True
        self.lose(ConnectionAborted())

    def lose(self, why: Exception) -> None:
        if not self.closed:
            self.closed = True
            self.protocol.connectionLost(Failure(why))

    def getPeer(self) -> Any:
        return self._peer

    def getHost(self) -> Any:
        return IPv4Address("TCP", "192.0.2.1", 8443)

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass


class Pipe:
    """One client that connects to `factory`, which has TLS below it."""

    def __init__(
        self,
        factory: Any,
        clock: Clock,
        context: ssl.SSLContext,
        name: str | None = "console.example",
        peer: Any = PEER,
    ) -> None:
        self.socket = Socket(peer)
        self.socket.protocol = factory.buildProtocol(peer)
        self._clock = clock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self.socket.protocol.makeConnection(self.socket)

    def shake_hands(self) -> Pipe:
        """Raises `ssl.SSLError` if it comes to nothing."""
        self._until(self.tls.do_handshake)
        self.pump()
        return self

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self.pump()

    def receive(self) -> bytes:
        """What the server has said since the last time.  Raises `ssl.SSLError` for an alert."""
        self.pump()
        data = b""
        while True:
            try:
                piece = self.tls.read()
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                return data
            if not piece:
                return data
            data += piece

    def pump(self) -> None:
        """Carry what waits on either side to the other."""
        for _ in range(20):
            self._clock.advance(0)
            if data := self._out.read():
                if not self.socket.closed:
                    self.socket.protocol.dataReceived(data)
            elif self.socket.sent:
                self._in.write(bytes(self.socket.sent))
                self.socket.sent.clear()
            else:
                return

    def _until(self, step: Callable[[], Any]) -> None:
        for _ in range(20):
            try:
                step()
            except ssl.SSLWantReadError:
                before = self._in.pending
                self.pump()
                if self._in.pending == before and self.socket.closed:
                    self._in.write_eof()
            else:
                return
        raise AssertionError("no end to the handshake")
