"""A ledger: lines that must reach a file or a socket, and may not keep the reactor waiting for it.

The audit log and the records of input are ledgers.  `append` puts a line into a bounded queue; a thread that lives
while there is something to write takes it out.  A disk that is full is tried again every few seconds, one that hangs
holds that thread and nothing else.  What does not fit into the queue meanwhile is refused, and counted.
"""

from __future__ import annotations

import os
import stat
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

AGAIN = 5.0
"""Seconds between two attempts while writing fails."""
LINGER = 2.0
"""Seconds that the thread, with its page open, waits for more."""
WAITING = 1 << 20
"""Bytes that may wait to be written."""

_log = Logger()


class Page(Protocol):
    """Where lines go.  Used by one thread."""

    def write(self, line: bytes) -> None:
        """Take the whole line, or raise `OSError`: then it comes again, on a new page."""

    def close(self) -> None: ...


class Ledger:
    """One queue and, while it is needed, one thread."""

    def __init__(
        self,
        what: str,
        page: Callable[[], Page],
        call_from_thread: Callable[..., Any],
        *,
        waiting: int = WAITING,
        recovered: Callable[[int], None] = lambda lost: None,
    ) -> None:
        """`page` opens a new one, or raises `OSError`; it is called in the thread.

        `recovered` is called in the reactor's thread when writing goes on after lines were lost, with their number; and
        again if a line that it appends finds no room.
        """
        self._what = what
        self._page = page
        self._call_from_thread = call_from_thread
        self._room = waiting
        self._recovered = recovered
        self._lines: deque[bytes] = deque()
        self._changed = threading.Condition()
        """Guards everything below, and the queue."""
        self._running = False
        self._stale = False
        """Whether the page is to be opened anew."""
        self._closing: Deferred[None] | None = None
        # These belong to the reactor's thread.
        self.trouble: str | None = None
        """Why lines do not get through at present, for people; None while they do."""
        self._lost = 0

    def check(self) -> Deferred[None]:
        """Open and close a page.  Fails with what `page` raises; if the disk hangs it does not fire."""
        checked: Deferred[None] = Deferred()

        def check() -> None:
            try:
                self._page().close()
            except Exception:
                self._call_from_thread(_unless_over, checked, Failure())
            else:
                self._call_from_thread(_unless_over, checked, None)

        threading.Thread(target=check, name=self._what, daemon=True).start()
        return checked

    def append(self, line: bytes) -> bool:
        """Have `line` written.  False if the queue is full: then it is lost, and counted."""
        with self._changed:
            taken = self._room >= len(line)
            if taken:
                self._room -= len(line)
                self._lines.append(line)
                self._wake()
        if not taken:
            self._lost += 1
            if self._lost == 1:
                _log.error("{what} is not written fast enough, and lines are lost", what=self._what)
                self.trouble = self.trouble or f"{self._what} is not written fast enough"
        return taken

    def has_room(self, size: int) -> bool:
        """Whether a line of so many bytes would be taken now."""
        with self._changed:
            return self._room >= size

    def reopen(self) -> None:
        """Somebody has moved the file away: the next line goes into a new one.  What waits is tried again now."""
        with self._changed:
            self._stale = True
            if self._running:
                self._changed.notify()

    def close(self) -> Deferred[None]:
        """Write what is waiting, as far as that works at once.  Fires then; if the disk hangs it does not fire."""
        closed: Deferred[None] = Deferred()
        with self._changed:
            if self._running:
                self._closing = closed
                self._changed.notify()
                return closed
        closed.callback(None)
        return closed

    def _wake(self) -> None:
        if self._running:
            self._changed.notify()
            return
        try:
            threading.Thread(target=self._work, name=self._what, daemon=True).start()
            self._running = True
        except RuntimeError:
            _log.error("{what}: no thread can be started; the next line will try again", what=self._what)

    # ------------------------------------------------------------------------------------------- in the thread

    def _work(self) -> None:
        page: Page | None = None
        while (line := self._next(page is not None)) is not None:
            try:
                if not line and page is not None:
                    page.close()
                    page = None
                    continue
                page = page or self._page()
                page.write(line)
            except Exception as error:
                _close(page)
                page = None
                self._failed(error)
            else:
                self._done(line)
        _close(page)

    def _next(self, opened: bool) -> bytes | None:
        """The line to write next, empty to open a new page before it; None if there is nothing to do."""
        with self._changed:
            if not (self._lines or self._stale or self._closing):
                self._changed.wait(LINGER)
            if self._stale and opened:
                self._stale = False
                return b""
            self._stale = False
            if self._lines:
                return self._lines[0]
            self._running = False
            closing, self._closing = self._closing, None
        if closing is not None:
            self._call_from_thread(_unless_over, closing, None)
        return None

    def _done(self, line: bytes) -> None:
        with self._changed:
            self._lines.popleft()
            self._room += len(line)
        if self.trouble is not None or self._lost:
            self._call_from_thread(self._went_on)

    def _failed(self, error: Exception) -> None:
        self._call_from_thread(self._stuck, str(getattr(error, "strerror", None) or error))
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._stale, AGAIN)
            if self._closing:  # there is no time to try again
                self._call_from_thread(self._gave_up, len(self._lines))
                self._room += sum(map(len, self._lines))
                self._lines.clear()

    # ------------------------------------------------------------------------------------- in the reactor's thread

    def _stuck(self, why: str) -> None:
        if self.trouble is None:
            _log.error("{what} cannot be written and is tried every few seconds: {why}", what=self._what, why=why)
        self.trouble = f"{self._what} cannot be written: {why}"

    def _gave_up(self, count: int) -> None:
        _log.error("{what}: the last {count} lines are lost", what=self._what, count=count)

    def _went_on(self) -> None:
        lost, self._lost = self._lost, 0
        if lost:
            self._recovered(lost)
            if self._lost:  # what was to tell of it is lost, too: there is room for that when more has been written
                self._lost = lost
                return
        if lost or self.trouble is not None:
            _log.info("{what} is written again; {lost} lines were lost", what=self._what, lost=lost)
        self.trouble = None


