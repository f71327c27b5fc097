"""The CloudAPI face: Triton's instance console (RFD 189), over the same hub as every other face.

`GET /:account/machines/:machine/console`, upgraded to a WebSocket that is a byte pipe.  Here are its path, its order of
checks and its headers; what a request asks for is read in `machine_request`, what is refused is said in `restify`.
`docs/api-cloudapi.md` says what differs from the original, and why.  The site gives requests here; what is decided goes
down the one road (`upgrade`) and becomes a `pipe`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import uuid4

import msgspec
from twisted.internet.defer import Deferred
from twisted.web.server import Request

from consoled.api.admission import tenants_of
from consoled.api.answers import answer
from consoled.api.doors import seat
from consoled.api.guestbook import Guestbook
from consoled.api.machine_request import asked_options, chosen_subprotocol, knock_of
from consoled.api.meters import Meters
from consoled.api.pipe import Pipe
from consoled.api.proxies import Visitor
from consoled.api.restify import (
    VERSIONS,
    Refused,
    check_header,
    check_version,
    in_their_words,
    not_allowed,
    not_found,
    shown,
    text,
)
from consoled.api.upgrade import Road
from consoled.api.vigil import Vigil
from consoled.core.access import (
    Audit,
    Forbidden,
    Gate,
    Scope,
    User,
    Verb,
)
from consoled.core.console import Console
from consoled.core.hub import Hub
from consoled.core.seams import Clock
from consoled.triton import UUID, Machine, UnknownMachine
from consoled.units import Duration, FilePath


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
                self._refuse(request, Refused(404, "ResourceNotFound", f"{shown(request)} does not exist"))
            case _:
                return False
        return True

    def _ping(self, request: Request) -> None:
        if request.method == b"GET":
            answer(request, 200, {"ping": "pong", "cloudapi": {"versions": [VERSIONS]}})
        else:
            self._refuse(request, not_allowed(request))

    def _console(self, request: Request, account: bytes, machine: bytes) -> None:
        request.setHeader("Api-Version", VERSIONS)
        request.setHeader("Request-Id", str(uuid4()))
        if request.method != b"GET":
            self._refuse(request, not_allowed(request))
            return
        self._meters.console_requests.inc()
        attempt = _Attempt(request, text(account), text(machine))
        self._road.take(request, self._decide(attempt), lambda request, error: self._failed(attempt, error))

    # ------------------------------------------------------------------------------------------- the decision

    async def _decide(self, attempt: _Attempt) -> Pipe:
        """Version, who, whose, which, may they, is it running, is it an upgrade: the original's order."""
        request = attempt.request
        check_version(request)
        options = asked_options(request)
        if not self._gate.is_open:
            check_header(request)
        attempt.user = user = await self._gate.login(knock_of(request))
        if not user.roles:
            raise Forbidden("use the service", "the account is disabled")
        machine, name = await self._find(user, attempt, options.port)
        scope = await self._admit(user, request, machine, name, options.verb)
        if machine.state != "running":
            raise Refused(400, "MachineStoppedError", "Cannot connect to a stopped machine")
        if machine.brand not in self._settings.brands:
            message = f"Instance type {machine.brand} does not support console connections"
            raise Refused(400, "MachineHasNoConsoleError", message)
        subprotocol = chosen_subprotocol(request)
        console = await self._machines.console(name)
        at = await console.stream.last_lines(options.lines) if options.lines else None
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
            raise not_found()
        try:
            return await self._machines.find(attempt.machine, account, port)
        except UnknownMachine:
            raise not_found() from None

    async def _account(self, user: User, login: str) -> str:
        name = login
        if login == "my":
            [name] = user.tenants if user.tenants and len(user.tenants) == 1 else [user.name]
        account = name if UUID.fullmatch(name) else await self._accounts.uuid(name)
        if account is None:
            raise Refused(404, "ResourceNotFound", f"{login} does not exist")
        return account

    async def _admit(self, user: User, request: Request, machine: Machine, name: str, verb: Verb) -> Scope:
        """Only now that the machine is known, the gate can tell whether it is within reach."""
        try:
            scope = await self._gate.authorise(user, verb, tenants_of(request))
            scope.require(verb, name)
        except Forbidden:
            if user.tenants is not None and machine.owner not in user.tenants:
                raise not_found() from None  # that it is there is nobody else's business
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

    def _refuse(self, request: Request, error: Exception) -> Refused:
        refused = in_their_words(request, error)
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
