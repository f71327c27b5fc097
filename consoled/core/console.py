"""One console: its stream, its link, its clients.

A byte from the node comes in through `received` (called by the link), goes into the ring and the transcript and
then to the feeds; a keystroke comes in through an attachment and goes out through the link.  The hub makes and
keeps consoles, the faces attach to them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, groupby
from math import inf
from operator import itemgetter
from time import gmtime, strftime

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from consoled.core.attachment import CHUNK, Attachment, Client
from consoled.core.faults import LinkDown, NoReset, ReadOnly
from consoled.core.feed import Feed
from consoled.core.keyboard import Keyboard
from consoled.core.ring import Ring
from consoled.core.seams import Clock, Encoding, Flavour, InputRecord, Link, Outlet, Timer, Transcript
from consoled.core.status import Closing, Off, Parked, Status, Up, Waiting
from consoled.printable import printable

RING = 256 * 1024
"""The newest bytes of each console that are kept in memory, if it has said so many."""

RESTING = 60.0
"""Seconds of silence after which the ring of a console shrinks."""
REMEMBERED = 4096
"""The bytes that it keeps even then."""

PACE = 0.005
"""Seconds for which a console that has just shown something gathers what comes next."""
PACE_EACH = 0.0002
"""Seconds more for each client in step, so that a console that a crowd watches costs a few per cent of a processor,
however many they are."""
PACE_MOST = 0.05
"""Seconds that it comes to at most: what is seen on a screen is still seen at once."""
AT_ONCE = 16 * 1024
"""Bytes that are shown all the same."""
ECHO = 0.25
"""Seconds after a keystroke in which nothing is held back."""
NOW = -1.0
"""For the transcript: less than no time."""
ECHO_LIMIT = 10.0
"""Seconds after a keystroke in which what the node says may be its answer."""
UNSEEN = 0.01
"""Seconds for which bytes are gathered while nobody is there to see them."""

_log = Logger()


class Console:
    """A node's console as everybody shares it."""

    link: Link
    # What hardly any console ever has is not in each: with up to 30 attributes, objects share the keys of their
    # dictionaries, which otherwise take a kilobyte more.
    _resetting = False
    _hang_up: Timer | None = None

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
        self.transcript = transcript
        self.ring = Ring(ring, transcript.head)
        self.head = transcript.head
        """The offset after the newest byte that clients may see: it is on the disk, if that can be helped."""
        self.attachments: dict[Attachment, None] = {}
        self.keyboard = Keyboard(name, self.attachments, lambda: strftime("%m-%d %H:%M", gmtime(now())), clock)
        self.tag = tag
        self.kind = kind
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
        self._on_demand = on_demand
        self._linger = linger
        self._numbers = count(1)
        self._reset = reset
        self._feeds: dict[Flavour, Feed] = {}
        self._unshown: list[tuple[bytes, bool]] = []
        """What came since then, and whether it is a line of our own."""
        self._untold: list[Status] = []
        """What became of the link since then."""
        self._shown_at = self._typed_at = 0.0
        self._awaited = -inf
        """Since when somebody who has typed waits for the node's answer."""
        self._echoed = echoed
        self._connected_to = ""
        """Its address while the node is there; the link's may be another by then."""
        # How a stream of old ended is not known, unless it was with a line of ours.
        self._began_at_line_start = self.head == 0 or transcript.marks.run(self.head - 1, 1)[1]

    # ------------------------------------------------------------------------------------------- life

    def open(self) -> None:
        """Begin to hold the console."""
        self.note("log opened")
        if isinstance(self.link.status, Parked):
            self.note(f"still parked by <{self.link.status.by}>")
        if not self._on_demand:
            self.link.open()

    @property
    def on_demand(self) -> bool:
        """Whether it is dialled only while somebody is attached."""
        return self._on_demand

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
        if on_demand == self._on_demand:
            return
        self._on_demand = on_demand
        if not on_demand:
            self._stay_on()
            self.link.open()
        elif not self.attachments and not isinstance(self.link.status, Off):
            self._hang_up = self._clock.callLater(self._linger, self._hang_up_now)

    def close(self) -> Deferred[None]:
        """Hang up, and close the transcript when the node's last byte is in it.  The clients must have gone."""
        self._on_demand = False  # whoever still comes or goes dials and hangs up nothing
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
        self._publish(data, False, self._patience(now) if self.attachments else UNSEEN)
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
            self._untold.append(status)
            if not self._unshown:
                self._tell()

    def _tell(self) -> None:
        """Tell the clients what has become of the link, after what the node said before that."""
        untold, self._untold = self._untold, []
        for status in untold:
            for attachment in list(self.attachments):
                attachment.outlet.changed(status)

    # ------------------------------------------------------------------------------------------- the stream

    def note(self, text: str) -> None:
        """Put a line of our own into the stream: `<ConMan> Console [x] TEXT at 2026-01-31 23:59:59 UTC.`"""
        stamp = strftime("%Y-%m-%d %H:%M:%S UTC", gmtime(self._now()))
        line = f"{self.tag} Console [{self.name}] {text} at {stamp}.\r\n"
        begun = self.ring.last != b"\n" if self.ring.last else not self._began_at_line_start
        data = ("\r\n" + line if begun else line).encode()
        self.own_bytes += len(data)
        self._publish(data, True)

    def rest(self) -> None:
        """Give memory back if the node has been silent for a while: its transcript has it all."""
        if self._now() - (self.last_output or 0) >= RESTING and self.transcript.trouble is None:
            self.ring.shrink(REMEMBERED)

    def lost(self, count: int) -> None:
        """The transcript could not keep the last `count` bytes: mark the place."""
        self.note(f"log lost {count} bytes before this line")

    def _patience(self, now: float) -> float:
        """How many seconds what comes now may be gathered, clients being there."""
        # Of two times, one before the other unless the clock was set back.
        if 0 <= now - self._typed_at < ECHO:
            return NOW
        pace = min(PACE + PACE_EACH * sum(len(feed.members) for feed in self._feeds.values()), PACE_MOST)
        just_shown = 0 <= now - self._shown_at < pace
        return pace if just_shown and self.ring.head - self.head < AT_ONCE else 0.0

    def _publish(self, data: bytes, own: bool, within: float = 0.0) -> None:
        # The ring is second, since the transcript may show what came before.
        wait = self.transcript.append(data, own, within)
        self.ring.append(data)
        self._unshown.append((data, own))
        if not wait:
            self.written()

    def written(self) -> None:
        """The disk has what was appended, or is not waited for: the clients may see it."""
        unshown, self._unshown = self._unshown, []
        if self._feeds:
            self._show(unshown)
        else:
            self.head = self.ring.head
        if self._untold:
            self._tell()

    def _show(self, unshown: list[tuple[bytes, bool]]) -> None:
        self._shown_at = now = self._now()
        if self._awaited > 0:
            waited, self._awaited = now - self._awaited, -inf
            if 0 <= waited < ECHO_LIMIT:
                self._echoed(waited)
        if len(unshown) > 1:
            # What came in one turn goes out together.
            stretches = groupby(unshown, key=itemgetter(1))
            unshown = [(b"".join(data for data, _ in pieces), own) for own, pieces in stretches]
        for stretch, own in unshown:
            for at in range(0, len(stretch), CHUNK):
                data, offset = stretch[at : at + CHUNK], self.head
                self.head += len(data)
                for feed in list(self._feeds.values()):
                    feed.published(data, own, offset)

    def last_lines(self, count: int) -> Deferred[int]:
        """Fires with the offset at which the last `count` lines of the stream begin."""
        ring, disk = self.ring.start, self.transcript.start
        if count <= 0 or self.head == min(ring, disk):
            return succeed(self.head)
        before = self.head - 1
        if before >= ring:
            before, count = self.ring.line_start(before, count)
            if not count or disk >= ring:
                return succeed(before)
        return self.transcript.line_start(before, count).addErrback(self._unreadable)

    def _unreadable(self, failure: Failure) -> int:
        """The lines in the ring are better than none."""
        if failure.check(CancelledError):
            failure.raiseException()
        _log.failure("console {name}: its transcript cannot be read", failure, name=self.name)
        return self.ring.start

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
        attachment = Attachment(
            self,
            next(self._numbers),
            outlet,
            flavour,
            client,
            since=self._now(),
            at=self.head if at is None else at,
            until=until,
            interactive=interactive,
        )
        self.attachments[attachment] = None
        self._stay_on()
        if self._on_demand:
            self.link.open()
        return attachment

    def left(self, attachment: Attachment) -> None:
        """Called by the attachment when its client is gone."""
        self.attachments.pop(attachment, None)
        if attachment.interactive:
            self.keyboard.departed(attachment)
        if self._on_demand and not self.attachments and self._hang_up is None:
            self._hang_up = self._clock.callLater(self._linger, self._hang_up_now)

    def _stay_on(self) -> None:
        if self._hang_up is not None:
            self._hang_up.cancel()
            self._hang_up = None

    def _hang_up_now(self) -> None:
        self._hang_up = None
        self.link.close()

    def feed(self, flavour: Flavour, encoding: Encoding) -> Feed:
        """The feed of `flavour`; `encoding` becomes its encoding if there is none yet."""
        feed = self._feeds.get(flavour)
        if feed is None:
            feed = self._feeds[flavour] = Feed(encoding, self._clock)
        return feed

    def leave_feed(self, flavour: Flavour, outlet: Outlet) -> bytes:
        """Take `outlet` out of its feed.  Returns what dangles there."""
        feed = self._feeds[flavour]
        feed.leave(outlet)
        if not feed.members:
            del self._feeds[flavour]
        return feed.encoding.dangling

    # ------------------------------------------------------------------------------------------- towards the node

    def write(self, data: bytes, by: Client) -> None:
        """Send keystrokes.  Raises `LinkDown`, `NodeNotReading` or `NotRecorded`."""
        if self.input_record is not None:
            self.input_record.admit(len(data))
        self.link.write(data)
        self.sent_bytes += len(data)
        self._typed_at = now = self._now()
        if not 0 <= now - self._awaited < ECHO_LIMIT:
            self._awaited = now
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
