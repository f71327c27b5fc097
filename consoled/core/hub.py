"""The hub: every console by name, and the limit on clients.

`fleet` fills and opens it; the faces find consoles in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from consoled.core.attachment import Attendance
from consoled.core.console import Console
from consoled.core.faults import NotMonitored, NotOpen, TooManyClients, UnknownConsole

_log = Logger()


@dataclass(slots=True)
class Gone:
    """What consoles that are held no more had said and got, in bytes; those that are held know it themselves."""

    received: int = 0
    sent: int = 0
    own: int = 0

    def add(self, console: Console) -> None:
        """One is let go."""
        self.received += console.received_bytes
        self.sent += console.sent_bytes
        self.own += console.own_bytes


class Hub:
    """All consoles that this daemon knows; those that the configuration switched off only by name."""

    def __init__(self, max_clients: int = 10_000) -> None:
        self.max_clients = max_clients
        """How many may be attached at once."""
        self.not_monitored: Collection[str] = ()
        """The consoles that the configuration switched off: known by their names only."""
        self.gone = Gone()
        """For whoever sums up: a counter never goes back."""
        self._consoles: dict[str, Console] = {}
        self._attendance = Attendance()
        self._is_open = False

    def __iter__(self) -> Iterator[Console]:
        return iter(self._consoles.values())

    def __len__(self) -> int:
        return len(self._consoles)

    @property
    def clients(self) -> int:
        """How many are attached, over all consoles."""
        return self._attendance.clients

    def find(self, name: str) -> Console:
        """The console `name`.  Raises `UnknownConsole` or `NotMonitored`, or `NotOpen` before and after its time."""
        if not self._is_open:
            raise NotOpen
        if name in self.not_monitored:
            raise NotMonitored(name)
        try:
            return self._consoles[name]
        except KeyError:
            raise UnknownConsole(name) from None

    def admit(self) -> None:
        """Ask whether one more client may attach.  Raises `TooManyClients` or `NotOpen`."""
        if not self._is_open:
            raise NotOpen
        if self.clients >= self.max_clients:
            raise TooManyClients

    @property
    def is_open(self) -> bool:
        """Whether the consoles are held, hence whether clients can come."""
        return self._is_open

    def begin(self, console: Console) -> None:
        """Begin to hold `console`, of a name that is not there, before clients can come."""
        self._consoles[console.name] = console
        self._count_at(console, self._attendance)
        console.open()

    def open(self, not_monitored: Collection[str] = ()) -> None:
        """Clients can come.  The consoles `not_monitored` are known by name only."""
        self.not_monitored = frozenset(not_monitored)
        self._is_open = True

    def add(self, console: Console) -> None:
        """Begin to hold one more, of a name that is not there.  Raises `NotOpen` before and after its time."""
        if not self._is_open:
            raise NotOpen
        self.begin(console)

    def remove(self, name: str, why: str) -> Deferred[None]:
        """Let go of the console `name`, its clients told `why`.  Fires when it is closed.  Raises as `find`."""
        console = self.find(name)
        del self._consoles[name]
        self.gone.add(console)
        self._count_at(console, Attendance())
        console.end_clients(why, 1001)
        return self._close(console)

    @staticmethod
    def _count_at(console: Console, attendance: Attendance) -> None:
        """Have the clients of `console` count there, and no longer where they did."""
        here = len(console.attachments)
        console.attendance.clients -= here
        attendance.clients += here
        console.attendance = attendance

    def close(self) -> Deferred[None]:
        """Tell every client that the service goes away, and hang up everywhere.  Fires when all is closed."""
        self._is_open = False
        for console in self:
            console.end_clients("The console service is shutting down", 1001)
        return gatherResults([self._close(console) for console in self]).addCallback(lambda _: None)

    def _close(self, console: Console) -> Deferred[None]:
        """Close one; that it fails is no reason not to wait for the others."""
        return console.close().addErrback(
            lambda failure: _log.failure("console {name}: cannot be closed", failure, name=console.name)
        )

    def dial_now(self) -> None:
        """An operator says now: every link that waits dials at once, as far as it gets its turn."""
        for console in self:
            console.link.dial_now()

    def rest(self) -> None:
        """Have every console that is silent give memory back."""
        for console in self:
            console.rest()
