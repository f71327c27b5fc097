"""Appointments: which author the scribe visits in how many milliseconds.

Everybody has a time of their own, the first one that they asked for, and those of the same millisecond come together.
So a thousand busy consoles are written and shown a few in each turn of the reactor, as their nodes spoke, and a key's
echo comes in between.  When the reactor is late, each millisecond that is over still has a turn for itself, unless it
is so late that it would fall further behind.

`scribe` alone calls it, in the reactor's thread.  There is one timer, and none is set while nobody waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from consoled.core.seams import Clock, Timer

TICK = 0.001
"""Seconds.  Whoever has the same tick is visited with one hand-over to the writer's thread."""
LATE = 0.01
"""Seconds.  What should have come so long ago comes all at once."""

A = TypeVar("A")


class Appointments(Generic[A]):
    """At most one for each author."""

    def __init__(self, clock: Clock, come: Callable[[dict[A, None]], None]) -> None:
        """`come` is called with those whose time has come; they have no appointment any more."""
        self._clock = clock
        self._come = come
        self._ticks: dict[A, int] = {}
        self._authors: dict[int, dict[A, None]] = {}
        self._timer: Timer | None = None
        self._next = 0
        """The tick for which the timer is set."""

    def __contains__(self, author: A) -> bool:
        return author in self._ticks

    def make(self, author: A, within: float) -> None:
        """`author` comes within so many seconds, or sooner if that was said before."""
        tick = int((self._clock.seconds() + within) / TICK)
        before = self._ticks.get(author)
        if before is not None:
            if before <= tick:
                return
            self.cancel(author)
        self._ticks[author] = tick
        self._authors.setdefault(tick, {})[author] = None
        if self._timer is None or tick < self._next:
            self._set(tick)

    def cancel(self, author: A) -> None:
        """Harmless for one who has none."""
        tick = self._ticks.pop(author, None)
        if tick is not None:
            del self._authors[tick][author]

    def take(self) -> dict[A, None]:
        """Cancel all.  Who had one."""
        authors = dict.fromkeys(self._ticks)
        self._ticks.clear()
        self._authors.clear()
        self._stop()
        return authors

    def _set(self, tick: int) -> None:
        self._stop()
        self._next = tick
        self._timer = self._clock.callLater(max(0.0, tick * TICK - self._clock.seconds()), self._pass)

    def _stop(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _pass(self) -> None:
        self._timer = None
        authors = self._authors.pop(self._next)
        late = int((self._clock.seconds() - LATE) / TICK)
        if self._next < late:
            for tick in sorted(tick for tick in self._authors if tick < late):
                authors.update(self._authors.pop(tick))
        for author in authors:
            del self._ticks[author]
        if self._authors:
            self._set(min(self._authors))
        self._come(authors)
