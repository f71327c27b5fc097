"""The face of the HPE Cray System Management Console Service: `interact` and `tail`.

`GET {base}/interact/{node}` and `GET {base}/tail/{node}`, upgraded to a WebSocket, with bearer tokens,
`Cray-Tenant-Name`, `Cray-Console-Lines` and `Cray-Console-Follow`; beside them the service's health endpoints.
The site asks it for each request; `docs/api-csm.md` is the reference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from time import gmtime, strftime
from typing import Annotated, Literal

import msgspec
from twisted.web.server import Request

from consoled.api.admission import Admission, take_ticket
from consoled.api.answers import HttpRefusal, answer, refuse
from consoled.api.conman import Interact
from consoled.api.doors import seat
from consoled.api.guestbook import Guestbook
from consoled.api.meters import Meters
from consoled.api.refusals import refuse_for
from consoled.api.tail import Tail
from consoled.api.upgrade import Road, demand_upgrade
from consoled.api.vigil import Vigil, Visit
from consoled.core.access import Audit, Gate, User
from consoled.core.console import Console
from consoled.core.faults import NotOpen
from consoled.core.hub import Hub
from consoled.core.status import word

BEHIND_THE_GATEWAY = "/console-operator"
"""CSM's gateway takes the rest of the public prefix away."""
DEFAULT_LINES = 10
"""What `tail` shows unless it is told otherwise, and what the stock client asks for."""


class CsmSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[csm]`."""

    base_path: str = "/apis/console-operator/console-operator"
    """Where the API is served, beside `/console-operator`."""
    hide_forbidden: bool = False
    """Answer for a node of somebody else as for one that does not exist: 404 rather than 403."""
    max_lines: Annotated[int, msgspec.Meta(ge=1)] = 1_000_000
    """The most lines that `Cray-Console-Lines` may ask for."""

    def __post_init__(self) -> None:
        if not self.base_path.startswith("/") or not self.base_path.strip("/"):
            raise ValueError(f"base_path: {self.base_path!r} is no path: it must begin with / and have a name")


class Csm:
    """The face."""

    def __init__(
        self,
        settings: CsmSettings,
        hub: Hub,
        gate: Gate,
        audit: Audit,
        road: Road,
        vigil: Vigil,
        now: Callable[[], float],
        trouble: Callable[[], str | None] = lambda: None,
        meters: Meters | None = None,
        unready: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`trouble` says what is wrong with the daemon, if anything; `now` is the wall clock.

        `unready` says why clients should not come, beside that the consoles are not held.
        """
        self._settings = settings
        self._hub = hub
        self._admission = Admission(hub, gate, settings.hide_forbidden)
        self._book = Guestbook("csm", audit, now, meters or Meters())
        self._road = road
        self._vigil = vigil
        self._now = now
        self._trouble = trouble
        self._unready = unready
        self._bases = [
            [part.encode() for part in base.split("/") if part] for base in (settings.base_path, BEHIND_THE_GATEWAY)
        ]

    # ------------------------------------------------------------------------------------------- routes

    def took(self, request: Request, path: Sequence[bytes]) -> bool:
        for base in self._bases:
            if list(path[: len(base)]) == base:
                return self._took(request, path[len(base) :])
        return False

    def _took(self, request: Request, path: Sequence[bytes]) -> bool:
        match path:
            case [b"interact" | b"tail" as verb, node] if node:
                pass
            case [b"liveness" | b"readiness" | b"health" as verb]:
                node = b""
            case _:
                return False
        if request.method != b"GET":
            method = request.method.decode("ascii", "replace")
            refuse(request, 405, f"({method}) Not Allowed", {"Allow": "GET"})
        elif verb == b"interact":
            self._road.take(request, self._interact(request, node), refuse_for)
        elif verb == b"tail":
            self._road.take(request, self._tail(request, node), refuse_for)
        elif verb == b"health":
            self._road.decide(request, self._health(request), lambda health: answer(request, 200, health), refuse_for)
        elif verb == b"readiness" and not self._hub.is_open:
            refuse_for(request, NotOpen())
        elif verb == b"readiness" and (why := self._unready()):
            refuse(request, 503, why, {"Retry-After": "5"})
        else:
            answer(request, 204)
        return True

    # ------------------------------------------------------------------------------------------- decisions

    async def _interact(self, request: Request, node: bytes) -> Interact:
        user, visit, console = await self._admit(request, "interact", node)
        demand_upgrade(request)
        self._hub.admit()
        seat(request, user)
        return Interact(console, self._book.client(user, request), self._book.entry(user, "interact"), visit)

    async def _tail(self, request: Request, node: bytes) -> Tail:
        user, visit, console = await self._admit(request, "tail", node)
        lines = self._lines(request)
        follow = _header(request, b"cray-console-follow").lower() == "true"
        demand_upgrade(request)
        at = await console.stream.last_lines(lines)
        self._hub.find(console.name)  # it may have closed meanwhile
        self._hub.admit()
        seat(request, user)
        client, entry = self._book.client(user, request), self._book.entry(user, "tail")
        return Tail(console, client, entry, visit, at=at, follow=follow)

    async def _admit(
        self, request: Request, verb: Literal["interact", "tail"], node: bytes
    ) -> tuple[User, Visit, Console]:
        scope, console = await self._admission.admit(request, verb, node, take_ticket(request))
        return scope.user, self._vigil.visit(scope, verb, console.name), console

    def _lines(self, request: Request) -> int:
        text = _header(request, b"cray-console-lines")
        if not text:
            return DEFAULT_LINES
        limit = self._settings.max_lines
        lines = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
        if not 0 <= lines <= limit:
            raise HttpRefusal(400, f"Cray-Console-Lines must be a whole number from 0 to {limit}")
        return lines

    # ------------------------------------------------------------------------------------------- probes

    async def _health(self, request: Request) -> dict[str, str]:
        """The original's members, all strings; for those who may list consoles, what an operator wants to know."""
        health = {
            "consoles": str(len(self._hub)),
            "hardwareupdatesec": "0",
            "hardwareupdate": "Unknown",
            "nodepods": "1",
            "rvrnodesperpod": str(len(self._hub)),
            "mtnnodesperpod": "0",
            "maxrvrnodesperpod": "0",
            "maxmtnnodesperpod": "0",
            "heartbeatcheck": "0",
            "heartbeatstale": "0",
            "status": "degraded" if self._trouble() else "ok",
            "time": strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(self._now())),
        }
        scope = await self._admission.inquire(request)
        if scope is None:
            return health
        listed = [console for console in self._hub if scope.admits("list", console.name)]
        states = Counter(word(console.link.status) for console in listed)
        return {
            **health,
            "status": self._trouble() or "ok",
            "clients": str(sum(len(console.attachments) for console in listed)),
            **{f"links_{state}": str(count) for state, count in sorted(states.items())},
        }


def _header(request: Request, name: bytes) -> str:
    """The one value of a header; empty if it is absent.  Two different values are refused, not chosen from."""
    values = {value.strip() for value in request.requestHeaders.getRawHeaders(name) or [b""]}
    if len(values) > 1:
        raise HttpRefusal(400, f"{name.decode().title()} was sent more than once")
    return values.pop().decode("latin-1")
