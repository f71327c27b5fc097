"""The sluice: while the disk cannot keep up with a flood, the nodes that flood are not read.

Stands behind every `TransportLine`, which asks it after each large read; `tap` has the transcripts shut and open it.
Without it a burst that comes while the disk is busy would have to be dropped in part, where TCP can hold it back.  A
node that says a line at a time is always read, so whoever types sees the echo; and the transcripts open the sluice
again when the disk gives no answer at all.
"""

from __future__ import annotations

from typing import Any, Protocol

LARGE = 4096
"""Bytes in one read that make a flood, which may wait.  A console of 115,200 baud has them once in 0.4 s."""


class Held(Protocol):
    """A line, as the sluice sees it."""

    transport: Any
    """None when the connection is gone."""


class Sluice:
    """Open or shut, who floods, and who waits before it."""

    def __init__(self) -> None:
        self.is_shut = False
        self.flooding: set[Held] = set()
        """Lines that are being read in the largest pieces; they say so themselves."""
        self._held: set[Held] = set()

    def hold(self, line: Held) -> None:
        """The sluice is shut: do not read `line` before it opens."""
        if line.transport is not None:
            self._held.add(line)
            line.transport.pauseProducing()

    def turn(self, shut: bool) -> None:
        """Shut it, or open it and let everybody go on.  Idempotent."""
        self.is_shut = shut
        if shut:
            for line in self.flooding:
                self.hold(line)
            return
        held, self._held = self._held, set()
        for line in held:
            if line.transport is not None:
                line.transport.resumeProducing()


sluice = Sluice()
"""The one of this process, as there is one memory and one disk for all."""
