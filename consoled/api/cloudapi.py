"""The CloudAPI face: Triton's instance console (RFD 189), over the same hub as every other face.

`GET /:account/machines/:machine/console`, upgraded to a WebSocket that is a byte pipe.  Here are its path, its order of
checks, its headers and its error bodies; `docs/api-cloudapi.md` says what differs from the original, and why.  The site
gives requests here; what is decided goes down the one road (`upgrade`) and becomes a `pipe`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol
from urllib.parse import parse_qs
from uuid import uuid4

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from consoled.api.admission import tenants_of
from consoled.api.answers import HttpRefusal, answer
from consoled.api.doors import seat
from consoled.api.guestbook import Guestbook
from consoled.api.meters import Meters
from consoled.api.pipe import Pipe
from consoled.api.proxies import Visitor, knock
from consoled.api.upgrade import Road, asks_for_upgrade, demand_upgrade
from consoled.api.versions import satisfies
from consoled.api.vigil import Vigil
from consoled.core.access import (
    Audit,
    CannotKnow,
    Forbidden,
    Gate,
    HttpRequest,
    Knock,
    Malformed,
    Scope,
    Unauthenticated,
    User,
    Verb,
)
from consoled.core.console import Console
from consoled.core.faults import Fault, NotMonitored, NotOpen, TooManyClients, UnknownConsole
from consoled.core.hub import Hub
from consoled.core.seams import Clock
from consoled.fetch import Unreachable
from consoled.triton import UUID, Machine, UnknownMachine
from consoled.units import Duration, FilePath

VERSION: Final = (9, 0, 0)
VERSIONS: Final = "9.0.0"
ACTION: Final = "connectmachineconsole"
SUBPROTOCOLS: Final = ("binary", "console")
MOST_LINES: Final = 1_000_000

_log = Logger()


class CloudApiSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[cloudapi]`.  Without it the face is not there."""

    accounts: FilePath = FilePath()
    """The accounts file."""
    mahi: str = ""
    """Instead of a file: the URL of Triton's directory, `"http://mahi.example.com"`."""
    vmapi: str = ""
    """The URL of the service that knows the machines.  Empty: only configured consoles with a `machine` are there."""
    cnapi: str = ""
    """The URL of the service that knows where their consoles listen."""
    ca: FilePath = FilePath()
    """A PEM file of the authorities that may sign these services' certificates.  Empty: the system's."""
    role: str = "operator"
    """What an account is with its own machines."""
    brands: tuple[str, ...] = ("kvm", "bhyve", "joyent", "joyent-minimal", "lx")
    """The brands of machines that have a console."""
    linger: Duration = Duration(3)
    """How long a connection outlives its last client."""

    def __post_init__(self) -> None:
        if bool(self.vmapi) != bool(self.cnapi):
            raise ValueError("vmapi and cnapi: one needs the other")
        if self.accounts and self.mahi:
            raise ValueError("mahi: accounts are in the file or in mahi, not both")
        for name in ("mahi", "vmapi", "cnapi"):
            if (url := getattr(self, name)) and not url.startswith(("http://", "https://")):
                raise ValueError(f"{name}: {url!r} is no URL")


class Accounts(Protocol):
    """What is wanted of the directory of accounts; see `auth.accounts.Logins`."""

    def uuid(self, login: str) -> Deferred[str | None]: ...


class Machines(Protocol):
    """What is wanted of `machines.Machines`, whose docstrings tell more."""

    async def find(self, uuid: str, account: str | None, port: int = 0) -> tuple[Machine, str]: ...

    async def console(self, name: str) -> Console: ...

    def trouble(self, name: str) -> str: ...


