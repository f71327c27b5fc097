"""The JSON of `/v1`: what requests may say and what answers say, as types.

`routing` reads queries and bodies into them, refusing what does not fit; the rooms answer with them; `description`
makes the schemas of the OpenAPI document of them.  A docstring or a description in here is documentation for clients.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from consoled.api.native.moments import PATTERN

MOST_NAMES = 20_000
"""How many names the node set of a request may have: they are expanded in the reactor's thread, 2 us each."""
MOST_LINES = 1_000_000
MOST_CONSOLES = 1000
MOST_TEXT = 200
MOST_LINE = 1024

State = Literal["off", "parked", "dialing", "up", "waiting", "held", "closing"]
Mode = Literal["tail", "interact"]
_Offset = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Lines = Annotated[int, Meta(ge=0, le=MOST_LINES)]
_Count = Annotated[int, Meta(ge=0)]
_Time = Annotated[datetime, Meta(tz=True)]
_Moment = Annotated[str, Meta(extra_json_schema={"pattern": PATTERN})]  # `moment` says more plainly what is wrong


def when(seconds: float | None) -> datetime | None:
    """Seconds since the epoch as JSON shows them: RFC 3339, in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


# ---------------------------------------------------------------------------------------------- what requests say


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No parameters."""


class ListQuery(Query, frozen=True, kw_only=True):
    names: Annotated[str, Meta(description="A node set, as `x3000c0s[1-32]b0n0,login[1-2]`; empty: all.")] = ""
    state: Annotated[str, Meta(description="States, with commas between; empty: all.")] = ""
    tenant: Annotated[str, Meta(description="Act for this tenant, as with `Cray-Tenant-Name`.")] = ""
    after: Annotated[str, Meta(description="Only names after this one: the `next` of the page before.")] = ""
    limit: Annotated[int, Meta(ge=1, le=MOST_CONSOLES, description="The most consoles on this page.")] = 100


class TranscriptQuery(Query, frozen=True, kw_only=True):
    lines: Annotated[_Lines | None, Meta(description="The last so many lines, instead of everything.")] = None
    since: Annotated[
        _Moment | None, Meta(description="What came at that time or later: RFC 3339 with its zone, or epoch seconds.")
    ] = msgspec.field(default=None, name="from")
    to: Annotated[_Moment | None, Meta(description="What came before that time.")] = None


class StreamQuery(Query, frozen=True, kw_only=True):
    mode: Annotated[Mode, Meta(description="`interact` may type.")] = "tail"
    offset: Annotated[_Offset | None, Meta(description="Where to begin; default: at the head.")] = None
    lines: Annotated[_Lines | None, Meta(description="Begin so many lines before the head.")] = None
    since: Annotated[
        _Moment | None, Meta(description="Begin with what came at that time: RFC 3339 with its zone, or epoch seconds.")
    ] = msgspec.field(default=None, name="from")
    own: Annotated[bool, Meta(description="Whether the daemon's own lines are in the stream.")] = True


class ReloadQuery(Query, frozen=True, kw_only=True):
    confirm: Annotated[
        str,
        Meta(
            pattern="^[A-Za-z0-9_.,-]*$",
            description="Sources, with commas between: what is held back of them is believed.",
        ),
    ] = ""


class TicketWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    console: str
    mode: Mode


class LinkWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    action: Annotated[
        Literal["now", "hold", "release"],
        Meta(description="`now` dials at once what waits, `hold` hangs up and stays off until `release`."),
    ]


class NoteWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: Annotated[str, Meta(min_length=1, max_length=MOST_TEXT, description="One line of printable characters.")]


class BroadcastWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    names: Annotated[str, Meta(min_length=1, description="A node set.")]
    line: Annotated[str, Meta(max_length=MOST_LINE, description="What is typed, without the end of the line.")]
    end: Annotated[Literal["cr", "lf", "crlf", "none"], Meta(description="How the line ends; Enter is `cr`.")] = "cr"


# ---------------------------------------------------------------------------------------------- what answers say


class Message(msgspec.Struct, frozen=True):
    """Every refusal."""

    message: str


