"""The directory that holds all transcripts: made if missing, locked, and looked through once.

`segments` asks it for paths and, when it opens a console's files, for what is there; `upkeep` asks it for the files of
consoles that are configured no more, because they count in the budget too.
"""

from __future__ import annotations

import errno
import gzip
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock

from twisted.logger import Logger

from consoled.transcript.disk import Disk, inode
from consoled.transcript.names import PREFIX, SPARE, parse_segment, segment_name

log = Logger()


class DirectoryInUse(OSError):
    """Another consoled writes into the directory."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EAGAIN, "another consoled is writing its transcripts here", path)


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """A closed file of a stream: its first offset, its bytes on disk, when it was last written, whether it is gzip."""

    start: int
    size: int
    mtime: float
    packed: bool = False
    times: int = field(default=0, compare=False)
    """The bytes of its side file, as far as that is known."""


class Survey:
    """What was in the directory when it was first looked at, less what has been claimed since.  For any thread."""

    def __init__(self, closed: dict[str, list[Segment]], idle: dict[str, int]) -> None:
        self._closed = {name: tuple(sorted(segments)) for name, segments in closed.items()}
        self._idle = idle
        self._lock = Lock()

    def closed(self, name: str) -> tuple[Segment, ...]:
        """The closed segments of a console, oldest first."""
        return self._closed.get(name, ())

    def claim(self, name: str) -> None:
        """From here on the console's own `Files` know better."""
        with self._lock:
            self._closed.pop(name, None)
            self._idle.pop(name, None)

    def leave(self, name: str, closed: tuple[Segment, ...], active: int) -> None:
        """The console is held no more; these are its segments and the size of its active file."""
        with self._lock:
            self._closed[name] = closed
            self._idle[name] = active

    def add(self, name: str, segment: Segment) -> None:
        """The console's active file has become a closed segment."""
        with self._lock:
            self._closed[name] = (*self._closed.get(name, ()), segment)

    def forget(self, name: str, gone: Segment) -> None:
        """A segment was removed."""
        with self._lock:
            if name in self._closed:
                self._closed[name] = tuple(segment for segment in self._closed[name] if segment != gone)

    def unclaimed(self) -> list[tuple[str, tuple[Segment, ...], int]]:
        """Every console that nobody holds: its name, its closed segments, the size of its active file."""
        with self._lock:
            names = self._closed.keys() | self._idle.keys()
            return [(name, self._closed.get(name, ()), self._idle.get(name, 0)) for name in names]


