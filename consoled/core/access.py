"""What a face may ask before it lets a client near a console, and the refusals it may get.

Faces (`api`) and the portal (`auth`) never import one another: both know this page, and `tap` hands the one to
the other.  A face asks in this order, and answers the first refusal it meets:

1. `gate.login(knock)`: who is it?  `Unauthenticated` (401).
2. `gate.authorise(user, verb, tenant)`: may this role do that at all, and for that tenant?  `Forbidden` (403).
3. the hub: is the console known and held?  Only now, so that a stranger cannot find out which consoles exist.
4. `scope.require(verb, console)`: is the console within reach?  `Forbidden`.

The first two fire Deferreds, which the face gives a time limit and cancels when the client leaves; a cancelled
one fails with `CannotKnow` (503).  After that everything is synchronous: a session keeps its scope and asks it
for each further verb (`take`, `break`).  The scope does not hold for ever: `api.vigil` has it decided `again`, and
ends the session when the answer has become a refusal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from twisted.internet.defer import Deferred

from consoled.core.faults import Fault

Verb = Literal["list", "tail", "interact", "take", "break", "reset", "broadcast", "kick", "admin"]


class Refusal(Fault):
    """A "no" of the gate.  `str()` is for the client and tells as little as it can, `why` is for the audit log."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(text)
        self.why = why


class Unauthenticated(Refusal):
    """Nobody we know; the text never says what was wrong with the credentials.

    HTTP 401 with a `WWW-Authenticate` header (RFC 9110, section 15.5.2).
    """

    def __init__(self, why: str) -> None:
        super().__init__("Authentication is required", why)


class Malformed(Unauthenticated):
    """Credentials that cannot be understood, or are out of date.  `text` is for the client.  HTTP 400."""

    def __init__(self, text: str) -> None:
        Refusal.__init__(self, text, text)


class Forbidden(Refusal):
    """Known, and not allowed to do `what` (a verb, or "access x3000c0s1b0n0").  HTTP 403."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"User does not have permission to {what}", why)


class TooManyTickets(Fault):
    """Somebody, or everybody together, has as many unused tickets as there may be.  HTTP 429 with `Retry-After`."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("Too many tickets wait to be used; try again later")
        self.retry_after = retry_after
        """In seconds."""


class CannotKnow(Refusal):
    """What the decision needs cannot be had at present, so the answer is no.  HTTP 503 with `Retry-After`."""

    def __init__(self, why: str, retry_after: int = 5) -> None:
        super().__init__("Permission cannot be checked at present; try again later", why)
        self.retry_after = retry_after
        """In seconds."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as it came, for proofs that sign it.  `repr` shows no header."""

    method: str
    target: bytes = field(repr=False)
    """The path and the query, as on the request line."""
    headers: Mapping[str, Sequence[bytes]] = field(repr=False)
    """All values of each, by its name in lower case."""


@dataclass(frozen=True, slots=True)
class Knock:
    """What a client shows at the door.  A further way to prove oneself is a further field.

    A token counts rather than a certificate, and so does a ticket: what it says before what its connection has.  A
    ticket and a token together are refused.
    """

    origin: str
    """Where it comes from, for people: `192.0.2.7:40112`.  May be the word of a proxy."""
    authorization: tuple[bytes, ...] = field(default=(), repr=False)
    """The values of all its `Authorization` headers, as they came."""
    certificate: bytes | None = field(default=None, repr=False)
    """Its client certificate, DER, if TLS has one and has verified it."""
    ticket: bytes | None = field(default=None, repr=False)
    """A one-use ticket."""
    request: HttpRequest | None = None
    """The whole request, where a face takes signed ones."""
    peer: str = ""
    """The IP address that has really connected, before any proxy's word."""


class Narrowing(Protocol):
    """What somebody's proof allows of what its roles allow: a ticket is for one console."""

    def admits(self, verb: Verb, console: str) -> bool:
        """Whether it may."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody whom the gate has let in."""

    name: str
    roles: tuple[str, ...]
    """It may do what any of them may."""
    tenants: frozenset[str] | None
    """The tenants it is bound to; None: not bound to any."""
    proof: str
    """Which checker vouched for it."""
    origin: str = ""
    """Where it comes from, as its `Knock` said."""
    expires: float | None = None
    """When its proof runs out, in seconds since the epoch."""
    again: Callable[[], User | Deferred[User]] | None = field(default=None, repr=False, compare=False)
    """Ask the checker that vouched for it anew: the user as it is known now.  Raises `Unauthenticated`, or
    `CannotKnow`.  None: there is nothing to ask."""
    narrowed: Narrowing | None = None
    """What its proof allows of what its roles allow; None: all of it."""
    must_name_tenant: bool = False
    """Whether it may do nothing unless it says for which of its tenants (CSM's tenant administrators)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a session may last, in seconds."""

    session: float = math.inf
    """From its beginning."""
    idle: float = math.inf
    """Without a message from its client."""


