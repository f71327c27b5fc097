"""The seams: what the core asks of the parts around it, and what they may ask of the core.

A byte passes through them in this order: a `Line` hands it to its `LineOwner` (the link), the link hands it to
its `LinkOwner` (the console), whose stream appends it to its `Transcript` and then gives it to each `Feed`, whose
`Encoding` makes one frame of it, and every client's `Outlet` takes that frame.  Keystrokes come back through
`Link.write` and `Line.write`.

Everything here runs in the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from consoled.core.marks import Marks
from consoled.core.status import Status

# ---------------------------------------------------------------------------------------------- towards the node


class Refused(Exception):
    """The far side understood us and said no (credentials, "in use"): trying again at once is rude.

    A backend's `dial` fails with it, and the link takes the long delay at once.  The text is shown to operators:
    no secret may be in it.
    """


class HeldElsewhere(Refused):
    """Somebody else has the console: another session of the BMC, another program on the port."""


class LineOwner(Protocol):
    """Who a `Line` reports to.  Called by backends, implemented by the link."""

    def received(self, data: bytes) -> bool:
        """The node said `data` (never empty).  Whether somebody is there to see it: else the next may come late."""

    def lost(self, why: str) -> None:
        """The line is gone, whoever ended it.  Called once; nothing is called after it."""


class Line(Protocol):
    """One usable connection to a node.  Implemented by backends, held by the link while it is up."""

    @property
    def note(self) -> str:
        """What people should know of it (the port took another speed than it was told), or empty."""

    def write(self, data: bytes) -> bool:
        """Send keystrokes.  False if the bounded queue towards the node is full: then nothing was taken."""

    def send_break(self) -> bool:
        """Send a break.  False if this kind of line has none."""

    def close(self) -> None:
        """Hang up in good order.  `LineOwner.lost` follows; the link calls `abort` if it takes too long."""

    def abort(self) -> None:
        """Drop everything at once.  `LineOwner.lost` follows."""


class Backend(Protocol):
    """How to reach one node's console.  One implementation for each kind; it keeps no connection state."""

    @property
    def address(self) -> str:
        """Where the console is, for people, in ConMan's forms (`<host:port>`, `"/dev/ttyS0"`); never a secret."""

    @property
    def host(self) -> str:
        """What several consoles may have in common, so that it should not be dialled for all at once; or empty."""

    def dial(self, owner: LineOwner) -> Deferred[Line]:
        """Connect and negotiate.

        Fires with a usable line.  Bytes that arrive before that go to `owner.received` only after it fired.
        Cancelling it aborts whatever was under way.  It has no time limit of its own: the link cancels it.
        Fails with any exception whose text is fit for operators, `Refused` where patience is in order.
        """


class Link(Protocol):
    """A console's connection through all its lives.  Implemented by `backends.link`, held by the console."""

    @property
    def status(self) -> Status: ...

    @property
    def address(self) -> str: ...

    @property
    def note(self) -> str:
        """As `Line.note`; empty while there is no line."""

    def open(self) -> None:
        """Begin to hold the connection and never give up.  Harmless when already begun."""

    def close(self) -> Deferred[None]:
        """Hang up and stay off.  Fires when the transport is gone, within five seconds."""

    def dial_now(self) -> None:
        """An operator says now: cut a wait short.  Harmless in any other state."""

    def park(self, by: str) -> None:
        """An operator, `by`, says: hang up and stay off until `release`.  Harmless when that was said already."""

    def release(self) -> None:
        """Be again what `open` and `close` have asked for.  Harmless unless parked."""

    def write(self, data: bytes) -> None:
        """Send keystrokes.  Raises `LinkDown` or `NodeNotReading`; then nothing was sent."""

    def send_break(self) -> None:
        """Send a break.  Raises `LinkDown` or `NoBreak`."""


class LinkOwner(Protocol):
    """Who a link reports to.  Called by the link, implemented by `Console`."""

    def received(self, data: bytes) -> bool:
        """As `LineOwner.received`."""

    def changed(self, status: Status) -> None:
        """The link's state is now `status`."""


