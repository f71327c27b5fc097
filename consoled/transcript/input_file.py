"""The record of what people type at one console: `DIRECTORY/input.NAME`, for the consoles that say `record_input`.

The console gives it each message that the node has got.  A line of JSON for each: when, who, from where, and `input`;
or `base64`, for what is no UTF-8 text.  `jq -rj .input` reads it as it was typed.

It is kept because somebody must be able to rely on it, so what cannot be recorded is not sent: while the disk fails,
typing is refused.  Passwords are in here: mode 0600, and it is nobody's transcript.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from consoled.core.faults import NotRecorded
from consoled.ledger import FilePage, Ledger, timestamp

WAITING = 1 << 18
"""Bytes of lines that may wait for the disk."""
_FRAME = 2048
"""The most of a line that is not input."""
_LONGEST_ESCAPE = 6
"""Of a byte: `\\u001b`."""


class InputFile:
    """One console's; see `core.seams.InputRecord`."""

    def __init__(
        self, name: str, directory: str, now: Callable[[], float], call_from_thread: Callable[..., Any]
    ) -> None:
        self._name = name
        self._now = now
        path = f"{directory}/input.{name}"
        self._ledger = Ledger(
            f"the record of input {path}", lambda: FilePage(path, 0o600), call_from_thread, waiting=WAITING
        )

    @property
    def trouble(self) -> str | None:
        """Why nobody may type at present; None if all is well."""
        return self._ledger.trouble

    def admit(self, size: int) -> None:
        if self._ledger.trouble or not self._ledger.has_room(size * _LONGEST_ESCAPE + _FRAME):
            raise NotRecorded(self._name)

    def typed(self, user: str, host: str, data: bytes) -> None:
        record = {"timestamp": timestamp(self._now()), "account": user[:64], "remoteAddress": host[:64]}
        try:
            record["input"] = data.decode()
        except UnicodeDecodeError:
            record["base64"] = b64encode(data).decode()
        # All in ASCII: a terminal that shows the file obeys nothing in it.
        self._ledger.append(json.dumps(record).replace("\x7f", "\\u007f").encode() + b"\n")

    def reopen(self) -> None:
        """logrotate has moved the file."""
        self._ledger.reopen()

    def close(self) -> Deferred[None]:
        """Write what is waiting.  If the disk hangs it does not fire."""
        return self._ledger.close()
