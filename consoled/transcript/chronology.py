"""Which bytes of a stream came between two times.

`Transcript` asks in a reader's thread.  Every byte lies in a *stretch* of which is known between which times it came:
between two knots (of a side file, or in memory), between the last knot of one segment and the first of the next, or,
where there are none, between the times of two segments' last bytes.  What is answered is the one run of the stream, as
short as these allow, that has every byte of that time; so where nothing is known of a stretch, it is in the answer.
Where the clock was set back a time comes twice, and the answer goes from the first to the last.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from math import ceil

from consoled.core.seams import Span
from consoled.transcript.segments import Files, View
from consoled.transcript.time_file import Run, rounds, runs, stamped
from consoled.transcript.times import Knots

_NEVER = 0
"""The time of what may have come at any time before."""


def span(files: Files, recent: Knots, head: int, since: float, until: float, now: float) -> Span:
    """The bytes that came at `since` or later and before `until`, by the offsets of the caller.

    `recent` is what is not in side files yet, `head` how far the stream had come at `now`.
    """
    view = files.view
    oldest, shift = min(view.oldest, head), view.shift
    # Offsets are the files' own until they are given back.
    recent = array("Q", (one if n % 2 else one + shift for n, one in enumerate(recent)))
    stretches = _stretches(files, view, rounds(stamped(recent)), head + shift, int(now * 1000))
    begin, end, first, last = _narrow(stretches, int(since * 1000), ceil(until * 1000), head + shift)
    begin, end = (min(max(offset - shift, oldest), head) for offset in (begin, end))
    if begin >= end:
        return Span(begin, begin, None, None)
    return Span(begin, end, first / 1000 if first else None, last / 1000)


def _stretches(files: Files, view: View, recent: Sequence[Run], head: int, now: int) -> list[Run]:
    """All of the stream, in its order."""
    starts = [*(segment.start for segment in view.closed), view.start]
    ends = [*starts[1:], head]
    mtimes = [*(max(ceil(segment.mtime * 1000), 1) for segment in view.closed), now]
    unsaved = recent[0].begin if recent else head
    known: list[Run] = []
    for start, end, mtime in zip(starts, ends, mtimes, strict=True):
        path = files.directory.times(files.name, start)
        known += runs(files.directory.disk, path, start) or ([Run(end, mtime, end, mtime)] if end <= unsaved else [])
    found: list[Run] = []
    offset, time = starts[0], _NEVER
    for run in (*known, *recent, Run(head, now, head, now)):
        if run.begin > offset:
            found.append(Run(offset, min(time, run.since), run.begin, max(time, run.since)))
        found.append(run)
        offset, time = run.end, run.until
    return found


def _narrow(stretches: Sequence[Run], since: int, until: int, head: int) -> tuple[int, int, int, int]:
    """The first and the last stretch of that time, and of them no more than must be."""
    hits = [run for run in stretches if run.since < until and run.until >= since]
    if not hits:
        later = next((run.begin for run in stretches if run.since >= until), head)
        return later, later, 0, 0
    begin, first = _beginning(hits[0], since)
    end, last = _ending(hits[-1], until)
    return begin, end, first, last


def _beginning(run: Run, since: int) -> tuple[int, int]:
    """Of the knots of `run` the last from which on all is wanted: its offset and its time."""
    knots = run.knots()
    at = max(bisect_left(range(len(knots) // 2), since, key=lambda n: knots[2 * n + 1]) - 1, 0)
    while 2 * at + 2 < len(knots) and knots[2 * at + 2] == knots[2 * at]:
        at += 1  # nothing came between them
    return knots[2 * at], knots[2 * at + 1]


def _ending(run: Run, until: int) -> tuple[int, int]:
    """Of the knots of `run` the first up to which all is wanted."""
    knots = run.knots()
    at = min(bisect_left(range(len(knots) // 2), until, key=lambda n: knots[2 * n + 1]), len(knots) // 2 - 1)
    while at and knots[2 * at - 2] == knots[2 * at]:
        at -= 1
    return knots[2 * at], knots[2 * at + 1]
