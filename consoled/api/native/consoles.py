"""Looking: the consoles, one console, its clients, and how the daemon is.

Called by `routing` for `GET` under `/v1`; changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from itertools import islice
from operator import attrgetter
from typing import Literal, get_args

from consoled import __version__
from consoled.api.answers import HttpRefusal
from consoled.api.native import shapes
from consoled.api.native.routing import Call
from consoled.core.access import Scope
from consoled.core.attachment import Attachment
from consoled.core.console import Console
from consoled.core.hub import Hub
from consoled.core.sources import SourceState, SourceStates
from consoled.core.status import Closing, Dialing, Parked, Status, Up, Waiting, word
from consoled.nodesets import expand

SOME = 20
"""How many of those with trouble the health names, and of those that a source has lost its view."""


class Looks:
    """What is to see."""

    def __init__(
        self,
        hub: Hub,
        now: Callable[[], float],
        began: float,
        trouble: Callable[[], str | None],
        sources: SourceStates,
    ) -> None:
        """`now` is the wall clock, `began` when the daemon did; `trouble` says what is wrong with it, if anything."""
        self._hub = hub
        self._now = now
        self._began = began
        self._trouble = trouble
        self._sources = sources

    async def all(self, call: Call) -> shapes.Consoles:
        query: shapes.ListQuery = call.query
        names = node_set(query.names) if query.names else None
        states = _states(query.state)
        behind = sorted((one for one in self._hub if one.name > query.after), key=attrgetter("name"))
        within = (
            console
            for console in behind
            if (names is None or console.name in names)
            and (not states or word(console.link.status) in states)
            and call.scope.admits("list", console.name)
        )
        page = list(islice(within, query.limit))
        more = page[-1].name if next(within, None) else None
        return shapes.Consoles(consoles=[show(console) for console in page], next=more)

    async def one(self, call: Call) -> shapes.Console:
        return show(call.console)

    async def clients(self, call: Call) -> shapes.Clients:
        return shapes.Clients([_client(one) for one in call.console.attachments])

    async def sources(self, call: Call) -> shapes.Sources:
        return shapes.Sources([_source(one) for one in self._sources()])

    async def version(self, call: Call) -> shapes.Version:
        return shapes.Version(__version__, "v1")

    def health(self, scope: Scope | None) -> shapes.Health:
        """For whoever may list what `scope` admits; None: for anybody."""
        trouble = self._trouble() or ""
        status: Literal["ok", "degraded"] = "degraded" if trouble else "ok"
        time = shapes.when(self._now())
        assert time is not None
        if scope is None:
            return shapes.Health(status=status, time=time)
        listed = [console for console in self._hub if scope.admits("list", console.name)]
        return shapes.Health(
            status=status,
            time=time,
            trouble=trouble,
            version=__version__,
            up_since=shapes.when(self._began),
            consoles=len(listed),
            states=dict(sorted(Counter(word(console.link.status) for console in listed).items())),
            clients=sum(len(console.attachments) for console in listed),
            unwritten=list(islice((console.name for console in listed if console.transcript.trouble), SOME)),
            down=list(islice((_down(console) for console in listed if isinstance(console.link.status, Waiting)), SOME)),
        )


def show(console: Console) -> shapes.Console:
    """`console` as JSON has it."""
    since, until, why = details(console.link.status)
    holder = console.keyboard.holder
    return shapes.Console(
        name=console.name,
        kind=console.kind,
        address=console.link.address,
        state=word(console.link.status),  # type: ignore[arg-type]  # a test compares the two
        since=shapes.when(since),
        until=shapes.when(until),
        why=why,
        note=console.link.note,
        start=console.transcript.start,
        head=console.head,
        received=console.received_bytes,
        last_output=shapes.when(console.last_output),
        on_demand=console.on_demand,
        record_input=console.input_record is not None,
        clients=len(console.attachments),
        holder="" if holder is None else str(holder.client),
    )


def details(status: Status) -> tuple[float | None, float | None, str]:
    """Since when, until when, and why, in seconds since the epoch."""
    match status:
        case Up(since=since) | Dialing(since=since) | Closing(since=since):
            return since, None, ""
        case Parked(since=since, by=by):
            return since, None, f"parked by {by}"
        case Waiting(until=until, why=why, since=since):
            return since, until, why
    return None, None, ""


def node_set(text: str) -> Collection[str]:
    """The names of a request's node set.  Raises `HttpRefusal`."""
    try:
        return expand(text, shapes.MOST_NAMES)
    except ValueError as error:
        raise HttpRefusal(400, f"names: {ascii(str(error))[1:-1]}") from None


def _states(text: str) -> Collection[str]:
    states = {state.strip() for state in text.split(",")} - {""}
    if wrong := states - set(get_args(shapes.State)):
        raise HttpRefusal(400, f"state: {min(wrong)!a} is none of {', '.join(get_args(shapes.State))}")
    return states


def _client(one: Attachment) -> shapes.Client:
    since = shapes.when(one.since)
    assert since is not None
    return shapes.Client(
        id=one.number,
        user=one.client.user,
        host=one.client.host,
        face=one.client.face,
        mode="interact" if one.interactive else "tail",
        typing=one.typing,
        since=since,
        offset=one.cursor,
        behind=one.console.head - one.cursor,
        missed=one.missed,
        bytes_out=one.bytes_out,
        bytes_in=one.bytes_in,
    )


def _source(one: SourceState) -> shapes.Source:
    held = None
    if one.held is not None:
        since = shapes.when(one.held.since)
        assert since is not None
        lost = one.held.lost
        held = shapes.HeldBack(since=since, would_remove=len(lost), of=one.held.of, some=list(lost[:SOME]))
    return shapes.Source(
        name=one.name,
        kind=one.kind,
        consoles=one.consoles,
        left_out=one.left_out,
        complaints=list(one.complaints),
        why=one.why,
        failures=one.failures,
        asked=one.asked.times,
        answered=shapes.when(one.asked.good_at),
        held_back=held,
    )


def _down(console: Console) -> shapes.Down:
    status = console.link.status
    return shapes.Down(console=console.name, state=word(status), why=details(status)[2])  # type: ignore[arg-type]
