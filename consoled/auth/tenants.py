"""Tenants: which one a request names, and which nodes are theirs.

Called by the gate between the role and the console.  The table is the site's own, in memory; a tenant service
is another `Tenants`.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol

from twisted.internet.defer import Deferred, FirstError, fail, gatherResults, succeed
from twisted.python.failure import Failure

from consoled.core.access import Forbidden
from consoled.nodesets import expand

# The pattern by which CSM's gateway admits names (C-TENANT-6).
TENANT: Final = r"^[a-z0-9][a-z0-9\-.]{1,251}[a-z0-9]\Z"
_NAME: Final = re.compile(TENANT)


class UnknownTenant(Exception):
    """Nobody has heard of this tenant.  Distinct from not being able to ask."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What a tenant owns."""

    nodes: frozenset[str]
    holds: float = inf
    """For how many seconds that is an answer; then somebody has to ask again."""


class Tenants(Protocol):
    """Who owns what."""

    def nodes(self, tenant: str) -> Deferred[Holding]:
        """The tenant's nodes.  Fails with `UnknownTenant`, or with `CannotKnow` where it cannot be asked."""


class TenantTable:
    """The `[tenants]` of the configuration: a node set for each name."""

    def __init__(self, table: Mapping[str, str]) -> None:
        """Raises `ValueError` that names the key."""
        self._nodes: dict[str, frozenset[str]] = {}
        for name, nodes in table.items():
            if not _NAME.match(name):
                raise ValueError(
                    f"tenants.{name!r}: a tenant's name has 3 to 253 of a-z, 0-9, '-' and '.', "
                    "and begins and ends with a letter or digit"
                )
            try:
                self._nodes[name] = expand(nodes)
            except ValueError as error:
                raise ValueError(f"tenants.{name}: {error}") from None

    def nodes(self, tenant: str) -> Deferred[Holding]:
        """See `Tenants`."""
        return succeed(Holding(self._nodes[tenant])) if tenant in self._nodes else fail(UnknownTenant(tenant))


class FirstTenants:
    """Several sources: the first that has heard of a tenant says what it owns."""

    def __init__(self, sources: Sequence[Tenants]) -> None:
        self._sources = sources

    def nodes(self, tenant: str) -> Deferred[Holding]:
        """See `Tenants`."""
        return Deferred.fromCoroutine(self._ask(tenant))

    async def _ask(self, tenant: str) -> Holding:
        for source in self._sources:
            try:
                return await source.nodes(tenant)
            except UnknownTenant:
                continue
        raise UnknownTenant(tenant)


def named(headers: Sequence[bytes]) -> str | None:
    """The tenant that a request's tenant headers name; None if it names none.

    Raises `Forbidden` for several headers, or a name that could not be a tenant's.
    """
    if len(headers) > 1:
        raise _not_for("several tenant headers")
    name = headers[0].strip(b" \t").decode("latin-1") if headers else ""
    if not name:
        return None
    if not _NAME.match(name):
        raise _not_for(f"malformed tenant name {name}")
    return name


@dataclass(frozen=True, slots=True)
class Reach:
    """How far somebody reaches."""

    within: Collection[str] | None
    """The tenants whose nodes they are; None: all nodes."""
    owned: Mapping[str, frozenset[str]]
    """The nodes of each tenant that was asked about; one that nobody has heard of is not there."""
    holds: float
    """For how many seconds."""

    def has(self, console: str) -> bool:
        """Whether `console` is not out of reach."""
        return self.within is None or any(console in self.owned.get(tenant, ()) for tenant in self.within)


async def reach(
    bound: Collection[str] | None, choice: str | None, tenants: Tenants, also: Collection[str] = ()
) -> Reach:
    """How far a user reaches who is `bound` to some tenants and names `choice`; `also` is asked about as well.

    Naming a tenant narrows, also for a user who is bound to none, and never widens.  Raises `Forbidden` for a
    tenant that is unknown or not among the user's; a bound tenant that is unknown merely has no nodes.  Raises
    `CannotKnow` if any tenant cannot be asked; all are asked at once.
    """
    if choice is not None and bound is not None and choice not in bound:
        raise _not_for(f"not bound to tenant {choice}")
    within = bound if choice is None else {choice}
    names = sorted({*(within or ()), *also})
    try:
        answers = await gatherResults([tenants.nodes(name).addErrback(_nobody) for name in names], consumeErrors=True)
    except FirstError as first:
        first.subFailure.raiseException()
    holdings = {name: answer for name, answer in zip(names, answers, strict=True) if answer is not None}
    if choice is not None and choice not in holdings:
        raise _not_for(f"unknown tenant {choice}")
    owned = {name: holding.nodes for name, holding in holdings.items()}
    return Reach(within, owned, min((holding.holds for holding in holdings.values()), default=inf))


def _nobody(failure: Failure) -> None:
    failure.trap(UnknownTenant)


def _not_for(why: str) -> Forbidden:
    # One text for all of them: a stranger's tenant is not to be told from one that does not exist.
    return Forbidden("act for this tenant", why)