class FilePage:
    """A regular file to which lines are appended, each with one `write`."""

    def __init__(self, path: str, mode: int) -> None:
        """Open it, or make it, with its directory; its mode becomes `mode` if it is any wider.  Raises `OSError`."""
        os.makedirs(os.path.dirname(path) or ".", 0o750, exist_ok=True)  # noqa: PTH103, PTH120
        # Not to be made to wait by a FIFO.
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        try:
            self._file = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
            os.fchmod(self._file, mode)  # whatever the umask is
        except FileExistsError:
            self._file = os.open(path, flags)
        try:
            status = os.fstat(self._file)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(0, "not a regular file")
            if stat.S_IMODE(status.st_mode) & ~mode:
                os.fchmod(self._file, mode)
            # What a crash or a full disk has torn off stands alone.
            if status.st_size and os.pread(self._file, 1, status.st_size - 1) != b"\n":
                os.write(self._file, b"\n")
        except OSError:
            os.close(self._file)
            raise

    def write(self, line: bytes) -> None:
        if not os.fstat(self._file).st_nlink:
            raise OSError(0, "the file has been removed")
        if os.write(self._file, line) != len(line):
            raise OSError(0, "the disk has taken a part of a line only")

    def close(self) -> None:
        os.close(self._file)


def timestamp(now: float) -> str:
    """Seconds since the epoch as a line shows them: `2026-01-31T23:59:59.123Z`."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _close(page: Page | None) -> None:
    try:
        if page is not None:
            page.close()
    except OSError:
        pass  # a network file system may complain of what was written before


def _unless_over(deferred: Deferred[None], outcome: Failure | None) -> None:
    if not deferred.called:
        deferred.callback(outcome)
