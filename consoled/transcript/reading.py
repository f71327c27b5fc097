"""Finding bytes again: by offset, and where lines begin.

`Transcript` calls a `Reader` in a pool's thread, never in the reactor's, while the writer's thread appends and rotates
and upkeep compresses and removes.  A reader takes the `View` of the moment and trusts no path: it opens the active file
by name and compares the inode, which is no other file's as long as the writer holds it.  Where a file is not what the
view says and the view has been replaced meanwhile, it begins again with the new one; where the view still stands, the
bytes are gone, and the answer says so by a greater offset.  (Somebody who cuts a file under us and a write that lands
in it before the writer has noticed can, for the microseconds between, show a reader the wrong bytes.)
"""

from __future__ import annotations

import errno
import os
import tempfile
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

from twisted.logger import Logger

from consoled.transcript.directory import Segment
from consoled.transcript.disk import Disk, inode
from consoled.transcript.segments import Files, View

log = Logger()

_BLOCK = 256 * 1024
_IDLE = 60.0
_PAUSES = (0.1, 0.2, 0.4, 0.8)
"""Seconds to wait for a descriptor, one after the other: bytes that cannot be opened now are not gone."""
_Found = TypeVar("_Found")


class _Moved(Exception):
    """The view is not that of now any more."""


class _NoDescriptor(Exception):
    """The process or the machine has no file descriptor left; the argument is the `OSError`."""


@dataclass(slots=True)
class _Unpacked:
    lock: Lock
    fd: int = -1
    users: int = 0
    used: float = 0.0


class Unpacker:
    """Compressed segments in plain form, a few at a time, each in a file that has no name.

    Each is decompressed once for all who read it one after the other; it goes when `most` others were wanted since, or
    when nobody wanted it for a minute and `sweep` is called.
    """

    def __init__(self, seconds: Callable[[], float], most: int = 8) -> None:
        self._seconds = seconds
        self._most = most
        self._entries: OrderedDict[tuple[str, int], _Unpacked] = OrderedDict()
        self._lock = Lock()

    @contextmanager
    def opened(self, files: Files, start: int) -> Iterator[int]:
        """The descriptor of the plain bytes of a segment.  Raises `OSError`."""
        key = (files.name, start)
        with self._lock:
            entry = self._entries.setdefault(key, _Unpacked(Lock()))
            self._entries.move_to_end(key)
            entry.users += 1
        try:
            with entry.lock:
                if entry.fd < 0:
                    entry.fd = self._unpack(files, start)
            yield entry.fd
        finally:
            with self._lock:
                entry.users -= 1
                entry.used = self._seconds()
                surplus = self._take(lambda _: len(self._entries) > self._most)
            self._close(surplus)

    def sweep(self, idle: float = _IDLE) -> None:
        """Let go of what was not used for `idle` seconds."""
        with self._lock:
            surplus = self._take(lambda entry: self._seconds() - entry.used >= idle)
        self._close(surplus)

    def _take(self, wanted: Callable[[_Unpacked], bool]) -> list[_Unpacked]:
        taken = []
        for key, entry in list(self._entries.items()):
            if not entry.users and (entry.fd < 0 or wanted(entry)):
                taken.append(self._entries.pop(key))
        return taken

    def _close(self, entries: list[_Unpacked]) -> None:
        for entry in entries:
            if entry.fd >= 0:
                os.close(entry.fd)

    def _unpack(self, files: Files, start: int) -> int:
        with tempfile.TemporaryFile(prefix="consoled-", buffering=0) as plain:
            for block in files.directory.unpacked(files.name, start):
                rest = memoryview(block)
                while rest:
                    rest = rest[plain.write(rest) or 0 :]
            return os.dup(plain.fileno())


