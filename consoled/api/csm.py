"""The face of the HPE Cray System Management Console Service: `interact` and `tail`.

`GET {base}/interact/{node}` and `GET {base}/tail/{node}`, upgraded to a WebSocket, with bearer tokens,
`Cray-Tenant-Name`, `Cray-Console-Lines` and `Cray-Console-Follow`; beside them the service's health endpoints.
The site asks it for each request; `docs/api-csm.md` is the reference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from time import gmtime, strftime
from typing import Literal

import msgspec
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from consoled.api.answers import answer, refuse
from consoled.api.conman import Interact
from consoled.api.tail import Recorder, Tail
from consoled.api.upgrade import HttpRefusal, Road, demand_upgrade
from consoled.core.access import Audit, CannotKnow, Forbidden, Gate, Knock, Scope, Unauthenticated, User
from consoled.core.attachment import Attachment, Client
from consoled.core.console import Console
from consoled.core.faults import Fault, NotMonitored, NotOpen, TooManyClients, UnknownConsole
from consoled.core.hub import Hub
from consoled.core.status import word

BEHIND_THE_GATEWAY = "/console-operator"
"""CSM's gateway takes the rest of the public prefix away."""
DEFAULT_LINES = 10
"""What `tail` shows unless it is told otherwise, and what the stock client asks for."""

_log = Logger()


class CsmSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[csm]`."""

    base_path: str = "/apis/console-operator/console-operator"
    """Where the API is served, beside `/console-operator`."""
    hide_forbidden: bool = False
    """Answer for a node of somebody else as for one that does not exist: 404 rather than 403."""
    max_lines: int = 1_000_000
    """The most lines that `Cray-Console-Lines` may ask for."""


class Csm:
    """The face."""

    def __init__(
        self,
        settings: CsmSettings,
        hub: Hub,
        gate: Gate,
        audit: Audit,
        road: Road,
        now: Callable[[], float],
        trouble: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`trouble` says what is wrong with the daemon, if anything; `now` is the wall clock."""
        self._settings = settings
        self._hub = hub
        self._gate = gate
        self._audit = audit
        self._road = road
        self._now = now
        self._trouble = trouble
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
            self._road.take(request, self._interact(request, node), self._refuse)
        elif verb == b"tail":
            self._road.take(request, self._tail(request, node), self._refuse)
        elif verb == b"health":
            answer(request, 200, self._health())
        elif verb == b"liveness" or self._hub.is_open:
            answer(request, 204)
        else:
            self._refuse(request, NotOpen())
        return True

    # ------------------------------------------------------------------------------------------- decisions

    async def _interact(self, request: Request, node: bytes) -> Interact:
        user, scope, console = await self._admit(request, "interact", node)
        demand_upgrade(request)
        self._hub.admit()
        return Interact(
            console,
            self._client(user, request),
            self._recorder(user, "interact"),
            permit=lambda verb: scope.require(verb, console.name),
        )

    async def _tail(self, request: Request, node: bytes) -> Tail:
        user, _, console = await self._admit(request, "tail", node)
        lines = self._lines(request)
        follow = _header(request, b"cray-console-follow").lower() == "true"
        demand_upgrade(request)
        at = await console.last_lines(lines)
        self._hub.find(console.name)  # it may have closed meanwhile
        self._hub.admit()
        return Tail(console, self._client(user, request), self._recorder(user, "tail"), at=at, follow=follow)

    async def _admit(
        self, request: Request, verb: Literal["interact", "tail"], node: bytes
    ) -> tuple[User, Scope, Console]:
        """Who, what, where, in the order that tells a stranger nothing."""
        headers = request.requestHeaders
        authorization = tuple(headers.getRawHeaders(b"authorization") or ())
        user = await self._gate.login(Knock(":".join(_peer(request)), authorization))
        scope = await self._gate.authorise(user, verb, headers.getRawHeaders(b"cray-tenant-name") or ())
        name = _name(node)
        try:
            console = self._hub.find(name)
        except NotMonitored:
            if self._settings.hide_forbidden:
                self._require(scope, verb, name)
            raise
        self._require(scope, verb, name)
        return user, scope, console

    def _require(self, scope: Scope, verb: Literal["interact", "tail"], name: str) -> None:
        try:
            scope.require(verb, name)
        except Forbidden:
            if self._settings.hide_forbidden:
                raise UnknownConsole(name) from None
            raise

    def _lines(self, request: Request) -> int:
        text = _header(request, b"cray-console-lines")
        if not text:
            return DEFAULT_LINES
        limit = self._settings.max_lines
        lines = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
        if not 0 <= lines <= limit:
            raise HttpRefusal(400, f"Cray-Console-Lines must be a whole number from 0 to {limit}")
        return lines

    @staticmethod
    def _client(user: User, request: Request) -> Client:
        return Client(user.name, _peer(request)[0], "csm")

    def _recorder(self, user: User, verb: Literal["interact", "tail"]) -> Recorder:
        def attached(attachment: Attachment) -> Callable[[], None]:
            name = attachment.console.name

            def detached() -> None:
                seconds = self._now() - attachment.since
                self._audit.detached(user, verb, name, seconds, attachment.bytes_out, attachment.bytes_in)

            self._audit.attached(user, verb, name)
            return detached

        return attached

    # ------------------------------------------------------------------------------------------- refusals

    @staticmethod
    def _refuse(request: Request, error: Exception) -> None:
        headers: dict[str, str] = {}
        match error:
            case HttpRefusal(status=status, headers=more):
                headers.update(more)
            case Unauthenticated():
                status, headers["WWW-Authenticate"] = 401, "Bearer"
            case Forbidden():
                status = 403
            case UnknownConsole() | NotMonitored():
                status = 404
            case CannotKnow(retry_after=seconds):
                status, headers["Retry-After"] = 503, str(seconds)
            case TooManyClients() | NotOpen():
                status, headers["Retry-After"] = 503, "5"
            case TimeoutError():
                refuse(request, 503, "The service cannot decide in time; try again later", {"Retry-After": "5"})
                return
            case Fault():
                status = 409
            case _:
                _log.failure("an upgrade request failed", Failure(error))
                refuse(request, 500, "Internal error")
                return
        refuse(request, status, str(error), headers)

    # ------------------------------------------------------------------------------------------- probes

    def _health(self) -> dict[str, str]:
        """The original's members, all strings, and what an operator wants to know besides."""
        states = Counter(word(console.link.status) for console in self._hub)
        return {
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
            "status": self._trouble() or "ok",
            "clients": str(self._hub.clients),
            "time": strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(self._now())),
            **{f"links_{state}": str(count) for state, count in sorted(states.items())},
        }


def _peer(request: Request) -> tuple[str, ...]:
    """Where the client comes from: its host and, unless that is a local socket, its port."""
    address = request.getClientAddress()
    if isinstance(address, IPv4Address | IPv6Address):
        return address.host, str(address.port)
    return ("local",)


def _header(request: Request, name: bytes) -> str:
    """The one value of a header; empty if it is absent.  Two different values are refused, not chosen from."""
    values = {value.strip() for value in request.requestHeaders.getRawHeaders(name) or [b""]}
    if len(values) > 1:
        raise HttpRefusal(400, f"{name.decode().title()} was sent more than once")
    return values.pop().decode("latin-1")


def _name(segment: bytes) -> str:
    """The node's name.  What can be no name is unknown, like every other wrong one."""
    try:
        name = segment.decode()
    except UnicodeDecodeError:
        raise UnknownConsole(segment.decode("utf-8", "replace")) from None
    if not name.isprintable() or "/" in name or name in (".", ".."):
        raise UnknownConsole(ascii(name)[1:-1])
    return name
