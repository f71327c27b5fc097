"""Where the keys come from that tokens are signed with: a URL, an issuer's discovery document, or files.

Called by `jwt_tokens` for each token.  A URL is asked at the start, then every `refresh`, and for a `kid` that nobody
knows, but for that not more than once in 30 s, so that strangers cannot make us hammer the identity provider.  All
logins wait for the same answer, and none of them for long.  While the provider cannot be asked, the keys of before are
good for `stale`; after that nobody is let in on the word of a key that may have been withdrawn.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from math import ceil, inf
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from consoled.auth.jwk import Key, KeySet, read_jwks
from consoled.core.access import CannotKnow, Unauthenticated
from consoled.core.seams import Clock, Timer
from consoled.fetch import Fetcher, Unreachable, is_private

AGAIN: Final = 30.0
"""Seconds between two questions because of a `kid` that is not known."""
RETRY: Final = 10.0
"""Seconds from one that had no answer to the next."""
LIMIT: Final = 3.5
"""Seconds for all that one question takes: a discovery document, then the keys."""


class Keys(Protocol):
    """One issuer's keys."""

    @property
    def trouble(self) -> str | None:
        """Why they may not be the issuer's keys of now, for operators; None while they are."""

    def find(self, kid: str | None, algorithm: str) -> Deferred[Key]:
        """The key for a token.  Fails with `Unauthenticated` if there is none, or with `CannotKnow`."""

    def holds(self, key: Key) -> bool:
        """Whether `key` is still the issuer's, as far as is known."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class FetchedKeys:
    """Keys that have to be asked for."""

    _log = Logger()

    def __init__(
        self, fetch: Callable[[], Awaitable[KeySet]], clock: Clock, *, refresh: float, stale: float, issuer: str
    ) -> None:
        """`fetch` asks; what it raises has a text fit for operators.  `refresh` and `stale` in seconds."""
        self._fetch = fetch
        self._clock = clock
        self._refresh = refresh
        self._stale = stale
        self._issuer = issuer
        self._keys: KeySet | None = None
        self._since = -inf
        """When they came."""
        self._asked = -inf
        """When they were asked for last."""
        self._answer: Deferred[KeySet] | None = None
        """The question that is under way."""
        self._waiting: list[Deferred[None]] = []
        self._timer: Timer | None = None
        self._running = False
        self.trouble: str | None = None

    def start(self) -> None:
        """Ask for them, and go on doing so.  Idempotent."""
        if not self._running:
            self._running = True
            self._ask()

    def stop(self) -> None:
        """Ask no more."""
        self._running = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._answer is not None:
            self._answer.cancel()

    def find(self, kid: str | None, algorithm: str) -> Deferred[Key]:
        """See `Keys`."""
        return Deferred.fromCoroutine(self._find(kid, algorithm))

    def holds(self, key: Key) -> bool:
        """See `Keys`.  While they cannot be asked for, nothing is withdrawn."""
        return self._keys is not None and key in self._keys

    async def _find(self, kid: str | None, algorithm: str) -> Key:
        key = self._known(kid, algorithm)
        if key is None and self._may_ask():
            await self._next_answer()
            key = self._known(kid, algorithm)
        if key is not None:
            return key
        if self.trouble is not None:
            wait = min(max(self._asked + RETRY - self._clock.seconds(), 1.0), RETRY)
            raise CannotKnow(self.trouble, ceil(wait))
        named = "without a kid" if kid is None else f"{kid[:64]!a}"
        raise Unauthenticated(f"{self._issuer} has no key {named} for {algorithm}, or more than one")

    def _known(self, kid: str | None, algorithm: str) -> Key | None:
        if self._keys is None or abs(self._clock.seconds() - self._since) > self._stale:
            return None
        return self._keys.find(kid, algorithm)

    def _may_ask(self) -> bool:
        rest = AGAIN if self.trouble is None else RETRY
        return self._answer is not None or abs(self._clock.seconds() - self._asked) >= rest

    def _next_answer(self) -> Deferred[None]:
        """Fires when the question that is under way, or begun by this, has ended, well or not."""
        waiter: Deferred[None] = Deferred()  # whose cancelling stops nobody else's waiting
        self._waiting.append(waiter)
        if self._answer is None:
            self._ask()
        return waiter

    def _ask(self) -> None:
        self._asked = self._clock.seconds()
        self._answer = answer = Deferred.fromCoroutine(self._fetched())
        answer.addTimeout(LIMIT, self._clock, onTimeoutCancel=_late)
        answer.addCallbacks(self._came, self._failed)
        answer.addBoth(lambda _: self._answered())

    async def _fetched(self) -> KeySet:
        return await self._fetch()

    def _came(self, keys: KeySet) -> None:
        if self._keys is None or list(keys) != list(self._keys):
            self._log.info(
                "{count} keys of {issuer}: {kids}",
                count=len(keys),
                issuer=self._issuer,
                kids=", ".join(ascii(key.kid) for key in keys),
            )
            for line in keys.skipped:
                self._log.warn("a key of {issuer} is not used: {line}", issuer=self._issuer, line=line)
        elif self.trouble is not None:
            self._log.info("the keys of {issuer} can be had again", issuer=self._issuer)
        self._keys, self._since, self.trouble = keys, self._clock.seconds(), None

    def _failed(self, failure: Failure) -> None:
        if not failure.check(Unreachable, CancelledError):
            self._log.failure("the keys of {issuer} cannot be had", failure, issuer=self._issuer)
        trouble = f"the keys of {self._issuer} cannot be had: {failure.getErrorMessage()}"
        if trouble != self.trouble and self._running:
            self._log.error("{trouble}", trouble=trouble)
        self.trouble = trouble

    def _answered(self) -> None:
        self._answer = None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._running:
            self._timer = self._clock.callLater(self._refresh if self.trouble is None else RETRY, self._due)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def _due(self) -> None:
        if self._answer is None:
            self._ask()


def from_url(fetcher: Fetcher, url: str) -> Callable[[], Awaitable[KeySet]]:
    """A JWK set's own URL."""
    return lambda: _jwks(fetcher, url)