class Console(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    kind: str
    address: Annotated[str, Meta(description="Where it is, as in the stream; never a secret.")]
    state: State
    since: Annotated[
        _Time | None, Meta(description="When this state began; of `waiting` and `held`, the whole outage.")
    ]
    until: Annotated[_Time | None, Meta(description="When it is dialled again, while it waits.")]
    why: Annotated[str, Meta(description="Why it waits, or who has parked it.")]
    note: Annotated[str, Meta(description="What people should know of the connection.")]
    start: Annotated[int, Meta(ge=0, description="The oldest offset that is kept.")]
    head: Annotated[int, Meta(ge=0, description="The offset after the newest byte.")]
    received: Annotated[int, Meta(ge=0, description="Bytes that the node has said since the daemon began with it.")]
    last_output: Annotated[_Time | None, Meta(description="When the node last said something.")]
    on_demand: Annotated[bool, Meta(description="Whether it is dialled only while somebody is attached.")]
    record_input: Annotated[bool, Meta(description="Whether what is typed is recorded.")]
    clients: Annotated[int, Meta(ge=0, description="How many are attached.")]
    holder: Annotated[str, Meta(description="Who holds the keyboard alone, or empty.")]


class Consoles(msgspec.Struct, frozen=True, kw_only=True):
    consoles: list[Console]
    next: Annotated[str | None, Meta(description="What to ask for as `after`; null on the last page.")]


class Client(msgspec.Struct, frozen=True, kw_only=True):
    id: Annotated[int, Meta(ge=1, description="Its number at this console, given once.")]
    user: str
    host: str
    face: Annotated[str, Meta(description="By which API it has come.")]
    mode: Annotated[Mode, Meta(description="`interact` if it came to type.")]
    typing: Annotated[bool, Meta(description="Whether what it types goes to the node now.")]
    since: _Time
    offset: Annotated[int, Meta(ge=0, description="The offset of the next byte for it.")]
    behind: _Count
    missed: Annotated[int, Meta(ge=0, description="Bytes that were kept nowhere when its turn came.")]
    bytes_out: Annotated[int, Meta(ge=0, description="Bytes of the stream that it got.")]
    bytes_in: Annotated[int, Meta(ge=0, description="Bytes that it typed and the node got.")]


class Clients(msgspec.Struct, frozen=True):
    clients: list[Client]


class Ticket(msgspec.Struct, frozen=True):
    ticket: str
    expires_in: Annotated[int, Meta(ge=1, description="Seconds.")]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    console: str
    sent: bool
    message: Annotated[str, Meta(description="Why not; empty if it was sent.")]


class Broadcast(msgspec.Struct, frozen=True, kw_only=True):
    sent: _Count
    failed: _Count
    results: list[Result]


class HeldBack(msgspec.Struct, frozen=True, kw_only=True):
    since: Annotated[_Time, Meta(description="When this source's answers began to be held back.")]
    would_remove: Annotated[int, Meta(ge=0, description="Consoles that are missing, or went within the hour.")]
    of: Annotated[int, Meta(ge=0, description="How many there are, and were within the hour.")]
    some: Annotated[list[str], Meta(description="Some of those that are missing.")]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    kind: str
    consoles: Annotated[int, Meta(ge=0, description="How many it gives, by its last good answer.")]
    left_out: Annotated[int, Meta(ge=0, description="Entries of that answer that make no console.")]
    complaints: Annotated[list[str], Meta(description="Why, of some of them.")]
    why: Annotated[str, Meta(description="What is wrong with its last answer; empty if nothing is.")]
    failures: Annotated[int, Meta(ge=0, description="In a row, up to now.")]
    asked: Annotated[int, Meta(ge=0, description="How often it was asked since the daemon began.")]
    answered: Annotated[_Time | None, Meta(description="When it gave its last good answer.")]
    held_back: Annotated[HeldBack | None, Meta(description="An answer that waits for `POST /v1/reload?confirm=`.")]


class Sources(msgspec.Struct, frozen=True):
    sources: list[Source]


class Version(msgspec.Struct, frozen=True):
    version: str
    api: Literal["v1"]


class Down(msgspec.Struct, frozen=True, kw_only=True):
    console: str
    state: State
    why: str


class Health(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whoever may not list consoles sees the first two members only."""

    status: Literal["ok", "degraded"]
    time: _Time
    trouble: Annotated[str, Meta(description="What is wrong with the daemon itself.")] = ""
    version: str = ""
    up_since: _Time | None = None
    consoles: Annotated[int, Meta(ge=0, description="Consoles within reach.")] | None = None
    states: Annotated[dict[str, int] | None, Meta(description="How many of them are in which state.")] = None
    clients: _Count | None = None
    unwritten: Annotated[list[str] | None, Meta(description="Consoles whose transcript is not written; some.")] = None
    down: Annotated[list[Down] | None, Meta(description="Consoles that should be up and are not; some.")] = None


# ---------------------------------------------------------------------------------------------- the stream's messages


class _Said(msgspec.Struct, frozen=True, tag_field="type", tag=str.lower, forbid_unknown_fields=True):
    """A command of a client's, as text."""


class Take(_Said, frozen=True):
    """Hold the keyboard alone."""


class Join(_Said, frozen=True):
    """Type together with the others, or let them."""


class Watch(_Said, frozen=True):
    """Only watch from now on."""


class Break(_Said, frozen=True):
    """Send a break."""


class Resize(_Said, frozen=True):
    """The client's window.  Serial lines have no use for it; it is taken and ignored."""

    rows: Annotated[int, Meta(ge=0, le=65535)]
    cols: Annotated[int, Meta(ge=0, le=65535)]


class Ping(_Said, frozen=True):
    """Answered with a `pong` of the same `id`."""

    id: Annotated[str, Meta(max_length=64)] | Annotated[int, Meta(ge=0, le=2**53)] | None = None


Command = Take | Join | Watch | Break | Resize | Ping


class _Told(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=str.lower):
    """An event, as text."""


class Hello(_Told, frozen=True, kw_only=True):
    """The first message: how things stand."""

    console: str
    mode: Mode
    offset: int
    start: int
    head: int
    recorded: bool


class Link(_Told, frozen=True, kw_only=True):
    """How the link is, at the beginning and after each change; all that the node said before has been sent."""

    state: State
    since: _Time | None
    until: _Time | None
    why: str


class Keyboard(_Told, frozen=True, kw_only=True):
    """Whether what the client types goes to the node; said at the beginning and when it changes."""

    typing: bool
    holder: str


class Missed(_Told, frozen=True, kw_only=True):
    """The bytes from `offset` on, `count` of them, are kept nowhere any more."""

    offset: int
    count: int


class Notice(_Told, frozen=True, kw_only=True):
    """For people: who came, who left, who took the keyboard."""

    text: str


class Error(_Told, frozen=True, kw_only=True):
    """Something that the client asked for was not done."""

    message: str


class Pong(_Told, frozen=True, kw_only=True):
    id: str | int | None = None


class End(_Told, frozen=True, kw_only=True):
    """The session is closed now, and why."""

    why: str
