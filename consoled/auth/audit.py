"""The audit log: one structured record for each login, refusal, attach, detach and act of consequence.

The records are flat and fit for JSON, with RFD 189's names where it has them, and go to a sink (`sinks`).  Called by
the gate and its scopes, and by everybody else through `core.access.Audit`.  `docs/audit.md` is the reference.
"""

from __future__ import annotations

from collections.abc import Callable

from consoled.core.access import Action, User
from consoled.ledger import timestamp
from consoled.printable import printable

Record = dict[str, str | int | float]
Sink = Callable[[Record], None]
"""Takes a record and never raises: a full disk must not keep people from their consoles."""


class Audit:
    """Makes the records; see `core.access.Audit`.  `now` gives seconds since the epoch."""

    def __init__(self, sink: Sink, now: Callable[[], float]) -> None:
        self._sink = sink
        self._now = now

    def renew(self, sink: Sink) -> None:
        """Write to another sink from now on."""
        self._sink = sink

    def accepted(self, user: User) -> None:
        self._write("accepted", **_person(user), proof=user.proof)

    def refused(
        self, origin: str, why: str, user: User | None = None, verb: str = "", console: str = "", checker: str = ""
    ) -> None:
        person = _person(user) if user else _place(origin)
        self._write("refused", **person, verb=verb, machine=console, checker=checker, why=why)

    def attached(self, user: User, verb: str, console: str) -> None:
        self._write("attached", **_person(user), verb=verb, machine=console)

    def detached(self, user: User, verb: str, console: str, seconds: float, to_client: int, to_node: int) -> None:
        counts = {"seconds": round(seconds, 3), "toClient": to_client, "toNode": to_node}
        self._write("detached", **_person(user), verb=verb, machine=console, **counts)

    def noted(self, action: Action, user: User | None = None, console: str = "", **details: str | int | float) -> None:
        self._write(action, **(_person(user) if user else {}), machine=console, **details)

    def _write(self, action: str, **fields: str | int | float) -> None:
        record: Record = {"timestamp": timestamp(self._now()), "action": action}
        for key, value in fields.items():
            if value != "":
                record[key] = printable(value) if isinstance(value, str) else value
        self._sink(record)


def _person(user: User) -> Record:
    return {"account": user.name, "roles": ",".join(user.roles), **_place(user.origin)}


def _place(origin: str) -> Record:
    """`192.0.2.7:40112`, `[2001:db8::7]:40112`, or an address alone: where it is in RFD 189's words."""
    address, _, port = origin.rpartition(":")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and (address.endswith("]") or ":" not in address)):
        address, port = origin, ""
    address = address.removeprefix("[").removesuffix("]")
    mapped = address.removeprefix("::ffff:")  # IPv4 on a socket that takes both
    place: Record = {"remoteAddress": mapped if "." in mapped else address}
    return place | {"remotePort": int(port)} if port else place
