"""The WebSocket of `/v1`: a console's bytes with their offsets, and JSON beside them.

Binary messages of the server are eight bytes with the offset of what follows (big-endian), and bytes of the stream;
text messages are the events of `shapes`.  A client that has got the bytes up to an offset, and comes back with that as
`offset`, misses nothing and gets nothing twice.  Binary messages of a client are keystrokes, text is its commands.

Made by `Streams` for each request that the gate lets in, driven by the session on one side and by its attachment on the
other.
"""

from __future__ import annotations

from typing import Final

import msgspec
from twisted.web.server import Request

from consoled.api.admission import Admission, take_ticket
from consoled.api.answers import HttpRefusal
from consoled.api.doors import seat
from consoled.api.frames import Placed, placed_quiet, text_frame
from consoled.api.guestbook import Guestbook
from consoled.api.native import shapes
from consoled.api.native.consoles import details
from consoled.api.native.moments import ENDLESS, moment
from consoled.api.native.routing import read_query
from consoled.api.seat import Recorder, Seat
from consoled.api.session import Session
from consoled.api.upgrade import demand_upgrade
from consoled.api.vigil import Vigil, Visit
from consoled.core.access import Verb
from consoled.core.attachment import Client
from consoled.core.console import Console
from consoled.core.faults import Fault
from consoled.core.hub import Hub
from consoled.core.status import Status, word

SUBPROTOCOL: Final = "consoled.v1"


class Streams:
    """Takes requests for streams."""

    def __init__(self, hub: Hub, admission: Admission, book: Guestbook, vigil: Vigil) -> None:
        self._hub = hub
        self._admission = admission
        self._book = book
        self._vigil = vigil

    async def decide(self, request: Request, node: bytes) -> Stream:
        """Everything that can be refused is refused in here."""
        verb: shapes.Mode = "interact" if (request.args or {}).get(b"mode") == [b"interact"] else "tail"
        scope, console = await self._admission.admit(request, verb, node, take_ticket(request))
        query = read_query(request, shapes.StreamQuery)
        demand_upgrade(request)
        subprotocol = _subprotocol(request)
        at = await _place(console, query)
        self._hub.find(console.name)  # it may have closed meanwhile
        self._hub.admit()
        seat(request, scope.user)
        client, entry = self._book.client(scope.user, request), self._book.entry(scope.user, verb)
        visit = self._vigil.visit(scope, verb, console.name)
        return Stream(console, client, entry, visit, verb, at=at, own=query.own, subprotocol=subprotocol)


def _subprotocol(request: Request) -> str | None:
    values = request.requestHeaders.getRawHeaders(b"sec-websocket-protocol") or []
    offered = [token.strip() for value in values for token in value.split(b",")]
    if offered and SUBPROTOCOL.encode() not in offered:
        raise HttpRefusal(400, f"The subprotocol must be {SUBPROTOCOL}")
    return SUBPROTOCOL if offered else None


async def _place(console: Console, query: shapes.StreamQuery) -> int:
    if sum(value is not None for value in (query.offset, query.lines, query.since)) > 1:
        raise HttpRefusal(400, "Begin at an offset, by lines, or from a time: not by more than one of these")
    if query.lines is not None:
        return await console.stream.last_lines(query.lines)
    if query.since is not None:
        span = await console.transcript.span(moment("from", query.since), ENDLESS)
        return min(span.begin, console.head)
    if query.offset is None:
        return console.head
    if query.offset > console.head:
        head = console.head
        raise HttpRefusal(416, f"offset: the stream ends at {head}", {"Content-Range": f"bytes */{head}"})
    return query.offset


