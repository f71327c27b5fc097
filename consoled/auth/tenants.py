"""Tenants: which one a request names, and which nodes are theirs.

Called by the gate between the role and the console.  The table is the site's own, in memory; a tenant service
is another `Tenants`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from twisted.internet.defer import Deferred, fail, succeed

from consoled.core.access import Forbidden
from consoled.nodesets import expand

# The pattern by which CSM's gateway admits names (C-TENANT-6).
TENANT: Final = r"^[a-z0-9][a-z0-9\-.]{1,251}[a-z0-9]\Z"
_NAME: Final = re.compile(TENANT)


class UnknownTenant(Exception):
    """Nobody has heard of this tenant.  Distinct from not being able to ask."""


class Tenants(Protocol):
    """Who owns what."""

    def nodes(self, tenant: str) -> Deferred[frozenset[str]]:
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

    def nodes(self, tenant: str) -> Deferred[frozenset[str]]:
        """See `Tenants`."""
        return succeed(self._nodes[tenant]) if tenant in self._nodes else fail(UnknownTenant(tenant))


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


async def reach(
    bound: frozenset[str] | None, choice: str | None, tenants: Tenants
) -> tuple[frozenset[str], ...] | None:
    """The node sets within reach of a user who is `bound` to some tenants and names `choice`; None: all nodes.

    Naming a tenant narrows, also for a user who is bound to none, and never widens.  Raises `Forbidden` for a
    tenant that is unknown or not among the user's; a bound tenant that is unknown merely has no nodes.
    """
    if choice is not None:
        if bound is not None and choice not in bound:
            raise _not_for(f"not bound to tenant {choice}")
        try:
            return (await tenants.nodes(choice),)
        except UnknownTenant:
            raise _not_for(f"unknown tenant {choice}") from None
    if bound is None:
        return None
    sets = []
    for tenant in sorted(bound):
        try:
            sets.append(await tenants.nodes(tenant))
        except UnknownTenant:
            continue
    return tuple(sets)


def _not_for(why: str) -> Forbidden:
    # One text for all of them: a stranger's tenant is not to be told from one that does not exist.
    return Forbidden("act for this tenant", why)
