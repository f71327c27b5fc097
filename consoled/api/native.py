"""consoled's own API, `/v1`.  So far it has tickets.

`POST /v1/tickets` with `{"console": "x3000c0s1b0n0", "mode": "interact"}` (or `"tail"`), from whoever may open such a
session, answers `{"ticket": "...", "expires_in": 30}`: for a browser, which then opens the WebSocket of another face,
`.../interact/x3000c0s1b0n0?ticket=...`.  The site asks this face for each request; `docs/audit.md` tells of tickets.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec
from twisted.web.server import Request

from consoled.api.admission import Admission, tenants_of
from consoled.api.answers import HttpRefusal, answer, refuse
from consoled.api.refusals import refuse_for
from consoled.api.upgrade import Road
from consoled.core.access import TicketOffice

LARGEST = 4096
"""In bytes, of a request's body."""

T = TypeVar("T")

_Answer = tuple[int, Any]
"""A status and what becomes the JSON."""


class _Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/tickets`."""

    console: str
    mode: Literal["interact", "tail"]


class Native:
    """The face."""

    def __init__(self, admission: Admission, road: Road, tickets: TicketOffice) -> None:
        self._admission = admission
        self._road = road
        self._tickets = tickets
        self._routes: Mapping[tuple[bytes, ...], Mapping[bytes, Callable[[Request], Coroutine[Any, Any, _Answer]]]] = {
            (b"v1", b"tickets"): {b"POST": self._issue},
        }

    def took(self, request: Request, path: Sequence[bytes]) -> bool:
        methods = self._routes.get(tuple(path))
        if methods is None:
            return False
        act = methods.get(request.method)
        if act is None:
            method = request.method.decode("ascii", "replace")
            refuse(request, 405, f"({method}) Not Allowed", {"Allow": b", ".join(methods).decode()})
        else:
            self._road.decide(request, act(request), lambda done: answer(request, *done), refuse_for)
        return True

    async def _issue(self, request: Request) -> _Answer:
        wish = _body(request, _Wish)
        scope, console = await self._admission.admit(request, wish.mode, wish.console.encode())
        ticket = self._tickets.issue(scope.user, wish.mode, console.name, tenants_of(request))
        return 201, {"ticket": ticket, "expires_in": int(self._tickets.lifetime)}


def _body(request: Request, kind: type[T]) -> T:
    """What the body says.  Raises `HttpRefusal`."""
    types = request.requestHeaders.getRawHeaders(b"content-type") or []
    # No HTML form can send this type: where a browser adds credentials by itself, no other site's page can ask.
    if [one.partition(b";")[0].strip().lower() for one in types] != [b"application/json"]:
        raise HttpRefusal(415, "The body must be application/json")
    assert request.content is not None
    text = request.content.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise HttpRefusal(413, f"The body may have {LARGEST} bytes")
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HttpRefusal(400, f"The body is not understood: {error}") from None
