"""ConMan's escapes: what a client types, split into keystrokes and commands.

Pure.  Called by `conman` for every message of an interactive client.  A command is `&` and one upper-case letter
or sign anywhere in the input; `&&` is one `&`; any other pair goes through as it is (conman(1), "ESCAPES").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

PREFIX = b"&"
COMMANDS = b"?.BDEFIJLMQRWZ"


@dataclass(frozen=True, slots=True)
class Command:
    """One escape: its letter or sign."""

    sign: str


class Escapes:
    """Splits input.  Keeps a prefix at the end of it until more comes."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> Iterator[bytes | Command]:
        """Keystrokes (not empty) and commands of `data`, in order.  Lazy: stop asking after a closing command."""
        data = self._held + data
        self._held = b""
        keys = bytearray()
        at = 0
        while (found := data.find(PREFIX, at)) >= 0:
            keys += data[at:found]
            pair = data[found : found + 2]
            at = found + 2
            if len(pair) == 1:
                self._held = pair
            elif pair == PREFIX * 2:
                keys += PREFIX
            elif pair[1] in COMMANDS:
                if keys:
                    yield bytes(keys)
                    keys.clear()
                yield Command(chr(pair[1]))
            else:
                keys += pair
        keys += data[at:]
        if keys:
            yield bytes(keys)


HELP = (
    ("&?", "Display this help message"),
    ("&.", "Terminate the connection"),
    ("&&", "Send a single escape character"),
    ("&B", "Send a serial-break to the console"),
    ("&D", "Send a DEL character"),
    ("&E", "Toggle echoing of your own input"),
    ("&F", "Take (force) write-privileges for yourself alone"),
    ("&I", "Display information about the connection"),
    ("&J", "Join write-privileges, or let others join again"),
    ("&L", "Replay the last 4096 bytes of the log"),
    ("&M", "Only monitor (give up write-privileges)"),
    ("&Q", "Toggle quiet-mode to display or suppress messages"),
    ("&R", "Reset the node associated with this console"),
    ("&W", "Display who is attached to this console"),
    ("&Z", "Suspend the output until your next input"),
)