def from_discovery(
    fetcher: Fetcher, url: str, issuers: Sequence[str], unsafe_plaintext: bool
) -> Callable[[], Awaitable[KeySet]]:
    """By OpenID Connect Discovery 1.0 (section 4): `url` is the document's, and its issuer must be one of `issuers`."""

    async def fetch() -> KeySet:
        document = await _json(fetcher, url)
        if not isinstance(document, dict) or document.get("issuer") not in issuers:
            raise Unreachable(f"{url}: it is not the discovery document of {' or '.join(issuers)}")
        where = document.get("jwks_uri")
        if not isinstance(where, str):
            raise Unreachable(f"{url}: it has no jwks_uri")
        try:
            check_url(where, unsafe_plaintext)
        except ValueError as error:
            raise Unreachable(f"{url}: its jwks_uri: {error}") from None
        return await _jwks(fetcher, where)

    return fetch


def check_url(url: str, unsafe_plaintext: bool) -> None:
    """Raise `ValueError` unless keys may be asked for there."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or not url.isascii() or not url.isprintable() or " " in url or parts.username or parts.fragment:
        raise ValueError(f"{url[:200]!a} is not a URL")
    if not is_private(url) and not (parts.scheme == "http" and unsafe_plaintext):
        raise ValueError(f"{url[:200]!a}: it must begin with https:// (or be http:// on loopback)")


async def _jwks(fetcher: Fetcher, url: str) -> KeySet:
    try:
        return read_jwks(await _body(fetcher, url))
    except ValueError as error:
        raise Unreachable(f"{url}: {error}") from None


async def _json(fetcher: Fetcher, url: str) -> Any:
    try:
        return msgspec.json.decode(await _body(fetcher, url))
    except (msgspec.MsgspecError, RecursionError):
        raise Unreachable(f"{url}: it is no JSON") from None


async def _body(fetcher: Fetcher, url: str) -> bytes:
    status, body = await fetcher.get(url)
    if status != 200:
        raise Unreachable(f"{url}: status {status}")
    return body


def _late(result: Any, limit: float) -> Any:
    if isinstance(result, Failure) and result.check(CancelledError):
        raise Unreachable(f"no answer within {limit:g} s")
    return result
