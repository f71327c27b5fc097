"""The daemon's own log in journald: each event of twisted.logger as a record with fields.

`tap` puts a `Logbook` in the place of twistd's text on standard output, where that would go to journald anyway (or the
configuration says so), so that `journalctl CONSOLED_CONSOLE=x1000c0` finds all about a console.  Events come from any
thread, and none waits: what journald does not take at once goes to standard error as text, and what even that does not
take is counted, and told when journald takes records again.

Nothing but the fields listed here is ever sent, however much an event has: the rest of it is nobody's business.
"""

from __future__ import annotations

import os
import re
import select
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Final, TextIO

import msgspec
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from twisted.python.reflect import safe_str
from zope.interface import implementer

from consoled.journal import SOCKET, Journal, datagram
from consoled.printable import plain, printable

LONGEST: Final = 1 << 20
"""In characters, of a message."""

_CONSTANT: Final = {"SYSLOG_IDENTIFIER": "consoled", "SYSLOG_FACILITY": "3"}
_PRIORITIES: Final = {
    LogLevel.debug: "7",
    LogLevel.info: "6",
    LogLevel.warn: "4",
    LogLevel.error: "3",
    LogLevel.critical: "2",
}
_NAMED: Final = re.compile(r"\b(console|transcript of|times of|source|machine) \{name\}")
"""What an event's message calls the thing whose `name` it has."""
_FIELDS: Final = {
    "console": "CONSOLED_CONSOLE",
    "transcript of": "CONSOLED_CONSOLE",
    "times of": "CONSOLED_CONSOLE",
    "source": "CONSOLED_SOURCE",
    "machine": "CONSOLED_MACHINE",
}
_ALLOWED: Final = ("address", "count", "host", "issuer", "path", "reason", "seconds", "version", "why")
"""What else of an event becomes a field of its own: `CONSOLED_WHY` and so on."""


class LogSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[log]`: the daemon's own log."""

    journal: bool | None = None
    """Whether it goes to journald as records with fields; if nothing is said, when standard error goes there.

    An option of twistd's that names another place for the log counts more.
    """


def goes_to_journal(settings: LogSettings, environment: Mapping[str, str], descriptor: int = 2) -> bool:
    """Whether the log is to be a `Logbook`; `descriptor` is standard error's (systemd.exec(5), `JOURNAL_STREAM`)."""
    if settings.journal is not None:
        return settings.journal
    try:
        info = os.fstat(descriptor)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{info.st_dev}:{info.st_ino}"


@implementer(ILogObserver)
class Logbook:
    """An observer of the log.  For any thread."""

    def __init__(self, fallback: Callable[[str], bool], path: str = SOCKET) -> None:
        """`fallback` takes lines that journald at `path` does not; whether it could."""
        self._fallback = fallback
        self._path = path
        self._journal: Journal | None = None
        self._lock = threading.RLock()
        self.lost = 0
        """How many events nobody has taken, since that was last told."""

    def __call__(self, event: LogEvent) -> None:
        text = eventAsText(event, includeTimestamp=False, includeSystem=False).rstrip("\n")
        if not text:
            return
        record = datagram(fields(event, plain(text[:LONGEST]), sys._getframe(1)))
        with self._lock:
            if not self._send(record):
                self.lost += not self._fallback(text)
            elif self.lost:
                told = {"MESSAGE": f"{self.lost} lines of the log were lost", "PRIORITY": "4"}
                if self._send(datagram(told | _CONSTANT)):
                    self.lost = 0

    def close(self) -> None:
        """Let go of the socket; the next event opens it anew."""
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()

    def _send(self, record: bytes) -> bool:
        """Without waiting."""
        was_open = self._journal is not None
        try:
            if self._journal is None:
                self._journal = Journal(self._path, 0)
            self._journal.send(record)
            return True
        except BlockingIOError:
            return False
        except OSError:
            self.close()
        return was_open and self._send(record)  # there may be another journald at the path by now


def fields(event: LogEvent, message: str, frame: FrameType | None) -> dict[str, str]:
    """What journald is told of `event`, which was emitted in `frame` or one of its callers."""
    found = {"MESSAGE": message, "PRIORITY": _PRIORITIES.get(event.get("log_level"), "6"), **_CONSTANT}
    if namespace := str(event.get("log_namespace") or ""):
        found["LOGGER"] = printable(namespace)
    while frame is not None and _module(frame).startswith(("twisted.logger.", "twisted.python.log")):
        frame = frame.f_back
    if frame is not None and f"{namespace}.".startswith(f"{_module(frame)}."):  # not one that was kept for later
        code = frame.f_code
        found |= {"CODE_FILE": code.co_filename, "CODE_LINE": str(frame.f_lineno), "CODE_FUNC": code.co_qualname}
    name = event.get("name")
    if isinstance(name, str) and (kind := _NAMED.search(event.get("log_format") or "")):
        found[_FIELDS[kind[1]]] = printable(name)
    for key in _ALLOWED:
        if (value := event.get(key)) is not None and value != "":
            found[f"CONSOLED_{key.upper()}"] = printable(safe_str(value))
    return found


class Edge:
    """Standard error, for somebody who does not wait."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, text: str) -> bool:
        """Write `text` as a line.  Whether it could be, at once."""
        try:
            descriptor = self._stream.fileno()
            ready = select.poll()
            ready.register(descriptor, select.POLLOUT)
            if not ready.poll(0):
                return False
            # POLLOUT promises so much room and no more: a longer line could have to wait.
            os.write(descriptor, plain(text).encode()[: select.PIPE_BUF - 1] + b"\n")
        except (OSError, ValueError):
            return False
        return True


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def in_journal() -> Any:
    """The observer that twistd asks for."""
    return Logbook(Edge(sys.stderr))
