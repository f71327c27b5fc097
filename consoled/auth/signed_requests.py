"""Signed requests: CloudAPI's way to prove who one is.

One checker of the gate's portal.  The gate makes the credentials of what `signatures` finds in a request; here the
key's owner is looked up, the signature checked, and a `User` made of the owner, bound to its account.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials
from twisted.internet.defer import Deferred
from zope.interface import Attribute, implementer

from consoled.auth import accounts
from consoled.auth.accounts import CONNECT, WATCH, Accounts, Principal, UnknownAccount
from consoled.auth.signatures import Proof, verified
from consoled.core.access import HttpRequest, Unauthenticated, User, Verb

Tags = Callable[[str], tuple[str, frozenset[str]]]
"""The uuid of a console's machine, and the uuids of the roles that this is tagged with."""


class ISignedRequest(ICredentials):
    """A request that is signed by a key of an account."""

    proof: Proof = Attribute("What it offers.")
    active: tuple[str, ...] | None = Attribute("The roles that it names; None for those that are active by default.")


@implementer(ISignedRequest)
@dataclass(frozen=True, slots=True, eq=False)
class SignedRequest:
    """What a request offered, not yet looked at."""

    proof: Proof = field(repr=False)
    active: tuple[str, ...] | None = None


def active_roles(request: HttpRequest) -> tuple[str, ...] | None:
    """The roles that `?as-role=a,b` asks for; it is part of what is signed."""
    query = request.target.partition(b"?")[2].decode("latin-1")
    named = parse_qs(query, keep_blank_values=True, max_num_fields=64).get("as-role") if query else None
    return None if named is None else tuple(name for value in named for name in value.split(",") if name)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the active roles of a sub-user allow: what a role's rules say, on the machines that are tagged with it.

    A `core.access.Narrowing`.
    """

    roles: tuple[accounts.Role, ...]
    tags: Tags = field(repr=False)

    def admits(self, verb: Verb, console: str) -> bool:
        """Whoever may connect may watch as well."""
        wanted = (CONNECT, WATCH) if verb in ("list", "tail") else (CONNECT,)
        return any(any(role.allows(action) for action in wanted) and self._covers(role, console) for role in self.roles)

    def _covers(self, role: accounts.Role, console: str) -> bool:
        machine, tags = self.tags(console)
        return role.is_everywhere or (role.uuid in tags if role.machines is None else machine in role.machines)


@implementer(ICredentialsChecker)
class SignedRequests:
    """Lets in whoever shows a request that a key of an account has signed."""

    credentialInterfaces = (ISignedRequest,)

    def __init__(self, directory: Accounts, role: str, tags: Tags) -> None:
        """`role` is what an account is with its own machines; an operator's account is `admin` everywhere."""
        self._accounts = directory
        self._role = role
        self._tags = tags

    def become(self, other: SignedRequests) -> None:
        """See `gate.Renewable`."""
        self._accounts, self._role, self._tags = other._accounts, other._role, other._tags

    def requestAvatarId(self, credentials: SignedRequest) -> Any:  # cred's own annotation knows ids of bytes only
        """The `User` it is.  Fails with `Unauthenticated` or `CannotKnow`."""
        return Deferred.fromCoroutine(self._vouch(credentials.proof, credentials.active))

    async def _vouch(self, proof: Proof, active: tuple[str, ...] | None) -> User:
        principal = await self._owner(proof)
        # An unknown account, an unknown key and a wrong signature look alike from outside.
        if not verified(proof, principal.keys[proof.key_id.key]):
            raise Unauthenticated(f"a signature that is not by the key of {principal.name}")
        return self._user(principal, proof, active)

    async def _owner(self, proof: Proof) -> Principal:
        who = proof.key_id
        try:
            principal = await self._accounts.find(who.account, who.user)
        except UnknownAccount:
            raise Unauthenticated(f"an unknown account or user: {who.account}/{who.user or ''}") from None
        if who.key not in principal.keys:
            raise Unauthenticated(f"an unknown key of {principal.name}")
        return principal

    def _user(self, principal: Principal, proof: Proof, active: tuple[str, ...] | None) -> User:
        async def again() -> User:
            return self._user(await self._owner(proof), proof, active)

        narrowed = None if principal.user is None else Rules(principal.active(active), self._tags)
        roles = ("admin",) if principal.operator else (self._role,)
        return User(
            principal.name,
            roles if principal.enabled else (),
            None if principal.operator else frozenset({principal.account}),
            proof="signature",
            again=lambda: Deferred.fromCoroutine(again()),
            narrowed=narrowed,
        )
