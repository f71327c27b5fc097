"""One console: its stream, its link, its clients.

A byte from the node comes in through `received` (called by the link) and goes into the stream, which keeps it and
shows it to those in step (`stream`); a keystroke comes in through an attachment and goes out through the link.  The hub
makes and keeps consoles, the faces attach to them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from time import gmtime, strftime

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from consoled.core.attachment import Attachment, Attendance, Client
from consoled.core.faults import LinkDown, NoReset, ReadOnly
from consoled.core.keyboard import Keyboard
from consoled.core.seams import Clock, Flavour, InputRecord, Link, Outlet, Timer, Transcript
from consoled.core.status import Closing, Off, Parked, Status, Up, Waiting
from consoled.core.stream import Stream
from consoled.printable import printable

RING = 256 * 1024
"""The newest bytes of each console that are kept in memory, if it has said so many."""

RESTING = 60.0
"""Seconds of silence after which the ring of a console shrinks."""
REMEMBERED = 4096
"""The bytes that it keeps even then."""

UNSEEN = 0.01
"""Seconds for which bytes are gathered while nobody is there to see them."""


class Console:
    """A node's console as everybody shares it."""

    link: Link

    def __init__(
        self,
        name: str,
        transcript: Transcript,
        clock: Clock,
        now: Callable[[], float],
        *,
        tag: str = "<ConMan>",
        on_demand: bool = False,
        linger: float = 60.0,
        ring: int = RING,
        reset: Callable[[], Deferred[str]] | None = None,
        input_record: InputRecord | None = None,
        kind: str = "",
        echoed: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`reset` starts the command that resets the node, and fires with how it ended.

        `kind` is that of its link, for people.  `echoed` is told how many seconds after a keystroke the node's next
        output was shown to those in step.
        """
        self.name = name
        self.stream = Stream(name, transcript, ring, clock, now, echoed)
        self.transcript = transcript
        self.ring = self.stream.ring
        self.attachments: dict[Attachment, None] = {}
        self.attendance = Attendance()
        """Where it counts its clients: the hub's, while that holds the console."""
        self.keyboard = Keyboard(name, self.attachments, clock, now)
        self.tag = tag
        self.kind = kind
        self.on_demand = on_demand
        """Whether it is dialled only while somebody is attached."""
        self.began = transcript.head
        """The offset at which this daemon's part of the stream begins."""
        self.sent_bytes = 0
        """How much has been typed at it that it got."""
        self.own_bytes = 0
        """How much of that part are lines of our own."""
        self.input_record = input_record
        """Where what is typed here is recorded, if it is: whoever may type must be told."""
        self.last_output: float | None = None
        """When the node last said something, in seconds since the epoch."""
        self._clock = clock
        self._now = now
        self._linger = linger
        self._hang_up: Timer | None = None
        self._numbers = count(1)
        self._reset = reset
        self._resetting = False
        self._connected_to = ""
        """Its address while the node is there; the link's may be another by then."""

    # ------------------------------------------------------------------------------------------- life

    def open(self) -> None:
        """Begin to hold the console."""
        self.note("log opened")
        if isinstance(self.link.status, Parked):
            self.note(f"still parked by <{self.link.status.by}>")
        if not self.on_demand:
            self.link.open()

    def renew(
        self,
        *,
        tag: str,
        on_demand: bool,
        linger: float,
        ring: int,
        reset: Callable[[], Deferred[str]] | None,
        input_record: InputRecord | None,
    ) -> None:
        """Go on with other settings, which are those of the constructor.  The link's are its own."""
        self.tag, self._linger, self._reset = tag, linger, reset
        self.ring.resize(ring)
        was_recorded, self.input_record = self.input_record is not None, input_record
        if was_recorded != (input_record is not None):
            how = "no longer recorded" if was_recorded else "recorded"
            for attachment in list(self.attachments):
                attachment.outlet.notice(f"Input to console [{self.name}] is {how}")
        if on_demand == self.on_demand:
            return
        self.on_demand = on_demand
        if not on_demand:
            self._stay_on()
            self.link.open()
        elif not self.attachments and not isinstance(self.link.status, Off):
            self._hang_up = self._clock.callLater(self._linger, self._hang_up_now)

    def close(self) -> Deferred[None]:
        """Hang up, and close the transcript when the node's last byte is in it.  The clients must have gone."""
        self.on_demand = False  # whoever still comes or goes dials and hangs up nothing
        self._stay_on()
        return self.link.close().addCallback(self._close_transcript)

    def _close_transcript(self, _: None) -> Deferred[None]:
        self.note("log closed")
        return self.transcript.close()

    def end_clients(self, why: str, code: int) -> None:
        """Let go of every client, each told why.  `code` as for `Outlet.ended`."""
        for attachment in list(self.attachments):
            attachment.outlet.ended(why, code)

    # ------------------------------------------------------------------------------------------- the link calls these

    def received(self, data: bytes) -> bool:
        """The node said `data`.  Whether any client is there to see it."""
        self.last_output = now = self._now()
        within = self.stream.patience(now, self.attendance.clients) if self.attachments else UNSEEN
        self.stream.publish(data, False, within)
        return bool(self.attachments)

    def changed(self, status: Status) -> None:
        """The link's state is now `status`: tell the stream if the node came or went."""
        if isinstance(status, Up):
            self._connected_to = self.link.address
            self.note(f"connected to {self._connected_to}")
        elif self._connected_to and not isinstance(status, Closing):
            why = f" ({status.why})" if isinstance(status, Waiting) else ""
            self.note(f"disconnected from {self._connected_to}{why}")
            self._connected_to = ""
        if self.attachments:
            self.stream.afterwards(partial(self._tell, status))

    def _tell(self, status: Status) -> None:
        for attachment in list(self.attachments):
            attachment.outlet.changed(status)

    # ------------------------------------------------------------------------------------------- the stream

    @property
    def head(self) -> int:
        """The offset after the newest byte that clients may see."""
        return self.stream.head

    def note(self, text: str) -> None:
        """Put a line of our own into the stream: `<ConMan> Console [x] TEXT at 2026-01-31 23:59:59 UTC.`"""
        stamp = strftime("%Y-%m-%d %H:%M:%S UTC", gmtime(self._now()))
        line = f"{self.tag} Console [{self.name}] {text} at {stamp}.\r\n"
        data = (line if self.stream.at_line_start else "\r\n" + line).encode()
        self.own_bytes += len(data)
        self.stream.publish(data, True)

    def rest(self) -> None:
        """Give memory back if the node has been silent for a while: its transcript has it all."""
        if self._now() - (self.last_output or 0) >= RESTING and self.transcript.trouble is None:
            self.ring.shrink(REMEMBERED)

    def lost(self, count: int) -> None:
        """The transcript could not keep the last `count` bytes: mark the place."""
        self.note(f"log lost {count} bytes before this line")

    # ------------------------------------------------------------------------------------------- clients

    def attach(
        self,
        outlet: Outlet,
        flavour: Flavour,
        client: Client,
        *,
        at: int | None = None,
        until: int | None = None,
        interactive: bool = False,
    ) -> Attachment:
        """Give `client` a place at the offset `at` (default: the head).

        With `until` it ends there: `outlet.finished`.  Nothing is sent before the caller says `pump`.
        Raises `ValueError` for offsets that the stream has not reached.
        """
        for offset in (at, until):
            if offset is not None and not 0 <= offset <= self.head:
                raise ValueError(f"offset {offset} is outside of 0 to {self.head}")
        number, since, begin = next(self._numbers), self._now(), self.head if at is None else at
        attachment = Attachment(
            self, number, outlet, flavour, client, since=since, at=begin, until=until, interactive=interactive
        )
        self.attachments[attachment] = None
        self.attendance.clients += 1
        self._stay_on()
        if self.on_demand:
            self.link.open()
        return attachment

    def left(self, attachment: Attachment) -> None:
        """Called by the attachment, once, when its client is gone."""
        del self.attachments[attachment]
        self.attendance.clients -= 1
        if attachment.interactive:
            self.keyboard.departed(attachment)
        if self.on_demand and not self.attachments and self._hang_up is None:
            self._hang_up = self._clock.callLater(self._linger, self._hang_up_now)

    def _stay_on(self) -> None:
        if self._hang_up is not None:
            self._hang_up.cancel()
            self._hang_up = None

    def _hang_up_now(self) -> None:
        self._hang_up = None
        self.link.close()

    # ------------------------------------------------------------------------------------------- towards the node

    def write(self, data: bytes, by: Client) -> None:
        """Send keystrokes.  Raises `LinkDown`, `NodeNotReading` or `NotRecorded`."""
        if self.input_record is not None:
            self.input_record.admit(len(data))
        self.link.write(data)
        self.sent_bytes += len(data)
        self.stream.typed()
        if self.input_record is not None:
            self.input_record.typed(by.user, by.host, data)

    def send_break(self, by: Client) -> None:
        """Send a break and note who did.  Raises `LinkDown` or `NoBreak`."""
        self.link.send_break()
        self.note(f"break sent by <{by}>")

    def park(self, by: Client) -> None:
        """Hang up, stay off until `release`, and note who wants it so."""
        self.note(f"parked by <{by}>")
        self.link.park(str(by))

    def release(self, by: Client) -> None:
        """Connect again, if anybody wants that, and note who says so."""
        self.note(f"released by <{by}>")
        self.link.release()

    def reset(self, by: Attachment) -> None:
        """Run the reset command and note who did.  Raises `ReadOnly` or `NoReset`."""
        if not by.typing:
            raise ReadOnly
        if self._reset is None:
            raise NoReset(self.name, "no reset_command is configured")
        if self._resetting:
            raise NoReset(self.name, "its reset_command is still running")
        self._resetting = True
        self.note(f"reset by <{by.client}>")
        by.record("reset")
        maybeDeferred(self._reset).addBoth(self._was_reset, by)

    def _was_reset(self, how: str | Failure, by: Attachment) -> None:
        self._resetting = False
        how = f"failed: {how.getErrorMessage()}" if isinstance(how, Failure) else how
        by.outlet.notice(f"The reset command of console [{self.name}] {printable(how)}")
        by.record("reset-ended", how=how)

    @property
    def received_bytes(self) -> int:
        """How much the node has said since the daemon began with it."""
        return self.ring.head - self.began - self.own_bytes

    @property
    def down(self) -> LinkDown | None:
        """The fault that typing would meet now, or None while the link is up."""
        return None if isinstance(self.link.status, Up) else LinkDown(self.name)