class _Refused(Exception):
    """An answer in restify's form."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class _Options:
    """What a query asks for; the original knows none of it."""

    verb: Literal["interact", "tail"]
    lines: int
    port: int


class CloudApi:
    """The face."""

    def __init__(
        self,
        settings: CloudApiSettings,
        hub: Hub,
        machines: Machines,
        accounts: Accounts,
        gate: Gate,
        audit: Audit,
        road: Road,
        vigil: Vigil,
        clock: Clock,
        now: Callable[[], float],
        meters: Meters,
    ) -> None:
        """`now` is the wall clock."""
        self._settings = settings
        self._hub = hub
        self._machines = machines
        self._accounts = accounts
        self._gate = gate
        self._audit = audit
        self._book = Guestbook("cloudapi", audit, now, meters)
        self._road = road
        self._vigil = vigil
        self._clock = clock
        self._meters = meters

    # ------------------------------------------------------------------------------------------- routes

    def took(self, request: Request, path: Sequence[bytes]) -> bool:
        match path:
            case [b"--ping"]:
                self._ping(request)
            case [account, b"machines", machine, b"console" | b"vnc"] if account and machine:
                self._console(request, account, machine)
            case [_, b"machines", *_]:
                self._refuse(request, _Refused(404, "ResourceNotFound", f"{_path(request)} does not exist"))
            case _:
                return False
        return True

    def _ping(self, request: Request) -> None:
        if request.method == b"GET":
            answer(request, 200, {"ping": "pong", "cloudapi": {"versions": [VERSIONS]}})
        else:
            self._refuse(request, _not_allowed(request))

    def _console(self, request: Request, account: bytes, machine: bytes) -> None:
        request.setHeader("Api-Version", VERSIONS)
        request.setHeader("Request-Id", str(uuid4()))
        if request.method != b"GET":
            self._refuse(request, _not_allowed(request))
            return
        self._meters.console_requests.inc()
        attempt = _Attempt(request, _text(account), _text(machine))
        self._road.take(request, self._decide(attempt), lambda request, error: self._failed(attempt, error))

    # ------------------------------------------------------------------------------------------- the decision

    async def _decide(self, attempt: _Attempt) -> Pipe:
        """Version, who, whose, which, may they, is it running, is it an upgrade: the original's order."""
        request = attempt.request
        _check_version(request)
        options = _options(request)
        if not self._gate.is_open:
            _check_header(request)
        attempt.user = user = await self._gate.login(_knock(request))
        if not user.roles:
            raise Forbidden("use the service", "the account is disabled")
        machine, name = await self._find(user, attempt, options.port)
        scope = await self._admit(user, request, machine, name, options.verb)
        if machine.state != "running":
            raise _Refused(400, "MachineStoppedError", "Cannot connect to a stopped machine")
        if machine.brand not in self._settings.brands:
            message = f"Instance type {machine.brand} does not support console connections"
            raise _Refused(400, "MachineHasNoConsoleError", message)
        subprotocol = _upgrade(request)
        console = await self._machines.console(name)
        at = await console.last_lines(options.lines) if options.lines else None
        self._hub.find(console.name)  # it may have closed meanwhile
        self._hub.admit()
        seat(request, user)
        self._note(attempt, 101, owner=machine.owner)
        self._meters.cloudapi_upgrades.labels("success").inc()
        return Pipe(
            console,
            self._book.client(user, request),
            self._book.entry(user, options.verb),
            self._vigil.visit(scope, options.verb, name),
            self._clock,
            why_not=lambda: self._machines.trouble(name),
            failed=lambda message: self._meters.errors.labels(message).inc(),
            subprotocol=subprotocol,
            interactive=options.verb == "interact",
            at=at,
        )

    async def _find(self, user: User, attempt: _Attempt, port: int) -> tuple[Machine, str]:
        """The machine of the account that the path names.  What is not that account's is not there."""
        account = None if self._gate.is_open else await self._account(user, attempt.login)
        if not UUID.fullmatch(attempt.machine):
            raise _not_found()
        try:
            return await self._machines.find(attempt.machine, account, port)
        except UnknownMachine:
            raise _not_found() from None

    async def _account(self, user: User, login: str) -> str:
        name = login
        if login == "my":
            [name] = user.tenants if user.tenants and len(user.tenants) == 1 else [user.name]
        account = name if UUID.fullmatch(name) else await self._accounts.uuid(name)
        if account is None:
            raise _Refused(404, "ResourceNotFound", f"{login} does not exist")
        return account

    async def _admit(self, user: User, request: Request, machine: Machine, name: str, verb: Verb) -> Scope:
        """Only now that the machine is known, the gate can tell whether it is within reach."""
        try:
            scope = await self._gate.authorise(user, verb, tenants_of(request))
            scope.require(verb, name)
        except Forbidden:
            if user.tenants is not None and machine.owner not in user.tenants:
                raise _not_found() from None  # that it is there is nobody else's business
            raise
        return scope

    def _note(self, attempt: _Attempt, status: int, **details: str) -> None:
        """One record for each attempt, whatever became of it (RFD 189)."""
        where = {} if attempt.user else {"remoteAddress": attempt.host}
        self._audit.noted("ConnectMachineConsole", attempt.user, attempt.machine, statusCode=status, **where, **details)

    # ------------------------------------------------------------------------------------------- refusals

    def _failed(self, attempt: _Attempt, error: Exception) -> None:
        refused = self._refuse(attempt.request, error)
        self._note(attempt, refused.status, code=refused.code)
        self._meters.cloudapi_upgrades.labels("failure").inc()
        self._meters.errors.labels(refused.code).inc()

    def _refuse(self, request: Request, error: Exception) -> _Refused:
        refused = _in_their_words(request, error)
        answer(request, refused.status, {"code": refused.code, "message": str(refused)}, refused.headers)
        return refused


