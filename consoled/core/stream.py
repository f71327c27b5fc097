"""A console's output: one stream of bytes, kept first and then shown to those in step, and when that is.

`Console` publishes here what its node says, and its own lines.  A piece goes to the transcript and into the ring; it is
shown when the disk has it, or is not waited for.  How long the transcript may gather before that depends on who is
there: an echo waits for nothing, what is said after a pause for the end of the reactor's turn, and the more clients the
daemon has the less often they are shown what a busy node says.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from math import inf
from operator import itemgetter

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from consoled.core.attachment import CHUNK
from consoled.core.feed import Feed
from consoled.core.ring import Ring
from consoled.core.seams import Clock, Encoding, Flavour, Outlet, Transcript

PACE = 0.005
"""Seconds for which a console that has just shown something gathers what comes next."""
PACE_EACH = 0.0002
"""Seconds more for each client that the daemon has, at whichever console: the more there is to do, the less often."""
PACE_MOST = 0.05
"""Seconds that it comes to at most: what is seen on a screen is still seen at once."""
AT_ONCE = 16 * 1024
"""Bytes that are gathered no longer than to the end of the turn."""
ECHO = 0.25
"""Seconds after a keystroke in which nothing is held back."""
NOW = -1.0
"""For the transcript: less than no time."""
ECHO_LIMIT = 10.0
"""Seconds after a keystroke in which what the node says may be its answer."""

_log = Logger()


class Stream:
    """One console's bytes by absolute offset, and the clients that stand at its head."""

    # There are as many as consoles: slots take the least memory.
    __slots__ = (
        "_awaited",
        "_began_at_line_start",
        "_clock",
        "_echoed",
        "_feeds",
        "_name",
        "_now",
        "_shown_at",
        "_typed_at",
        "_unshown",
        "_untold",
        "head",
        "ring",
        "transcript",
    )

    def __init__(
        self,
        name: str,
        transcript: Transcript,
        ring: int,
        clock: Clock,
        now: Callable[[], float],
        echoed: Callable[[float], None],
    ) -> None:
        """`ring`: how many bytes are kept in memory.  `echoed` as for `Console`."""
        self.transcript = transcript
        self.ring = Ring(ring, transcript.head)
        self.head = transcript.head
        """The offset after the newest byte that clients may see: it is on the disk, if that can be helped."""
        self._name = name
        self._clock = clock
        self._now = now
        self._echoed = echoed
        self._feeds: dict[Flavour, Feed] = {}
        self._unshown: list[tuple[bytes, bool]] = []
        """What came since clients were shown something, and whether it is a line of our own."""
        self._untold: list[Callable[[], None]] = []
        """What the clients are to be told after that."""
        self._shown_at = self._typed_at = 0.0
        self._awaited = -inf
        """Since when somebody who has typed waits for the node's answer."""
        # How a stream of old ended is not known, unless it was with a line of ours.
        self._began_at_line_start = self.head == 0 or transcript.marks.run(self.head - 1, 1)[1]

    @property
    def at_line_start(self) -> bool:
        """Whether the next byte begins a line."""
        return self.ring.last == b"\n" if self.ring.last else self._began_at_line_start

    # ------------------------------------------------------------------------------------------- a byte's way

    def patience(self, now: float, clients: int) -> float:
        """How many seconds the transcript may gather what comes now, clients being there.

        `now` in epoch seconds; `clients` are those of all consoles.
        """
        # Of two times, one before the other unless the clock was set back.
        if 0 <= now - self._typed_at < ECHO:
            return NOW
        pace = min(PACE + PACE_EACH * clients, PACE_MOST)
        # What waits already does not go sooner because more has come.
        can_wait = self._unshown or 0 <= now - self._shown_at < pace
        return pace if can_wait and self.ring.head - self.head < AT_ONCE else 0.0

    def publish(self, data: bytes, own: bool, within: float = 0.0) -> None:
        """The stream goes on by `data`, `own` if it is a line of the daemon's.  `within` as for `Transcript.append`."""
        # The ring is second, since the transcript may show what came before.
        wait = self.transcript.append(data, own, within)
        self.ring.append(data)
        self._unshown.append((data, own))
        if not wait:
            self.written()

    def written(self) -> None:
        """The disk has what was appended, or is not waited for: the clients may see it."""
        unshown, self._unshown = self._unshown, []
        if self._feeds:
            self._show(unshown)
        else:
            self.head = self.ring.head
        if self._untold:
            self._tell()

    def _show(self, unshown: list[tuple[bytes, bool]]) -> None:
        self._shown_at = now = self._now()
        if len(unshown) > 1:
            # What came in one turn goes out together.
            stretches = groupby(unshown, key=itemgetter(1))
            unshown = [(b"".join(data for data, _ in pieces), own) for own, pieces in stretches]
        for stretch, own in unshown:
            for at in range(0, len(stretch), CHUNK):
                data, offset = stretch[at : at + CHUNK], self.head
                self.head += len(data)
                for feed in list(self._feeds.values()):
                    feed.published(data, own, offset)
        if self._awaited > 0:
            waited, self._awaited = now - self._awaited, -inf
            if 0 <= waited < ECHO_LIMIT:
                self._echoed(waited)

    def afterwards(self, tell: Callable[[], None]) -> None:
        """Call `tell` when those in step have been shown all that is published by now."""
        self._untold.append(tell)
        if not self._unshown:
            self._tell()

    def _tell(self) -> None:
        untold, self._untold = self._untold, []
        for tell in untold:
            tell()

    def typed(self) -> None:
        """Somebody has typed, and waits for the node's answer."""
        self._typed_at = now = self._now()
        if not 0 <= now - self._awaited < ECHO_LIMIT:
            self._awaited = now

    def last_lines(self, count: int) -> Deferred[int]:
        """Fires with the offset at which the last `count` lines of the stream begin."""
        ring, disk = self.ring.start, self.transcript.start
        if count <= 0 or self.head == min(ring, disk):
            return succeed(self.head)
        before = self.head - 1
        if before >= ring:
            before, count = self.ring.line_start(before, count)
            if not count or disk >= ring:
                return succeed(before)
        return self.transcript.line_start(before, count).addErrback(self._unreadable)

    def _unreadable(self, failure: Failure) -> int:
        """The lines in the ring are better than none."""
        if failure.check(CancelledError):
            failure.raiseException()
        _log.failure("console {name}: its transcript cannot be read", failure, name=self._name)
        return self.ring.start

    # ------------------------------------------------------------------------------------------- who is in step

    def feed(self, flavour: Flavour, encoding: Encoding) -> Feed:
        """The feed of `flavour`; `encoding` becomes its encoding if there is none yet."""
        feed = self._feeds.get(flavour)
        if feed is None:
            feed = self._feeds[flavour] = Feed(encoding, self._clock)
        return feed

    def leave_feed(self, flavour: Flavour, outlet: Outlet) -> bytes:
        """Take `outlet` out of its feed.  Returns what dangles there."""
        feed = self._feeds[flavour]
        feed.leave(outlet)
        if not feed.members:
            del self._feeds[flavour]
        return feed.encoding.dangling
