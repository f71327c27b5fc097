"""The face `/v1`: the list of its routes.  Made by the daemon, asked by the site."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from twisted.web.server import Request

from consoled.api.admission import Admission, tenants_of
from consoled.api.answers import answer, refuse
from consoled.api.guestbook import Guestbook
from consoled.api.meters import Meters
from consoled.api.native import shapes
from consoled.api.native.actions import Acts
from consoled.api.native.consoles import Looks
from consoled.api.native.description import describe
from consoled.api.native.routing import Route, Routes, read_query
from consoled.api.native.stream import Streams
from consoled.api.native.transcripts import Download, Transcripts
from consoled.api.refusals import refuse_for
from consoled.api.upgrade import Road
from consoled.api.vigil import Vigil
from consoled.core.access import Audit, Scope, TicketOffice
from consoled.core.changes import Changes, Reload
from consoled.core.faults import NotOpen
from consoled.core.hub import Hub
from consoled.core.seams import Clock
from consoled.core.sources import SourceStates

CONSOLE = "/v1/consoles/{name}"


class Native:
    """The face."""

    def __init__(
        self,
        hub: Hub,
        admission: Admission,
        audit: Audit,
        road: Road,
        vigil: Vigil,
        tickets: TicketOffice,
        clock: Clock,
        now: Callable[[], float],
        meters: Meters,
        *,
        trouble: Callable[[], str | None] = lambda: None,
        unready: Callable[[], str | None] = lambda: None,
        began: float | None = None,
        reload: Reload | None = None,
        sources: SourceStates = list,
    ) -> None:
        """`now` is the wall clock, `began` what it showed when the daemon began (default: now).

        `trouble` says what is wrong with the daemon, `unready` why nobody should come yet.
        """
        self._hub = hub
        self._admission = admission
        self._road = road
        self._unready = unready
        book = Guestbook("v1", audit, now, meters)
        self._looks = Looks(hub, now, now() if began is None else began, trouble, sources)
        self._acts = Acts(admission, book, audit, tickets, clock, reload)
        self._transcripts = Transcripts(hub, admission, book, vigil, clock)
        self._streams = Streams(hub, admission, book, vigil)
        self._routes = Routes(self._list(), admission, road)

    def took(self, request: Request, path: Sequence[bytes]) -> bool:
        return list(path[:1]) == [b"v1"] and self._routes.took(request, path)

    @cached_property
    def _description(self) -> dict[str, Any]:
        return describe(self._routes.all)

    @property
    def routes(self) -> Sequence[Route]:
        return self._routes.all

    def _list(self) -> list[Route]:
        looks, acts = self._looks, self._acts
        return [
            Route(method="GET", path="/v1/consoles", summary="The consoles within reach, by name, in pages",
                  verb="list", act=looks.all, query=shapes.ListQuery, says=shapes.Consoles),
            Route(method="GET", path=CONSOLE, summary="One console and how it is",
                  verb="list", act=looks.one, says=shapes.Console),
            Route(method="GET", path=f"{CONSOLE}/clients", summary="Who is attached",
                  verb="list", act=looks.clients, says=shapes.Clients),
            Route(method="DELETE", path=f"{CONSOLE}/clients/{{id}}", summary="Throw a client out",
                  verb="kick", act=acts.kick, status=204),
            Route(method="POST", path=f"{CONSOLE}/link", summary="Dial now, hang up and stay off, or release",
                  verb="admin", act=acts.link, body=shapes.LinkWish, says=shapes.Console),
            Route(method="POST", path=f"{CONSOLE}/break", summary="Send a break",
                  verb="break", act=acts.send_break, status=204),
            Route(method="POST", path=f"{CONSOLE}/note", summary="Put a marked line into the transcript",
                  verb="interact", act=acts.note, body=shapes.NoteWish, status=204),
            Route(method="GET", path=f"{CONSOLE}/transcript", summary="The transcript, or a part of it",
                  verb="tail", by_itself=self._download, query=shapes.TranscriptQuery,
                  also={206: "A part of the transcript", 416: "Nothing of that range is kept"}),
            Route(method="GET", path=f"{CONSOLE}/stream", summary="The stream as a WebSocket (consoled.v1)",
                  verb="tail", by_itself=self._stream, query=shapes.StreamQuery, status=101,
                  also={416: "The stream has not come so far"}),
            Route(method="POST", path="/v1/broadcast", summary="Type a line at many consoles",
                  verb="broadcast", act=acts.broadcast, body=shapes.BroadcastWish,
                  largest=1 << 16, says=shapes.Broadcast),
            Route(method="POST", path="/v1/tickets", summary="A one-use ticket, for browsers",
                  verb="tail", by_itself=self._ticket, body=shapes.TicketWish, status=201, says=shapes.Ticket),
            Route(method="GET", path="/v1/sources", summary="Where consoles come from beside the file",
                  verb="admin", act=looks.sources, says=shapes.Sources),
            Route(method="POST", path="/v1/reload", summary="Read the configuration again",
                  verb="admin", by_itself=self._reload, query=shapes.ReloadQuery, says=Changes),
            Route(method="GET", path="/v1/version", summary="Which consoled this is",
                  verb="list", act=looks.version, says=shapes.Version),
            Route(method="GET", path="/v1/health", summary="How the daemon is",
                  verb=None, by_itself=self._health, says=shapes.Health),
            Route(method="GET", path="/v1/liveness", summary="Whether the reactor turns",
                  verb=None, by_itself=self._liveness, status=204),
            Route(method="GET", path="/v1/readiness", summary="Whether clients should come",
                  verb=None, by_itself=self._readiness, status=204),
            Route(method="GET", path="/v1/openapi.json", summary="This document",
                  verb=None, by_itself=self._describe),
        ]  # fmt: skip

    # What asks the gate itself, or nobody.

    def _download(self, request: Request, words: Mapping[str, bytes]) -> None:
        self._road.decide(request, self._transcripts.decide(request, words["name"]), Download.begin, refuse_for)

    def _stream(self, request: Request, words: Mapping[str, bytes]) -> None:
        self._road.take(request, self._streams.decide(request, words["name"]), refuse_for)

    def _ticket(self, request: Request, words: Mapping[str, bytes]) -> None:
        self._road.decide(request, self._acts.ticket(request), lambda ticket: answer(request, 201, ticket), refuse_for)

    def _reload(self, request: Request, words: Mapping[str, bytes]) -> None:
        async def inquire() -> tuple[Scope, shapes.ReloadQuery]:
            scope = await self._admission.authorise(request, "admin", tenants_of(request))
            return scope, read_query(request, shapes.ReloadQuery)

        self._road.decide(request, inquire(), lambda asked: self._acts.reload(request, *asked), refuse_for)

    def _health(self, request: Request, words: Mapping[str, bytes]) -> None:
        async def inquire() -> shapes.Health:
            return self._looks.health(await self._admission.inquire(request))

        self._road.decide(request, inquire(), lambda health: answer(request, 200, health), refuse_for)

    def _liveness(self, request: Request, words: Mapping[str, bytes]) -> None:
        answer(request, 204)

    def _readiness(self, request: Request, words: Mapping[str, bytes]) -> None:
        if not self._hub.is_open:
            refuse_for(request, NotOpen())
        elif why := self._unready():
            refuse(request, 503, why, {"Retry-After": "5"})
        else:
            answer(request, 204)

    def _describe(self, request: Request, words: Mapping[str, bytes]) -> None:
        answer(request, 200, self._description)
