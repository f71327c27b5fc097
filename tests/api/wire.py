"""A whole HTTP connection in memory: the site's end as Twisted sees it, the client's end as `websockets` sees it.

The client is another implementation than the server's, and a strict one: it fails on any frame that it may.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ITransport
from twisted.python.failure import Failure
from twisted.web.server import Site
from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.uri import parse_uri
from zope.interface import implementer

BUFFER = 65536


@implementer(ITransport)
class Socket:
    """The server's transport.  What is written goes to `sent`, or waits in `buffer` while the client does not read."""

    def __init__(self, client: str = "192.0.2.7") -> None:
        self.sent = bytearray()
        self.buffer = bytearray()
        self.reading = True
        self.closed = False
        self.aborted = False
        self.no_delay = False
        self.protocol = None
        self.producer = None
        self._closing = False
        self._paused_producer = False
        self._client = client

    def write(self, data: bytes) -> None:
        if self.closed:
            return
        if self.reading:
            self.sent += data
            return
        self.buffer += data
        if len(self.buffer) > BUFFER and self.producer is not None:
            self._paused_producer = True
            self.producer.pauseProducing()

    def writeSequence(self, data) -> None:
        self.write(b"".join(data))

    def registerProducer(self, producer, streaming) -> None:
        assert streaming and self.producer is None, "a producer is registered already"
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None
        self._finish()

    def loseConnection(self) -> None:
        self._closing = True
        self._finish()

    def abortConnection(self) -> None:
        self.aborted = True
        self._lose(Failure(ConnectionLost()))

    def setTcpNoDelay(self, enabled) -> None:
        self.no_delay = enabled

    def getPeer(self):
        return IPv4Address("TCP", self._client, 40112)

    def getHost(self):
        return IPv4Address("TCP", "192.0.2.1", 8080)

    def pauseProducing(self) -> None:
        """The server reads no further; in memory nothing waits."""

    resumeProducing = stopProducing = pauseProducing

    # The test calls these.

    def stop_reading(self) -> None:
        self.reading = False

    def start_reading(self) -> None:
        self.reading = True
        self.sent += self.buffer
        self.buffer.clear()
        if self._paused_producer and self.producer is not None:
            self._paused_producer = False
            self.producer.resumeProducing()
        self._finish()

    def hang_up(self) -> None:
        """The client vanishes."""
        self._lose(Failure(ConnectionLost()))

    def _finish(self) -> None:
        if self._closing and self.producer is None and not self.buffer:
            self._lose(Failure(ConnectionDone()))

    def _lose(self, why: Failure) -> None:
        if not self.closed:
            self.closed = True
            self.protocol.connectionLost(why)


@dataclass
class Answer:
    """A plain HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return self.json["message"]


class Client:
    """One connection to the site."""

    def __init__(self, site: Site, host: str = "192.0.2.7") -> None:
        self.socket = Socket(host)
        channel = site.buildProtocol(self.socket.getPeer())
        self.socket.protocol = channel
        channel.makeConnection(self.socket)
        self._protocol: ClientProtocol | None = None
        self.messages: list[str | bytes] = []
        """What the server has said since the upgrade."""
        self.pongs: list[bytes] = []
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self._parts: list[bytes] = []

    def send_raw(self, data: bytes) -> None:
        self.socket.protocol.dataReceived(data)

    def request(self, path: str, headers=(), method: str = "GET") -> None:
        """Send a request and nothing of a WebSocket's."""
        lines = [f"{method} {path} HTTP/1.1", "Host: consoled", *(f"{name}: {value}" for name, value in headers)]
        self.send_raw("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape"))

    def upgrade(self, path: str, headers=(), **options) -> None:
        """Send an opening handshake, as `websockets` makes it."""
        self._protocol = ClientProtocol(parse_uri("ws://consoled/"), **options)
        handshake = self._protocol.connect()
        handshake.path = path
        for name, value in headers:
            handshake.headers[name] = value
        self._protocol.send_request(handshake)
        self._flush()
        self.receive()

    @property
    def is_open(self) -> bool:
        self.receive()
        return self._protocol.state.name == "OPEN"

    @property
    def response(self):
        """The server's answer to the handshake, whatever it was."""
        self.receive()
        return self._protocol.handshake_response if hasattr(self._protocol, "handshake_response") else self._response

    _response = None

    def answer(self) -> Answer | None:
        """The plain answer that has come, if it is complete."""
        head, _, body = bytes(self.socket.sent).partition(b"\r\n\r\n")
        if not head:
            return None
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        assert len(body) == int(headers.get("content-length", len(body))), "the answer's length is wrong"
        return Answer(int(status.split()[1]), headers, body)

    def receive(self) -> list[str | bytes]:
        """Take what the server has sent since the last time; returns the messages of this time."""
        data, self.socket.sent = bytes(self.socket.sent), bytearray()
        before = len(self.messages)
        if data:
            self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if not isinstance(event, Frame):
                self._response = event
            elif event.opcode in (Opcode.TEXT, Opcode.BINARY):
                assert event.fin, "the server sent a fragment"
                self.messages.append(event.data.decode() if event.opcode is Opcode.TEXT else bytes(event.data))
            elif event.opcode is Opcode.PONG:
                self.pongs.append(bytes(event.data))
            elif event.opcode is Opcode.CLOSE:
                self.close_code = int.from_bytes(event.data[:2], "big") if event.data else 1005
                self.close_reason = event.data[2:].decode()
        if self._protocol.parser_exc is not None:
            raise self._protocol.parser_exc
        self._flush()
        return self.messages[before:]

    def text(self) -> str:
        """All text of the server so far."""
        self.receive()
        assert all(isinstance(message, str) for message in self.messages)
        return "".join(self.messages)

    def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        self._flush()

    def send_fragments(self, *parts: str) -> None:
        for at, part in enumerate(parts):
            send = self._protocol.send_continuation if at else self._protocol.send_text
            send(part.encode(), fin=at == len(parts) - 1)
        self._flush()

    def ping(self, payload: bytes) -> None:
        self._protocol.send_ping(payload)
        self._flush()

    def close(self) -> None:
        self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
        self._flush()
        self.receive()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data and not self.socket.closed:
                self.send_raw(data)
