"""The gate: one `twisted.cred` portal, and the one place where permission is decided.

Every request of every face passes `Gate.login` and `Gate.authorise` before its upgrade, in the order that
`core.access` gives.  It says no when it cannot know: whatever goes wrong in a checker or a tenant service is
`CannotKnow`, never a way in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker
from twisted.cred.credentials import Anonymous, IAnonymous, ICredentials
from twisted.cred.error import LoginFailed
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from zope.interface import Attribute, Interface, classImplements, implementer

from consoled.auth.credentials import bearer
from consoled.auth.tenants import Tenants, named, reach
from consoled.core import access
from consoled.core.access import CannotKnow, Forbidden, Knock, Refusal, Unauthenticated, User, Verb


class IUser(Interface):
    """The avatar: somebody whom the portal let in.  `core.access.User` is one."""

    name = Attribute("Who it is, in notes to others and in the audit log.")
    role = Attribute("The name of its role.")
    tenants = Attribute("The tenants it is bound to, or None.")


classImplements(User, IUser)

_ANYBODY: Final = User("anonymous", "admin", None, proof="open")


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

    _user: User
    _verbs: frozenset[Verb]
    _nodes: tuple[frozenset[str], ...] | None
    _audit: access.Audit

    def admits(self, verb: Verb, console: str) -> bool:
        return verb in self._verbs and (self._nodes is None or any(console in nodes for nodes in self._nodes))

    def require(self, verb: Verb, console: str) -> None:
        if self.admits(verb, console):
            return
        if verb in self._verbs:
            refusal = Forbidden(f"access {console}", "the node is not the tenant's")
        else:
            refusal = _lacks(self._user, verb)
        self._audit.refused(self._user.origin, refusal.why, self._user, verb, console)
        raise refusal


class Gate:
    """The portal with the decision behind it; see `core.access.Gate`.

    With `AllowAnonymousAccess` as its only checker the door stands open: everybody is an admin, and credentials
    are not looked at, so that stock clients, which always send a token, work without one that we know.
    """

    _log = Logger()

    def __init__(
        self,
        checkers: Sequence[ICredentialsChecker],
        roles: Mapping[str, frozenset[Verb]],
        tenants: Tenants,
        audit: access.Audit,
    ) -> None:
        """Raises `ValueError` if anonymous access is to stand beside any other checker: it would outdo them all."""
        self._open = any(IAnonymous in checker.credentialInterfaces for checker in checkers)
        if self._open and len(checkers) > 1:
            raise ValueError("anonymous access allows no other way to log in")
        self._portal = Portal(_Realm(self._open), checkers)
        self._roles = roles
        self._tenants = tenants
        self._audit = audit

    def login(self, knock: Knock) -> Deferred[User]:
        """See `core.access.Gate`."""
        return Deferred.fromCoroutine(self._login(knock))

    def authorise(self, user: User, verb: Verb, tenant: Sequence[bytes] = ()) -> Deferred[access.Scope]:
        """See `core.access.Gate`."""
        return Deferred.fromCoroutine(self._authorise(user, verb, tenant))

    async def _login(self, knock: Knock) -> User:
        try:
            _, avatar, _ = await self._portal.login(self._credentials(knock), knock, IUser)
        except Exception as error:
            refusal = self._refusal(error)
            self._audit.refused(knock.origin, refusal.why)
            raise refusal from None
        user = cast(User, avatar)
        self._audit.accepted(user)
        return user

    async def _authorise(self, user: User, verb: Verb, tenant: Sequence[bytes]) -> access.Scope:
        try:
            verbs = self._roles.get(user.role, frozenset())
            if verb not in verbs:
                raise _lacks(user, verb)
            return Scope(user, verbs, await reach(user.tenants, named(tenant), self._tenants), self._audit)
        except Exception as error:
            refusal = self._refusal(error)
            self._audit.refused(user.origin, refusal.why, user, verb)
            raise refusal from None

    def _credentials(self, knock: Knock) -> ICredentials:
        if self._open:
            return Anonymous()
        token = bearer(knock.authorization)
        if token is None:
            raise Unauthenticated("no credentials")
        return token

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
    return Forbidden(verb, f"the role {user.role} has not the verb {verb}")
