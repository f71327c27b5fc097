"""The scribe: carries what all transcripts have to write to one thread, a reactor turn's worth at a time.

`Transcript.append` asks for a visit, which comes at the end of the turn.  The scribe then hands one batch of errands
over and waits for it, but no longer than its `patience`: on a healthy disk the bytes are in the files before the
reactor comes to send them to anybody (Twisted runs due calls before it looks at sockets), so a daemon that is killed
has lost nothing that a client has seen.  (Bytes that came in a timed call and not from a socket, as a line of the
daemon's own may, can be sent in the one look at sockets that comes between.)  When the disk takes longer the scribe is
*behind*: it waits no more, has one batch under way at a time, and hands over the next when the reactor hears that the
last is done.  It is no longer behind when a batch was quick and nothing is left to do.

A visit costs two switches of threads and a write for each console.  So bytes that nobody waits for are *gathered* for
some milliseconds (`appointments`), and share one.  A flood does not wait for the end of the turn: what is in hand is
written while the processor still has it in its caches.  Nor does the echo of a key.

All but the errands' `run` is in the reactor's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from twisted.logger import Logger

from consoled.core.seams import Clock, Timer
from consoled.transcript.appointments import Appointments
from consoled.transcript.threads import Worker

log = Logger()

PATIENCE = 0.05
"""How long, in seconds, the reactor waits for a batch."""
HANDFUL = 1 << 20
"""Unwritten bytes that are not let grow more before a visit."""
LOOK = 1.0
"""How long after a write it is checked that the path still leads to the file that was written."""
APART = 0.0001
"""The pause between two looks, or attempts: it is the time for all that have written, or have not, at once."""
RETRY = 5.0
"""The pause between attempts to write to a file that could not be written."""
HUNG = 5.0
"""A batch that has taken so long is reported as trouble."""
QUIET = 600.0
"""The pause between two complaints about a slow disk."""
_OPENINGS = 64
"""Authors who asked for no special time that are visited at once: they open files, for which nobody waits."""


class Errand(Protocol):
    """Something to do with one console's files."""

    def run(self) -> None:
        """Do it; called in the writer's thread.  Must not raise."""

    def settle(self) -> None:
        """It is done; called in the reactor's thread."""


class Author(Protocol):
    """Somebody with something to write."""

    def errand(self) -> Errand:
        """What there is to do now.  Not asked again before that errand is settled."""

    def visited(self) -> None:
        """The errand is done, or not waited for any longer."""

    def due(self, retry: bool, within: float) -> None:
        """The time has come to look at the path, or to try again: ask for a visit within so many seconds.

        Unless it is not wanted any more.
        """


