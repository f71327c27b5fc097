"""The gate: one `twisted.cred` portal, and the one place where permission is decided.

Every request of every face passes `Gate.login` and `Gate.authorise` before its upgrade, in the order that
`core.access` gives.  It says no when it cannot know: whatever goes wrong in a checker or a tenant service is
`CannotKnow`, never a way in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Final, Protocol, cast, runtime_checkable

from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker
from twisted.cred.credentials import Anonymous, IAnonymous, ICredentials
from twisted.cred.error import LoginFailed
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from zope.interface import Attribute, Interface, classImplements, implementer

from consoled.auth.credentials import Certificate, Ticket, bearer
from consoled.auth.first_of import FirstOf
from consoled.auth.roles import Role
from consoled.auth.signatures import proof
from consoled.auth.signed_requests import SignedRequest, active_roles
from consoled.auth.tenants import Reach, Tenants, named, reach
from consoled.core import access
from consoled.core.access import CannotKnow, Forbidden, Knock, Limits, Refusal, Unauthenticated, User, Verb


class IUser(Interface):
    """The avatar: somebody whom the portal let in.  `core.access.User` is one."""

    name = Attribute("Who it is, in notes to others and in the audit log.")
    roles = Attribute("The names of its roles.")
    tenants = Attribute("The tenants it is bound to, or None.")


classImplements(User, IUser)

_ANYBODY: Final = User("anonymous", ("admin",), None, proof="open")


@runtime_checkable
class Renewable(Protocol):
    """A checker whose settings may change while those whom it has let in are there."""

    def become(self, other: Any) -> None:
        """Go on as `other`, a new one of the same sort that has let nobody in."""


@implementer(IRealm)
class _Realm:
    """Makes the avatar of what a checker found: a checker's avatar id is the `User`, the mind is the `Knock`."""

    def __init__(self, is_open: bool) -> None:
        self._open = is_open

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> tuple[Any, User, Callable[[], None]]:
        if IUser not in interfaces:
            raise NotImplementedError("the only avatar is IUser")
        user = _ANYBODY if self._open and avatarId == ANONYMOUS else avatarId
        return IUser, replace(user, origin=mind.origin), lambda: None


@dataclass(frozen=True, slots=True)
class Scope:
    """What the gate decided for one user; see `core.access.Scope`."""

    user: User
    holds: float
    _roles: Sequence[Role]
    _reach: Reach
    _audit: access.Audit
    _again: Callable[[], Deferred[access.Scope]] = field(repr=False)

    def admits(self, verb: Verb, console: str) -> bool:
        return self._proves(verb, console) and self._reach.has(console) and any(self._granting(verb, console))

    def require(self, verb: Verb, console: str) -> None:
        if self.admits(verb, console):
            return
        if not any(verb in role.verbs for role in self._roles):
            refusal = _lacks(self.user, verb)
        elif not self._reach.has(console):
            refusal = Forbidden(f"access {console}", "the node is not the tenant's")
        elif not self._proves(verb, console):
            refusal = Forbidden(f"access {console}", f"the {self.user.proof} is not for that")
        else:
            refusal = Forbidden(f"access {console}", f"no role has the verb {verb} there")
        self._audit.refused(self.user.origin, refusal.why, self.user, verb, console)
        raise refusal

    def limits(self, verb: Verb, console: str) -> Limits:
        """The most generous of the roles that grant it."""
        granted = [role.limits for role in self._granting(verb, console)]
        return Limits(max(one.session for one in granted), max(one.idle for one in granted)) if granted else Limits(0)

    def again(self) -> Deferred[access.Scope]:
        return self._again()

    def _proves(self, verb: Verb, console: str) -> bool:
        return self.user.narrowed is None or self.user.narrowed.admits(verb, console)

    def _granting(self, verb: Verb, console: str) -> Iterable[Role]:
        return (role for role in self._roles if verb in role.verbs and role.consoles.has(console, self._reach.owned))