class _Attempt:
    """A request for a console, and who it is from as soon as that is known."""

    def __init__(self, request: Request, login: str, machine: str) -> None:
        visitor: Visitor = request.visitor  # type: ignore[attr-defined]  # the site's own requests have it
        self.request = request
        self.login = login
        self.machine = machine
        self.host = visitor.host
        self.user: User | None = None


def _not_found() -> _Refused:
    return _Refused(404, "ResourceNotFound", "VM not found")


def _in_their_words(request: Request, error: Exception) -> _Refused:
    retry = {"Retry-After": "5"}
    match error:
        case _Refused():
            return error
        case Malformed():
            return _Refused(400, "InvalidHeader", str(error))
        case Unauthenticated():
            message = "You must make authenticated requests to use CloudAPI"
            if _shows_signature(request):
                message = "Invalid authorization credentials supplied"
            return _Refused(401, "InvalidCredentials", message, {"WWW-Authenticate": "Signature"})
        case Forbidden():
            message = f"You do not have permission to access {_path(request)} ({ACTION})"
            return _Refused(403, "NotAuthorized", message)
        case UnknownConsole() | NotMonitored():
            return _not_found()
        case HttpRefusal(status=429, headers=headers):
            return _Refused(429, "TooManyRequests", str(error), headers)
        case HttpRefusal(status=status, headers=headers):
            return _Refused(status, "InvalidArgument", str(error), headers)
        case CannotKnow() | Unreachable() | TimeoutError() | NotOpen():
            message = "The service cannot decide at present; try again later"
            return _Refused(503, "ServiceUnavailable", message, retry)
        case TooManyClients():
            return _Refused(503, "ServiceUnavailable", str(error), retry)
        case Fault():
            return _Refused(409, "InvalidArgument", str(error))
    _log.failure("a request failed", Failure(error))
    return _Refused(500, "InternalError", "Internal error")


def _not_allowed(request: Request) -> _Refused:
    message = f"{_text(request.method)} is not allowed"
    return _Refused(405, "MethodNotAllowedError", message, {"Allow": "GET"})


def _check_version(request: Request) -> None:
    for name in ("accept-version", "api-version", "x-api-version"):
        for value in request.requestHeaders.getRawHeaders(name) or []:
            if not satisfies(VERSION, value):
                raise _Refused(400, "InvalidVersion", f"{value} is not supported by GET {_path(request)}")


def _check_header(request: Request) -> None:
    """What restify's parser says before anybody looks at credentials."""
    for value in request.requestHeaders.getRawHeaders("authorization") or []:
        if len(value.split()) < 2:
            raise Malformed("Authorization header invalid: one word is no credentials")


def _shows_signature(request: Request) -> bool:
    values = request.requestHeaders.getRawHeaders(b"authorization") or []
    return any(value.startswith(b"Signature") for value in values) or b"signature=" in request.uri


def _knock(request: Request) -> Knock:
    return replace(knock(request), request=_http(request))


def _http(request: Request) -> HttpRequest:
    every = request.requestHeaders.getAllRawHeaders()
    headers = {name.lower().decode("latin-1"): tuple(values) for name, values in every}
    return HttpRequest(_text(request.method), request.uri, headers)


def _options(request: Request) -> _Options:
    try:
        query = parse_qs(request.uri.partition(b"?")[2].decode("latin-1"), keep_blank_values=True, max_num_fields=64)
    except ValueError:
        raise _Refused(400, "InvalidArgument", "The query has too many parameters") from None
    mode, lines, port = (query.get(name, [default]) for name, default in _DEFAULTS.items())
    if mode not in (["interact"], ["tail"]):
        raise _Refused(400, "InvalidArgument", "mode must be interact or tail")
    if port not in (["0"], ["1"]):
        raise _Refused(400, "InvalidArgument", "port must be 0 or 1")
    if len(lines) > 1 or not re.fullmatch("[0-9]{1,7}", lines[0]):
        raise _Refused(400, "InvalidArgument", f"lines must be a whole number from 0 to {MOST_LINES}")
    return _Options("tail" if mode == ["tail"] else "interact", min(int(lines[0]), MOST_LINES), int(port[0]))


_DEFAULTS: Final = {"mode": "interact", "lines": "0", "port": "0"}


def _upgrade(request: Request) -> str | None:
    """The subprotocol: the first in the client's order that is ours; None if it offers none."""
    if not asks_for_upgrade(request):
        message = "Console connect endpoint is a websocket and must be upgraded"
        raise _Refused(400, "UpgradeRequiredError", message)
    demand_upgrade(request)
    values = request.requestHeaders.getRawHeaders("sec-websocket-protocol") or []
    offered = [token.strip() for value in values for token in value.split(",")]
    for one in offered:
        if one in SUBPROTOCOLS:
            return one
    if offered:
        raise _Refused(400, "InvalidArgument", "The subprotocol must be binary or console")
    return None


def _path(request: Request) -> str:
    return ascii(_text(request.path))[1:-1]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
