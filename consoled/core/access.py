"""What a face may ask before it lets a client near a console, and the refusals it may get.

Faces (`api`) and the portal (`auth`) never import one another: both know this page, and `tap` hands the one to
the other.  A face asks in this order, and answers the first refusal it meets:

1. `gate.login(knock)`: who is it?  `Unauthenticated` (401).
2. `gate.authorise(user, verb, tenant)`: may this role do that at all, and for that tenant?  `Forbidden` (403).
3. the hub: is the console known and held?  Only now, so that a stranger cannot find out which consoles exist.
4. `scope.require(verb, console)`: is the console within reach?  `Forbidden`.

The first two fire Deferreds, which the face gives a time limit and cancels when the client leaves; a cancelled
one fails with `CannotKnow` (503).  After that everything is synchronous: a session keeps its scope and asks it
again for each further verb (`take`, `break`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from twisted.internet.defer import Deferred

from consoled.core.faults import Fault

Verb = Literal["list", "tail", "interact", "take", "break", "broadcast", "kick", "admin"]


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


class Forbidden(Refusal):
    """Known, and not allowed to do `what` (a verb, or "access x3000c0s1b0n0").  HTTP 403."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"User does not have permission to {what}", why)


class CannotKnow(Refusal):
    """What the decision needs cannot be had at present, so the answer is no.  HTTP 503 with `Retry-After`."""

    def __init__(self, why: str, retry_after: int = 5) -> None:
        super().__init__("Permission cannot be checked at present; try again later", why)
        self.retry_after = retry_after
        """In seconds."""


@dataclass(frozen=True, slots=True)
class Knock:
    """What a client shows at the door.  A further way to prove oneself is a further field."""

    origin: str
    """Where it comes from, for people: `192.0.2.7:40112`."""
    authorization: tuple[bytes, ...] = field(default=(), repr=False)
    """The values of all its `Authorization` headers, as they came."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody whom the gate has let in."""

    name: str
    role: str
    tenants: frozenset[str] | None
    """The tenants it is bound to; None: not bound to any."""
    proof: str
    """Which checker vouched for it."""
    origin: str = ""
    """Where it comes from, as its `Knock` said."""


class Scope(Protocol):
    """What one user may do, narrowed to the tenants it stands for.  A decision made once, kept by the session."""

    def admits(self, verb: Verb, console: str) -> bool:
        """Whether it may.  For listings, which leave out what is out of reach."""

    def require(self, verb: Verb, console: str) -> None:
        """Raise `Forbidden`, and leave a line in the audit log, if it may not."""


class Gate(Protocol):
    """The one door of the daemon.  Implemented by `auth.gate`, called by every route of every face."""

    def login(self, knock: Knock) -> Deferred[User]:
        """Find out who it is.  Fails with `Unauthenticated` or `CannotKnow`, and with nothing else."""

    def authorise(self, user: User, verb: Verb, tenant: Sequence[bytes] = ()) -> Deferred[Scope]:
        """Decide whether `user` may do `verb`, and where.

        `tenant` holds the values of the tenant headers as they came: none or an empty one stands for no choice.
        Fails with `Forbidden` or `CannotKnow`, and with nothing else.
        """


class Audit(Protocol):
    """Who did what, for the record.  The gate and its scopes report logins and refusals, the faces the rest.

    Everything may be passed as the client sent it: it is escaped here.  Never pass keystrokes or a credential.
    """

    def accepted(self, user: User) -> None:
        """Somebody logged in."""

    def refused(self, origin: str, why: str, user: User | None = None, verb: str = "", console: str = "") -> None:
        """Somebody (nobody we know, if `user` is None) was refused a login, a verb or a console."""

    def attached(self, user: User, verb: Verb, console: str) -> None:
        """A session began."""

    def detached(self, user: User, verb: Verb, console: str, seconds: float, to_client: int, to_node: int) -> None:
        """The session ended after `seconds`; the last two count bytes of the stream and of keystrokes."""
