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
from twisted.python.failure import Failure

from consoled.api.answers import HttpRefusal
from consoled.api.doors import LimitSettings, group
from consoled.api.meters import Meters
from consoled.api.pace import Buckets
from consoled.api.proxies import host_of
from consoled.core.access import CannotKnow, Gate, Knock, Scope, Unauthenticated, User, Verb
from consoled.core.seams import Clock

DELAY = 1.0
"""Seconds that a refusal takes, once an address has spent half of its tries."""
REMEMBERED = 10_000
"""Addresses that have failed, and proofs that were good: so many of each are remembered."""
SAID = 3600.0
"""Seconds between two lines in the log about one address."""

_log = Logger()


class Patience:
    """A gate that loses it; see `core.access.Gate`, but that `login` may also fail with an `HttpRefusal` 429."""

    def __init__(self, gate: Gate, settings: LimitSettings, clock: Clock, key: bytes, meters: Meters) -> None:
        """`key` is random: with it proofs are remembered as hashes that nobody else can make."""
        self._gate = gate
        self._logins = meters.logins
        self._clock = clock
        self._key = key
        self._tries = 0
        self.renew(settings)
        self._said = Buckets(1 / SAID, 1, clock.seconds, REMEMBERED)
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def renew(self, settings: LimitSettings) -> None:
        """Another limit; who has failed is forgotten then."""
        if self._tries != settings.failed_logins:
            self._tries = settings.failed_logins
            self._failures = Buckets(self._tries / 60, self._tries, self._clock.seconds, REMEMBERED)

    @property
    def is_open(self) -> bool:
        return self._gate.is_open

    def login(self, knock: Knock) -> Deferred[User]:
        return Deferred.fromCoroutine(self._login(knock)).addBoth(self._count)

    def authorise(self, user: User, verb: Verb, tenant: Sequence[bytes] = ()) -> Deferred[Scope]:
        return self._gate.authorise(user, verb, tenant)

    def _count(self, result: User | Failure) -> User | Failure:
        match result.value if isinstance(result, Failure) else None:
            case None:
                self._logins.labels("accepted").inc()
            case Unauthenticated():
                self._logins.labels("refused").inc()
            case HttpRefusal():
                self._logins.labels("throttled").inc()
            case _:
                self._logins.labels("unknown").inc()
        return result

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
        # What is good once only would push out what is shown again.
        if knock.ticket is None and not _is_signed(knock):
            self._known[proof] = None
            self._known.move_to_end(proof)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return user

    async def _failed(self, address: str) -> None:
        failures = self._failures.of(address)
        before = failures.left
        failures.take()
        if before >= 1 > failures.left and not self._said.of(address).wait():
            self._said.of(address).take()
            _log.warn("too many failed logins from {address}: its next ones are refused", address=address)
        if failures.left < self._tries / 2:
            try:
                await deferLater(self._clock, DELAY)
            except CancelledError:
                raise CannotKnow("the client left, or it took too long") from None

    def _digest(self, knock: Knock) -> bytes | None:
        """What `knock` shows, as nobody can read it; None if it shows nothing."""
        # Of a header its last word, which has the secret: a scheme can be spelled in a thousand ways.
        words = [word for value in knock.authorization for word in value.split()[-1:]]
        proofs = [*words, knock.ticket or b"", knock.certificate or b""]
        if knock.request is not None and _is_signed(knock):
            proofs.append(knock.request.target)
        if not any(proofs):
            return None
        hashed = blake2b(key=self._key, digest_size=16)
        for proof in proofs:
            hashed.update(len(proof).to_bytes(8, "big") + proof)
        return hashed.digest()


def _is_signed(knock: Knock) -> bool:
    """Whether it shows a signature, which is good for one request."""
    if knock.request is None:
        return False
    return b"signature=" in knock.request.target or any(one.startswith(b"Signature") for one in knock.authorization)
