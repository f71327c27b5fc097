"""The audit log: one structured record for each login, refusal, attach and detach.

The records are flat and fit for JSON, and go to a sink; today that is the daemon's log.  Called by the gate and
its scopes, and by the faces through `core.access.Audit`.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec
from twisted.logger import Logger

from consoled.core.access import User

Record = dict[str, str | int | float]
Sink = Callable[[Record], None]
"""Takes a record and never raises: a full disk must not keep people from their consoles."""

LONGEST: Final = 256
"""In characters; what is longer is cut and ends in `...`."""


def printable(text: str) -> str:
    r"""`text` on one line, fit for a terminal: what does not print is spelled `\x1b`, `\u202e`, a backslash `\\`."""
    if len(text) > LONGEST:
        text = text[: LONGEST - 3] + "..."
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode("ascii") for char in text
    )


def to_log(log: Logger) -> Sink:
    """A sink that writes each record into the daemon's log as one line of JSON."""

    def sink(record: Record) -> None:
        log.info("audit {line}", line=msgspec.json.encode(record).decode(), record=record)

    return sink


class Audit:
    """Makes the records; see `core.access.Audit`.  `now` gives seconds since the epoch."""

    def __init__(self, sink: Sink, now: Callable[[], float]) -> None:
        self._sink = sink
        self._now = now

    def accepted(self, user: User) -> None:
        self._write("accepted", **_person(user), proof=user.proof)

    def refused(self, origin: str, why: str, user: User | None = None, verb: str = "", console: str = "") -> None:
        person = _person(user) if user else {"remoteAddress": origin}
        self._write("refused", **person, verb=verb, console=console, why=why)

    def attached(self, user: User, verb: str, console: str) -> None:
        self._write("attached", **_person(user), verb=verb, console=console)

    def detached(self, user: User, verb: str, console: str, seconds: float, to_client: int, to_node: int) -> None:
        counts = {"seconds": round(seconds, 3), "toClient": to_client, "toNode": to_node}
        self._write("detached", **_person(user), verb=verb, console=console, **counts)

    def _write(self, action: str, **fields: str | int | float) -> None:
        timestamp = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds")
        record: Record = {"timestamp": timestamp, "action": action}
        for key, value in fields.items():
            if value != "":
                record[key] = printable(value) if isinstance(value, str) else value
        self._sink(record)


def _person(user: User) -> dict[str, str]:
    return {"user": user.name, "role": user.role, "remoteAddress": user.origin}
