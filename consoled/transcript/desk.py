"""What all transcripts of an archive share: the scribe, the readers, the bounds, and the list of what is wrong."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from consoled.core.seams import Clock
from consoled.transcript.almanac import Almanac
from consoled.transcript.reading import Reader
from consoled.transcript.scribe import Scribe
from consoled.transcript.threads import InThread

log = Logger()


class Desk:
    """Made by the archive, given to each transcript."""

    def __init__(
        self,
        clock: Clock,
        wall: Callable[[], float],
        scribe: Scribe,
        reader: Reader,
        in_thread: InThread,
        limit: int,
        total: int,
    ) -> None:
        self.clock = clock
        self.wall = wall
        """Seconds since the epoch."""
        self.scribe = scribe
        self.reader = reader
        self.in_thread = in_thread
        self.almanac = Almanac(clock, in_thread)
        self.limit = limit
        """How many unwritten bytes a console may keep in memory."""
        self.total = total
        """How many all consoles may."""
        self.lost = 0
        """How many bytes never reached the disk."""
        self.troubled: dict[str, set[str]] = {}
        """What is the matter, and with which consoles."""
        self.changed: Callable[[], None] = lambda: None
        """Called when there is a reason that there was not before, and when one is gone."""

    def note(self, name: str, before: str, now: str, trouble: str | None) -> None:
        """The reason of a console's trouble has changed; empty if there is none.  Logs each reason's begin and end."""
        if before:
            self.troubled[before].discard(name)
            if not self.troubled[before]:
                del self.troubled[before]
                log.info("transcripts are written again, after: {reason}", reason=before)
                self.changed()
        if now:
            if now not in self.troubled:
                log.error("transcripts cannot be written and are tried every few seconds: {trouble}", trouble=trouble)
                self.changed()
            self.troubled.setdefault(now, set()).add(name)
