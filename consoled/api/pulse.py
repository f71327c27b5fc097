"""The reactor's pulse: how late it is for a call that was to come after a second.

The daemon's one thread does everything, so whatever holds it up (a slow disk, a flood, a bug) shows here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

BEAT: Final = 1.0
"""Seconds."""


class Pulse:
    """Called every `BEAT`."""

    def __init__(self, seconds: Callable[[], float], late: Callable[[float], None]) -> None:
        """`seconds` tells a time that never goes back; `late` is told how many seconds each beat was late."""
        self._seconds = seconds
        self._late = late
        self._last: float | None = None

    def beat(self) -> None:
        """It is time."""
        now, last = self._seconds(), self._last
        self._last = now
        if last is not None:
            self._late(max(0.0, now - last - BEAT))
