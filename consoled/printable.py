"""Foreign text made fit for people's eyes: nothing in it that a terminal would obey.

Called wherever a name, a reason or a peer's words go into the daemon's log, the audit or another client's screen.
"""

from __future__ import annotations

from typing import Final, TextIO

LONGEST: Final = 256
"""In characters; what is longer is cut and ends in `...`."""


def printable(text: str) -> str:
    r"""`text` on one line, fit for a terminal: what does not print is spelled `\x1b`, `\u202e`, a backslash `\\`."""
    if len(text) > LONGEST:
        text = text[: LONGEST - 3] + "..."
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(char if char.isprintable() and char != "\\" else _spelled(char) for char in text)


def plain(text: str) -> str:
    """`text` with what a terminal would obey spelled out, but for lines and tabs."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else _spelled(one) for one in text)


class PlainStream:
    """A text stream in front of `stream` that spells out what a terminal would obey, whoever wrote it.

    The daemon's log goes through it: a traceback or a library may quote what a peer has sent.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Lines and tabs stay as they are."""
        self._stream.write(plain(text))

    def flush(self) -> None:
        self._stream.flush()


def _spelled(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
