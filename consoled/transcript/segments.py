"""One console's files: the bytes on disk, cut into segments, and found again after any accident.

The scribe's errands call `write`, `look`, `reopen` and `close` in the writer's thread; `reading` takes the `view` in
other threads, `upkeep` changes the closed segments in its own.  No reactor, no waiting, no retries: an `OSError` leaves
`head` exact, and the next `write` goes on from there.

What holds after every system call, so that the process may die at any:

* A file's bytes are one run of the stream: the byte at position p has the offset start + p.  Bytes that were lost, or
  that somebody took away, lie between two files and never inside one.
* The start of the active file is in the index before the file is; that of a stream's first, before its first byte is.
  A rotation announces itself (`rotate`), renames, and confirms (`start`); whoever opens the files next completes what
  was announced.
* A mark is in the index before the bytes that it marks; what is marked beyond the end is cut off at the next open.

Nothing is synced to the platter: a killed daemon loses nothing, a power failure may cost what the kernel still held.

Inside, offsets are those of the files.  Outside they are the caller's: smaller by `shift`, which is zero unless the
directory could not be read when the console began, or another one was mounted over it.  Then the caller had to count
from where it was; its numbers stay valid until it stops, and what is older than `floor` is reachable after that.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from threading import Lock

from twisted.logger import Logger

from consoled.transcript.directory import Directory, Segment, Survey
from consoled.transcript.disk import inode, write_whole
from consoled.transcript.index import Index, Range, State
from consoled.transcript.names import check_name

log = Logger()

_NEAR = 4096
"""How far from the size limit, in bytes, a line's end may be to cut there."""


@dataclass(frozen=True, slots=True)
class View:
    """What a reader needs to know to find a byte.  Never changed, only replaced."""

    closed: tuple[Segment, ...] = ()
    start: int = 0
    inode: tuple[int, int] = (-1, -1)
    shift: int = 0
    floor: int = 0

    @property
    def oldest(self) -> int:
        """The caller's offset of the oldest byte in any file."""
        return max(self.floor, (self.closed[0].start if self.closed else self.start) - self.shift)

    def same_active(self, other: View) -> bool:
        return self.start == other.start and self.inode == other.inode


