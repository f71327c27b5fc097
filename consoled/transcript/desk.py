"""What all transcripts of an archive share: the scribe, the readers, the bounds, and the list of what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from consoled.core.seams import Clock
from consoled.transcript.reading import Reader
from consoled.transcript.scribe import Scribe

log = Logger()

InThread = Callable[..., Deferred[Any]]
"""`in_thread(function, *args)`: fires with what the function returns in a thread that may block."""


class Desk:
    """Made by the archive, given to each transcript."""

    def __init__(
        self, clock: Clock, scribe: Scribe, reader: Reader, in_thread: InThread, limit: int, total: int
    ) -> None:
        self.clock = clock
        self.scribe = scribe
        self.reader = reader
        self.in_thread = in_thread
        self.limit = limit
        """How many unwritten bytes a console may keep in memory."""
        self.total = total
        """How many all consoles may."""
        self.lost = 0
        """How many bytes never reached the disk."""
        self.troubled: dict[str, set[str]] = {}
        """What is the matter, and with which consoles."""

    def note(self, name: str, before: str, now: str, trouble: str | None) -> None:
        """The reason of a console's trouble has changed; empty if there is none.  Logs each reason's begin and end."""
        if before:
            self.troubled[before].discard(name)
            if not self.troubled[before]:
                del self.troubled[before]
                log.info("transcripts are written again, after: {reason}", reason=before)
        if now:
            if now not in self.troubled:
                log.error("transcripts cannot be written and are tried every few seconds: {trouble}", trouble=trouble)
            self.troubled.setdefault(now, set()).add(name)