class Reader:
    """Reads the files of any console.  Its methods block, and are for a pool's threads."""

    def __init__(self, disk: Disk, unpacker: Unpacker, sleep: Callable[[float], None] = time.sleep) -> None:
        self._disk = disk
        self._unpacker = unpacker
        self._sleep = sleep

    def read(self, files: Files, offset: int, limit: int, end: int) -> tuple[int, bytes]:
        """At most `limit` bytes at `offset`, or at the next offset that is kept, but none from `end` on.

        Gives `(at, data)`; `(end, b"")` when there are none.  Raises `OSError` for want of a descriptor.
        """
        return self._insist(lambda: self._read(files, files.view, offset, limit, end))

    def line_start(self, files: Files, before: int, lines: int, end: int, tail: bytes) -> int:
        """Where the last `lines` lines before `before` begin; `tail` are the bytes from `end` to `before`, if any.

        The byte at `before - 1` is not looked at: it is the end of a line, whatever it is.  Raises as `read` does.
        """
        return self._insist(lambda: self._line_start(files, files.view, before - 1, lines, end, tail))

    def _insist(self, look: Callable[[], _Found]) -> _Found:
        pauses = iter(_PAUSES)
        while True:
            try:
                return look()
            except _Moved:
                continue
            except _NoDescriptor as error:
                pause = next(pauses, None)
                if pause is None:
                    raise error.args[0] from None
                self._sleep(pause)

    def _read(self, files: Files, view: View, offset: int, limit: int, end: int) -> tuple[int, bytes]:
        at, stop = max(offset, view.floor) + view.shift, end + view.shift
        for which in range(max(bisect_right(view.closed, at, key=_start) - 1, 0), len(view.closed) + 1):
            first, last = _extent(view, which, stop)
            at = max(at, first)
            if at >= last:
                continue
            with self._opened(files, view, which) as fd:
                data = self._pread(files, view, which, fd, min(limit, last - at), at - first)
            if data:
                return at - view.shift, data
            at = last
        return end, b""

    def _line_start(self, files: Files, view: View, before: int, lines: int, end: int, tail: bytes) -> int:
        for at, block in self._backwards(files, view, before, end, tail):
            count = block.count(b"\n")
            if count < lines:
                lines -= count
                continue
            cut = len(block)
            for _ in range(lines):
                cut = block.rfind(b"\n", 0, cut)
            return at + cut + 1
        return min(view.oldest, before + 1)

    def _backwards(self, files: Files, view: View, before: int, end: int, tail: bytes) -> Iterator[tuple[int, bytes]]:
        if before > end:
            yield end, tail[: before - end]
        stop, floor = min(before, end) + view.shift, view.floor + view.shift
        for which in range(len(view.closed), -1, -1):
            first, last = _extent(view, which, stop)
            if first >= last:
                continue
            with self._opened(files, view, which) as fd:
                if fd >= 0:
                    last = min(last, first + self._disk.fstat(fd).st_size)
                while fd >= 0 and last > max(first, floor):
                    at = max(first, floor, last - _BLOCK)
                    yield at - view.shift, self._pread(files, view, which, fd, last - at, at - first)
                    last = at

    def _pread(self, files: Files, view: View, which: int, fd: int, length: int, at: int) -> bytes:
        try:
            data = self._disk.pread(fd, length, at) if fd >= 0 else b""
        except OSError as error:
            _unreadable(files, error)
            return b""
        if which == len(view.closed) and not files.view.same_active(view):
            raise _Moved  # it may have been cut before it was read
        return data

    @contextmanager
    def _opened(self, files: Files, view: View, which: int) -> Iterator[int]:
        """The descriptor of one file of the view, -1 if it is no more.  Raises `_Moved`."""
        with ExitStack() as stack:
            if which < len(view.closed) and view.closed[which].packed:
                try:
                    fd = stack.enter_context(self._unpacker.opened(files, view.closed[which].start))
                except OSError as error:
                    self._missing(files, view, error)
                    fd = -1
            else:
                fd = self._open(files, view, which)
                if fd >= 0:
                    stack.callback(self._disk.close, fd)
            yield fd

    def _open(self, files: Files, view: View, which: int) -> int:
        active = which == len(view.closed)
        paths = [files.directory.segment(files.name, view.start if active else view.closed[which].start)]
        if active:  # in the middle of a rotation it has its new name already
            paths.insert(0, files.path)
        for path in paths:
            try:
                fd = self._disk.open(path, os.O_RDONLY)
            except OSError as error:
                self._missing(files, view, error)
                continue
            if not active:
                return fd
            if not files.view.same_active(view):
                self._disk.close(fd)
                raise _Moved
            if inode(self._disk.fstat(fd)) == view.inode:
                return fd
            self._disk.close(fd)
        return -1

    def _missing(self, files: Files, view: View, error: OSError) -> None:
        if files.view is not view:
            raise _Moved
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise _NoDescriptor(error)
        if not isinstance(error, FileNotFoundError):
            _unreadable(files, error)


def _unreadable(files: Files, error: OSError) -> None:
    text = "the transcript of {name} cannot be read, and clients are told that it is missing; it is kept: {error}"
    log.warn(text, name=files.name, error=error)


def _start(segment: Segment) -> int:
    return segment.start


def _extent(view: View, which: int, stop: int) -> tuple[int, int]:
    """The first offset of a file, and where at the latest it ends: what it has beyond is not of the stream."""
    count = len(view.closed)
    first = view.closed[which].start if which < count else view.start
    following = view.closed[which + 1].start if which + 1 < count else view.start if which < count else stop
    return first, min(following, stop)
