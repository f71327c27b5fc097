"""Which closed segments must go.  A pure decision: `upkeep` makes it come true."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from consoled.transcript.directory import Segment
from consoled.transcript.settings import TranscriptSettings


@dataclass(frozen=True, slots=True)
class Holding:
    """What one console has on disk: its closed segments, oldest first, and the bytes in its active file."""

    name: str
    closed: tuple[Segment, ...]
    active: int


def surplus(holdings: Iterable[Holding], settings: TranscriptSettings, now: float) -> list[tuple[str, Segment]]:
    """The segments that the settings do not allow to stay, in the order in which they should go.

    First each console by its own rules, how many (`keep`) and how old (`keep_for`).  Then, while all files together
    are bigger than `max_total`, the oldest segment of the console whose closed segments are the biggest.  An active
    file counts, and never goes.  `now` is in seconds since the epoch.
    """
    gone = []
    total = 0
    noisiest: list[tuple[int, str, int, tuple[Segment, ...]]] = []
    for holding in holdings:
        closed = holding.closed
        over = max(len(closed) - settings.keep, 0) if settings.keep else 0
        if settings.keep_for:
            while over < len(closed) and now - closed[over].mtime > settings.keep_for:
                over += 1
        gone += [(holding.name, segment) for segment in closed[:over]]
        size = sum(map(_whole, closed[over:]))
        total += size + holding.active
        if size:
            noisiest.append((-size, holding.name, over, closed))
    if settings.max_total and total > settings.max_total:
        heapq.heapify(noisiest)
        while total > settings.max_total and noisiest:
            size, name, first, closed = noisiest[0]
            gone.append((name, closed[first]))
            total -= _whole(closed[first])
            if first + 1 < len(closed):
                heapq.heapreplace(noisiest, (size + _whole(closed[first]), name, first + 1, closed))
            else:
                heapq.heappop(noisiest)
    return gone


def _whole(segment: Segment) -> int:
    """Its bytes on disk, with those of its side file."""
    return segment.size + segment.times