class Scribe:
    """Gathers errands, and knows how far behind the disk is."""

    def __init__(
        self,
        clock: Clock,
        worker: Worker,
        patience: float = PATIENCE,
        bound: int = 1 << 25,
        pressed: Callable[[bool], None] = lambda is_pressed: None,
    ) -> None:
        """`pressed(True)` is called when `bound` bytes, or much of one author's, wait for a disk that is only slow;
        `pressed(False)` when less than half of that is left, or the disk does not answer any more.
        """
        self.unwritten = 0
        """The bytes of all transcripts that are not known to be in a file."""
        self._clock = clock
        self._worker = worker
        self._patience = patience
        self._dirty: dict[Author, None] = {}
        self._gathered = Appointments[Author](clock, self._visit_gathered)
        self._openings: deque[Author] = deque()
        self._turn: Timer | None = None
        self._busy = False
        self._behind = False
        self._stopping = False
        self._since = 0.0
        self._next_complaint = 0.0
        self._written: set[Author] = set()
        self._failed: set[Author] = set()
        self._timers: dict[bool, Timer] = {}
        self._in_hand = 0
        self.bound = bound
        self._pressed = pressed
        self._relief: Timer | None = None
        """The end of the pressure, should the disk hang."""
        self._hopeless = False
        """Whether it came to that, and no batch has been finished since."""

    @property
    def busy(self) -> bool:
        """Whether a batch is under way."""
        return self._busy

    @property
    def hung(self) -> float:
        """For how many seconds the disk has given no answer, when that is longer than it ever should be; else 0."""
        silence = self._clock.seconds() - self._since if self._busy else 0.0
        return silence if silence >= HUNG else 0.0

    def ask(self, author: Author, within: float = 0.0) -> None:
        """Visit `author` in this turn, or `within` so many seconds.  Once is enough.

        An author for whom that is less than none calls `hurry` next.
        """
        if within <= 0:
            self._gathered.cancel(author)
            self._dirty[author] = None
            if within == 0:
                self._arrange()
        elif author not in self._dirty:
            self._gathered.make(author, within)

    def expects(self, author: Author) -> bool:
        """Whether `author` is going to be visited soon, and waited for."""
        if self._behind:
            return False
        return author in self._gathered or (self._turn is not None and author in self._dirty)

    def ask_opening(self, author: Author) -> None:
        """Visit `author` soon: there may be thousands of these, and nothing is lost by waiting."""
        self._openings.append(author)
        self._arrange()

    def took(self, size: int, much: bool) -> None:
        """An author who has asked has `size` unwritten bytes more; `much`: it has room for few more."""
        self.unwritten += size
        self._in_hand += size
        if self._in_hand >= HANDFUL:
            self.press()
        if self._busy and (much or self.unwritten >= self.bound) and not self._relief and not self._hopeless:
            self._relief = self._clock.callLater(HUNG, self._relieve, True)
            self._pressed(True)

    def hurry(self) -> None:
        """Visit whoever asked for this turn now, if the thread is free: somebody waits for the echo of a key."""
        self._visit()

    def press(self) -> None:
        """Visit whoever asked now, if the thread is free: the room in memory is needed."""
        if not (self._behind or self._busy):
            self._dirty.update(self._gathered.take())
            self._visit()

    def look_later(self, author: Author) -> None:
        """Call `author.due` within a second or so."""
        self._written.add(author)
        self._start_timer(False, LOOK)

    def retry_later(self, author: Author) -> None:
        """Call `author.due` at the next attempt."""
        self._failed.add(author)
        self._start_timer(True, RETRY)

    def stop(self) -> None:
        """Do nothing any more, once what is under way and what was asked for is done."""
        self._relieve()
        for timer in (*self._timers.values(), self._turn):
            if timer is not None and timer.active():
                timer.cancel()
        self._timers = {}
        self._turn = None
        self._stopping = True
        self._dirty.update(self._gathered.take())
        self._visit()
        if not (self._busy or self._dirty or self._openings):
            self._worker.stop()

    def _arrange(self) -> None:
        if self._turn is None and not self._busy:
            self._turn = self._clock.callLater(0, self._visit)

    def _visit_gathered(self, authors: dict[Author, None]) -> None:
        self._dirty.update(authors)
        if self._busy:
            self._tell(authors)
        self._visit()

    def _visit(self) -> None:
        if self._turn is not None:
            if self._turn.active():
                self._turn.cancel()
            self._turn = None
        self._in_hand = 0
        if self._busy or not (self._dirty or self._openings):
            return
        authors, self._dirty = self._dirty, {}
        opening = bool(self._openings)
        for _ in range(min(len(self._openings), _OPENINGS)):
            authors[self._openings.popleft()] = None
        errands = [author.errand() for author in authors]
        wait = not self._behind and not opening
        self._busy = True
        self._since = self._clock.seconds()
        work = _Batch(self._clock, errands)
        done = self._worker.run(work, self._patience if wait else 0, partial(self._finished, work, wait))
        self._tell(authors)
        if done:
            self._finished(work, False)

    def _tell(self, authors: Iterable[Author]) -> None:
        for author in authors:
            try:
                author.visited()
            except Exception:  # a fault of ours, from which the other consoles must not suffer
                log.failure("showing what was written")

    def _finished(self, work: _Batch, impatient: bool) -> None:
        self._busy = False
        if impatient and not self._behind:
            self._behind = True
            if self._since >= self._next_complaint:
                self._next_complaint = self._since + QUIET
                log.warn("the disk of the transcripts is slow; what clients see may not be on it yet")
        for errand in work.errands:
            errand.settle()
        self._hopeless = False
        if self._relief is not None:
            if self.unwritten < self.bound // 2:
                self._relieve()
            else:
                self._relief.reset(HUNG)
        if self._behind and not self._dirty and work.took < self._patience / 2:
            self._behind = False
        if self._dirty or self._openings:
            if self._behind:
                self._visit()
            else:
                self._arrange()
        elif self._stopping:
            self._worker.stop()

    def _relieve(self, hung: bool = False) -> None:
        """The pressure is over, or of no use."""
        relief, self._relief, self._hopeless = self._relief, None, hung
        if relief is not None:
            if relief.active():
                relief.cancel()
            self._pressed(False)

    def _start_timer(self, retry: bool, delay: float) -> None:
        if retry not in self._timers and not self._stopping:
            self._timers[retry] = self._clock.callLater(delay, self._due, retry)

    def _due(self, retry: bool) -> None:
        del self._timers[retry]
        if retry:
            authors, self._failed = self._failed, set()
        else:
            authors, self._written = self._written, set()
        for number, author in enumerate(authors):
            author.due(retry, number * APART)


class _Batch:
    """One batch; called in the writer's thread."""

    def __init__(self, clock: Clock, errands: list[Errand]) -> None:
        self.errands = errands
        self.took = 0.0
        self._clock = clock

    def __call__(self) -> None:
        begun = self._clock.seconds()
        for errand in self.errands:
            errand.run()
        self.took = self._clock.seconds() - begun
