"""The system calls that the transcripts make, and no others, as one object.

Everything in this package that touches a file does it through a `Disk`, so that a test can let the process die, or the
disk fill up, between any two of them.  All methods raise `OSError`.
"""

from __future__ import annotations

import fcntl
import os
from typing import NamedTuple


class Entry(NamedTuple):
    """A file in a listing: its name, bytes and time of the last write (seconds since the epoch)."""

    name: str
    size: int
    mtime: float


class Disk:
    """The real one."""

    def open(self, path: str, flags: int) -> int:
        return os.open(path, flags, 0o640)

    def close(self, fd: int) -> None:
        os.close(fd)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        return os.write(fd, data)

    def position(self, fd: int) -> int:
        """Where the last write on `fd` ended; for a file opened to append, that is how long the file was then."""
        return os.lseek(fd, 0, os.SEEK_CUR)

    def pread(self, fd: int, length: int, at: int) -> bytes:
        return os.pread(fd, length, at)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def set_mtime(self, fd: int, mtime: float) -> None:
        os.utime(fd, (mtime, mtime))

    def lock(self, fd: int) -> None:
        """Lock the whole file for this process, or fail at once with `BlockingIOError`."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def stat(self, path: str) -> os.stat_result:
        return os.stat(path)  # noqa: PTH116  (a Path made for every look at 10,000 files is a waste)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)  # noqa: PTH104

    def unlink(self, path: str) -> None:
        os.unlink(path)  # noqa: PTH108

    def make_directory(self, path: str) -> None:
        """Make `path` and what is missing above it; harmless when it exists."""
        os.makedirs(path, 0o750, exist_ok=True)  # noqa: PTH103

    def listing(self, path: str, prefix: str) -> list[Entry]:
        """The regular files in `path` whose names begin with `prefix`."""
        found = []
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith(prefix) and entry.is_file(follow_symlinks=False):
                    try:
                        info = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:  # gone since the directory was read
                        continue
                    found.append(Entry(entry.name, info.st_size, info.st_mtime))
        return found


def inode(info: os.stat_result) -> tuple[int, int]:
    """Which file this is, as long as somebody holds it open."""
    return info.st_dev, info.st_ino


def read_whole(disk: Disk, path: str) -> bytes:
    """All of a small file."""
    fd = disk.open(path, os.O_RDONLY)
    try:
        parts, at = [], 0
        while part := disk.pread(fd, 1 << 20, at):
            parts.append(part)
            at += len(part)
        return b"".join(parts)
    finally:
        disk.close(fd)


def write_whole(disk: Disk, fd: int, data: bytes) -> None:
    """All of `data`, however many calls it takes."""
    rest = memoryview(data)
    while rest:
        rest = rest[disk.write(fd, rest) :]
