"""One console's transcript as the console sees it: implements the seam `consoled.core.seams.Transcript`.

The console's stream appends here, in the reactor's thread, before the ring and before the clients' sockets are written.
Bytes are numbered, queued, and carried to the files by the scribe.  Until they are known to be there they are kept, so
that a read finds every byte that was not lost: the older ones in the files, the rest in the queue.

The queue is bounded.  When the disk does not take the bytes the newest are dropped, all of them from the first that
did not fit until the queue has been written; then `on_loss` is called with their number, and whatever is appended next
stands behind the gap, in a new file.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from consoled.core.marks import Marks
from consoled.core.seams import Span
from consoled.transcript.chronology import span
from consoled.transcript.desk import Desk
from consoled.transcript.errand import NoVisit, Visit
from consoled.transcript.segments import Files
from consoled.transcript.times import Knots, Times
from consoled.transcript.unwritten import Unwritten

log = Logger()

NO_ANSWER = "no answer from the disk"
"""The trouble of transcripts whose files could not be looked at in time."""
CLOSING = 2.5
"""How long, in seconds, `close` waits for the disk."""


class Transcript:
    """A console's whole stream on disk."""

    # There are as many as consoles: slots take the least memory.
    __slots__ = (
        "_asked",
        "_closing",
        "_desk",
        "_expected",
        "_look",
        "_numbered",
        "_on_loss",
        "_on_written",
        "_reason",
        "_reopen",
        "_resuming",
        "_rotated",
        "_times",
        "_trouble",
        "_unwritten",
        "_view",
        "_within",
        "files",
        "gone",
        "lost",
        "marks",
        "name",
        "opened",
    )

    def __init__(
        self,
        desk: Desk,
        files: Files,
        on_loss: Callable[[int], None] | None = None,
        on_written: Callable[[], None] | None = None,
        rotated: Callable[[], None] | None = None,
    ) -> None:
        self.name = files.name
        self.files = files
        self.marks = Marks()
        self.lost = 0
        """How many bytes never reached the disk since the daemon started."""
        self.opened: Deferred[Transcript] = Deferred()
        """Fires, never fails, when appending may begin: the head is known, or will not be."""
        self.gone: Deferred[None] = Deferred()
        """Fires when nothing is left to do with the files, however long that takes after `close`."""
        self._desk = desk
        self._on_loss = on_loss
        self._on_written = on_written
        self._expected = False
        self._rotated = rotated
        self._unwritten = Unwritten()
        self._times = Times()
        self._asked = True
        self._within = 0.0
        """In how many seconds after that the visit comes at the latest."""
        self._look = False
        self._reopen = False
        self._numbered = False
        self._resuming = False
        self._closing: Deferred[None] | None = None
        self._reason = ""
        self._trouble: str | None = None
        self._view = files.view
        desk.scribe.ask_opening(self)

    # -------------------------------------------------------------------------------------------------- the seam

    @property
    def head(self) -> int:
        """The offset after the last byte appended."""
        return self._unwritten.head

    @property
    def start(self) -> int:
        """The oldest offset still kept."""
        written = self._unwritten.written
        return min(self.files.view.oldest, written) if self._numbered else written

    @property
    def trouble(self) -> str | None:
        """What keeps the stream from reaching the disk, for people; None while all is well."""
        if self._trouble is None and self._unwritten and self._desk.scribe.hung:
            return f"{self.files.path}: no answer from the disk for {self._desk.scribe.hung:.0f} s"
        return self._trouble

    def append(self, data: bytes, own: bool = False, within: float = 0.0) -> bool:
        """Take `data` as the bytes from `head` on; see the seam.  Not before `opened` has fired."""
        size = len(data)
        if not size:
            return False
        unwritten, scribe, took = self._unwritten, self._desk.scribe, 0
        if own:
            self.marks.add(unwritten.head, unwritten.head + size)
        if self._fits(size):
            # While a visit is expected the bytes before these came just now.
            if not self._expected and self._times.came(unwritten.head, self._desk.wall()):
                self._desk.almanac.wait(self)
            unwritten.add(data, own)
            took = size
        else:
            if not unwritten.dropped:
                log.warn("the transcript of {name} loses bytes: the disk does not take them", name=self.name)
            unwritten.drop(size)
            self._lose(size)
        if not self._asked or within < self._within:
            self._ask(within)
        scribe.took(took, len(unwritten) > self._desk.limit // 2)
        if within < 0:
            scribe.hurry()
        self._expected = scribe.expects(self)
        return self._expected

    def read(self, offset: int, limit: int) -> Deferred[tuple[int, bytes]]:
        """Read at most `limit` bytes (but at least one) at `offset`; see the seam."""
        limit, written = max(limit, 1), self._unwritten.written
        if offset >= written:
            return succeed(self._unwritten.read(offset, limit))
        reading = self._desk.in_thread(self._desk.reader.read, self.files, max(offset, self.start), limit, written)
        # What was unwritten when the thread was asked may be in the files by now.
        return reading.addCallback(lambda found: found if found[1] else self.read(found[0], limit))

    def line_start(self, before: int, lines: int) -> Deferred[int]:
        """Find where the last `lines` lines before `before` begin; see the seam."""
        before, start = min(before, self.head), self.start
        if lines <= 0 or before <= start:
            return succeed(max(before, start))
        written = self._unwritten.written
        tail = self._unwritten.before(before)
        return self._desk.in_thread(self._desk.reader.line_start, self.files, before, lines, written, tail)

    def span(self, since: float, until: float) -> Deferred[Span]:
        """Find the bytes that came at `since` or later and before `until`; see the seam."""
        head, now = self.head, self._desk.wall()
        recent = self._times.known(head, now)
        return self._desk.in_thread(span, self.files, recent, head, since, until, now)

    def close(self) -> Deferred[None]:
        """Write what is pending and close the file.  Fires within three seconds even if the disk hangs."""
        if self._closing is None:
            self._closing = closing = Deferred[None]()
            timer = self._desk.clock.callLater(CLOSING, closing.callback, None)

            def in_time(_: None) -> None:
                if timer.active():
                    timer.cancel()
                    closing.callback(None)

            self.gone.addCallback(in_time)
            self._ask()
        done: Deferred[None] = Deferred()
        self._closing.addCallback(lambda _: done.callback(None))
        return done

    # ------------------------------------------------------------------------------------------ for the archive

    @property
    def closing(self) -> bool:
        """Whether `close` was called."""
        return self._closing is not None

    def reopen(self) -> None:
        """Open what the path leads to now: SIGUSR1."""
        self._reopen = True
        self._desk.scribe.ask_opening(self)

    def look(self, within: float) -> None:
        """Check the path and the age of the file within so many seconds."""
        self._look = True
        if not self._asked:
            self._ask(within)

    def trim(self) -> bool:
        """Forget the marks of what is kept no more.  Whether the files have changed since the last time."""
        if self.files.view is self._view:
            return False
        self._view = self.files.view
        self.marks.forget_before(self.start)
        return True

    def give_up_opening(self) -> None:
        """Begin without knowing the head: the disk does not answer."""
        self._set_trouble(NO_ANSWER, f"{self.files.path}: no answer from the disk")
        self._hand_out()

    # ------------------------------------------------------------------------------------------ for the almanac

    def take_times(self) -> Knots | None:
        """The times of bytes that are in the files."""
        if not self._numbered or self._closing is not None:
            return None
        return self._times.take(self._unwritten.written, self.head, self._desk.wall())

    def times_saved(self, well: bool) -> bool:
        """What was taken is in a side file, or could not be put there.  Whether there is more."""
        if well:
            return self._times.saved() and not self.gone.called
        self._times.failed()
        return not self.gone.called

    # ------------------------------------------------------------------------------------------- for the scribe

    def errand(self) -> Visit | NoVisit:
        """What is to be written now, and done besides."""
        self._asked = False
        if self.gone.called:
            return NoVisit()
        unwritten, look, reopen = self._unwritten, self._look, self._reopen
        self._look = self._reopen = False
        data, own = unwritten.pending()
        times = self._times.known(self.head, self._desk.wall()) if self.closing and self._numbered else None
        at, head = unwritten.written, unwritten.head
        return Visit(self.files, self._settled, at, head, data, own, look, reopen, self.closing, times)

    def visited(self) -> None:
        """The bytes are in the file, or the disk has been waited for long enough."""
        if self._expected:
            self._expected = False
            if self._on_written is not None:
                self._on_written()

    def due(self, retry: bool, within: float) -> None:
        """A second after a write, or a while after a failure."""
        if retry:
            self._asked = False
        if retry or self._trouble is None:
            self.look(within)

    # ------------------------------------------------------------------------------------------------- our own

    def _ask(self, within: float = 0.0) -> None:
        self._asked, self._within = True, within
        self._desk.scribe.ask(self, within)

    def _settled(self, visit: Visit) -> None:
        """The visit is over, as far as it went."""
        error = visit.error
        if self._numbered or self.files.known or (visit.close and error is None):
            self._number()
            self._desk.scribe.unwritten -= self._unwritten.written_to(self.files.head)
        if error is None:
            self._set_trouble("", None)
        else:
            reason = getattr(error, "strerror", None) or repr(error)
            self._set_trouble(reason, f"{getattr(error, 'filename', None) or self.files.path}: {reason}")
        self._hand_out()
        if visit.close:
            self._end()
            return
        if error is not None:
            if not self._asked:
                self._asked, self._within = True, 0.0  # so that nobody asks before the next attempt
            self._desk.scribe.retry_later(self)
        elif visit.data:
            self._desk.scribe.look_later(self)
        if self._unwritten and not self._asked:
            self._ask()
        if self._unwritten.dropped and not self._unwritten and not self._resuming:
            # Not from here: whoever called may be in the middle of an append.
            self._resuming = True
            self._desk.clock.callLater(0, self._resume)
        if self.trim() and self._rotated is not None:
            self._rotated()

    def _number(self) -> None:
        """The files have been read; if for the first time, that settles the offsets, or how ours and theirs differ."""
        if self._numbered:
            return
        self._numbered = True
        if self.opened.called:
            self.files.rebase(self._unwritten.written)
        else:
            self._unwritten.begin(self.files.head)
            if self.files.touched is not None:
                self._times.begin(self.files.head, self.files.touched, self._desk.wall())
            for start, stop in self.files.marks_found:
                self.marks.add(start, stop)
        self.files.marks_found = ()

    def _hand_out(self) -> None:
        if not self.opened.called:
            self.opened.callback(self)

    def _fits(self, size: int) -> bool:
        if self._unwritten.dropped or self._closing is not None:
            return False
        if self._has_room(size):
            return True
        self._desk.scribe.press()
        return self._has_room(size)

    def _has_room(self, size: int) -> bool:
        """A single piece is never too big for an empty queue."""
        queued, desk = len(self._unwritten), self._desk
        return (not queued or queued + size <= desk.limit) and desk.scribe.unwritten + size <= desk.total

    def _lose(self, count: int) -> None:
        self.lost += count
        self._desk.lost += count

    def _resume(self) -> None:
        """What was kept has been written after bytes were dropped: what comes now stands behind the gap."""
        self._resuming = False
        if self._closing is not None:
            return
        count = self._unwritten.skip()
        log.warn("the transcript of {name} has lost {count} bytes and goes on", name=self.name, count=count)
        if self._on_loss is not None:
            self._on_loss(count)

    def _set_trouble(self, reason: str, trouble: str | None) -> None:
        before, self._reason, self._trouble = self._reason, reason, trouble
        if before != reason:
            self._desk.note(self.name, before, reason, trouble)

    def _end(self) -> None:
        if unwritten := self._unwritten.clear():
            log.error("the transcript of {name} ends {count} bytes early", name=self.name, count=unwritten)
            self._lose(unwritten)
            self._desk.scribe.unwritten -= unwritten
        self._set_trouble("", None)
        self.gone.callback(None)
