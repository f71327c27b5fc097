"""Stream bytes as WebSocket messages: the flavours that the faces offer.

Called by the core's feeds and attachments through the seam `Encoding`.  A frame is made once, unmasked and
unfragmented (RFC 6455 section 5.2), and written to every client that shares the encoding.  The other way, `keystrokes`
tells the session what somebody types without autobahn's parser, which is made for everything that a client may send.
"""

from __future__ import annotations

from codecs import utf_8_decode
from struct import Struct

TEXT, BINARY = 0x81, 0x82
"""The first byte of a message that is one frame: FIN and the opcode."""
_SHORT, _LONG, _LONGEST = Struct("!BB"), Struct("!BBH"), Struct("!BBQ")
_OFFSET = Struct("!Q")


def text_frame(text: str) -> bytes:
    """One text message on the wire."""
    return _frame(TEXT, text.encode())


def binary_frame(data: bytes) -> bytes:
    """One binary message on the wire."""
    return _frame(BINARY, data)


def _frame(kind: int, payload: bytes) -> bytes:
    return _head(kind, len(payload)) + payload


def _head(kind: int, size: int) -> bytes:
    if size < 126:
        return _SHORT.pack(kind, size)
    if size < 65536:
        return _LONG.pack(kind, 126, size)
    return _LONGEST.pack(kind, 127, size)


def keystrokes(data: bytes) -> tuple[bytes, bool] | None:
    """The message's payload and whether it is binary, if `data` is one short message in one masked frame and no more.

    None for all else, right or wrong: that is autobahn's, and so is text that is not plain ASCII.
    """
    size = len(data) - 6
    if not 0 <= size < 126 or data[1] != 0x80 | size or data[0] not in (TEXT, BINARY):
        return None
    mask = (data[2:6] * 32)[:size]
    payload = (int.from_bytes(data[6:], "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
    is_binary = data[0] == BINARY
    return (payload, is_binary) if is_binary or payload.isascii() else None


class Text:
    """UTF-8 in text messages: a character split over two reads arrives whole, what is no UTF-8 becomes U+FFFD."""

    def __init__(self, own_lines: bool = True) -> None:
        self.own_lines = own_lines
        self.dangling = b""

    def encode(self, data: bytes, at: int) -> bytes | None:
        if self.dangling:
            data = self.dangling + data
        if data.isascii():  # as most of what consoles say: it is UTF-8 as it stands
            self.dangling = b""
            return _frame(TEXT, data) if data else None
        text, whole = utf_8_decode(data, "replace", False)
        self.dangling = data[whole:]
        return text_frame(text) if text else None

    def flush(self) -> bytes | None:
        held, self.dangling = self.dangling, b""
        return text_frame(held.decode(errors="replace")) if held else None


class Plain:
    """The stream as it is, for what is no WebSocket: a download."""

    own_lines = True
    dangling = b""

    def encode(self, data: bytes, at: int) -> bytes | None:
        return data

    def flush(self) -> bytes | None:
        return None


class Placed(Plain):
    """Binary messages of the offset, in eight bytes (big-endian), and of the stream from there on."""

    def __init__(self, own_lines: bool = True) -> None:
        self.own_lines = own_lines

    def encode(self, data: bytes, at: int) -> bytes | None:
        return _head(BINARY, _OFFSET.size + len(data)) + _OFFSET.pack(at) + data


def placed_quiet() -> Placed:
    """The same without the daemon's own lines."""
    return Placed(own_lines=False)


def quiet_text() -> Text:
    """Text without the daemon's own lines."""
    return Text(own_lines=False)


class Raw:
    """The node's bytes in binary messages, and nothing of the daemon's."""

    own_lines = False
    dangling = b""

    def encode(self, data: bytes, at: int) -> bytes | None:
        return binary_frame(data)

    def flush(self) -> bytes | None:
        return None