class Gate:
    """The portal with the decision behind it; see `core.access.Gate`.

    With `AllowAnonymousAccess` as its only checker the door stands open: everybody is an admin, and credentials
    are not looked at, so that stock clients, which always send a token, work without one that we know.
    """

    _log = Logger()

    def __init__(
        self,
        checkers: Sequence[ICredentialsChecker],
        roles: Mapping[str, Role],
        tenants: Tenants,
        audit: access.Audit,
        now: Callable[[], float],
    ) -> None:
        """`now` is the wall clock; of checkers for the same credentials, the first is asked first.

        Raises `ValueError` if anonymous access is to stand beside any other checker: it would outdo them all.
        """
        self._audit = audit
        self._now = now
        self._checkers: Sequence[ICredentialsChecker] = ()
        self.renew(checkers, roles, tenants)

    def renew(self, checkers: Sequence[ICredentialsChecker], roles: Mapping[str, Role], tenants: Tenants) -> None:
        """Decide by these from now on, also about those who are in; all but that as for the constructor.

        A checker of the same sort as one that is here takes its place in name only: that one becomes it, since those
        whom it has let in ask it again.
        """
        is_open = any(IAnonymous in checker.credentialInterfaces for checker in checkers)
        if is_open and len(checkers) > 1:
            raise ValueError("anonymous access allows no other way to log in")
        self.is_open = is_open
        self._checkers = [self._successor(checker) for checker in checkers]
        by_interface: dict[Any, list[ICredentialsChecker]] = {}
        for checker in self._checkers:
            for interface in checker.credentialInterfaces:
                by_interface.setdefault(interface, []).append(checker)
        ways = [FirstOf(interface, each, self._is_in_force) for interface, each in by_interface.items()]
        self._portal = Portal(_Realm(is_open), ways)
        self._roles = roles
        self._tenants = tenants

    def _successor(self, checker: ICredentialsChecker) -> ICredentialsChecker:
        for old in self._checkers:
            if type(old) is type(checker) and old is not checker and isinstance(old, Renewable):
                old.become(checker)
                return old
        return checker

    def _is_in_force(self, checker: ICredentialsChecker) -> bool:
        return checker in self._checkers

    def login(self, knock: Knock) -> Deferred[User]:
        """See `core.access.Gate`."""
        return Deferred.fromCoroutine(self._login(knock))

    def authorise(self, user: User, verb: Verb, tenant: Sequence[bytes] = ()) -> Deferred[access.Scope]:
        """See `core.access.Gate`."""
        return Deferred.fromCoroutine(self._authorise(user, verb, tenant))

    async def _login(self, knock: Knock) -> User:
        shown = ""
        try:
            credentials = self._credentials(knock)
            shown = type(credentials).__name__
            _, avatar, _ = await self._portal.login(credentials, knock, IUser)
            user = self._in_time(cast(User, avatar))
            if self.is_open:
                user = replace(user, again=self._anybody)
        except Exception as error:
            refusal = self._refusal(error)
            self._audit.refused(knock.origin, refusal.why, checker=shown)
            raise refusal from None
        self._audit.accepted(user)
        return user

    async def _authorise(self, user: User, verb: Verb, tenant: Sequence[bytes], anew: bool = False) -> access.Scope:
        try:
            return await self._decide(await self._anew(user) if anew else user, verb, tenant)
        except Exception as error:
            refusal = self._refusal(error)
            self._audit.refused(user.origin, refusal.why, user, verb)
            raise refusal from None

    async def _decide(self, user: User, verb: Verb, tenant: Sequence[bytes]) -> Scope:
        """The one place where it is decided who may do what."""
        roles = [self._roles[role] for role in user.roles if role in self._roles]
        if not any(verb in role.verbs for role in roles):
            raise _lacks(user, verb)
        also = frozenset[str]().union(*(role.consoles.tenants for role in roles))
        choice = named(tenant)
        if user.must_name_tenant and choice is None:
            raise Forbidden("act without a tenant", "it must name one of its tenants")
        within = await reach(user.tenants, choice, self._tenants, also)
        left = inf if user.expires is None else user.expires - self._now()

        def again() -> Deferred[access.Scope]:
            return Deferred.fromCoroutine(self._authorise(user, verb, tenant, anew=True))

        return Scope(user, min(left, within.holds), roles, within, self._audit, again)

    async def _anew(self, user: User) -> User:
        """The `user` as it is known now."""
        if self.is_open:
            return replace(self._anybody(), name=user.name, origin=user.origin)
        known: User | Deferred[User] = user if user.again is None else user.again()
        if isinstance(known, Deferred):
            known = await known
        known = replace(known, origin=user.origin)
        if known.name != user.name:
            raise Unauthenticated(f"the credentials are now those of {known.name}")
        return self._in_time(known)

    def _anybody(self) -> User:
        """Whoever has come in without a proof."""
        if not self.is_open:
            raise Unauthenticated("everybody has to log in now")
        return replace(_ANYBODY, again=self._anybody)

    def _in_time(self, user: User) -> User:
        if user.expires is not None and self._now() >= user.expires:
            raise Unauthenticated("the credentials have expired")
        return user

    def _credentials(self, knock: Knock) -> ICredentials:
        if self.is_open:
            return Anonymous()
        if knock.ticket is not None:
            if knock.authorization:
                raise Unauthenticated("a ticket together with an Authorization header")
            return Ticket(knock.ticket)
        if knock.request is not None and (signed := proof(knock.request, self._now())) is not None:
            return SignedRequest(signed, active_roles(knock.request))
        if (token := bearer(knock.authorization, knock.peer)) is not None:
            return token
        if knock.certificate is not None:
            return Certificate(knock.certificate)
        raise Unauthenticated("no credentials")

    def _refusal(self, error: Exception) -> Refusal:
        """What the client is told of `error`."""
        if isinstance(error, Refusal):
            return error
        if isinstance(error, LoginFailed):
            return Unauthenticated(str(error))
        if isinstance(error, CancelledError):
            return CannotKnow("it took too long, or the client left")
        self._log.failure("permission cannot be checked")
        return CannotKnow(f"an accident: {type(error).__name__}")


def _lacks(user: User, verb: Verb) -> Forbidden:
    return Forbidden(verb, f"no role of {', '.join(user.roles) or 'none'} has the verb {verb}")
