"""Where the audit's records go: a file, journald, the daemon's log; any of them, and without a word the last.

`tap` makes one `Records` of the `[audit]` table and gives it to the `Audit`.  File and journal are ledgers: they never
keep the reactor waiting, and what they could not take is counted, in the daemon's log and in a record of its own.  A
flood of refusals is bounded here, too: nobody may fill the disk by knocking.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
from twisted.logger import Logger

from consoled.auth.audit import Record, Sink
from consoled.auth.journal import JournalPage, datagram
from consoled.core.seams import Clock, Timer
from consoled.journal import SOCKET
from consoled.ledger import FilePage, Ledger, timestamp
from consoled.units import FilePath

WINDOW: Final = 1.0
"""Seconds after which what was left out is summed up, while there is anything."""


class Measure(NamedTuple):
    """How many refusals are written down in full, of people we know and of others."""

    burst: int
    """At once."""
    sustained: int
    """In each `WINDOW` of a flood that goes on."""


IN_LOG: Final = Measure(10, 1)
"""In the daemon's log."""
IN_FULL: Final = Measure(1000, 10)
"""In the file and the journal: some 200 MB a day, whatever strangers do."""


class AuditSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[audit]`."""

    file: FilePath = FilePath("")
    """Where to append the records, a line of JSON each; mode 0640."""
    journal: bool = False
    """Send them to journald, with a field for each of theirs."""
    log: bool | None = None
    """Write them into the daemon's log; if nothing is said, when they go nowhere else."""


class Records:
    """The sink of sinks."""

    def __init__(
        self,
        settings: AuditSettings,
        log: Logger,
        clock: Clock,
        now: Callable[[], float],
        call_from_thread: Callable[..., Any],
        *,
        socket: str = SOCKET,
    ) -> None:
        """`now` gives seconds since the epoch, `socket` is journald's."""
        self._sinks: list[Bounded] = []
        self._ledgers: dict[str, Ledger] = {}

        def ledger(key: str, what: str, page: Any, encode: Callable[[Record], bytes]) -> None:
            def recovered(lost: int) -> None:
                sink({"timestamp": timestamp(now()), "action": "records-lost", "count": lost})

            def sink(record: Record) -> None:
                kept.append(encode(record))

            self._ledgers[key] = kept = Ledger(what, page, call_from_thread, recovered=recovered)
            self._sinks.append(Bounded(sink, IN_FULL, clock))

        if settings.file:
            ledger("audit.file", f"the audit log {settings.file}", lambda: FilePage(settings.file, 0o640), line)
        if settings.journal:
            ledger("audit.journal", "the audit in the journal", lambda: JournalPage(socket), datagram)
        if settings.log or (settings.log is None and not self._sinks):
            self._sinks.append(Bounded(to_log(log), IN_LOG, clock))

    def __call__(self, record: Record) -> None:
        for sink in self._sinks:
            sink(record)

    async def check(self) -> None:
        """Find out whether they can be written.  Raises `OSError` that names the key."""
        for key, ledger in self._ledgers.items():
            try:
                await ledger.check()
            except OSError as error:
                raise OSError(f"{key}: {error}") from None

    @property
    def trouble(self) -> str | None:
        """What keeps records from being written, for people; None while all is well."""
        return "; ".join(ledger.trouble for ledger in self._ledgers.values() if ledger.trouble) or None

    def reopen(self) -> None:
        """logrotate has moved the file."""
        for ledger in self._ledgers.values():
            ledger.reopen()

    async def close(self) -> None:
        """Write what there is.  If the disk hangs it does not return."""
        for sink in self._sinks:
            sink.close()
        for ledger in self._ledgers.values():
            await ledger.close()


class Bounded:
    """Lets so many refusals through, and says of the rest how many there were.

    Refusals of people who have proved who they are have a bound of their own, so that strangers cannot hide them.
    """

    def __init__(self, sink: Sink, measure: Measure, clock: Clock) -> None:
        self._sink = sink
        self._measure = measure
        self._clock = clock
        self._passed: Counter[bool] = Counter()
        """How many, less what has been forgiven since."""
        self._omitted: Counter[str] = Counter()
        """How many, by where they came from."""
        self._last: Record = {}
        self._window: Timer | None = None

    def __call__(self, record: Record) -> None:
        known = "account" in record
        # RFD 189 wants a record of each attempt under a name of its own: a stranger's is always a refusal.
        if record["action"] != "refused" and (known or record["action"] != "ConnectMachineConsole"):
            self._sink(record)
            return
        if self._window is None:
            self._window = self._clock.callLater(WINDOW, self._over)
        if self._passed[known] < self._measure.burst:
            self._passed[known] += 1
            self._sink(record)
        else:
            self._omitted[str(record.get("remoteAddress", ""))] += 1
            self._last = record

    def close(self) -> None:
        """Say what is still to be said."""
        if self._window is not None:
            self._window.cancel()
            self._window = None
            self._sum_up()

    def _over(self) -> None:
        self._passed -= Counter(dict.fromkeys(self._passed, self._measure.sustained))  # and those above 0 stay
        self._window = self._clock.callLater(WINDOW, self._over) if self._passed else None
        self._sum_up()

    def _sum_up(self) -> None:
        if self._omitted:
            [(address, _)] = self._omitted.most_common(1)
            summary: Record = {"timestamp": self._last["timestamp"], "action": "refusals-omitted"}
            summary |= {"count": self._omitted.total(), "addresses": len(self._omitted), "mostlyFrom": address}
            self._omitted.clear()
            self._sink(summary)


def to_log(log: Logger) -> Sink:
    """A sink that writes each record into the daemon's log as one line of JSON."""

    def sink(record: Record) -> None:
        log.info("audit {line}", line=msgspec.json.encode(record).decode(), record=record)

    return sink


def line(record: Record) -> bytes:
    """`record` as a line of JSON."""
    return msgspec.json.encode(record) + b"\n"
