"""Marks: which offsets of a stream are lines of the daemon's own.

A console's stream holds what the node said and, between, the daemon's lines (`<ConMan> Console [x] connected
...`).  A face that promises the node's raw bytes leaves the latter out, also when it reads from last week's
segment, so the ranges are kept: here in memory, beside the stream on disk.

Called by the transcript, which adds and forgets, and by the attachments, which ask for runs.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator


class Marks:
    """An ordered set of disjoint ranges of offsets; two machine words each."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts = array("Q")
        self._ends = array("Q")

    def add(self, start: int, end: int) -> None:
        """Mark `[start, end)`, which must not lie before what is marked already.  Raises `ValueError`."""
        if end <= start:
            return
        if self._ends and start < self._ends[-1]:
            raise ValueError(f"marks go forward: {start} is before {self._ends[-1]}")
        if self._ends and start == self._ends[-1]:
            self._ends[-1] = end
        else:
            self._starts.append(start)
            self._ends.append(end)

    def forget_before(self, offset: int) -> None:
        """Drop the ranges that end at or before `offset`."""
        count = bisect_right(self._ends, offset)
        del self._starts[:count]
        del self._ends[:count]

    def run(self, offset: int, length: int) -> tuple[int, bool]:
        """How many of the `length` bytes at `offset` are of one sort, and whether that sort is the daemon's own."""
        at = bisect_right(self._ends, offset)
        if at == len(self._starts) or self._starts[at] >= offset + length:
            return length, False
        if self._starts[at] <= offset:
            return min(length, self._ends[at] - offset), True
        return self._starts[at] - offset, False

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def __len__(self) -> int:
        return len(self._starts)
