"""Stand-ins for the parts around the core, each on the other side of one seam, and a console with all of them.

They do what the seam promises and nothing else, write down what they are told, and let the test decide when and how
things go wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from consoled.backends.settings import Surroundings
from consoled.core.attachment import Attachment, Client
from consoled.core.console import Console
from consoled.core.marks import Marks
from consoled.core.seams import Encoding, Flavour, Line, LineOwner, Span
from consoled.core.status import Off, Parked, Status

EPOCH = 1795304701.0
"""What the wall clock shows when a test begins: 2026-11-21 23:45:01 UTC."""


def result(deferred: Deferred[Any]) -> Any:
    """What a Deferred has fired with already."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    [value] = results
    if isinstance(value, Failure):
        value.raiseException()
    return value


# ---------------------------------------------------------------------------------------------- towards the client


class Plain:
    """The bytes themselves behind a mark, so that each frame is an object of its own."""

    own_lines = True
    dangling = b""

    def encode(self, data: bytes, at: int) -> bytes | None:
        return b"|" + data

    def flush(self) -> bytes | None:
        return None


class Raw(Plain):
    """Nothing of the daemon's own."""

    own_lines = False


class Pairs:
    """Like UTF-8 and worse: `<` makes a pair with whatever byte follows, and is held back until that comes."""

    own_lines = True

    def __init__(self) -> None:
        self.dangling = b""

    def encode(self, data: bytes, at: int) -> bytes | None:
        data = self.dangling + data
        open_at_end = (len(data) - len(data.rstrip(b"<"))) % 2
        self.dangling = data[len(data) - open_at_end :]
        whole = data[: len(data) - open_at_end]
        return b"|" + whole if whole else None

    def flush(self) -> bytes | None:
        held, self.dangling = self.dangling, b""
        return b"|" + held if held else None


class RawPairs(Pairs):
    """Pairs of the node's bytes only."""

    own_lines = False


def counted(kind: type[Plain] | type[Pairs]) -> tuple[Flavour, list[bytes]]:
    """A flavour, and every piece that any encoding of it was given."""
    pieces: list[bytes] = []

    class Counted(kind):  # type: ignore[misc, valid-type]
        def encode(self, data: bytes, at: int) -> bytes | None:
            pieces.append(data)
            return super().encode(data, at)  # type: ignore[no-any-return]

    return Counted, pieces


class FakeOutlet:
    """A client's connection.  Its transport is full after `room` bytes and says so from inside `send`."""

    def __init__(self, room: int | None = None) -> None:
        self.attachment: Attachment
        self.room = room
        self.frames: list[bytes] = []
        self.told: list[tuple[Any, ...]] = []
        """All but the frames: `("missed", 3)`, `("notice", text)`, `("finished",)`, `("ended", why, code)`."""
        self.changes: list[tuple[Status, bytes]] = []
        """What became of the link, and the text that had been sent by then."""

    @property
    def text(self) -> bytes:
        return b"".join(frame.removeprefix(b"|") for frame in self.frames)

    @property
    def notices(self) -> list[str]:
        return [what[1] for what in self.told if what[0] == "notice"]

    def drain(self, room: int | None = None) -> None:
        """The peer has read: there is room again."""
        self.room = room
        self.attachment.resume()

    def _fill(self, count: int) -> None:
        if self.room is not None:
            self.room -= count
            if self.room <= 0:
                self.attachment.pause()

    # The attachment calls these.

    def send(self, frame: bytes) -> None:
        self.frames.append(frame)
        self._fill(len(frame))

    def missed(self, count: int) -> None:
        self.told.append(("missed", count))
        self._fill(1)

    def changed(self, status: Status) -> None:
        self.changes.append((status, self.text))

    def notice(self, text: str) -> None:
        self.told.append(("notice", text))
        self._fill(1)

    def finished(self) -> None:
        self.told.append(("finished",))

    def ended(self, why: str, code: int) -> None:
        self.told.append(("ended", why, code))


