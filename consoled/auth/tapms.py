"""CSM's tenant service (TAPMS): which nodes are a tenant's, asked over HTTP and believed for seconds.

The gate asks it as any other `Tenants`, for each decision.  What it said less than `cache` ago is the answer; otherwise
it is asked, once for all who want to know, and has three seconds.  When it cannot be asked (refused, dropped, hanging,
an error, an answer that makes no sense) what it said less than `stale` ago still counts; after that nobody knows, and
the gate says no.  That a tenant does not exist is an answer, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Protocol
from urllib.parse import quote

import msgspec
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from consoled.auth.tenants import TENANT, Holding, UnknownTenant
from consoled.core.access import CannotKnow
from consoled.core.seams import Clock
from consoled.core.secret import Secret, Secrets, SecretUnavailable
from consoled.fetch import Unreachable, is_private
from consoled.units import Duration, FilePath

LIMIT: Final = 3.0
"""Seconds for an answer: a decision has four in all."""
PAUSE: Final = 1.0
"""Seconds after a failure in which it is not asked again about the same tenant."""
REMEMBERED: Final = 1000
"""Tenants; the one that was asked about the longest ago is forgotten first."""

_NAME: Final = re.compile(TENANT)


class TapmsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[tapms]`."""

    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?\Z")]
    """What stands before the version: `"https://api-gw-service-nmn.local/apis/tapms"`."""
    version: Annotated[str, msgspec.Meta(pattern=r"^[\w.-]+\Z")] = "v1alpha3"
    """Of its API, which is not stable."""
    token: Secret | None = None
    """The bearer token that it wants, if any."""
    ca: FilePath = FilePath()
    """A PEM file of the authorities that may sign its certificate.  Empty: the system's."""
    fingerprint: str = ""
    """The SHA-256 of its certificate, in hex: then neither authority nor name count."""
    unsafe_plaintext: bool = False
    """Ask over plain HTTP, as inside CSM's mesh: whoever sits between may give any node to any tenant."""
    cache: Duration = Duration(10)
    """For how long an answer is believed without asking again."""
    stale: Duration = Duration(60)
    """For how long, when it cannot be asked; not less than `cache`."""

    def __post_init__(self) -> None:
        if not self.is_private:
            if not self.unsafe_plaintext:
                raise ValueError("url: it must begin with https://, or say unsafe_plaintext = true")
            if self.token is not None:
                raise ValueError("token: it is not sent over plain HTTP")
        if self.ca and self.fingerprint:
            raise ValueError('"ca" is not asked with "fingerprint"')
        if self.stale < self.cache:
            raise ValueError("stale: it must not be less than cache")

    @property
    def is_private(self) -> bool:
        """Whether nobody between can read or change what is said."""
        return is_private(self.url)


class Http(Protocol):
    """Who asks; see `consoled.fetch`."""

    def get(self, url: str, headers: Mapping[str, str]) -> Deferred[tuple[int, bytes]]:
        """The status and the body, of a bounded size, of this very URL."""


class _Resource(msgspec.Struct, frozen=True):
    xnames: tuple[str, ...] | None = None


class _Status(msgspec.Struct, frozen=True):
    """What has been observed, in contrast to `spec`, which is wished for."""

    uuid: str = ""
    tenantresources: tuple[_Resource, ...] | None = None


class _Metadata(msgspec.Struct, frozen=True):
    name: str = ""


class _Spec(msgspec.Struct, frozen=True):
    tenantname: str = ""


