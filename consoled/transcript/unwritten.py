"""The end of a stream that is not known to be in a file yet.  Pure; `Transcript` holds one.

The bytes are one run, from `written` to `head`, unless some were dropped: those are the last before `head`, and nothing
is added until `skip` has put them behind us.
"""

from __future__ import annotations

from consoled.transcript.index import Range


class Unwritten:
    """A queue of bytes by offset, with the ranges of it that are the daemon's own lines."""

    __slots__ = ("_own", "_queue", "dropped", "head", "written")

    def __init__(self) -> None:
        self.written = 0
        """The offset of the first byte that is not in a file."""
        self.head = 0
        """The offset after the last byte that came."""
        self.dropped = 0
        """How many of the last bytes before `head` were not kept."""
        # Lists, which are nothing while they are empty: there are ten thousand of these, idle.
        self._queue: list[bytes] = []
        self._own: list[Range] = []

    def __len__(self) -> int:
        """How many bytes are kept."""
        return self.head - self.written - self.dropped

    def begin(self, at: int) -> None:
        """Nothing has come yet, and what comes first has the offset `at`."""
        self.written = self.head = at

    def add(self, data: bytes, own: bool) -> None:
        """Keep `data` as the bytes from `head` on.  Not while some are `dropped`."""
        self._queue.append(data)
        if own:
            self._own.append((self.head, self.head + len(data)))
        self.head += len(data)

    def drop(self, count: int) -> None:
        """The next `count` bytes were not kept."""
        self.dropped += count
        self.head += count

    def skip(self) -> int:
        """Everything that was kept is written: go on behind what was dropped.  How many bytes that was."""
        count, self.dropped = self.dropped, 0
        self.written = self.head
        return count

    def pending(self) -> tuple[tuple[bytes, ...], tuple[Range, ...]]:
        """What is to be written at `written`, and which ranges are the daemon's; some may begin before."""
        return tuple(self._queue), tuple(self._own)

    def written_to(self, offset: int) -> int:
        """What lies before `offset` is in a file.  How many bytes are kept no longer for that."""
        freed = count = max(offset - self.written, 0)
        self.written += count
        whole = 0
        for data in self._queue:
            if len(data) > count:
                break
            count -= len(data)
            whole += 1
        del self._queue[:whole]
        if count:
            self._queue[0] = self._queue[0][count:]
        if self._own:
            self._own = [own for own in self._own if own[1] > self.written]
        return freed

    def read(self, offset: int, limit: int) -> tuple[int, bytes]:
        """At most `limit` bytes at `offset`, which is not before `written`.  Past the last, the next offset to come."""
        at, parts = self.written, []
        for data in self._queue:
            if at + len(data) > offset:
                first = max(offset - at, 0)
                parts.append(data[first : first + limit])
                limit -= len(parts[-1])
                if not limit:
                    break
            at += len(data)
        return (offset, b"".join(parts)) if parts else (max(offset, self.head), b"")

    def before(self, offset: int) -> bytes:
        """All that is kept from `written` to `offset`."""
        return b"".join(self._queue)[: max(offset - self.written, 0)]

    def clear(self) -> int:
        """Give up.  How many bytes were kept until now."""
        count = len(self)
        self._queue.clear()
        self._own.clear()
        self.written = self.head - self.dropped
        return count