class Scope(Protocol):
    """What one user may do, narrowed to the tenants it stands for.  A decision, kept by the session while it holds."""

    @property
    def user(self) -> User:
        """Whose it is."""

    @property
    def holds(self) -> float:
        """For how many seconds the decision holds, counted from when it was made; infinite if nothing limits it."""

    def admits(self, verb: Verb, console: str) -> bool:
        """Whether it may.  For listings, which leave out what is out of reach."""

    def require(self, verb: Verb, console: str) -> None:
        """Raise `Forbidden`, and leave a line in the audit log, if it may not."""

    def limits(self, verb: Verb, console: str) -> Limits:
        """How long a session that began with `verb` may last."""

    def again(self) -> Deferred[Scope]:
        """Decide anew, as `Gate.authorise` did: the user as its checker knows it now, its roles, its tenants.

        Fails with `Unauthenticated`, `Forbidden` or `CannotKnow`, and with nothing else.
        """


class Gate(Protocol):
    """The one door of the daemon.  Implemented by `auth.gate`, called by every route of every face."""

    @property
    def is_open(self) -> bool:
        """Whether nobody has to log in."""

    def login(self, knock: Knock) -> Deferred[User]:
        """Find out who it is.  Fails with `Unauthenticated` or `CannotKnow`, and with nothing else."""

    def authorise(self, user: User, verb: Verb, tenant: Sequence[bytes] = ()) -> Deferred[Scope]:
        """Decide whether `user` may do `verb`, and where.

        `tenant` holds the values of the tenant headers as they came: none or an empty one stands for no choice.
        Fails with `Forbidden` or `CannotKnow`, and with nothing else.
        """


class TicketOffice(Protocol):
    """Gives one-use tickets to those who cannot set headers on a WebSocket.  Implemented by `auth.tickets`."""

    @property
    def lifetime(self) -> float:
        """For how many seconds a ticket is good."""

    def issue(self, user: User, verb: Literal["interact", "tail"], console: str, tenant: Sequence[bytes] = ()) -> str:
        """A ticket for `user`, who may do `verb` at `console`, as the caller has made sure.

        `tenant` as for `Gate.authorise`: the session is narrowed to it.  Raises `TooManyTickets`.
        """


Action = Literal[
    "took",  # the keyboard, for oneself alone; `losers` could type before
    "lost",  # the keyboard, to `taker`
    "released",  # the keyboard, to whoever wants to type
    "break",
    "reset",
    "reset-ended",  # `how`
    "broadcast",  # to `names`; `sent`, `failed`
    "kick",  # `client` is who had to go, `face` where it was
    "note",
    "dial-now",
    "park",
    "release",
    "ticket-issued",  # `ticket` is its number, `verb` what it is for
    "ticket-used",
    "reload",
    "ConnectMachineConsole",  # CloudAPI's; `owner` is the account's uuid
    "key-accepted",  # a host key, on first use; `key` is its fingerprint
]
"""What is audited besides coming and going."""


class Recorder(Protocol):
    """`Audit.noted` for one session, of whose user and console it knows."""

    def __call__(self, action: Action, **details: str | int | float) -> None: ...


class Audit(Protocol):
    """Who did what, for the record.  The gate and its scopes report logins and refusals, the faces the rest.

    Everything may be passed as the client sent it: it is escaped here.  Never pass keystrokes or a credential.
    """

    def accepted(self, user: User) -> None:
        """Somebody logged in."""

    def refused(
        self, origin: str, why: str, user: User | None = None, verb: str = "", console: str = "", checker: str = ""
    ) -> None:
        """Somebody (nobody we know, if `user` is None) was refused a login, a verb or a console; by which checker."""

    def attached(self, user: User, verb: Verb, console: str) -> None:
        """A session began."""

    def detached(self, user: User, verb: Verb, console: str, seconds: float, to_client: int, to_node: int) -> None:
        """The session ended after `seconds`; the last two count bytes of the stream and of keystrokes."""

    def noted(self, action: Action, user: User | None = None, console: str = "", **details: str | int | float) -> None:
        """Something that has consequences was done by `user`, or, if None, by the daemon or its operator."""
