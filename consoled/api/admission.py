"""Who, what, where: the questions before a client is let near a console, in the order that tells a stranger nothing.

The faces that take CSM's credentials (`csm`, `native`) ask them here; `core.access` has the order and the reasons.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.web.server import Request

from consoled.api.answers import HttpRefusal
from consoled.api.proxies import knock
from consoled.core.access import Forbidden, Gate, Scope, Verb
from consoled.core.console import Console
from consoled.core.faults import NotMonitored, UnknownConsole
from consoled.core.hub import Hub

TICKET = b"ticket"
"""The query parameter that may have a one-use ticket."""


class Admission:
    """Asks the gate and the hub."""

    def __init__(self, hub: Hub, gate: Gate, hide_forbidden: bool) -> None:
        """With `hide_forbidden` a console of somebody else is answered for as one that does not exist."""
        self._hub = hub
        self._gate = gate
        self._hide_forbidden = hide_forbidden

    async def admit(
        self, request: Request, verb: Verb, node: bytes, ticket: bytes | None = None
    ) -> tuple[Scope, Console]:
        """The console of `node`, a name as it came, and what whoever sent `request` may do there.

        Raises `Unauthenticated`, `Forbidden`, `CannotKnow`, `UnknownConsole`, `NotMonitored` or `NotOpen`.
        """
        scope = await self.authorise(request, verb, tenants_of(request), ticket)
        return scope, self.find(scope, verb, node)

    async def authorise(
        self, request: Request, verb: Verb, tenants: Sequence[bytes], ticket: bytes | None = None
    ) -> Scope:
        """What whoever sent `request` may do, for the tenant that it names; `verb` is among it.

        Raises `Unauthenticated`, `Forbidden` or `CannotKnow`.
        """
        user = await self._gate.login(knock(request, ticket))
        return await self._gate.authorise(user, verb, tenants)

    def find(self, scope: Scope, verb: Verb, node: bytes, *, quietly: bool = False) -> Console:
        """The console of `node`, a name as it came, where `scope` admits `verb`; `quietly`: a refusal is not audited.

        Raises `Forbidden`, `UnknownConsole`, `NotMonitored` or `NotOpen`.
        """
        name = _name(node)
        try:
            console = self._hub.find(name)
        except NotMonitored:
            if self._hide_forbidden:
                self._require(scope, verb, name, quietly)
            raise
        self._require(scope, verb, name, quietly)
        return console

    async def inquire(self, request: Request) -> Scope | None:
        """What whoever sent `request` may list; None for somebody who shows nothing, where that is not enough.

        Raises `Unauthenticated`, `Forbidden` or `CannotKnow`.
        """
        shown = knock(request)
        if not (shown.authorization or shown.certificate or self._gate.is_open):
            return None
        return await self._gate.authorise(await self._gate.login(shown), "list", tenants_of(request))

    def _require(self, scope: Scope, verb: Verb, name: str, quietly: bool) -> None:
        try:
            if not quietly:
                scope.require(verb, name)
            elif not scope.admits(verb, name):
                raise Forbidden(f"access {name}", f"no role has the verb {verb} there")
        except Forbidden:
            if self._hide_forbidden:
                raise UnknownConsole(name) from None
            raise


def tenants_of(request: Request) -> Sequence[bytes]:
    """The values of the request's tenant headers."""
    return request.requestHeaders.getRawHeaders(b"cray-tenant-name") or ()


def take_ticket(request: Request) -> bytes | None:
    """The ticket in the query of `request`, which has it no longer: nothing that shows the request shows it.

    Raises `HttpRefusal` if there are several.
    """
    tickets = (request.args or {}).pop(TICKET, [])
    if tickets:
        request.uri = request.path
    if len(tickets) > 1:
        raise HttpRefusal(400, "The ticket was sent more than once")
    return tickets[0] if tickets else None


def _name(node: bytes) -> str:
    """The node's name.  What can be no name is unknown, like every other wrong one."""
    try:
        name = node.decode()
    except UnicodeDecodeError:
        raise UnknownConsole(ascii(node.decode("utf-8", "replace"))[1:-1]) from None
    if not name.isprintable() or "/" in name or name in ("", ".", ".."):
        raise UnknownConsole(ascii(name)[1:-1])
    return name