class Stream(Seat):
    """One client's session."""

    def __init__(
        self,
        console: Console,
        client: Client,
        record: Recorder,
        visit: Visit,
        mode: shapes.Mode,
        *,
        at: int,
        own: bool,
        subprotocol: str | None,
    ) -> None:
        super().__init__(console, client, record, visit)
        self.subprotocol = subprotocol
        self._mode = mode
        self._at = at
        self._flavour = Placed if own else placed_quiet
        self._told_keyboard: tuple[bool, str] | None = None
        self._untold: Status | None = None
        """What has become of the link while the client did not read."""
        self._complaint = ""
        """What was last said of keystrokes that did not get through; said again only after some did."""

    # The session calls these.

    def opened(self, session: Session) -> None:
        console, is_typist = self._console, self._mode == "interact"
        self._sit_down(session, self._flavour, at=self._at, interactive=is_typist)
        hello = shapes.Hello(
            console=console.name,
            mode=self._mode,
            offset=self._at,
            start=console.transcript.start,
            head=console.head,
            recorded=self.is_recorded,
        )
        self._tell(hello)
        self._tell_link(console.link.status)
        if is_typist:
            console.keyboard.arrived(self._attachment)
        self._tell_keyboard()
        self._attachment.pump()

    def said(self, payload: bytes, is_binary: bool) -> None:
        if is_binary:
            self._visit.heard()
            self._type(payload)
            return
        try:
            command = msgspec.json.decode(payload, type=shapes.Command)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._offer(shapes.Error(message=f"The command is not understood: {ascii(str(error))[1:-1]}"))
            return
        if not isinstance(command, shapes.Ping | shapes.Resize):
            self._visit.heard()  # a program sends those while its user sleeps
        try:
            self._obey(command)
        except Fault as fault:
            self._offer(shapes.Error(message=str(fault)))
        self._tell_keyboard()

    def resumed(self) -> None:
        if self._untold is not None:
            untold, self._untold = self._untold, None
            self._tell_link(untold)
        self._tell_keyboard()
        super().resumed()

    # The attachment and the console call these.

    def missed(self, count: int) -> None:
        self._tell(shapes.Missed(offset=self._attachment.cursor - count, count=count))

    def notice(self, text: str) -> None:
        self._offer(shapes.Notice(text=text))
        self._tell_keyboard()

    def changed(self, status: Status) -> None:
        if self._session.full:
            self._untold = status  # the last is enough, or they would pile up
        else:
            self._tell_link(status)

    def finished(self) -> None:
        """A stream goes on for ever."""

    def ended(self, why: str, code: int) -> None:
        self._tell(shapes.End(why=why))
        super().ended(why, code)

    # Towards the node.

    def _type(self, keys: bytes) -> None:
        try:
            self._attachment.write(keys)
        except Fault as fault:
            if str(fault) != self._complaint:
                self._complaint = str(fault)
                self._offer(shapes.Error(message=self._complaint))
        else:
            self._complaint = ""

    def _obey(self, command: shapes.Command) -> None:
        keyboard, attachment = self._console.keyboard, self._attachment
        match command:
            case shapes.Take():
                self._require("take")
                keyboard.take(attachment)
            case shapes.Join():
                self._require("interact")
                keyboard.join(attachment)
            case shapes.Watch():
                keyboard.watch(attachment)
            case shapes.Break():
                self._require("break")
                attachment.send_break()
            case shapes.Ping(id=number):
                self._offer(shapes.Pong(id=number))
            case shapes.Resize():
                pass
        self._complaint = ""

    def _require(self, verb: Verb) -> None:
        self._visit.require(verb)

    # Towards the client.

    def _tell_link(self, status: Status) -> None:
        since, until, why = details(status)
        told = shapes.Link(state=word(status), since=shapes.when(since), until=shapes.when(until), why=why)  # type: ignore[arg-type]
        self._tell(told)

    def _tell_keyboard(self) -> None:
        """Say who types, if that is news; to a client that does not read, when it does again."""
        holder = self._console.keyboard.holder
        now = self._attachment.typing, "" if holder is None else str(holder.client)
        if self._mode == "interact" and now != self._told_keyboard and not self._session.full:
            self._told_keyboard = now
            self._tell(shapes.Keyboard(typing=now[0], holder=now[1]))

    def _offer(self, event: msgspec.Struct) -> None:
        """Tell a client that reads; for one that does not it would pile up."""
        if not self._session.full:
            self._tell(event)

    def _tell(self, event: msgspec.Struct) -> None:
        self._session.send(text_frame(msgspec.json.encode(event).decode()))
