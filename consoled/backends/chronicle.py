"""The chronicle: what happens to the links, in the daemon's log, a line each; and one line for all when a switch dies.

Every link reports its changes here.  The first few of a second are written as they come; what comes on top of them is
counted, and summed up when the second is over.
"""

from __future__ import annotations

from collections import Counter

from twisted.logger import Logger, LogLevel

from consoled.core.seams import Clock, Timer

WINDOW = 1.0
"""Seconds."""
BEFORE_SUMMARY = 20
"""Lines in one window that are written in full."""

_log = Logger()


class Chronicle:
    """One for all links of the daemon."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._written = 0
        self._counted: Counter[str] = Counter()
        self._window: Timer | None = None

    def happened(self, name: str, what: str, line: str, bad: bool = True) -> None:
        """Write `line` of the console `name`, or count it under `what` (`lost`)."""
        if self._window is None:
            self._window = self._clock.callLater(WINDOW, self._over)
        if self._written < BEFORE_SUMMARY:
            self._written += 1
            _log.emit(LogLevel.warn if bad else LogLevel.info, "console {name}: {line}", name=name, line=line)
        else:
            self._counted[what] += 1

    def close(self) -> None:
        """Say what is still to be said."""
        if self._window is not None:
            self._window.cancel()
            self._over()

    def _over(self) -> None:
        self._window = None
        self._written = 0
        if self._counted:
            counts = ", ".join(f"{count} {what}" for what, count in self._counted.most_common())
            _log.warn("and more consoles in the same second: {counts}", counts=counts)
            self._counted.clear()
