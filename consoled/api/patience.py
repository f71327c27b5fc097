"""How often an address may fail to log in: a gate before the gate.

`tap` puts it between the faces and `auth.gate`; every login of every face passes it.  Only proofs that were refused
count, not requests without any: those guess nothing.  An address (an IPv6 /64) that fails often is answered slowly,
and then not at all for a while: 429.  Nobody's success forgives it, or an attacker behind the same NAT as an honest
client could go on for ever; but whoever was let in before is let on to the gate with the same proof at any time, or the
attacker could lock the honest out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from math import ceil

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from consoled.api.answers import HttpRefusal
from consoled.api.doors import LimitSettings, group
from consoled.api.pace import Buckets
from consoled.api.proxies import host_of
from consoled.core.access import CannotKnow, Gate, Knock, Scope, Unauthenticated, User, Verb
from consoled.core.seams import Clock

DELAY = 1.0
"""Seconds that a refusal takes, once an address has spent half of its tries."""
REMEMBERED = 10_000
"""Addresses that have failed, and proofs that were good: so many of each are remembered."""

_log = Logger()


class Patience:
    """A gate that loses it; see `core.access.Gate`, but that `login` may also fail with an `HttpRefusal` 429."""

    def __init__(self, gate: Gate, settings: LimitSettings, clock: Clock, key: bytes) -> None:
        """`key` is random: with it proofs are remembered as hashes that nobody else can make."""
        self._gate = gate
        self._tries = settings.failed_logins
        self._clock = clock
        self._key = key
        self._failures = Buckets(self._tries / 60, self._tries, clock.seconds, REMEMBERED)
        self._known: OrderedDict[bytes, None] = OrderedDict()

    @property
    def is_open(self) -> bool:
        return self._gate.is_open

    def login(self, knock: Knock) -> Deferred[User]:
        return Deferred.fromCoroutine(self._login(knock))

    def authorise(self, user: User, verb: Verb, tenant: Sequence[bytes] = ()) -> Deferred[Scope]:
        return self._gate.authorise(user, verb, tenant)

    async def _login(self, knock: Knock) -> User:
        proof = self._digest(knock)
        if proof is None:
            return await self._gate.login(knock)
        address = group(host_of(knock.origin))
        failures = self._failures.find(address)
        if failures is not None and proof not in self._known and (wait := failures.wait()):
            raise HttpRefusal(
                429, "Too many failed logins from this address; try again later", {"Retry-After": str(ceil(wait))}
            )
        try:
            user = await self._gate.login(knock)
        except Unauthenticated:
            self._known.pop(proof, None)
            await self._failed(address)
            raise
        self._known[proof] = None
        self._known.move_to_end(proof)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return user

    async def _failed(self, address: str) -> None:
        failures = self._failures.of(address)
        before = failures.left
        failures.take()
        if before >= 1 > failures.left:
            _log.warn("too many failed logins from {address}: its next ones are refused", address=address)
        if failures.left < self._tries / 2:
            try:
                await deferLater(self._clock, DELAY)
            except CancelledError:
                raise CannotKnow("the client left, or it took too long") from None

    def _digest(self, knock: Knock) -> bytes | None:
        """What `knock` shows, as nobody can read it; None if it shows nothing."""
        proofs = [*knock.authorization, knock.ticket or b"", knock.certificate or b""]
        if knock.request is not None and b"signature=" in knock.request.target:
            proofs.append(knock.request.target)
        if not any(proofs):
            return None
        hashed = blake2b(key=self._key, digest_size=16)
        for proof in proofs:
            hashed.update(len(proof).to_bytes(8, "big") + proof)
        return hashed.digest()
