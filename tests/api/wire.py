"""A whole HTTP connection in memory: the site's end as Twisted sees it, the client's end as `websockets` sees it.

The client is another implementation than the server's, and a strict one: it fails on any frame that it may.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri
from zope.interface import implementer

BUFFER = 65536
"""What Twisted's transports hold before they pause their producer."""

TURNS = 200
"""More turns of the reactor than a server may take to hear what a client sends at once."""

Headers = Iterable[tuple[str, str]]


@implementer(ITCPTransport, IConsumer, IPushProducer)
class Socket:
    """The server's transport.  What is written goes to `sent`, or waits in `buffer` while the client does not read.

    It closes as TLS does: when its producer has let go and its buffer is empty.
    """

    def __init__(self, peer: Any, turn: Callable[[], None]) -> None:
        """`turn` lets the reactor turn once."""
        self.sent = bytearray()
        self.buffer = bytearray()
        self.fullest = 0
        """The most that ever waited in `buffer`."""
        self.protocol: Protocol
        self.disconnecting = False
        self.closed = False
        self.aborted = False
        self.no_delay = False
        self._peer = peer
        self.turn = turn
        self._client_reads = True
        self._producer: Any = None
        self._producer_paused = False
        self._server_reads = True
        self._arrived = bytearray()

    # The server calls these.

    def write(self, data: bytes) -> None:
        assert b"canary" not in data, "a token was shown"
        if self.closed:
            return
        if self._client_reads:
            self.sent += data
            return
        self.buffer += data
        self.fullest = max(self.fullest, len(self.buffer))
        if len(self.buffer) > BUFFER and self._producer is not None:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming, "only a push producer can be paced here"
        assert self._producer is None, "a producer is registered already"
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None
        self._finish()

    def loseConnection(self) -> None:
        self.disconnecting = True
        self._finish()

    def abortConnection(self) -> None:
        self.aborted = True
        self._lose(ConnectionAborted())

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def getPeer(self) -> Any:
        return self._peer

    def getHost(self) -> Any:
        return IPv4Address("TCP", "192.0.2.1", 8080)

    def pauseProducing(self) -> None:
        self._server_reads = False

    def resumeProducing(self) -> None:
        # As a reactor does: what has arrived meanwhile is read with the next that arrives, not from in here.
        self._server_reads = True

    def stopProducing(self) -> None:
        self.loseConnection()

    # The test calls these.

    def arrive(self, data: bytes) -> None:
        """The client has sent `data`, and the server has had time to hear it."""
        self._arrived += data
        if self._arrived and self._server_reads and not (self.closed or self.disconnecting):
            data, self._arrived = bytes(self._arrived), bytearray()
            self.protocol.dataReceived(data)
        for _ in range(TURNS):
            if self._server_reads or self.closed:
                break
            self.turn()

    def stop_reading(self) -> None:
        """The client takes nothing from now on."""
        self._client_reads = False

    def start_reading(self) -> None:
        """The client takes what is there and what will come."""
        self._client_reads = True
        while self.buffer or self._producer_paused:
            self.read_some(BUFFER)
        self._finish()

    def read_some(self, count: int) -> None:
        """The client takes `count` bytes of what waits for it."""
        self.sent += self.buffer[:count]
        del self.buffer[:count]
        if not self.buffer and self._producer_paused:
            self._producer_paused = False
            if self._producer is not None:
                self._producer.resumeProducing()
        self._finish()

    def hang_up(self) -> None:
        """The client vanishes."""
        self._lose(ConnectionLost())

    def _finish(self) -> None:
        if self.disconnecting and self._producer is None and not self.buffer:
            self._lose(ConnectionDone())

    def _lose(self, why: Exception) -> None:
        if not self.closed:
            self.closed = True
            if self._producer is not None:
                self._producer.stopProducing()
            self.protocol.connectionLost(Failure(why))


