"""A WebSocket client of the tests' own, by bare sockets: it reads only when it is told to.

All that it does is done in the thread that asks for it.  (`websockets.sync` reads in a thread of its own; with TLS
that is one OpenSSL connection in two threads, and one handshake in some hundreds hangs.)
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Self

LIMIT = 20.0
"""Seconds after which what a test waits for will not come any more."""


def asking(path: str, **headers: str) -> bytes:
    """The request for a WebSocket; in the names of `headers` an underscore is a hyphen."""
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return (
        f"GET {path} HTTP/1.1\r\nHost: consoled\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n{more}\r\n"
    ).encode()


def upgrade(verb: str, node: str, lines: int, follow: bool) -> bytes:
    """The request for a session."""
    path = f"/console-operator/{verb}/{node}"
    return asking(path, Cray_Console_Lines=str(lines), Cray_Console_Follow=str(follow))


def masked(opcode: int, payload: bytes) -> bytes:
    """A client's frame, with a mask of zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Frames:
    """What a server sends, cut into frames."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The opcode and the payload of each frame that is whole."""
        self._bytes += data
        read = self._bytes
        while len(read) >= 2:
            length, at = read[1], 2
            if length >= 126:
                at = 4 if length == 126 else 10
                length = int.from_bytes(read[2:at])
            if len(read) < at + length:
                return
            opcode, payload = read[0] ^ 0x80, bytes(memoryview(read)[at : at + length])
            del read[: at + length]
            assert opcode in (TEXT, BINARY, CLOSE, PING, PONG), f"a frame of {opcode:#x}"
            yield opcode, payload


class Client:
    """One connection; `outside.Viewer` is the usual one."""

    def __init__(self, port: int, request: bytes, *, buffer: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """`buffer` is the size of its socket's receive buffer, so that little fits into the kernel while it stalls.

        Raises `ConnectionError` when it is not let in.
        """
        self.seen = bytearray()
        """The text so far, as bytes; a test's nodes speak ASCII."""
        self.closed: tuple[int, str] | None = None
        """What the close frame said."""
        self._found = 0
        self._frames = Frames()
        self.socket = socket.socket()
        self.socket.settimeout(LIMIT)
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.connect(("127.0.0.1", port))
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.socket.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += (data := self._receive())
            if not data:
                self.socket.close()
                raise ConnectionError("hung up")
        head, _, rest = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            self.socket.close()
            raise ConnectionError(answer)
        self._take(rest)

    def read(self) -> bool:
        """Take what comes next; False when the connection has ended."""
        data = self._receive()
        self._take(data)
        return bool(data)

    def until(self, text: bytes) -> None:
        """Read until `text` has come once more."""
        while (at := self.seen.find(text, self._found)) < 0:
            self._found = max(self._found, len(self.seen) - len(text))
            assert self.read(), f"closed {self.closed} before {text!r}: {bytes(self.seen[-200:])!r}"
        self._found = at + len(text)

    def up_to(self, size: int) -> None:
        """Read until so many bytes have come."""
        while len(self.seen) < size:
            assert self.read(), f"closed {self.closed} after {len(self.seen)} of {size} bytes"

    def rest(self) -> Self:
        """Read to the end."""
        while self.read():
            pass
        return self

    def type(self, text: bytes) -> None:
        """One binary message: keystrokes as they are."""
        self.socket.sendall(masked(BINARY, text))

    def leave(self) -> None:
        self.socket.close()

    def heard(self, opcode: int, payload: bytes) -> None:
        """A message has come."""
        assert opcode == TEXT
        self.seen += payload

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(1 << 18)
        except (ConnectionResetError, ssl.SSLEOFError):
            return b""

    def _take(self, data: bytes) -> None:
        for opcode, payload in self._frames.feed(data):
            if opcode in (TEXT, BINARY):
                self.heard(opcode, payload)
                continue
            if opcode == CLOSE:
                self.closed = int.from_bytes(payload[:2]), payload[2:].decode()
            try:
                self.socket.sendall(masked(CLOSE if opcode == CLOSE else PONG, payload))
            except OSError:
                pass  # gone already
