"""Several checkers for one sort of credentials: each is asked in its turn.

A portal has room for one checker of each interface.  The gate puts one of these in front of those that share one
(the tokens file and JWT both take bearer tokens).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface import implementer

from consoled.core.access import CannotKnow, Unauthenticated, User


@implementer(ICredentialsChecker)
class FirstOf:
    """Lets in whom the first of its checkers vouches for."""

    def __init__(
        self,
        interface: Any,
        checkers: Sequence[ICredentialsChecker],
        in_force: Callable[[ICredentialsChecker], bool] = lambda _: True,
    ) -> None:
        """All of `checkers`, at least one, take credentials of `interface`.

        Once one of them is not `in_force` any more, those whom it has let in are nobody.
        """
        self.credentialInterfaces = (interface,)
        self._checkers = checkers
        self._in_force = in_force

    def requestAvatarId(self, credentials: Any) -> Any:  # cred's own annotation knows ids of bytes only
        """The `User` it is.  Fails with what the last checker said; with `CannotKnow` if one could not say."""
        return Deferred.fromCoroutine(self._ask(credentials))

    async def _ask(self, credentials: Any) -> Any:
        verdict: Exception = UnauthorizedLogin("nobody to ask")
        for checker in self._checkers:
            try:
                found = await maybeDeferred(checker.requestAvatarId, credentials)
            except CannotKnow as doubt:
                verdict = doubt
            except (UnauthorizedLogin, Unauthenticated) as refusal:
                if not isinstance(verdict, CannotKnow):
                    verdict = refusal
            else:
                return self._standing(checker, found) if isinstance(found, User) else found
        raise verdict

    def _standing(self, checker: ICredentialsChecker, user: User) -> User:
        """`user`, for as long as the `checker` that vouches for it may."""

        def again() -> User | Deferred[User]:
            if not self._in_force(checker):
                raise Unauthenticated("this way to log in has been closed")
            known = user if user.again is None else user.again()
            standing = partial(self._standing, checker)
            return known.addCallback(standing) if isinstance(known, Deferred) else standing(known)

        return replace(user, again=again)
