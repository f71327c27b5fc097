"""A file that a checker believes, watched while the daemon runs.

It is looked at when somebody asks, at most one `stat` a second: an edit counts from the next question on.  When the
file turns bad, the two ways of turning bad mean different things.  A file that is *gone* says nothing about anybody:
taking it away is the quickest way to shut the door, and a daemon that went on with what it remembers would be letting
people in on the word of nobody.  A file that *cannot be understood* (a slip of the editor, half written, unreadable
for a moment, writable by all the world) changes nothing: what it meant to change is not known, and locking out those
who could mend it helps no one.  Both are said in the log, and by `trouble` for as long as they last.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

from twisted.logger import Logger

from consoled.core.seams import Clock

T = TypeVar("T")

LARGEST: Final = 1 << 20
"""In bytes: room for thousands of entries, read in the reactor's thread."""

GRACE: Final = 10.0
"""Seconds for which a file that is gone still counts for those who were let in: there are editors that take it away
for a moment."""

_LOOK_EVERY: Final = 1.0

_Stamp = tuple[int, ...]


class Watched(Generic[T]):
    """What one file says."""

    _log = Logger()

    def __init__(self, path: Path, parse: Callable[[bytes], T], what: str, clock: Clock) -> None:
        """`parse` raises `ValueError`; `what` is in the file, for the log.

        Raises `OSError` if there is no such file, or `ValueError` that names file and key.
        """
        self._path = path
        self._parse = parse
        self._what = what
        self._clock = clock
        self._looked = clock.seconds()
        self._stamp: _Stamp | None = None
        self._gone: float | None = None
        """When the file was found gone, while it is; the content is then that of before."""
        self.trouble: str | None = None
        """Why the content in force is not what is on disk, for people; None while it is."""
        self._content: T
        self._read()

    def content(self) -> T | None:
        """What it says now; None while it is gone."""
        self._look()
        return self._content if self._gone is None else None

    def content_of_late(self) -> T | None:
        """The same for those who are in already: only after it has been gone for `GRACE`, None."""
        self._look()
        return None if self._gone is not None and self._clock.seconds() - self._gone >= GRACE else self._content

    def _look(self) -> None:
        now = self._clock.seconds()
        if 0 <= now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        try:
            if not self._read():
                return
        except (FileNotFoundError, NotADirectoryError):
            self._stamp, self._gone = None, now if self._gone is None else self._gone
            self._say(f"{self._path} is gone: nobody is let in")
        except OSError as error:
            self._stamp = None  # it may pass without a trace on the file, so look again
            self._say(f"{self._path} cannot be read, what it said before stays in force: {error.strerror}")
        except ValueError as error:
            self._say(f"{error}; what it said before stays in force")
        else:
            self._gone = self.trouble = None
            self._log.info("{what} read from {path}", what=self._what, path=str(self._path))

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self._log.error("{trouble}", trouble=trouble)

    def _read(self) -> bool:
        """Take in the file if it changed, wholly or not at all.  False if it did not."""
        status = self._path.stat()
        if _stamp(status) == self._stamp:
            return False
        self._stamp = _stamp(status)
        try:
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("not a regular file")  # opening a FIFO would stop the daemon
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                self._stamp = _stamp(status)
                if status.st_mode & stat.S_IWOTH:
                    raise ValueError("everybody may write to it (mode o+w)")
                if len(text := file.read(LARGEST + 1)) > LARGEST:
                    raise ValueError(f"larger than {LARGEST} bytes")
            self._content = self._parse(text)
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from None
        return True


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
