"""What is typed, as `ipmiconsole` and `ipmitool` must be told it so that exactly that reaches the node.

Both programs take one character of their input for the beginning of a command to themselves, and neither can be told
not to.  Each has its own rule about when; the two classes here are the inverse of these rules.  Between `IpmiLine` and
the program's terminal.
"""

from __future__ import annotations

from typing import Protocol

_NEWLINES = (b"\r", b"\n")


class Escape(Protocol):
    """One session's state.  Nothing changes until `sent` is called, because the terminal's queue may be full."""

    def encode(self, data: bytes) -> bytes:
        """What to write so that the node gets `data`."""

    @property
    def listens(self) -> bool:
        """Whether the program takes a command now; if not, it does after a line end."""

    def break_(self) -> bytes:
        """What to write so that the node gets a break, while the program `listens`."""

    def sent(self) -> None:
        """What one of the other two gave last was written."""


class Anywhere:
    """`ipmiconsole -e '&'`: an `&` is a command wherever it stands, and `&&` is an `&`."""

    listens = True

    def encode(self, data: bytes) -> bytes:
        return data.replace(b"&", b"&&")

    def break_(self) -> bytes:
        return b"&B"

    def sent(self) -> None:
        pass


class AfterNewline:
    """`ipmitool -e '~'`: a `~` is a command at the very beginning and after CR or LF; there `~~` is a `~`."""

    def __init__(self) -> None:
        self.listens = True
        self._then = True
        """The same after what was given last."""

    def encode(self, data: bytes) -> bytes:
        self._then = data.endswith(_NEWLINES) if data else self.listens
        wire = data.replace(b"\r~", b"\r~~").replace(b"\n~", b"\n~~")
        return b"~" + wire if self.listens and data.startswith(b"~") else wire

    def break_(self) -> bytes:
        self._then = True
        return b"~B"

    def sent(self) -> None:
        self.listens = self._then