class _Answer(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    spec: _Spec = _Spec()
    status: _Status | None = None


@dataclass(slots=True)
class _Tenant:
    """What is known of one."""

    nodes: frozenset[str] | None = None
    """None: it does not exist."""
    answered: float = float("-inf")
    failed: float = float("-inf")
    """When it last could not be asked."""
    why: str = ""
    waiting: list[Deferred[Holding]] | None = field(default=None, repr=False)
    """Who waits for the answer that is on its way; None: none is."""


class TenantService:
    """The tenants as TAPMS knows them; see `Tenants`."""

    _log = Logger()

    def __init__(self, settings: TapmsSettings, http: Http, secrets: Secrets, clock: Clock) -> None:
        self._settings = settings
        self._http = http
        self._secrets = secrets
        self._clock = clock
        self._known: dict[str, _Tenant] = {}
        self._token_refused = False
        self.trouble: str | None = None
        """Why it could not be asked, the last time it was; None if it could."""

    def nodes(self, tenant: str) -> Deferred[Holding]:
        """See `Tenants`."""
        if not _NAME.match(tenant):
            return fail(UnknownTenant(tenant))
        known = self._known.pop(tenant, None) or _Tenant()
        self._known[tenant] = known
        now = self._clock.seconds()
        if known.waiting is not None:
            return self._wait(known)
        if 0 <= now - known.answered < self._settings.cache:
            return self._told(known, tenant)
        if 0 <= now - known.failed < PAUSE:
            return self._not_told(known, tenant)
        self._forget()
        known.waiting = []
        answer = self._wait(known)
        Deferred.fromCoroutine(self._find_out(known, tenant))
        return answer

    def _wait(self, known: _Tenant) -> Deferred[Holding]:
        """One more who waits, and may leave without disturbing the others."""
        waiting = known.waiting
        assert waiting is not None
        one: Deferred[Holding] = Deferred(waiting.remove)
        waiting.append(one)
        return one

    def _forget(self) -> None:
        for name in list(self._known)[: max(0, len(self._known) - REMEMBERED)]:
            if self._known[name].waiting is None:
                del self._known[name]

    # ------------------------------------------------------------------------------------------- asking

    async def _find_out(self, known: _Tenant, tenant: str) -> None:
        """Ask, and tell all who wait."""
        tell, asked = self._told, self._clock.seconds()
        try:
            known.nodes = await Deferred.fromCoroutine(self._ask(tenant)).addTimeout(LIMIT, self._clock)
            known.answered = asked
            if self.trouble is not None:
                self.trouble = None
                self._log.info("the tenant service answers again")
        except Exception as error:
            tell, known.failed, known.why = self._not_told, self._clock.seconds(), _explained(error)
            if known.failed - asked >= LIMIT:  # whoever was interrupted says so in words of its own
                known.why = f"no answer within {LIMIT:g} s"
            if self.trouble is None:
                self._log.error("the tenant service cannot be asked: {why}", why=known.why)
            self.trouble = f"the tenant service cannot be asked: {known.why}"
        waiting, known.waiting = known.waiting or (), None
        for one in waiting:
            tell(known, tenant).chainDeferred(one)

    async def _ask(self, tenant: str) -> frozenset[str] | None:
        """The tenant's nodes; None if there is no such tenant.  Raises whatever goes wrong."""
        headers = {}
        if self._settings.token is not None:
            token = await self._secrets.fetch(self._settings.token, fresh=self._token_refused)
            headers["Authorization"] = f"Bearer {token}"
        url = f"{self._settings.url.rstrip('/')}/{self._settings.version}/tenants/{quote(tenant, safe='')}"
        status, body = await self._http.get(url, headers)
        self._token_refused = status in (401, 403)
        if status == 404 and _is_about_the_tenant(body):
            return None
        if status != 200:
            raise Unreachable(f"{url}: status {status}")
        try:
            found = msgspec.json.decode(body, type=_Answer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Unreachable(f"{url}: the answer is not a tenant") from None
        observed = found.status or _Status()
        # It can be asked by name or by uuid.  What is between may have mixed up two answers.
        if tenant not in (found.metadata.name, found.spec.tenantname, observed.uuid):
            raise Unreachable(f"{url}: the answer is another tenant's")
        return frozenset(name for one in observed.tenantresources or () for name in one.xnames or ())

    # ------------------------------------------------------------------------------------------- telling

    def _told(self, known: _Tenant, tenant: str) -> Deferred[Holding]:
        return self._as_known(known, tenant, self._left(known, self._settings.cache))

    def _not_told(self, known: _Tenant, tenant: str) -> Deferred[Holding]:
        left = self._left(known, self._settings.stale)
        if left > 0:
            return self._as_known(known, tenant, left)
        return fail(CannotKnow(f"the tenant service cannot be asked: {known.why}"))

    def _left(self, known: _Tenant, good_for: float) -> float:
        """For how many seconds an answer counts that is `good_for` so many."""
        return max(0.0, min(good_for, known.answered + good_for - self._clock.seconds()))

    def _as_known(self, known: _Tenant, tenant: str, holds: float) -> Deferred[Holding]:
        return fail(UnknownTenant(tenant)) if known.nodes is None else succeed(Holding(known.nodes, holds))


def _is_about_the_tenant(body: bytes) -> bool:
    """Whether a 404 says that there is no such tenant (a bare string), rather than no such page."""
    try:
        said: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    message = said.get("message") if isinstance(said, dict) else said
    return isinstance(message, str) and message != "Page not found"


def _explained(error: Exception) -> str:
    # The text of any other may have anything in it.
    return str(error) if isinstance(error, Unreachable | SecretUnavailable) else type(error).__name__