# ---------------------------------------------------------------------------------------------- towards the disk


class FakeTranscript:
    """The stream in memory.  Its beginning may have gone, it may have holes, answer late, or fail."""

    def __init__(self, start: int = 0, kept: bytes = b"") -> None:
        self.base = start
        self.everything = bytearray(kept)
        """The stream from `base` on, kept or not."""
        self.start = start
        self.holes: set[int] = set()
        """Offsets that are on the disk no more."""
        self.marks = Marks()
        self.trouble: str | None = None
        self.slow_to_write = False
        """If true, the test calls `Stream.written` when the disk has it."""
        self.failing = False
        self.late = False
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []
        self.closed = False
        self.came: list[tuple[int, float]] = []
        """When the bytes from an offset on came, in the order of both, if the test asks for it."""

    @property
    def head(self) -> int:
        return self.base + len(self.everything)

    def keeps(self, offset: int) -> bool:
        return self.start <= offset < self.head and offset not in self.holes

    def append(self, data: bytes, own: bool = False, within: float = 0.0) -> bool:
        assert not self.closed
        assert data
        if own:
            self.marks.add(self.head, self.head + len(data))
        self.everything += data
        return self.slow_to_write

    def read(self, offset: int, limit: int) -> Deferred[tuple[int, bytes]]:
        assert limit > 0
        return self._soon(lambda: self._read(offset, limit))

    def line_start(self, before: int, lines: int) -> Deferred[int]:
        assert lines > 0
        return self._soon(lambda: self._line_start(before, lines))

    def span(self, since: float, until: float) -> Deferred[Span]:
        return self._soon(lambda: self._span(since, until))

    def answer(self) -> None:
        """Let the oldest question that waits have its answer."""
        deferred, ask = self.waiting.pop(0)
        if self.failing:
            deferred.errback(OSError(5, "Input/output error"))
        else:
            deferred.callback(ask())

    def close(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)

    def _soon(self, ask: Callable[[], Any]) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred(self._forget)
        self.waiting.append((deferred, ask))
        if not self.late:
            self.answer()
        return deferred

    def _forget(self, deferred: Deferred[Any]) -> None:
        self.waiting = [one for one in self.waiting if one[0] is not deferred]

    def _read(self, offset: int, limit: int) -> tuple[int, bytes]:
        at = max(offset, self.start)
        while at in self.holes:
            at += 1
        end = at
        while end < at + limit and self.keeps(end):
            end += 1
        return at, bytes(self.everything[at - self.base : end - self.base])

    def _span(self, since: float, until: float) -> Span:
        inside = [time for _, time in self.came if since <= time < until]
        begin = next((offset for offset, time in self.came if time >= since), self.head)
        end = next((offset for offset, time in self.came if time >= until), self.head)
        return Span(begin, end, inside[0] if inside else None, inside[-1] if inside else None)

    def _line_start(self, before: int, lines: int) -> int:
        at = before - self.base
        for _ in range(lines):
            at = self.everything.rfind(b"\n", self.start - self.base, max(at, 0))
            if at < 0:
                return self.start
        return self.base + at + 1


# ---------------------------------------------------------------------------------------------- towards the node


class FakeLink:
    """A link that does as it is told.  The test sets `status` and `refusal`."""

    note = ""

    def __init__(self, address: str = "<bmc1:2001>") -> None:
        self.address = address
        self.status: Status = Off()
        self.refusal: Exception | None = None
        self.asked: list[str] = []
        self.written: list[bytes] = []
        self.gone: Deferred[None] | None = None
        """If set, what `close` returns."""

    def open(self) -> None:
        self.asked.append("open")

    def close(self) -> Deferred[None]:
        self.asked.append("close")
        return succeed(None) if self.gone is None else self.gone

    def dial_now(self) -> None:
        self.asked.append("dial_now")

    def park(self, by: str) -> None:
        self.asked.append("park")
        self.status = Parked(EPOCH, by)

    def release(self) -> None:
        self.asked.append("release")
        self.status = Off()

    def write(self, data: bytes) -> None:
        self._refuse()
        self.written.append(data)

    def send_break(self) -> None:
        self._refuse()
        self.asked.append("break")

    def _refuse(self) -> None:
        if self.refusal is not None:
            raise self.refusal


