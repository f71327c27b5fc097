"""When the bytes of one stream came, as far as that is not on disk yet.  Pure; each `Transcript` holds one.

What is kept are *knots*, an offset and a time each: the bytes between two knots came between their times.  A console
that talks has a knot each second, one that says little one in ten, a silent one none.  Now and then they are taken from
here and put into a file (`almanac`, `time_file`), with one more that says by when the last byte had come.
"""

from __future__ import annotations

from array import array
from math import inf
from typing import Final, TypeAlias

Knots: TypeAlias = "array[int]"
"""Of type Q: an offset, milliseconds since the epoch, an offset, milliseconds ..."""

SPACING: Final = 1.0
"""Seconds between two knots, at least.  Also how long after the last `came` something may have come without one."""
SLOW: Final = 10.0
"""Seconds between two knots of a console that says something, at most."""
LITTLE: Final = 256
"""Bytes between two knots that are less than `SLOW` apart, at least."""
MOST: Final = 4096
"""Knots in memory; beyond it every other one goes, and what is known becomes less exact."""

_LATEST: Final = (1 << 48) - 1


class Times:
    """The newest knots of a stream.  Times are seconds since the epoch, as the clock on the wall has them."""

    __slots__ = ("_at", "_is_open", "_knots", "_latest", "_offset", "_taken")

    def __init__(self) -> None:
        # Nothing, rather than empty arrays: there are ten thousand of these, idle.
        self._knots: Knots | None = None
        self._taken: Knots | None = None
        self._offset = 0
        self._at = self._latest = -inf
        self._is_open = False
        """Whether anything has come since the last knot of all that were taken."""

    def begin(self, offset: int, touched: float, now: float) -> None:
        """The stream goes on from `offset`, and the last byte before it was written at about `touched`.

        If its daemon was killed that is all there is to know of its last minute.
        """
        self._tie(offset, min(touched + SPACING, now))

    def came(self, offset: int, now: float) -> bool:
        """The byte at `offset` comes now.  Whether it is the first since all knots were taken.

        Need not be said of each byte, only of the first in every few hundredths of a second.
        """
        if now < self._latest:  # the clock was set back
            self._tie(offset, self._by(now))
            self._at = -inf
        passed, before, self._latest = now - self._at, self._latest, now
        if passed >= SLOW or (passed >= SPACING and offset - self._offset >= LITTLE):
            if self._is_open and now - before > 2 * SPACING:
                self._tie(offset, before + SPACING)  # what it said before that is over
            self._tie(offset, now)
        was_open, self._is_open = self._is_open, True
        return not was_open

    def take(self, written: int, head: int, now: float) -> Knots | None:
        """The knots that are about bytes before `written`, to be kept elsewhere; the stream has come up to `head`.

        They count as ours until `saved` or `failed` is called, and no others are given out before that.
        """
        if self._taken is not None:
            return None
        if written == head:
            if self._is_open:
                self._tie(head, self._by(now))
                self._is_open = False
            self._taken, self._knots = self._knots, None
        elif (knots := self._knots) is not None:
            cut = next((at for at in range(0, len(knots), 2) if knots[at] >= written), len(knots))
            self._taken, self._knots = knots[:cut] or None, knots[cut:]
        return self._taken

    def saved(self) -> bool:
        """What was taken is kept elsewhere.  Whether there is anything more to take."""
        self._taken = None
        return self._is_open or bool(self._knots)

    def failed(self) -> None:
        """What was taken could not be kept."""
        if self._taken is not None:
            self._knots = self._taken + self._knots if self._knots is not None else self._taken
            self._taken = None
            self._thin()

    def known(self, head: int, now: float) -> Knots:
        """All that is known here of a stream that has come up to `head`."""
        knots = array("Q", (*(self._taken or ()), *(self._knots or ())))
        if self._is_open:
            knots.extend((head, _milliseconds(self._by(now))))
        return knots

    def _by(self, now: float) -> float:
        """By when the last byte had come."""
        at_last = self._latest + SPACING
        return min(now, at_last) if now >= self._latest else at_last

    def _tie(self, offset: int, at: float) -> None:
        if self._knots is None:
            self._knots = array("Q")
        self._knots.extend((offset, _milliseconds(at)))
        self._offset = offset
        self._at = self._latest = at
        self._thin()

    def _thin(self) -> None:
        if self._knots is not None and len(self._knots) > 2 * MOST:
            pairs = range(0, len(self._knots), 4)
            self._knots = array("Q", (one for at in pairs for one in self._knots[at : at + 2]))


def _milliseconds(seconds: float) -> int:
    return min(max(int(seconds * 1000), 1), _LATEST)
