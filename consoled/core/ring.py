"""The ring: a console's newest bytes, addressed by absolute offset.

`Stream` appends every byte here, once the transcript has taken it; attachments read from it while their cursor lies
inside.  It is a plain byte array with a base offset: appending is one copy, and the front is cut off in large steps, so
that a flood moves each byte once more at most.
"""


class Ring:
    """Keeps at least the newest `capacity` bytes, and at most twice as many.  Memory grows with use."""

    __slots__ = ("_bytes", "_limit", "capacity", "start")

    def __init__(self, capacity: int, start: int = 0) -> None:
        if capacity < 1:
            raise ValueError(f"a ring holds one byte at least, not {capacity}")
        self.capacity = capacity
        self.start = start
        """The offset of the oldest byte here."""
        self._limit = 2 * capacity
        self._bytes = bytearray()

    def resize(self, capacity: int) -> None:
        """Keep so many from the next byte on."""
        self.capacity, self._limit = capacity, 2 * capacity

    @property
    def last(self) -> bytes:
        """The newest byte, empty if there is none."""
        return bytes(self._bytes[-1:])

    @property
    def head(self) -> int:
        """The offset after the newest byte."""
        return self.start + len(self._bytes)

    def append(self, data: bytes) -> None:
        """Take `data` as the next bytes of the stream."""
        self._bytes += data
        surplus = len(self._bytes) - self.capacity
        if surplus > self.capacity:
            del self._bytes[:surplus]
            self.start += surplus

    def read(self, offset: int, limit: int) -> bytes:
        """At most `limit` bytes at `offset`, empty at the head.  Raises `ValueError` outside of what is kept."""
        at = offset - self.start
        if not 0 <= at <= len(self._bytes):
            raise ValueError(f"offset {offset} is outside of {self.start} to {self.head}")
        return bytes(memoryview(self._bytes)[at : at + limit])

    def line_start(self, before: int, lines: int) -> tuple[int, int]:
        """Count `lines` line feeds (one or more) backwards from the offset `before`.

        Returns the offset after the last one counted and 0, or `start` and how many were not found in here.
        """
        at = before - self.start
        while lines and at >= 0:
            at = self._bytes.rfind(b"\n", 0, at)
            lines -= at >= 0
        return (self.start, lines) if at < 0 else (self.start + at + 1, 0)

    def shrink(self, keep: int) -> None:
        """Give back the memory of all but the newest `keep` bytes."""
        surplus = len(self._bytes) - keep
        if surplus > 0:
            # A copy, since deleting from a byte array does not give its memory back.
            self._bytes = self._bytes[surplus:]
            self.start += surplus
