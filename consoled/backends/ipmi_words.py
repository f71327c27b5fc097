"""The words that a SOL program mixes into the console's output, and how to take them out again.

`ipmiconsole` and `ipmitool` write the node's bytes and their own messages to one terminal.  Three sorts come after the
banner: the echo of a break, told apart by our having asked for one; last words, told apart by the program's end
following; and, from ipmitool, remarks about the protocol, told apart by their text alone.  Between the program's
terminal and `IpmiLine`.

What may be the beginning of such words is held back until more comes or the line's patience ends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

ANYTHING = rb"[^\r\n]{0,160}"
"""The part of a text that varies."""
_WINDOW = 512
"""How far back from the end words may begin that are not whole yet."""


class Words:
    """A program's own texts.  Each is a sequence of literals and `ANYTHING`."""

    def __init__(
        self, last: Sequence[Sequence[bytes]], remarks: Sequence[Sequence[bytes]], echo: bytes, least: int
    ) -> None:
        """`last` are the last words, `echo` is what a break is answered with.

        The first `least` bytes of a text make it suspicious: what a person types is echoed byte by byte, and must not
        wait.  After one that is whole a single byte will do.
        """
        self.echo = echo
        self.last = re.compile(b"(?:" + _any(last) + rb")+\Z")
        """The last words at the end of the output."""
        self.whole = re.compile(_any(last))
        """One of the last words."""
        self.remarks = re.compile(_any(remarks)) if remarks else None
        texts = [*last, *remarks]
        begun, surely = (b"|".join(_beginning(text, count) for text in texts) for count in (least, 1))
        self.begun = re.compile(b"(?:(?:" + _any(last) + b")+(?:" + surely + b")?|" + begun + rb")?\Z")
        """The end of the output if it may be the beginning of such words."""


class Strainer:
    """One session's output without the program's words."""

    def __init__(self, words: Words) -> None:
        self.held = b""
        """The end of the output, if it may be the beginning of such words."""
        self._words = words
        self._breaks = 0

    def expect_break(self) -> None:
        """A break was asked for: it will be echoed."""
        self._breaks += 1

    def feed(self, data: bytes) -> bytes:
        """The node's part of what came."""
        data = self.held + data
        words = self._words
        if words.remarks is not None:
            data = words.remarks.sub(b"", data)
        while self._breaks and words.echo in data:
            self._breaks -= 1
            data = data.replace(words.echo, b"", 1)
        begun = words.begun.search(data, max(0, len(data) - _WINDOW))
        assert begun is not None  # the empty one at the end, at least
        end = begun.start()
        if self._breaks:
            end = min(end, len(data) - _overlap(data, words.echo))
        self.held = data[end:]
        return data[:end]

    @property
    def farewell(self) -> bool:
        """Whether last words are held back that are whole."""
        return self._words.whole.match(self.held) is not None

    def release(self) -> bytes:
        """What was held back is the node's after all."""
        held, self.held = self.held, b""
        return held

    def finish(self) -> tuple[bytes, str]:
        """The program has ended: what was held back of the node's, and the program's last words, a line."""
        held = self.release()
        found = self._words.last.search(held)
        if found is None:
            return held, ""
        said = found[0].decode(errors="replace").split("\n")
        return held[: found.start()], next(line.strip() for line in said if line.strip())


def _overlap(data: bytes, text: bytes) -> int:
    """How much of the beginning of `text` is the end of `data`."""
    return next((count for count in range(len(text) - 1, 0, -1) if data.endswith(text[:count])), 0)


def _any(texts: Sequence[Sequence[bytes]]) -> bytes:
    return b"|".join(b"".join(_atoms(text)) for text in texts)


def _beginning(text: Sequence[bytes], least: int) -> bytes:
    """A pattern for the first `least` bytes of `text` and whatever follows of it."""
    atoms = _atoms(text)
    pattern = b""
    for atom in reversed(atoms[least:]):
        pattern = b"(?:" + atom + pattern + b")?"
    return b"".join(atoms[:least]) + pattern


def _atoms(text: Sequence[bytes]) -> list[bytes]:
    atoms: list[bytes] = []
    for part in text:
        atoms += [part] if part is ANYTHING else [re.escape(bytes([byte])) for byte in part]
    return atoms