class Directory:
    """The place itself.  `prepare` and `close` are for the writer's thread, the paths for any."""

    def __init__(self, disk: Disk, path: str) -> None:
        self.disk = disk
        self.path = path
        self.survey: Survey | None = None
        self.saving = Lock()
        """Held by whoever writes into a side file of times."""
        self.indexes = f"{path}/.index"
        """Where every console's index is, by its name."""
        self._times = f"{path}/.times"
        self._lock_path = f"{self.indexes}/{SPARE}lock"
        self._lock = -1
        self._lock_identity = self._identity = (-1, -1)

    def active(self, name: str) -> str:
        return f"{self.path}/{PREFIX}{name}"

    def segment(self, name: str, start: int, packed: bool = False) -> str:
        return f"{self.path}/{segment_name(name, start, packed)}"

    def stray(self, name: str, offset: int | None = None) -> str:
        """Where bytes go that somebody has put into the active file, or the file that was put in its place."""
        self.disk.make_directory(f"{self.path}/.stray")
        return f"{self.path}/.stray/{name}" + (f".{offset:020d}" if offset is not None else "")

    def times(self, name: str, start: int) -> str:
        """The side file of the segment that begins at `start`; see `time_file`."""
        return f"{self._times}/{name}.{start:020d}"

    def forget_times(self, name: str, start: int) -> None:
        """The segment is gone.  Raises `OSError`."""
        try:
            self.disk.unlink(self.times(name, start))
        except FileNotFoundError:
            pass  # it never had one

    def spare(self, name: str) -> str:
        """Where the next version of something is written before it is renamed.  `name` must be ours alone."""
        return f"{self.indexes}/{SPARE}{name}"

    def prepare(self) -> Survey:
        """Make the directory, lock it, and look through it, as far as that is not done yet.

        The answer is the same object for as long as it is the same directory.  Raises `OSError`, `DirectoryInUse`.
        """
        if self.survey is not None and self._is_whole():
            return self.survey
        self.disk.make_directory(self.path)
        self.disk.make_directory(self.indexes)
        self.disk.make_directory(self._times)
        self._take_lock()
        identity = inode(self.disk.stat(self.path))
        if self.survey is None or identity != self._identity:
            self.survey = self._look_through()
            self._identity = identity
        return self.survey

    def close(self) -> None:
        """Let others have it."""
        if self._lock >= 0:
            self.disk.close(self._lock)
            self._lock = -1
        self.survey = None

    def unpacked(self, name: str, start: int) -> Iterator[bytes]:
        """The bytes of a compressed segment, up to where it is damaged.  Raises `OSError` when it cannot be opened."""
        fd = self.disk.open(self.segment(name, start, True), os.O_RDONLY)
        try:
            with os.fdopen(fd, "rb", closefd=False) as raw, gzip.GzipFile(fileobj=raw) as file:
                while block := file.read(1 << 18):
                    yield block
        except (EOFError, gzip.BadGzipFile, zlib.error):
            log.warn("{path} is damaged", path=self.segment(name, start, True))
        finally:
            self.disk.close(fd)

    def _is_held(self) -> bool:
        """Whether the lock is where it was taken, and so is the directory of the indexes."""
        try:
            return self._lock >= 0 and inode(self.disk.stat(self._lock_path)) == self._lock_identity
        except FileNotFoundError:
            return False

    def _is_whole(self) -> bool:
        """Whether this is the directory that was taken, with all that was made in it."""
        try:
            self.disk.stat(self._times)
            return self._is_held() and inode(self.disk.stat(self.path)) == self._identity
        except FileNotFoundError:
            return False

    def _take_lock(self) -> None:
        if self._is_held():
            return
        fd = self.disk.open(self._lock_path, os.O_RDWR | os.O_CREAT)
        try:
            self.disk.lock(fd)
            identity = inode(self.disk.fstat(fd))
        except OSError as error:
            self.disk.close(fd)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise DirectoryInUse(self.path) from None
            raise
        old, self._lock, self._lock_identity = self._lock, fd, identity
        if old >= 0:
            self.disk.close(old)

    def _look_through(self) -> Survey:
        indexed = set()
        for entry in self.disk.listing(self.indexes, ""):
            if not entry.name.startswith(SPARE):
                indexed.add(entry.name)
            elif entry.name != f"{SPARE}lock":  # a next version that never came to be
                self.disk.unlink(f"{self.indexes}/{entry.name}")
        times: dict[tuple[str, int], int] = {}
        for entry in self.disk.listing(self._times, ""):
            name, _, digits = entry.name.rpartition(".")
            if digits.isdecimal():
                times[name, int(digits)] = entry.size
        closed: dict[str, list[Segment]] = {}
        idle: dict[str, int] = {}
        plain = set()
        packed = []
        for entry in self.disk.listing(self.path, PREFIX):
            if (found := parse_segment(entry.name)) is None:
                name = entry.name.removeprefix(PREFIX)
                if name in indexed:  # otherwise it is somebody else's, such as logrotate's `console.x.1`
                    idle[name] = entry.size
            elif found[2]:
                packed.append((*found, entry))
            else:
                plain.add(found[:2])
                known = times.pop(found[:2], 0)
                closed.setdefault(found[0], []).append(Segment(found[1], entry.size, entry.mtime, times=known))
        for name, start, _, entry in packed:
            if (name, start) in plain:  # died between the rename and the unlink: the plain one is whole for certain
                self.disk.unlink(f"{self.path}/{entry.name}")
            else:
                known = times.pop((name, start), 0)
                closed.setdefault(name, []).append(Segment(start, entry.size, entry.mtime, True, known))
        for (name, start), size in times.items():
            if name in idle and all(segment.start < start for segment in closed.get(name, ())):
                idle[name] += size  # the active file's
            else:  # its segment was removed by somebody
                self.forget_times(name, start)
        return Survey(closed, idle)
