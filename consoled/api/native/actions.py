"""Acting: kick, link, break, note, broadcast, tickets, reload.  Each leaves its record in the audit.

Called by `routing` for everything under `/v1` that changes something, when the gate has let it through.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from consoled.api.admission import Admission, tenants_of
from consoled.api.answers import HttpRefusal, answer, refuse
from consoled.api.guestbook import Guestbook
from consoled.api.native import shapes
from consoled.api.native.consoles import node_set, show
from consoled.api.native.routing import Call, read_body
from consoled.api.refusals import refuse_for
from consoled.core.access import Audit, Scope, TicketOffice
from consoled.core.attachment import Client
from consoled.core.changes import Changes, Reload
from consoled.core.console import Console
from consoled.core.faults import Fault, KeyboardHeld, LinkParked
from consoled.core.seams import Clock
from consoled.core.status import Parked

AT_ONCE = 100
"""Consoles that a broadcast reaches in one turn of the reactor."""
KICKED = 1008
"""The close code: the right to be here has ended (RFC 6455 section 7.4.1)."""
_ENDS: Final = {"cr": "\r", "lf": "\n", "crlf": "\r\n", "none": ""}


class Acts:
    """What can be done."""

    def __init__(
        self,
        admission: Admission,
        book: Guestbook,
        audit: Audit,
        tickets: TicketOffice,
        clock: Clock,
        reload: Reload | None,
    ) -> None:
        self._admission = admission
        self._book = book
        self._audit = audit
        self._tickets = tickets
        self._clock = clock
        self._reload = reload

    async def ticket(self, request: Any) -> shapes.Ticket:
        """What it is for is in the body, so that is read before the gate can be asked."""
        wish = read_body(request, shapes.TicketWish)
        scope, console = await self._admission.admit(request, wish.mode, wish.console.encode())
        ticket = self._tickets.issue(scope.user, wish.mode, console.name, tenants_of(request))
        return shapes.Ticket(ticket, int(self._tickets.lifetime))

    async def kick(self, call: Call) -> None:
        word = call.words["id"]
        number = int(word) if word.isdigit() and len(word) < 20 else 0
        for one in call.console.attachments:
            if one.number == number:
                self._audit.noted(
                    "kick", call.scope.user, call.console.name, client=str(one.client), face=one.client.face
                )
                one.outlet.ended(f"Kicked by {self._by(call)}", KICKED)
                return
        raise HttpRefusal(404, "No such client is attached")

    async def link(self, call: Call) -> shapes.Console:
        wish: shapes.LinkWish = call.body
        console, by = call.console, self._by(call)
        match wish.action:
            case "now":
                if isinstance(console.link.status, Parked):
                    raise LinkParked(console.name)
                self._audit.noted("dial-now", call.scope.user, console.name)
                console.link.dial_now()
            case "hold":
                self._audit.noted("park", call.scope.user, console.name)
                console.park(by)
            case "release":
                self._audit.noted("release", call.scope.user, console.name)
                console.release(by)
        return show(console)

    async def send_break(self, call: Call) -> None:
        _demand_keyboard(call.console)
        call.console.send_break(self._by(call))
        self._audit.noted("break", call.scope.user, call.console.name)

    async def note(self, call: Call) -> None:
        wish: shapes.NoteWish = call.body
        if not wish.text.isprintable():
            raise HttpRefusal(400, "text: one line of printable characters is wanted")
        call.console.note(f"note by <{self._by(call)}>: {wish.text}")
        self._audit.noted("note", call.scope.user, call.console.name, text=wish.text)

    async def broadcast(self, call: Call) -> shapes.Broadcast:
        """Type a line at many consoles, some in each turn.  Who leaves meanwhile stops it where it is."""
        wish: shapes.BroadcastWish = call.body
        try:
            keys = (wish.line + _ENDS[wish.end]).encode()
        except UnicodeEncodeError:
            raise HttpRefusal(400, "line: half of a surrogate pair is no character") from None
        if not keys:
            raise HttpRefusal(400, "line: there is nothing to send")
        names = sorted(node_set(wish.names))
        by, results = self._by(call), list[shapes.Result]()
        try:
            for at, name in enumerate(names):
                if at and at % AT_ONCE == 0:
                    await deferLater(self._clock, 0)
                results.append(self._send(call, name, keys, by))
        finally:
            sent = sum(result.sent for result in results)
            self._audit.noted(
                "broadcast", call.scope.user, names=wish.names, sent=sent, failed=len(results) - sent, asked=len(names)
            )
        return shapes.Broadcast(sent=sent, failed=len(results) - sent, results=results)

    def reload(self, request: Any, scope: Scope, query: shapes.ReloadQuery) -> None:
        """Answer `request` when it is done, which may take longer than any decision, and is not undone if it leaves."""
        if self._reload is None:
            refuse(request, 404, "Nothing can be reloaded here")
            return
        gone = False

        def left(_: Failure) -> None:
            nonlocal gone
            gone = True

        def done(changes: Changes) -> None:
            if not gone:
                answer(request, 200, changes)

        def failed(failure: Failure) -> None:
            if not gone and isinstance(failure.value, Exception):
                refuse_for(request, failure.value)

        request.notifyFinish().addErrback(left)
        confirm = tuple(sorted(set(query.confirm.split(",")) - {""}))
        self._reload(scope.user, confirm).addCallbacks(done, failed)

    def _send(self, call: Call, name: str, keys: bytes, by: Client) -> shapes.Result:
        try:
            console = self._admission.find(call.scope, "broadcast", name.encode(), quietly=True)
            _demand_keyboard(console)
            console.write(keys, by)
        except Fault as fault:
            return shapes.Result(console=name, sent=False, message=str(fault))
        console.note(f"broadcast by <{by}>")
        return shapes.Result(console=name, sent=True, message="")

    def _by(self, call: Call) -> Client:
        return self._book.client(call.scope.user, call.request)


def _demand_keyboard(console: Console) -> None:
    """Raise `KeyboardHeld` while somebody holds it alone: whoever took it wants nobody else's keys."""
    if console.keyboard.holder is not None:
        raise KeyboardHeld(str(console.keyboard.holder.client))