class Files:
    """The files of the console `name`.  Raises `ValueError` for a name that files cannot have."""

    # There are as many as consoles: slots take the least memory.
    __slots__ = (
        "_born",
        "_changing",
        "_disk",
        "_end",
        "_fd",
        "_full",
        "_index",
        "_marked",
        "_survey",
        "_wall",
        "directory",
        "marks_found",
        "max_age",
        "max_size",
        "name",
        "times",
        "touched",
        "view",
    )

    def __init__(
        self, directory: Directory, name: str, max_size: int, max_age: float, wall: Callable[[], float]
    ) -> None:
        self.directory = directory
        self.name = check_name(name)
        self.view = View()
        self.marks_found: tuple[Range, ...] = ()
        self.touched: float | None = None
        """When something was last written into the active file before we found it, in seconds since the epoch."""
        self._disk = directory.disk
        self._index = Index(self._disk, directory.indexes, name)
        self.max_size = max_size
        self.max_age = max_age
        self._wall = wall
        self._survey: Survey | None = None
        self._fd = -1
        self._end = 0
        self._born = 0.0
        self._full = False
        self._marked = 0
        self.times = 0
        """The bytes of the active file's side file, as far as that is known."""
        self._changing = Lock()

    @property
    def path(self) -> str:
        """That of the active file."""
        return self.directory.active(self.name)

    @property
    def known(self) -> bool:
        """Whether the files have been read, so that `head` means something."""
        return self._survey is not None

    @property
    def head(self) -> int:
        """The offset of the next byte to write."""
        return self._end - self.view.shift

    @property
    def size(self) -> int:
        """The bytes in the active file."""
        return self._end - self.view.start

    # ------------------------------------------------------------------------------------------------- writing

    def write(self, at: int, data: bytes, own: Iterable[Range] = ()) -> None:
        """Append `data`, whose first byte has the offset `at`, not less than `head`; the bytes between are lost.

        `own` are the ranges of it that are the daemon's.  Raises `OSError`; then `head` says how far it came.
        """
        if self._fd < 0:
            self.open()
        if at < self.head:
            raise ValueError(f"{self.name}: offset {at} is written already, the head is {self.head}")
        if at > self.head:
            self._rotate(at + self.view.shift, lost=True)
        if own or self._index.is_missing:
            self._announce(own)
        self._put(data)

    def look(self) -> None:
        """Make sure that the path still leads to the file that we write, and close one that is too old."""
        if self._fd < 0 or not self._in_place():
            self.open()
        elif self._old():
            self._rotate(self._end)

    def reopen(self) -> None:
        """Let go of the file and open what the path leads to now: somebody has moved it away."""
        self.open()

    def close(self, head: int) -> None:
        """Let go of the files, with a note that the stream went up to `head`.  Raises `OSError`, but is closed then."""
        try:
            if self.known:
                end = head + self.view.shift
                lost = [f"lost {self._end} {end}"] if end > self._end else []
                self._index.append(*lost, f"head {end}")
        finally:
            self._drop()
            if self._survey is not None:
                self._survey.leave(self.name, self.view.closed, self.size)
                self._survey = None

    def rebase(self, at: int) -> None:
        """Call the present head `at`, and what lies before it unreachable."""
        with self._changing:
            self.view = replace(self.view, shift=self._end - at, floor=at)

    # ------------------------------------------------------------------------------------------------- opening

    def open(self) -> None:
        """Find out how things stand, complete what was begun, and get ready to append.

        The first time the files say where the head is.  Later we know, and the files must agree: where they do not,
        somebody has moved, cut or replaced them, and a new active file begins at the head.
        """
        self._drop()
        known = self.known
        survey = self.directory.prepare()
        ours = survey is self._survey
        state = self._index.load()
        found = self._active(ours)
        size = found.st_size if found else 0
        start, goal = self._starting_point(state, survey)
        shift, floor = self.view.shift, self.view.floor
        goal = max(goal, start + size, state.head)
        if ours:
            goal = self._end
        elif known:
            # Another directory than before: its stream is not the one that the caller has been counting.
            floor = self.head
            goal = max(goal, self._end)
            shift = goal - floor
        if ours and goal < start + size:
            self._cut(goal - start)
            size = goal - start
        changed = not state.intact or state.rotating is not None or state.start != start
        state = replace(state, start=start, born=state.born or self._wall(), rotating=None)
        if goal != start + size:
            if size and found:
                self._index.replace(replace(state, rotating=(start, goal)))
                self._disk.rename(self.path, self.directory.segment(self.name, start))
                self._add(survey, Segment(start, size, found.st_mtime))
            start, size, changed = goal, 0, True
            state = replace(state, start=start, born=self._wall())
        closed = self._closed(survey)
        oldest = closed[0].start if closed else start
        if state.marks and (state.marks[0][1] <= oldest or state.marks[-1][1] > goal):
            changed = True
        if goal == 0 and self._index.is_missing:
            self._index.begin(state)
        elif changed:
            state = state.between(oldest, goal)
            self._index.replace(state)
        fd = self._disk.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        info = self._disk.fstat(fd)
        if info.st_size != size:
            self._disk.close(fd)
            raise OSError(errno.EBUSY, "changed while it was being opened", self.path)
        left = self.view.start if ours else start
        with self._changing:
            self.view = View(self._closed(survey), start, inode(info), shift, floor)
        self._forget_times(left)
        survey.claim(self.name)
        self._survey = survey
        self._fd, self._end, self._born, self._full = fd, start + size, state.born, False
        self._marked = self._end
        self.marks_found = state.marks
        self.touched = found.st_mtime if found and size and not known else None

    def _active(self, ours: bool) -> os.stat_result | None:
        """What the path of the active file leads to; whatever is not ours is put out of the way."""
        try:
            info = self._disk.stat(self.path)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", self.path)
        if ours and info.st_size and inode(info) != self.view.inode:
            stray = self.directory.stray(self.name, self._end)
            self._disk.rename(self.path, stray)
            log.warn("{path} was replaced by a file of somebody's, which is now {stray}", path=self.path, stray=stray)
            return None
        return info

    def _cut(self, size: int) -> None:
        """Put away what somebody has appended to the active file: what it has beyond `size` bytes."""
        stray = self.directory.stray(self.name)
        log.warn("{path} was written to by somebody; that is now in {stray}", path=self.path, stray=stray)
        fd = self._disk.open(self.path, os.O_RDWR)
        try:
            target = self._disk.open(stray, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            try:
                at = size
                while block := self._disk.pread(fd, 1 << 18, at):
                    write_whole(self._disk, target, block)
                    at += len(block)
            finally:
                self._disk.close(target)
            self._disk.truncate(fd, size)
        finally:
            self._disk.close(fd)

    def _starting_point(self, state: State, survey: Survey) -> tuple[int, int]:
        """Where the active file starts, and the least offset that the next byte may have."""
        closed = self._closed(survey)
        start = state.start
        if start is None and survey is self._survey:
            start = self.view.start
        if state.rotating is not None:
            start, following = state.rotating
            if all(segment.start != start for segment in closed):
                try:
                    info = self._disk.stat(self.directory.segment(self.name, start))
                except FileNotFoundError:
                    return start, following  # announced, and not begun
                self._add(survey, Segment(start, info.st_size, info.st_mtime))
            return following, following
        if start is None or (closed and closed[-1].start >= start):
            start = self._end_of(closed[-1]) if closed else 0
        return start, start

    def _forget_times(self, start: int) -> None:
        """The active file that began at `start` may have been taken away: then its side file goes too."""
        if start != self.view.start and all(segment.start != start for segment in self.view.closed):
            self.times = 0
            try:
                self.directory.forget_times(self.name, start)
            except OSError:
                pass  # at the next start it is seen to belong to nothing

    def _closed(self, survey: Survey) -> tuple[Segment, ...]:
        return self.view.closed if survey is self._survey else survey.closed(self.name)

    def _add(self, survey: Survey, segment: Segment) -> None:
        """The active file has become a closed segment; what follows may still go wrong, but this is done."""
        if survey is self._survey:
            with self._changing:
                self.view = replace(self.view, closed=(*self.view.closed, segment))
        else:
            survey.add(self.name, segment)

    def _end_of(self, segment: Segment) -> int:
        if not segment.packed:
            return segment.start + segment.size
        return segment.start + sum(map(len, self.directory.unpacked(self.name, segment.start)))

    def _drop(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                self._disk.close(fd)
            except OSError:  # some file systems report a late failure of a write here; there is nothing to do about it
                log.failure("closing {path}", path=self.path)

    # ----------------------------------------------------------------------------------------------- the bytes

    def _announce(self, own: Iterable[Range]) -> None:
        shift, marked = self.view.shift, self._marked
        new = [(max(start + shift, marked), stop + shift) for start, stop in own if stop + shift > marked]
        if new or self._index.is_missing:
            try:
                self._index.append(*(f"mark {start} {stop}" for start, stop in new))
            except OSError:
                self._drop()
                raise
        if new:
            self._marked = new[-1][1]

    def _put(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            if self._full or self.size >= self.max_size or self._old():
                self._rotate(self._end)
            length, full = self._fit(data, len(data) - len(rest))
            try:
                taken = self._disk.write(self._fd, rest[:length])
                before = self._disk.position(self._fd) - taken
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    self._drop()  # the descriptor may have gone bad for ever, as on a network file system
                raise
            if before != self.size and not self._recovered(before, taken):
                continue
            self._end += taken
            self._full = full and taken == length
            rest = rest[taken:]

    def _fit(self, data: bytes, at: int) -> tuple[int, bool]:
        """How much of `data` from `at` goes into the active file, and whether the file is full then."""
        room = max(self.max_size - self.size, 0)
        if len(data) - at <= room:
            return len(data) - at, False
        cut = (
            data.rfind(b"\n", max(at, at + room - _NEAR), at + room) + 1
            or data.find(b"\n", at + room, at + room + _NEAR) + 1
        )
        return (cut - at if cut else room), True

    def _recovered(self, before: int, taken: int) -> bool:
        """The file was `before` bytes long, not `size`, when `taken` bytes came in: somebody has cut it or added to it.

        False if the bytes must be written once more.
        """
        try:
            if before == 0:  # copied and truncated; what is in the file now is what we just wrote
                self._index.append(f"start {self._end} {int(self._wall())}")
                left = self.view.start
                with self._changing:
                    self.view = replace(self.view, start=self._end)
                self._forget_times(left)
                self._born = self._wall()
                log.warn("{path} was truncated by somebody; its stream goes on from there", path=self.path)
                return True
        except OSError:
            self._disk.truncate(self._fd, before)
            self._drop()
            raise
        self._disk.truncate(self._fd, before)
        self.open()
        return False

    # ---------------------------------------------------------------------------------------------- rotation

    def _old(self) -> bool:
        return 0 < self.max_age <= self._wall() - self._born and self.size > 0

    def _in_place(self) -> bool:
        try:
            info = self._disk.stat(self.path)
            if inode(info) == self.view.inode and info.st_size == self.size:
                return True
        except FileNotFoundError:
            pass
        log.warn("{path} was moved, removed or cut by somebody; the stream goes on in a new file", path=self.path)
        return False

    def _rotate(self, following: int, lost: bool = False) -> None:
        """Close the active file and begin one at `following`."""
        for moved in (False, True):
            if self.size and not self._in_place():
                self.open()
            if following <= self.view.start:
                return
            try:
                self._begin(following, lost)
                return
            except OSError as error:
                self._drop()
                if moved or not isinstance(error, FileNotFoundError):
                    raise
                # Somebody has moved the file since we looked, which is no trouble: look again.

    def _begin(self, following: int, lost: bool) -> None:
        start, size, end, now = self.view.start, self.size, self._end, self._wall()
        fd = self._fd
        if size and self._survey is not None:
            self._index.append(f"rotate {start} {following}")
            self._disk.rename(self.path, self.directory.segment(self.name, start))
            self._add(self._survey, Segment(start, size, now, times=self.times))
            self.times = 0
        notes = [f"lost {end} {following}"] if lost else []
        self._index.append(*notes, f"start {following} {int(now)}")
        if size:
            # The old descriptor stays open until readers have been told, so that its inode is nobody else's.
            fd = self._disk.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        now_active = inode(self._disk.fstat(fd))
        with self._changing:
            self.view = replace(self.view, start=following, inode=now_active)
        if fd != self._fd:
            self._drop()
        self._fd, self._end, self._born, self._full = fd, following, now, False
        self._index.prune(self.view.closed[0].start if self.view.closed else following, following)

    # ------------------------------------------------------------------------------ called in a reader's thread

    def timed(self, start: int, size: int) -> None:
        """The side file of the segment that begins at `start` has `size` bytes now."""
        with self._changing:
            view = self.view
            if start >= view.start:
                self.times = size
            else:
                closed = tuple(replace(one, times=size) if one.start == start else one for one in view.closed)
                self.view = replace(view, closed=closed)

    # ------------------------------------------------------------------------------- called in upkeep's thread

    def forget(self, gone: Segment) -> None:
        """A closed segment was removed."""
        self._exchange(gone)

    def pack(self, plain: Segment, packed: Segment) -> None:
        """A closed segment is there in compressed form now."""
        self._exchange(plain, packed)

    def _exchange(self, old: Segment, *new: Segment) -> None:
        with self._changing:
            closed = self.view.closed
            if old in closed:
                at = closed.index(old)
                self.view = replace(self.view, closed=(*closed[:at], *new, *closed[at + 1 :]))