@dataclass
class Answer:
    """A plain HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return self.json["message"]


class Client:
    """One connection to the site."""

    def __init__(self, site: Any, turn: Callable[[], None], peer: Any = None) -> None:
        self.socket = Socket(peer or IPv4Address("TCP", "192.0.2.7", 40112), turn)
        channel = site.buildProtocol(self.socket.getPeer())
        self.socket.protocol = channel
        channel.makeConnection(self.socket)
        self.messages: list[str | bytes] = []
        """What the server has said since the upgrade."""
        self.pongs: list[bytes] = []
        self.pings: list[bytes] = []
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.response: Response | None = None
        """The server's answer to the opening handshake."""
        self._protocol: ClientProtocol | None = None

    # Plain HTTP.

    def request(self, path: str, headers: Headers = (), method: str = "GET", body: str = "") -> Answer | None:
        """Send a request and nothing of a WebSocket's.  Returns the answer, if there is one by now."""
        lines = [f"{method} {path} HTTP/1.1", "Host: consoled", *(f"{name}: {value}" for name, value in headers)]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.socket.arrive("\r\n".join([*lines, "", body]).encode("utf-8", "surrogateescape"))
        return self.answer(method)

    def answer(self, method: str = "GET") -> Answer | None:
        """The plain answer that has come: framed by its length and complete."""
        head, end, body = bytes(self.socket.sent).partition(b"\r\n\r\n")
        if not end:
            return None
        status, *lines = head.decode("latin-1").split("\r\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            assert name.lower() not in headers, f"{name} is there twice"
            headers[name.lower()] = value
        code = int(status.split()[1])
        if code not in (101, 204):
            assert "transfer-encoding" not in headers
            assert len(body) == (0 if method == "HEAD" else int(headers["content-length"]))
        return Answer(code, headers, body)

    # A WebSocket.

    def handshake(self, path: str, headers: Headers = (), **options: Any) -> bytes:
        """An opening handshake, as `websockets` makes it; a header of the same name is replaced, by None removed."""
        self._protocol = ClientProtocol(parse_uri("ws://consoled/"), max_size=2**20, **options)
        handshake = self._protocol.connect()
        handshake.path = path
        for name, value in headers:
            if name in handshake.headers and name.lower().startswith(("sec-websocket", "upgrade", "connection")):
                del handshake.headers[name]
            if value is not None:
                handshake.headers[name] = value
        self._protocol.send_request(handshake)
        return b"".join(self._protocol.data_to_send())

    def upgrade(self, path: str, headers: Headers = (), **options: Any) -> None:
        """Send an opening handshake."""
        self.socket.arrive(self.handshake(path, headers, **options))
        self.receive()

    @property
    def is_open(self) -> bool:
        self.receive()
        return self._protocol.state.name == "OPEN"

    @property
    def refusal(self) -> Answer:
        """The answer to a handshake that was refused, as the client understood it."""
        self.receive()
        assert self.response is not None, "no answer yet"
        assert self.response.status_code != 101, "not refused"
        headers = {name.lower(): value for name, value in self.response.headers.raw_items()}
        return Answer(self.response.status_code, headers, bytes(self.response.body or b""))

    def receive(self) -> list[str | bytes]:
        """Take what the server has sent since the last time; returns the messages among it."""
        data, self.socket.sent = bytes(self.socket.sent), bytearray()
        before = len(self.messages)
        if data:
            self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self.response = event
            elif isinstance(event, Frame):
                self._take(event)
        error = self._protocol.parser_exc
        if error is not None and self.close_code is None and not isinstance(error, EOFError):
            raise error
        self._flush()
        return self.messages[before:]

    def _take(self, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.TEXT | Opcode.BINARY:
                assert frame.fin, "the server sent a fragment"
                assert len(frame.data) < 2**20
                text = frame.opcode is Opcode.TEXT
                self.messages.append(bytes(frame.data).decode() if text else bytes(frame.data))
            case Opcode.PONG:
                self.pongs.append(bytes(frame.data))
            case Opcode.PING:
                self.pings.append(bytes(frame.data))
            case Opcode.CLOSE:
                assert self.close_code is None, "closed twice"
                self.close_code = int.from_bytes(frame.data[:2], "big") if frame.data else 1005
                self.close_reason = bytes(frame.data[2:]).decode()
            case other:
                raise AssertionError(f"the server sent {other}")

    def text(self) -> str:
        """All text of the server so far."""
        self.receive()
        assert all(isinstance(message, str) for message in self.messages)
        return "".join(self.messages)

    def news(self) -> str:
        """All text of the server since the last time."""
        return "".join(self.receive())

    def send(self, *messages: str | bytes) -> None:
        """Send text and binary messages, all at once."""
        for message in messages:
            if isinstance(message, str):
                self._protocol.send_text(message.encode())
            else:
                self._protocol.send_binary(message)
        self._flush()

    def send_fragments(self, *parts: str) -> None:
        """Send one text message in several frames."""
        for at, part in enumerate(parts):
            send = self._protocol.send_continuation if at else self._protocol.send_text
            send(part.encode(), fin=at == len(parts) - 1)
        self._flush()

    def send_frame(self, head: bytes, payload: bytes, mask: bytes | None = b"\x00\x00\x00\x00") -> None:
        """Send one frame as no library would: `head` are its first two bytes and its longer length, if it has one."""
        if mask is not None:
            head = head[:1] + bytes([head[1] | 0x80]) + head[2:] + mask
        self.socket.arrive(head + payload)

    def ping(self, payload: bytes) -> None:
        self._protocol.send_ping(payload)
        self._flush()

    def close(self) -> None:
        """Begin the closing handshake."""
        self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
        self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self.socket.arrive(data)
