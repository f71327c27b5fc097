"""An attachment: one client's place at a console.

It is a cursor and a pace, and owns no queue.  At the head it is a member of a feed and shares everybody's frame;
behind it (a replay, a pause, a slow network) it reads on from the ring, or from the transcript where the ring
has let go, with an encoding of its own, for as long as its client's transport takes it.

Made by `Console.attach`; held by the faces' session, which calls `pause` and `resume` as its transport's buffer
fills and drains, and `leave` when the client is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from consoled.core.access import Action, Recorder
from consoled.core.faults import ReadOnly
from consoled.core.seams import Encoding, Flavour, Outlet
from consoled.printable import printable

if TYPE_CHECKING:
    from consoled.core.console import Console

CHUNK = 256 * 1024
"""The most stream bytes in one frame: in a flood, large ones cost the least for each byte."""
STRIDE = 8 * CHUNK
"""The most that is read from the transcript at once, for a client that takes it all.  A flood brings a chunk in each
turn of the reactor, and the disk takes some turns to answer: with less, who is behind would never be in step again."""

_log = Logger()


@dataclass(frozen=True, slots=True)
class Client:
    """Who sits at the other end: for the notes to others, and `who is here`."""

    user: str
    host: str
    face: str

    def __str__(self) -> str:
        return printable(f"{self.user}@{self.host}")


@dataclass(slots=True)
class Attendance:
    """How many clients are attached at some consoles together."""

    clients: int = 0


class Attachment:
    """One client's cursor, pace and right to type."""

    def __init__(
        self,
        console: Console,
        number: int,
        outlet: Outlet,
        flavour: Flavour,
        client: Client,
        *,
        since: float,
        at: int,
        until: int | None,
        interactive: bool,
    ) -> None:
        self.console = console
        self.number = number
        """It is the console's first, second ... client, and nobody else is by the same number."""
        self.client = client
        self.since = since
        self.interactive = interactive
        """Whether the client came to type; false for a tail."""
        self.typing = False
        """Whether what it types goes to the node now.  Only `Keyboard` changes it."""
        self.missed = 0
        """Bytes that this client never got, because they were kept nowhere any more."""
        self.skips = 0
        """In how many pieces."""
        self.bytes_in = 0
        """Keystrokes of this client that went to the node."""
        self.record: Recorder = _nowhere
        """Told of what this client does to others, and others to it.  Whoever keeps the audit puts itself here."""
        self._outlet = outlet
        self._flavour = flavour
        self._until = until
        self._began = self._cursor = at
        self._encoding: Encoding | None = flavour()
        """Our own while behind; None in step, when the feed has it."""
        self._stride = CHUNK
        self._paused = False
        self._left = False
        self._pumping = False
        self._reading: Deferred[None] | None = None

    @property
    def cursor(self) -> int:
        """The offset of the next byte for this client."""
        return self.console.head if self._encoding is None else self._cursor

    @property
    def bytes_out(self) -> int:
        """How much of the stream this client got."""
        return self.cursor - self._began - self.missed

    @property
    def outlet(self) -> Outlet:
        return self._outlet

    # ------------------------------------------------------------------------------------------- pace

    def pause(self) -> None:
        """The client's transport is full.  Idempotent."""
        self._paused = True
        self._fall_behind()

    def resume(self) -> None:
        """The client's transport takes more.  Idempotent."""
        self._paused = False
        self.pump()

    def leave(self) -> None:
        """The client is gone.  Idempotent."""
        if self._left:
            return
        self._left = True
        self._fall_behind()
        if self._reading is not None:
            self._reading.cancel()
        self.console.left(self)

    def change_flavour(self, flavour: Flavour) -> None:
        """Continue the stream at the same place in another encoding."""
        self._fall_behind()
        held = b"" if self._encoding is None else self._encoding.dangling
        self._flavour = flavour
        self._encoding = encoding = flavour()
        if held:
            self._send(encoding.encode(held, self._cursor - len(held)))
        self.pump()

    def read_to(self, offset: int) -> None:
        """Go on to `offset`, which the stream has reached, and no further: `Outlet.finished` then."""
        self._fall_behind()
        self._until = offset
        self.pump()

    def pump(self) -> None:
        """Send what lies between the cursor and the head while the transport takes it; at the head, join in step."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while not (self._paused or self._left or self._reading or self._encoding is None):
                self._advance(self._encoding)
        finally:
            self._pumping = False

    @property
    def _goal(self) -> int:
        """The offset up to which this client may read now."""
        return self.console.head if self._until is None else min(self._until, self.console.head)

    def _advance(self, encoding: Encoding) -> None:
        if self._cursor < self._goal:
            self._read(encoding, self._goal - self._cursor)
        elif self._until is None:
            self._join(encoding)
        else:
            self._send(encoding.flush())
            self.leave()
            self._outlet.finished()

    def _read(self, encoding: Encoding, limit: int) -> None:
        ring = self.console.ring
        if self._cursor >= ring.start:
            self._take(encoding, ring.read(self._cursor, min(limit, CHUNK)))
            return
        reading = self.console.transcript.read(self._cursor, min(limit, self._stride))
        self._reading = waiting = reading.addErrback(self._unreadable).addCallback(self._was_read)
        # It may have fired already, in which case the loop in `pump` goes on.
        if waiting.called and not waiting.paused:
            self._reading = None

    def _unreadable(self, failure: Failure) -> tuple[int, bytes]:
        if not self._left:
            _log.failure("console {name}: its transcript cannot be read", failure, name=self.console.name)
        return self._cursor, b""

    def _was_read(self, result: tuple[int, bytes]) -> None:
        self._reading = None
        # A client that cannot take it now is not sent it: it reads again when it can.
        if not (self._paused or self._left or self._encoding is None):
            self._came(self._encoding, *result)
        self.pump()

    def _came(self, encoding: Encoding, at: int, data: bytes) -> None:
        # Behind a hole there may be more than was asked for: what this client is not to see, or not yet.
        data = data[: max(0, self._goal - at)]
        # Whatever has gone from the disk, the ring's part of it is still at hand.
        kept = min(at, self.console.ring.start) if data else self.console.ring.start
        reachable = min(kept, self._goal)
        if reachable > self._cursor:
            self._skip_to(encoding, reachable)
        if reachable == at:
            self._take(encoding, data)

    def _skip_to(self, encoding: Encoding, offset: int) -> None:
        self._send(encoding.flush())
        count = offset - self._cursor
        self.missed += count
        self.skips += 1
        self._cursor = offset
        self._outlet.missed(count)

    def _take(self, encoding: Encoding, data: bytes) -> None:
        # Each send may pause us, and what is left then is read again.
        at = 0
        while at < len(data) and not (self._paused or self._left) and self._encoding is encoding:
            length, own = min(CHUNK, len(data) - at), False
            if not encoding.own_lines:
                length, own = self.console.transcript.marks.run(self._cursor, length)
            self._cursor += length
            if not own:
                self._send(encoding.encode(data[at : at + length], self._cursor - length))
            at += length
        self._stride = min(2 * self._stride, STRIDE) if at == len(data) else max(self._stride // 2, CHUNK)

    def _join(self, encoding: Encoding) -> None:
        feed = self.console.stream.feed(self._flavour, encoding)
        if feed.encoding.dangling != encoding.dangling and (encoding.dangling or self._cursor > self._began):
            # One of us holds an unfinished character that the other has given up.  (A newcomer gets it whole.)
            self._send(encoding.flush())
            feed.give_up()
            return
        self._encoding = None
        feed.join(self._outlet)

    def _fall_behind(self) -> None:
        """Leave the feed, if we are in it, with an encoding of our own that is where the feed's is."""
        if self._encoding is None:
            self._cursor = self.console.head
            self._encoding = self._flavour()
            dangling = self.console.stream.leave_feed(self._flavour, self._outlet)
            self._encoding.encode(dangling, self._cursor - len(dangling))

    def _send(self, frame: bytes | None) -> None:
        if frame is not None:
            self._outlet.send(frame)

    # ------------------------------------------------------------------------------------------- keys

    def write(self, data: bytes) -> None:
        """Type `data`.  Raises `ReadOnly`, `LinkDown`, `NodeNotReading` or `NotRecorded`; then the node has none."""
        if not self.typing:
            raise ReadOnly
        self.console.write(data, self.client)
        self.bytes_in += len(data)

    def send_break(self) -> None:
        """Send a break.  Raises as `write` does, and `NoBreak`."""
        if not self.typing:
            raise ReadOnly
        self.console.send_break(self.client)
        self.record("break")


def _nowhere(action: Action, **details: str | int | float) -> None:
    """Nobody keeps an audit."""
