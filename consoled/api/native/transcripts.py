"""A console's transcript as a download (RFC 9110 sections 9.3.1 and 14).

A download is a client like any other: an attachment with a cursor, which reads from memory or disk as fast as its
connection takes it, is in the list of clients, and can be kicked.  The positions in `Range` are offsets of the stream.

A body is one run of the stream without a gap.  What is missing before it is counted in a header; where something turns
out to be missing within, the connection is closed before the promised length, and whoever asks again from there on is
told how much it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.web.server import Request
from zope.interface import implementer

from consoled.api.admission import Admission, take_ticket
from consoled.api.answers import HttpRefusal
from consoled.api.doors import seat
from consoled.api.frames import Plain
from consoled.api.guestbook import Guestbook
from consoled.api.native.moments import ENDLESS, moment
from consoled.api.native.routing import read_query
from consoled.api.native.shapes import TranscriptQuery
from consoled.api.refusals import refuse_for
from consoled.api.seat import Recorder
from consoled.api.vigil import Vigil, Visit
from consoled.core.attachment import Attachment, Client
from consoled.core.console import Console
from consoled.core.hub import Hub
from consoled.core.seams import Clock, Timer
from consoled.core.status import Status
from consoled.ledger import timestamp

STALLED: Final = 120.0
"""Seconds without reading anything after which a client is given up."""
_RANGE: Final = re.compile(r"bytes=(?:([0-9]{1,19})-([0-9]{0,19})|-([0-9]{1,19}))", re.ASCII)

_log = Logger()


@dataclass(frozen=True, slots=True)
class Piece:
    """What is asked for: the offsets `[begin, end)`."""

    begin: int
    end: int
    is_range: bool = False
    """Whether that is by a `Range` header, hence answered with 206."""
    since: float | None = None
    """When the first of it came, where that was asked for and is known, in seconds since the epoch."""
    until: float | None = None
    """By when the last of it had come."""


class Transcripts:
    """Takes requests for transcripts."""

    def __init__(self, hub: Hub, admission: Admission, book: Guestbook, vigil: Vigil, clock: Clock) -> None:
        self._hub = hub
        self._admission = admission
        self._book = book
        self._vigil = vigil
        self._clock = clock

    async def decide(self, request: Request, node: bytes) -> Download:
        """Everything that can be refused is refused in here."""
        ticket = take_ticket(request)
        scope, console = await self._admission.admit(request, "tail", node, ticket)
        query = read_query(request, TranscriptQuery)
        piece = await _piece(request, console, query)
        self._hub.find(console.name)  # it may have closed meanwhile
        self._hub.admit()
        seat(request, scope.user)
        client, entry = self._book.client(scope.user, request), self._book.entry(scope.user, "tail")
        visit = self._vigil.visit(scope, "tail", console.name)
        return Download(request, console, piece, client, entry, visit, self._clock)


async def _piece(request: Request, console: Console, query: TranscriptQuery) -> Piece:
    values = request.requestHeaders.getRawHeaders(b"range") or []
    by_time = query.since is not None or query.to is not None
    if sum((query.lines is not None, by_time, bool(values))) > 1:
        raise HttpRefusal(400, "Ask by from and to, by lines, or by a Range: not by more than one of these")
    if query.lines is not None:
        at = await console.stream.last_lines(query.lines)
        return Piece(at, console.head)
    if by_time:
        return await _span(console, query)
    head = console.head
    if not values or not values[0].strip().lower().startswith(b"bytes"):
        return Piece(min(console.transcript.start, head), head)  # an unknown unit is ignored (section 14.2)
    found = _RANGE.fullmatch(values[0].decode("latin-1").strip()) if len(values) == 1 else None
    if found is None:
        raise _cannot(head, "Range: one range is wanted, as bytes=1000-1999, bytes=1000- or bytes=-500")
    first, last, newest = found.groups()
    begin = max(0, head - int(newest)) if newest else int(first)
    end = min(head, int(last) + 1) if last else head
    if begin >= end:
        raise _cannot(head, f"Range: the stream ends at {head}")
    return Piece(begin, end, True)


async def _span(console: Console, query: TranscriptQuery) -> Piece:
    since = 0.0 if query.since is None else moment("from", query.since)
    until = ENDLESS if query.to is None else moment("to", query.to)
    if until <= since:
        raise HttpRefusal(400, "to: it must be later than from")
    span = await console.transcript.span(since, until)
    begin, end = min(span.begin, console.head), min(span.end, console.head)
    return Piece(begin, end, since=span.since, until=span.until)


def _cannot(head: int, message: str) -> HttpRefusal:
    return HttpRefusal(416, message, {"Content-Range": f"bytes */{head}"})


@implementer(IPushProducer)
class Download:
    """One download, from its first byte to its last.  Its attachment, its visit and the channel call it."""

    def __init__(
        self,
        request: Request,
        console: Console,
        piece: Piece,
        client: Client,
        record: Recorder,
        visit: Visit,
        clock: Clock,
    ) -> None:
        self._request: Any = request
        self._console = console
        self._piece = piece
        self._client = client
        self._record = record
        self._visit = visit
        self._clock = clock
        self._at = piece.begin
        """The offset of the body's first byte, once that has gone out."""
        self._has_begun = self._is_over = False
        self._patience: Timer | None = None
        self._attachment: Attachment
        self._detached: Callable[[], None]

    def begin(self) -> None:
        """Send what was asked for."""
        piece, console = self._piece, self._console
        self._request.notifyFinish().addErrback(lambda _: self._leave())
        self._attachment = console.attach(self, Plain, self._client, at=piece.begin, until=piece.end)
        self._detached = self._record(self._attachment)
        self._visit.begin(self.ended)
        self._request.registerProducer(self, True)
        if not self._is_over:
            self._attachment.pump()

    # The attachment calls these.

    def send(self, frame: bytes) -> None:
        self._start()
        self._request.write(frame)

    def missed(self, count: int) -> None:
        if self._has_begun:
            self._break_off()
        else:
            self._at += count

    def finished(self) -> None:
        if self._is_over:
            return
        if self._at == self._piece.end and self._piece.is_range:
            self._leave()
            self._request.unregisterProducer()
            refuse_for(self._request, _cannot(self._console.head, "Range: nothing of it is kept any more"))
            return
        self._start()
        self._leave()
        self._request.unregisterProducer()
        self._request.finish()

    def ended(self, why: str, code: int) -> None:
        self._break_off()

    def notice(self, text: str) -> None:
        """It is a log."""

    def changed(self, status: Status) -> None:
        """The stream itself has a line of it."""

    # The channel calls these.

    def pauseProducing(self) -> None:
        if not self._is_over:
            self._attachment.pause()
            if self._patience is None:
                self._patience = self._clock.callLater(STALLED, self._give_up)

    def resumeProducing(self) -> None:
        self._stop_waiting()
        if not self._is_over:
            self._attachment.resume()

    def stopProducing(self) -> None:
        self._leave()

    # Our own.

    def _start(self) -> None:
        """The head of the answer, when it is known at which byte the body begins."""
        if self._has_begun:
            return
        self._has_begun = True
        piece, set_header = self._piece, self._request.setHeader
        self._request.setResponseCode(206 if piece.is_range else 200)
        set_header(b"server", b"consoled")
        set_header(b"cache-control", b"no-store")
        set_header(b"content-type", b"application/octet-stream")
        set_header(b"x-content-type-options", b"nosniff")  # a node's words are no page of ours
        set_header(b"accept-ranges", b"bytes")
        set_header(b"content-length", b"%d" % (piece.end - self._at))
        set_header(b"consoled-offset", b"%d" % self._at)
        if self._at > piece.begin:
            set_header(b"consoled-missed", b"%d" % (self._at - piece.begin))
        for name, time in ((b"consoled-from", piece.since), (b"consoled-to", piece.until)):
            if time is not None:
                set_header(name, timestamp(time).encode())
        if piece.is_range:
            set_header(b"content-range", b"bytes %d-%d/%d" % (self._at, piece.end - 1, self._console.head))

    def _give_up(self) -> None:
        self._patience = None
        _log.info("a download of the transcript of {name} was not read for {seconds:.0f} s, and is given up",
                  name=self._console.name, seconds=STALLED)  # fmt: skip
        self._break_off()

    def _break_off(self) -> None:
        """Hang up before the promised length."""
        if not self._is_over:
            self._leave()
            self._request.channel.forceAbortClient()

    def _leave(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._stop_waiting()
            self._visit.over()
            self._attachment.leave()
            self._detached()

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
