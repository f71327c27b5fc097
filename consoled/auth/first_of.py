"""Several checkers for one sort of credentials: each is asked in its turn.

A portal has room for one checker of each interface.  The gate puts one of these in front of those that share one
(the tokens file and JWT both take bearer tokens).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface import implementer

from consoled.core.access import CannotKnow, Unauthenticated


@implementer(ICredentialsChecker)
class FirstOf:
    """Lets in whom the first of its checkers vouches for."""

    def __init__(self, interface: Any, checkers: Sequence[ICredentialsChecker]) -> None:
        """All of `checkers`, at least one, take credentials of `interface`."""
        self.credentialInterfaces = (interface,)
        self._checkers = checkers

    def requestAvatarId(self, credentials: Any) -> Any:  # cred's own annotation knows ids of bytes only
        """The `User` it is.  Fails with what the last checker said; with `CannotKnow` if one could not say."""
        return Deferred.fromCoroutine(self._ask(credentials))

    async def _ask(self, credentials: Any) -> Any:
        verdict: Exception = UnauthorizedLogin("nobody to ask")
        for checker in self._checkers:
            try:
                return await maybeDeferred(checker.requestAvatarId, credentials)
            except CannotKnow as doubt:
                verdict = doubt
            except (UnauthorizedLogin, Unauthenticated) as refusal:
                if not isinstance(verdict, CannotKnow):
                    verdict = refusal
        raise verdict
