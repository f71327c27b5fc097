"""Stream bytes as WebSocket messages: the flavours that the faces offer.

Called by the core's feeds and attachments through the seam `Encoding`.  A frame is made once, unmasked and
unfragmented (RFC 6455 section 5.2), and written to every client that shares the encoding.
"""

from __future__ import annotations

import codecs

from autobahn.websocket.protocol import PreparedMessage


def text_frame(text: str) -> bytes:
    """One text message on the wire."""
    return bytes(PreparedMessage(text.encode(), False, False, True).payloadHybi)


def binary_frame(data: bytes) -> bytes:
    """One binary message on the wire."""
    return bytes(PreparedMessage(data, True, False, True).payloadHybi)


class Text:
    """UTF-8 in text messages: a character split over two reads arrives whole, what is no UTF-8 becomes U+FFFD."""

    def __init__(self, own_lines: bool = True) -> None:
        self.own_lines = own_lines
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def encode(self, data: bytes) -> bytes | None:
        text = self._decoder.decode(data)
        return text_frame(text) if text else None

    @property
    def dangling(self) -> bytes:
        return self._decoder.getstate()[0]

    def flush(self) -> bytes | None:
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text_frame(text) if text else None


def quiet_text() -> Text:
    """Text without the daemon's own lines."""
    return Text(own_lines=False)


class Raw:
    """The node's bytes in binary messages, and nothing of the daemon's."""

    own_lines = False
    dangling = b""

    def encode(self, data: bytes) -> bytes | None:
        return binary_frame(data)

    def flush(self) -> bytes | None:
        return None