# ---------------------------------------------------------------------------------------------- towards the disk


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes `[begin, end)` of a stream, and when they came, in seconds since the epoch."""

    begin: int
    end: int
    since: float | None
    """No byte of it came before that; None: not known, or there is none."""
    until: float | None
    """None came after that; None: there is none."""


class Transcript(Protocol):
    """A console's whole stream on disk.  Implemented by `transcript.transcript`, held by the console.

    Offsets count bytes since the console was first seen and never go back: not at rotation, not at restart.
    """

    @property
    def head(self) -> int:
        """The offset after the last byte appended."""

    @property
    def start(self) -> int:
        """The oldest offset still kept."""

    @property
    def marks(self) -> Marks:
        """Which ranges are the daemon's own lines rather than the node's output."""

    @property
    def trouble(self) -> str | None:
        """What keeps the stream from reaching the disk, for people; None while all is well."""

    def append(self, data: bytes, own: bool = False, within: float = 0.0) -> bool:
        """Take `data` as the bytes from `head` on; `own` if they are a line of the daemon's.

        Returns at once.  True: before the reactor's turn ends, or `within` so many seconds, `Stream.written` is
        called, when the file has them, or when the disk has been waited for long enough; clients get them then.
        False: nobody should wait for the disk.  It has them already, as it may if `within` is less than 0: somebody
        waits for the echo of a key.  Or it is slow or failing; then the bytes follow as soon as it lets them in, and
        what does not fit into the bounded queue is counted as lost.
        """

    def read(self, offset: int, limit: int) -> Deferred[tuple[int, bytes]]:
        """Read at most `limit` bytes at `offset`.

        Fires with `(at, data)`.  `at > offset` means that the bytes between are nowhere any more.  Empty `data`
        means that nothing at or after `at` is kept here.
        """

    def line_start(self, before: int, lines: int) -> Deferred[int]:
        """Count `lines` line feeds (one or more) backwards from `before`; fires with the offset after the last counted.

        The bytes looked at are `[start, before)`.  With fewer line feeds than that it is `start`.  The last N lines of
        a stream that ends at `head` therefore begin at `line_start(head - 1, N)`, whether or not it ends with LF.
        """

    def span(self, since: float, until: float) -> Deferred[Span]:
        """Find the bytes that came at `since` or later and before `until`, both in seconds since the epoch.

        Fires with the shortest run of the stream that is known to have all of them.  It may have others at both its
        ends: what came in the same ten seconds, or where hardly anything is known of times, more.
        """

    def close(self) -> Deferred[None]:
        """Write what is pending and close the file.  Fires within a few seconds even if the disk hangs."""


class InputRecord(Protocol):
    """What people type at one console, where that is to be kept.  Implemented by `transcript.input_file`."""

    def admit(self, size: int) -> None:
        """Ask whether so many bytes can be recorded.  Raises `NotRecorded`: then they must not reach the node."""

    def typed(self, user: str, host: str, data: bytes) -> None:
        """`user` at `host` has typed `data`, which the node has got.  Returns at once."""


# -------------------------------------------------------------------------------------------- towards the client


class Encoding(Protocol):
    """How a face puts stream bytes on its wire.  Stateful: it sees one contiguous stream.

    A *flavour* is a factory of them (`Callable[[], Encoding]`): clients of one flavour that stand at the head
    share one encoding, hence one frame.
    """

    @property
    def own_lines(self) -> bool:
        """Whether the daemon's own lines belong into this stream."""

    def encode(self, data: bytes, at: int) -> bytes | None:
        """The frame for the next bytes of the stream, the first of which has the offset `at`; None: nothing yet."""

    @property
    def dangling(self) -> bytes:
        """The end of the stream that `encode` still holds back (an unfinished character)."""

    def flush(self) -> bytes | None:
        """Give up on what dangles: its frame, or None."""


Flavour = Callable[[], Encoding]


class Outlet(Protocol):
    """A client's connection as its attachment sees it.  Implemented by the faces' session."""

    def send(self, frame: bytes) -> None:
        """Put one prepared frame on the wire."""

    def missed(self, count: int) -> None:
        """Tell the client that the next `count` bytes of the stream are kept nowhere any more."""

    def notice(self, text: str) -> None:
        """Tell the client something that is not part of the stream (who joined, who took the keyboard)."""

    def changed(self, status: Status) -> None:
        """The link's state is now `status`; whoever is in step has had all that the node said before that."""

    def finished(self) -> None:
        """The cursor has reached the offset that the attachment was to read up to."""

    def ended(self, why: str, code: int) -> None:
        """The console lets go of the client.  `code` is an RFC 6455 close code: 1001 the daemon or the console
        goes away, 1008 the right to be here ended, 1011 trouble of our own."""


# ------------------------------------------------------------------------------------------------------- time

Clock = IReactorTime
"""The part of a reactor that tells time; `twisted.internet.task.Clock` in tests."""

Timer = IDelayedCall
"""A pending call."""
