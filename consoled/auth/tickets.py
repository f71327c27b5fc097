"""One-use tickets, for those who cannot set headers on a WebSocket: browsers.

The native face's `POST /v1/tickets` has one issued to a user who has been let in and authorised; the client then opens
`.../interact/NODE?ticket=...`, and this checker of the gate's portal vouches for it as the one to whom it was issued,
for one verb at one console.  A ticket is valid for `LIFETIME`, and spent by the first who shows it, whatever comes of
that.  It goes through URLs, which proxies log: spent, it opens nothing.

Only a ticket's hash is kept.  The first digits of that are its number, which the audit has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Final, Literal

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface import implementer

from consoled.auth.credentials import ITicket, Ticket
from consoled.auth.tenants import named
from consoled.core.access import Audit, Narrowing, TooManyTickets, User, Verb
from consoled.core.seams import Clock

LIFETIME: Final = 30.0
"""Seconds."""
EACH: Final = 64
"""Unused tickets that one user may have."""
ALL: Final = 1024
"""Unused tickets in all."""

_VERBS: Final[dict[str, frozenset[Verb]]] = {
    "interact": frozenset({"interact", "take", "break", "reset"}),
    "tail": frozenset({"tail"}),
}
"""What may be done in a session of each sort, if the roles grant it."""


@dataclass(frozen=True, slots=True)
class Only:
    """A few verbs at one console; see `core.access.Narrowing`."""

    verbs: frozenset[Verb]
    console: str
    also: Narrowing | None = None
    """What has narrowed the issuer's own proof."""

    def admits(self, verb: Verb, console: str) -> bool:
        admitted = verb in self.verbs and console == self.console
        return admitted and (self.also is None or self.also.admits(verb, console))


@dataclass(frozen=True, slots=True)
class _Issued:
    """What is known of a ticket."""

    user: User
    verb: str
    console: str
    tenant: str | None
    number: str
    until: float
    digest: bytes


@implementer(ICredentialsChecker)
class Tickets:
    """Issues tickets, and lets in whoever shows one; see `core.access.TicketOffice`."""

    credentialInterfaces = (ITicket,)
    lifetime = LIFETIME

    def __init__(self, clock: Clock, token: Callable[[], str], audit: Audit) -> None:
        """`token` gives random texts fit for a URL, of 256 bits at least."""
        self._clock = clock
        self._token = token
        self._audit = audit
        self._issued: list[_Issued] = []
        """The oldest first."""

    def issue(self, user: User, verb: Literal["interact", "tail"], console: str, tenant: Sequence[bytes] = ()) -> str:
        """See `core.access.TicketOffice`."""
        self._forget_expired()
        theirs = [one for one in self._issued if one.user.name == user.name]
        if len(theirs) >= EACH or len(self._issued) >= ALL:
            raise TooManyTickets(int(LIFETIME))
        ticket = self._token()
        digest = sha256(ticket.encode()).digest()
        until = self._clock.seconds() + LIFETIME
        self._issued.append(_Issued(user, verb, console, named(tenant), _number(digest), until, digest))
        self._audit.noted("ticket-issued", user, console, verb=verb, ticket=_number(digest))
        return ticket

    def requestAvatarId(self, credentials: Ticket) -> Any:  # cred's own annotation knows ids of bytes only
        """The `User` it is.  Fails with `UnauthorizedLogin`, or with what the issuer's own checker says by now."""
        return Deferred.fromCoroutine(self._spend(credentials.value))

    async def _spend(self, ticket: bytes) -> User:
        self._forget_expired()
        presented = sha256(ticket).digest()
        found = None
        # To the end, whether found or not: the time it takes says nothing.
        for one in self._issued:
            if compare_digest(one.digest, presented):
                found = one
        if found is None:
            raise UnauthorizedLogin(f"ticket {_number(presented)} is spent, expired or unknown")
        self._issued.remove(found)
        # From where, is in the record of the login that follows, or is refused.
        whose = replace(found.user, origin="")
        self._audit.noted("ticket-used", whose, found.console, verb=found.verb, ticket=found.number)
        again = found.user.again
        return _narrowed(found, found.user) if again is None else await _again(found, again)

    def _forget_expired(self) -> None:
        now = self._clock.seconds()
        self._issued = [one for one in self._issued if now < one.until]


def _narrowed(ticket: _Issued, user: User) -> User:
    """`user` as far as `ticket` reaches: its console, its verbs, and the tenant that was chosen with it."""
    tenants, tenant = user.tenants, ticket.tenant
    if tenant is not None:
        tenants = frozenset({tenant}) if tenants is None or tenant in tenants else frozenset()
    return replace(
        user,
        tenants=tenants,
        must_name_tenant=user.must_name_tenant and tenant is None,
        proof=f"ticket {ticket.number}",
        narrowed=Only(_VERBS[ticket.verb], ticket.console, user.narrowed),
        again=None if user.again is None else partial(_again, ticket, user.again),
    )


def _again(ticket: _Issued, again: Callable[[], Any]) -> Deferred[User]:
    return maybeDeferred(again).addCallback(lambda user: _narrowed(ticket, user))


def _number(digest: bytes) -> str:
    return digest[:4].hex()
