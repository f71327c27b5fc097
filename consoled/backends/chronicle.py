"""The chronicle: what happens to the links, in the daemon's log, a line each; and one line for all when a switch dies.

Every link reports its changes here.  The first few of a window are written as they come; what comes on top of them is
counted, and summed up when the window is over.  While the flood lasts each window is twice as long as the one before,
so that a long outage of thousands does not fill the log; the first calm one ends it.
"""

from __future__ import annotations

from collections import Counter

from twisted.logger import Logger, LogLevel

from consoled.core.seams import Clock, Timer

WINDOW = 1.0
"""Seconds that a window has when all is calm."""
LONGEST = 64.0
"""Seconds that it has at most."""
BEFORE_SUMMARY = 20
"""Lines in one window that are written in full."""

_log = Logger()


class Chronicle:
    """One for all links of the daemon."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._length = WINDOW
        self._written = 0
        self._counted: Counter[str] = Counter()
        self._window: Timer | None = None

    def happened(self, name: str, what: str, line: str, bad: bool = True) -> None:
        """Write `line` of the console `name`, or count it under `what` (`lost`)."""
        if self._window is None:
            self._window = self._clock.callLater(self._length, self._over)
        if self._written < BEFORE_SUMMARY:
            self._written += 1
            _log.emit(LogLevel.warn if bad else LogLevel.info, "console {name}: {line}", name=name, line=line)
        else:
            self._counted[what] += 1

    def close(self) -> None:
        """Say what is still to be said."""
        if self._window is not None:
            self._window.cancel()
            self._window = None
            self._sum_up()

    def _over(self) -> None:
        self._window = None
        self._written = 0
        if self._sum_up():
            self._length = min(2 * self._length, LONGEST)
            self._window = self._clock.callLater(self._length, self._over)
        else:
            self._length = WINDOW

    def _sum_up(self) -> bool:
        """Say what was counted, if anything."""
        if not self._counted:
            return False
        counts = ", ".join(f"{count} {what}" for what, count in self._counted.most_common())
        _log.warn("and more consoles in the same {seconds:.0f} s: {counts}", seconds=self._length, counts=counts)
        self._counted.clear()
        return True
