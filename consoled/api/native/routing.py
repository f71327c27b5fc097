"""The routes of `/v1`: which there are, and what happens to a request before its route acts.

The order is the same for all, so that no route can forget the gate: who is it, may they do that at all, is there such a
console, may they do that there; only then what the query and the body say.  `face` lists the routes.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from twisted.web.server import Request

from consoled.api.admission import Admission, tenants_of
from consoled.api.answers import HttpRefusal, answer, refuse
from consoled.api.native.shapes import Query
from consoled.api.refusals import refuse_for
from consoled.api.upgrade import Road
from consoled.core.access import Scope, Verb
from consoled.core.console import Console

LARGEST = 4096
"""In bytes, of a request's body, unless its route takes more."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """A request that the gate has let through, as its route sees it."""

    request: Request
    scope: Scope
    words: Mapping[str, bytes]
    """What stands in the path for each `{word}`."""
    query: Any = None
    body: Any = None
    found: Console | None = None

    @property
    def console(self) -> Console:
        """The one that the path names."""
        assert self.found is not None
        return self.found


Act = Callable[[Call], Coroutine[Any, Any, Any]]
"""Returns what becomes the JSON of the answer, or None."""
Open = Callable[[Request, Mapping[str, bytes]], None]
"""Answers a request all by itself, gate and all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation."""

    method: str
    path: str
    summary: str
    verb: Verb | None
    """What one has to have the right to; None: nobody is asked, or `by_itself` asks."""
    act: Act | None = None
    by_itself: Open | None = None
    query: type[Query] = Query
    body: type[msgspec.Struct] | None = None
    largest: int = LARGEST
    status: int = 200
    says: type[msgspec.Struct] | None = None
    """What the answer is; None: nothing, or no JSON."""
    also: Mapping[int, str] | None = None
    """Further answers, for the description."""

    @property
    def parts(self) -> list[str]:
        return self.path.strip("/").split("/")


class Routes:
    """All of them."""

    def __init__(self, routes: Sequence[Route], admission: Admission, road: Road) -> None:
        self.all = routes
        self._admission = admission
        self._road = road

    def took(self, request: Request, path: Sequence[bytes]) -> bool:
        """Answer `request`, now or later, if there is anything at `path`."""
        here = [(route, words) for route in self.all if (words := _match(route.parts, path)) is not None]
        if not here:
            return False
        for route, words in here:
            if route.method.encode() == request.method:
                self._take(request, route, words)
                return True
        method = request.method.decode("ascii", "replace")
        allowed = ", ".join(route.method for route, _ in here)
        refuse(request, 405, f"({method}) Not Allowed", {"Allow": allowed})
        return True

    def _take(self, request: Request, route: Route, words: Mapping[str, bytes]) -> None:
        if route.by_itself is not None:
            route.by_itself(request, words)
        else:
            self._road.decide(
                request,
                self._decide(request, route, words),
                lambda said: answer(request, route.status, said),
                refuse_for,
            )

    async def _decide(self, request: Request, route: Route, words: Mapping[str, bytes]) -> Any:
        assert route.verb is not None
        assert route.act is not None
        tenants = list(tenants_of(request))
        if "tenant" in route.query.__struct_fields__:
            tenants += filter(None, (request.args or {}).get(b"tenant", []))
        scope = await self._admission.authorise(request, route.verb, tenants)
        console = self._admission.find(scope, route.verb, words["name"]) if "name" in words else None
        query = read_query(request, route.query)
        body = None if route.body is None else read_body(request, route.body, route.largest)
        return await route.act(Call(request, scope, words, query, body, console))


def _match(parts: Sequence[str], path: Sequence[bytes]) -> Mapping[str, bytes] | None:
    """What stands for each `{word}`; None if `path` is another."""
    if len(parts) != len(path):
        return None
    words: dict[str, bytes] = {}
    for part, segment in zip(parts, path, strict=True):
        if part.startswith("{") and segment:
            words[part[1:-1]] = segment
        elif part.encode() != segment:
            return None
    return words


def read_query(request: Request, kind: type[T]) -> T:
    """What the query says.  Raises `HttpRefusal`."""
    given: dict[str, str] = {}
    for name, values in (request.args or {}).items():
        if len(values) > 1:
            raise HttpRefusal(400, f"{name.decode('utf-8', 'replace')!a} was sent more than once")
        try:
            given[name.decode()] = values[0].decode()
        except UnicodeDecodeError:
            raise HttpRefusal(400, "The query is not UTF-8") from None
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise HttpRefusal(400, f"The query is not understood: {ascii(str(error))[1:-1]}") from None


def read_body(request: Request, kind: type[T], largest: int = LARGEST) -> T:
    """What the body says.  Raises `HttpRefusal`."""
    types = request.requestHeaders.getRawHeaders(b"content-type") or []
    # No HTML form can send this type: where a browser adds credentials by itself, no other site's page can ask.
    if [one.partition(b";")[0].strip().lower() for one in types] != [b"application/json"]:
        raise HttpRefusal(415, "The body must be application/json")
    assert request.content is not None
    text = request.content.read(largest + 1)
    if len(text) > largest:
        raise HttpRefusal(413, f"The body may have {largest} bytes")
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HttpRefusal(400, f"The body is not understood: {error}") from None