class FakeLine:
    """A usable connection.  It says what the test makes it say through its `owner`."""

    note = ""

    def __init__(self, owner: LineOwner) -> None:
        self.owner = owner
        self.full = False
        self.has_break = True
        self.hangs_up_at_once = False
        self.asked: list[Any] = []

    def write(self, data: bytes) -> bool:
        if not self.full:
            self.asked.append(data)
        return not self.full

    def send_break(self) -> bool:
        if self.has_break:
            self.asked.append("break")
        return self.has_break

    def close(self) -> None:
        self.asked.append("close")
        if self.hangs_up_at_once:
            self.owner.lost("closed")

    def abort(self) -> None:
        self.asked.append("abort")


class FakeDial:
    """One attempt, which ends when the test says so.  `cancelled` is how it answers being cancelled."""

    def __init__(self, owner: LineOwner) -> None:
        self.owner = owner
        self.was_cancelled = False
        self.cancelled: Callable[[Deferred[Line]], None] = lambda deferred: None
        self.deferred: Deferred[Line] = Deferred(self._cancel)

    def _cancel(self, deferred: Deferred[Line]) -> None:
        self.was_cancelled = True
        self.cancelled(deferred)

    def connects(self) -> FakeLine:
        line = FakeLine(self.owner)
        self.deferred.callback(line)
        return line

    def fails(self, error: Exception) -> None:
        self.deferred.errback(error)


def around(reactor: Any) -> Surroundings:
    """The daemon as a backend that wants nothing but a reactor sees it."""
    return Surroundings(reactor, secrets=cast(Any, None), state=cast(Any, None))


class FakeBackend:
    """A way to reach a node that waits for the test to say how it went."""

    def __init__(self, address: str = "<bmc1:2001>") -> None:
        self.address = address
        self.host = ""
        self.dials: list[FakeDial] = []
        self.bug: Exception | None = None
        """Raised by `dial` itself."""

    def dial(self, owner: LineOwner) -> Deferred[Line]:
        if self.bug is not None:
            raise self.bug
        self.dials.append(FakeDial(owner))
        return self.dials[-1].deferred


# ---------------------------------------------------------------------------------------------- all of it


class Desk:
    """A console with fakes all around it."""

    def __init__(self, *, transcript: FakeTranscript | None = None, name: str = "x1", **settings: Any) -> None:
        self.clock = Clock()
        self.transcript = FakeTranscript() if transcript is None else transcript
        self.link = FakeLink()
        self.console = Console(name, self.transcript, self.clock, lambda: EPOCH + self.clock.seconds(), **settings)
        self.console.link = self.link

    def attach(
        self,
        flavour: Callable[[], Encoding] = Plain,
        *,
        user: str = "alice",
        room: int | None = None,
        outlet: FakeOutlet | None = None,
        pump: bool = True,
        **where: Any,
    ) -> FakeOutlet:
        """A client from `where` (as for `Console.attach`), pumped once."""
        outlet = FakeOutlet(room) if outlet is None else outlet
        outlet.attachment = self.console.attach(outlet, flavour, Client(user, "10.0.0.1", "test"), **where)
        if pump:
            outlet.attachment.pump()
        return outlet

    def sit_down(self, user: str) -> FakeOutlet:
        """A client that came to type."""
        outlet = self.attach(user=user, interactive=True)
        self.console.keyboard.arrived(outlet.attachment)
        return outlet
