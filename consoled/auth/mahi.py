"""mahi: Triton's own directory of accounts and keys, asked over HTTP.

One of the two sources of `accounts.Accounts`; called by the checker of signed requests and by the `cloudapi` face.
Answers are kept for a few seconds, and a good one for a minute at most where mahi cannot be asked: an outage must
neither lock everybody out at once nor let a withdrawn key in for long.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from consoled.auth.accounts import Principal, Role, UnknownAccount, actions, fingerprints, read_key
from consoled.auth.signatures import PublicKey
from consoled.core.access import CannotKnow
from consoled.core.seams import Clock
from consoled.fetch import Unreachable
from consoled.triton import UUID, Http

FRESH: Final = 5.0
"""Seconds for which an answer is not asked for again."""
STALE: Final = 60.0
"""Seconds for which it may serve while mahi cannot be asked."""
MOST: Final = 4096
"""Answers that are kept."""


class _Account(msgspec.Struct, frozen=True):
    uuid: str
    login: str
    keys: dict[str, str] = {}
    is_operator: bool = msgspec.field(default=False, name="isOperator")
    disabled: bool = False


class _User(msgspec.Struct, frozen=True):
    login: str
    keys: dict[str, str] = {}
    roles: tuple[str, ...] = ()
    default_roles: tuple[str, ...] = msgspec.field(default=(), name="defaultRoles")


class _Role(msgspec.Struct, frozen=True):
    name: str
    rules: tuple[tuple[str, Any], ...] = ()


class _Answer(msgspec.Struct, frozen=True):
    account: _Account
    user: _User | None = None
    roles: dict[str, _Role] = {}


class Mahi:
    """Accounts and their sub-users, by login."""

    _log = Logger()

    def __init__(self, http: Http, url: str, clock: Clock) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._clock = clock
        self._kept: dict[tuple[str, str | None], tuple[float, Principal]] = {}

    def find(self, login: str, user: str | None = None) -> Deferred[Principal]:
        """See `accounts.Accounts`."""
        return Deferred.fromCoroutine(self._find(login, user))

    async def _find(self, login: str, user: str | None) -> Principal:
        asked = self._clock.seconds()
        when, kept = self._kept.get((login, user), (-STALE, None))
        if kept is not None and asked - when < FRESH:
            return kept
        try:
            found = await self._ask(login, user)
        except UnknownAccount:
            self._kept.pop((login, user), None)
            raise
        except Unreachable as error:
            if kept is not None and asked - when < STALE:
                return kept
            raise CannotKnow(f"mahi: {error}") from None
        if len(self._kept) >= MOST:
            self._kept.clear()  # a flood of names; whoever is real is asked for again
        self._kept[login, user] = asked, found
        return found

    async def _ask(self, login: str, user: str | None) -> Principal:
        query = f"/accounts?login={quote(login, safe='')}"
        if user is not None:
            query = f"/users?account={quote(login, safe='')}&login={quote(user, safe='')}&fallback=false"
        status, body = await self._http.get(self._url + query)
        if status == 404:
            raise UnknownAccount(login)
        if status != 200:
            raise Unreachable(f"it answered {status}")
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise Unreachable("it answered with something else than was asked for") from None
        if answer.account.login != login or (user is not None and (answer.user is None or answer.user.login != user)):
            raise UnknownAccount(login)
        if not UUID.fullmatch(answer.account.uuid):
            raise Unreachable("the account has no proper uuid")
        return self._principal(answer, user)

    def _principal(self, answer: _Answer, user: str | None) -> Principal:
        account, who = answer.account, answer.user
        if user is None or who is None:
            keys = self._keys(account.login, account.keys)
            return Principal(account.uuid, account.login, keys, not account.disabled, account.is_operator)
        return Principal(
            account.uuid,
            account.login,
            self._keys(f"{account.login}/{user}", who.keys),
            not account.disabled,
            user=user,
            roles=tuple(_role(uuid, answer.roles[uuid]) for uuid in who.roles if uuid in answer.roles),
            default_roles=frozenset(who.default_roles),
        )

    def _keys(self, owner: str, entries: dict[str, str]) -> dict[str, PublicKey]:
        keys: dict[str, PublicKey] = {}
        for text in entries.values():
            try:
                key = read_key(text)
            except ValueError as error:
                self._log.debug("a key of {owner} is left out: {why}", owner=owner, why=error)
                continue
            keys.update(dict.fromkeys(fingerprints(key), key))
        return keys


def _role(uuid: str, role: _Role) -> Role:
    allowed = frozenset[str]().union(*(actions(text) for text, _ in role.rules))
    return Role(uuid, role.name, allowed)
