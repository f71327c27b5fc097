"""The tokens file: who holds a bearer token, and what it makes of them.

One checker of the gate's portal.  The file has the tokens' SHA-256 only; tokens are random and long, so that a
plain hash is as good as a slow one.  `watched` says what happens when it changes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from functools import partial
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Annotated, Any

import msgspec
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from zope.interface import implementer

from consoled.auth.credentials import BearerToken, IBearerToken
from consoled.auth.tenants import TENANT
from consoled.auth.watched import Watched
from consoled.core.access import Unauthenticated, User
from consoled.core.seams import Clock


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    # Every pattern ends in \Z: $ would let a newline through.
    name: Annotated[str, msgspec.Meta(pattern=r"^[\w.@+-]{1,64}\Z")]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Fa-f]{64}\Z")]
    role: str | Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    expires: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    tenants: tuple[Annotated[str, msgspec.Meta(pattern=TENANT)], ...] | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token: tuple[_Entry, ...] = ()


def parse(text: bytes, roles: Collection[str]) -> dict[bytes, User]:
    """The users in a tokens file, by the hash of their token.

    Raises `ValueError` that names the key.  It never quotes a value of `sha256`: that may be a token that someone
    forgot to hash.
    """
    users: dict[bytes, User] = {}
    for at, entry in enumerate(msgspec.toml.decode(text, type=_File).token):
        own = (entry.role,) if isinstance(entry.role, str) else entry.role
        for role in own:
            if role not in roles:
                raise ValueError(f"{role!r} is not a role ({', '.join(sorted(roles))}) - at `$.token[{at}].role`")
        digest = bytes.fromhex(entry.sha256)
        if digest in users:
            raise ValueError(f"the same token as {users[digest].name!r} has - at `$.token[{at}].sha256`")
        tenants = None if entry.tenants is None else frozenset(entry.tenants)
        expires = None if entry.expires is None else entry.expires.timestamp()
        users[digest] = User(entry.name, own, tenants, proof="tokens", expires=expires)
    return users


@implementer(ICredentialsChecker)
class TokensFile:
    """Lets in whoever shows a token whose hash is in the file."""

    credentialInterfaces = (IBearerToken,)

    def __init__(self, path: Path, roles: Collection[str], clock: Clock) -> None:
        """Raises `OSError` if there is no such file, or `ValueError` that names file and key."""
        self._users = Watched(path, lambda text: parse(text, roles), "tokens", clock)

    def become(self, other: TokensFile) -> None:
        """See `gate.Renewable`."""
        self._users = other._users

    @property
    def trouble(self) -> str | None:
        """Why the tokens in force are not those of the file, for people; None while they are."""
        return self._users.trouble

    def requestAvatarId(self, credentials: BearerToken) -> Any:  # cred's own annotation knows ids of bytes only
        """The `User` it is.  Raises `UnauthorizedLogin`."""
        presented = sha256(credentials.value).digest()
        user = None
        # To the end, whether found or not: the time it takes says nothing.
        for digest, owner in (self._users.content() or {}).items():
            if compare_digest(digest, presented):
                user = owner
        if user is None:
            raise UnauthorizedLogin("unknown token")
        return replace(user, again=partial(self._again, presented))

    def _again(self, digest: bytes) -> User:
        """Who it is now that was let in with the token of this `digest`."""
        user = (self._users.content_of_late() or {}).get(digest)
        if user is None:
            raise Unauthenticated("the token was taken back")
        return replace(user, again=partial(self._again, digest))
