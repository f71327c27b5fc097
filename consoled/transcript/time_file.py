"""The side files that say when the bytes of a segment came: `DIRECTORY/.times/NAME.OFFSET`.

OFFSET is that of the segment's first byte, in twenty digits, so that a side file belongs to its segment whether that is
the active file, closed or compressed, and goes with it.  After sixteen bytes of header, `consoled-times 1`, there is a
record of sixteen bytes for each knot (see `times`), big-endian: the offset in the stream, and a *stamp*, which is the
milliseconds since the epoch in its lower 48 bits, and above them how often the clock had been set back since the file
began.  So offsets and stamps never become smaller, and both can be searched by halving.

`save` appends, in a reader's thread or, when a console closes, in the writer's.  A record that was torn, or is about
bytes that never reached the segment because the daemon died, is cut off by the next `save`.  `runs` reads.  Where there
is no side file (an older consoled wrote the segment) all is well, and nothing is known.
"""

from __future__ import annotations

import errno
import os
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from struct import Struct
from typing import Final

from consoled.transcript.disk import Disk, read_whole, write_whole
from consoled.transcript.segments import Files
from consoled.transcript.times import Knots

HEADER: Final = b"consoled-times 1"
_RECORD: Final = Struct(">QQ")
_SIZE: Final = _RECORD.size
_BITS: Final = 48
_MASK: Final = (1 << _BITS) - 1
_MOST_ROUNDS: Final = (1 << 16) - 1


@dataclass(frozen=True, slots=True)
class Run:
    """A piece of the stream, `[begin, end)`, that came from `since` to `until`, in milliseconds.

    Its knots follow one another in offset and time.
    """

    begin: int
    since: int
    end: int
    until: int
    load: Callable[[], Knots] | None = None
    """How to get the knots between the first and the last, with those, if there are any; raises `OSError`."""

    def knots(self) -> Knots:
        """All of them, at least the two."""
        try:
            if self.load is not None and len(knots := self.load()) >= 2:
                return knots
        except OSError:
            pass  # then it is not known as exactly
        return array("Q", (self.begin, self.since, self.end, self.until))


def save(files: Files, knots: Knots) -> None:
    """Add `knots`, whose offsets are the caller's, to the side files that they belong into.  Raises `OSError`.

    May be called again with what could not be saved.
    """
    directory, view = files.directory, files.view
    starts = [*(segment.start for segment in view.closed), view.start]
    lots: dict[int, Knots] = {}
    last = before = -1
    for at in range(0, len(knots), 2):
        offset, time = knots[at] + view.shift, knots[at + 1]
        which = bisect_right(starts, offset) - 1
        if which < 0 or knots[at] < view.floor:
            continue  # it is kept no more
        lot = lots.setdefault(which, array("Q"))
        if last >= 0 and last != which:  # so that each file says it all of its segment
            lots[last].extend((starts[last + 1], time))
            lot.extend((starts[which], before))
        lot.extend((offset, time))
        last, before = which, time
    for which, lot in lots.items():
        path = directory.times(files.name, starts[which])
        with directory.saving:
            files.timed(starts[which], _append(directory.disk, path, starts[which], lot))


def runs(disk: Disk, path: str, start: int) -> list[Run]:
    """What the side file of the segment that begins at `start` knows, in the order of the stream; never raises."""
    try:
        fd = disk.open(path, os.O_RDONLY)
        try:
            count, first, last = _look(disk, fd, disk.fstat(fd).st_size, start)
        finally:
            disk.close(fd)
        if not count:
            return []
        if last[1] > _MASK:
            return rounds(_load(disk, path, count))
        return [Run(*first, *last, lambda: _load(disk, path, count))]
    except OSError:
        return []  # what is not known of it is said of its bytes


def rounds(stamped: Knots) -> list[Run]:
    """The runs of knots with stamps in the place of times."""
    found, stamps, at = [], stamped[1::2], 0
    while at < len(stamps):
        stop = bisect_left(stamps, ((stamps[at] >> _BITS) + 1) << _BITS, at)
        one = stamped[2 * at : 2 * stop]
        for place in range(1, len(one), 2):
            one[place] &= _MASK
        found.append(Run(one[0], one[1], one[-2], one[-1], partial(_same, one)))
        at = stop
    return found


def _same(knots: Knots) -> Knots:
    return knots


def stamped(knots: Knots, last: int = 0) -> Knots:
    """`knots` with stamps in the place of times; `last` is the stamp before them."""
    result = array("Q", knots)
    for at in range(1, len(knots), 2):
        if knots[at] >= last & _MASK:
            last += knots[at] - (last & _MASK)
        elif last >> _BITS < _MOST_ROUNDS:
            last = ((last >> _BITS) + 1) << _BITS | knots[at]
        result[at] = last
    return result


def _append(disk: Disk, path: str, start: int, knots: Knots) -> int:
    """Add `knots` to one side file, or make it.  Its size.  Raises `OSError`."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    try:
        fd = disk.open(path, flags)
    except FileNotFoundError:
        disk.make_directory(os.path.dirname(path))  # noqa: PTH120
        fd = disk.open(path, flags)
    try:
        size = disk.fstat(fd).st_size
        count, _, (offset, stamp) = _look(disk, fd, size, start)
        if count and offset > knots[0]:
            if offset >= knots[-2] and stamp & _MASK >= knots[-1]:
                return size  # all of it is here: it was saved in part before, or twice at once
            # What follows is about bytes that were lost with a daemon that died; others have their offsets now.
            count = bisect_right(range(count), knots[0], key=lambda n: _record(disk, fd, n)[0])
            stamp = _record(disk, fd, count - 1)[1] if count else 0
        if size != (whole := len(HEADER) + count * _SIZE if count else 0):
            disk.truncate(fd, whole)
        records = stamped(knots, stamp if count else 0)
        if sys.byteorder == "little":
            records.byteswap()
        data = (b"" if count else HEADER) + records.tobytes()
        write_whole(disk, fd, data)
        return whole + len(data)
    finally:
        disk.close(fd)


def _look(disk: Disk, fd: int, size: int, start: int) -> tuple[int, tuple[int, int], tuple[int, int]]:
    """How many good records a side file has, its first and its last.  Raises `OSError`."""
    count = (size - len(HEADER)) // _SIZE
    if count < 1 or disk.pread(fd, len(HEADER), 0) != HEADER:
        return 0, (0, 0), (0, 0)
    first = _record(disk, fd, 0)
    while count:
        last = _record(disk, fd, count - 1)
        if last[0] >= start and last[1] >= first[1] > 0:
            return count, first, last
        count -= 1  # a power failure has left something else in its place
    return 0, (0, 0), (0, 0)


def _record(disk: Disk, fd: int, number: int) -> tuple[int, int]:
    data = disk.pread(fd, _SIZE, len(HEADER) + number * _SIZE)
    if len(data) < _SIZE:
        raise OSError(errno.EIO, "cut while it was being read")
    offset, stamp = _RECORD.unpack(data)
    return offset, stamp


def _load(disk: Disk, path: str, count: int) -> Knots:
    """The first `count` records, or fewer if it was cut since they were counted.  Raises `OSError`."""
    data = read_whole(disk, path)[len(HEADER) :][: count * _SIZE]
    knots = array("Q", data[: len(data) // _SIZE * _SIZE])
    if sys.byteorder == "little":
        knots.byteswap()
    return knots
