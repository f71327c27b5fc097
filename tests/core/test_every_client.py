"""What every client gets, whatever happens: exactly the stream from its offset, or a truthful `missed`."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from consoled.core import attachment as attachment_module
from consoled.core.console import Console
from tests.fakes import Desk, FakeOutlet, FakeTranscript, Pairs, Plain, Raw, RawPairs

START = 1000
FLAVOURS = st.sampled_from([Plain, Raw, Pairs, RawPairs])
ROOM = st.sampled_from([None, 1, 2, 5, 20, 60])
PIECES = st.sampled_from([b"<", b"a", b"a<", b"<<", b"b\n", b"<b<", b"c" * 20 + b"<", b"d" * 40])


class Witness(FakeOutlet):
    """A client that knows which parts of the stream it must have got, and in which flavour."""

    def __init__(self, desk: Desk, room: int | None, own_lines: bool, at: int) -> None:
        super().__init__(room)
        self.desk = desk
        self.full = False
        self.changing = False
        self.own_lines = own_lines
        self.since = at
        self.at = at
        self.parts: list[tuple[int, int, bool]] = []
        self.complaints: list[str] = []
        """Not raised where they arise: a Deferred would swallow them."""

    def _fill(self, count: int) -> None:
        super()._fill(count)
        self.full |= self.room is not None and self.room <= 0

    def drain(self, room: int | None = None) -> None:
        self.full = False
        super().drain(room)

    def send(self, frame: bytes) -> None:
        if self.full and not self.changing:
            self.complaints.append("sent to a client that cannot take it")
        if ("finished",) in self.told:
            self.complaints.append("sent after the end")
        super().send(frame)

    def missed(self, count: int) -> None:
        assert count > 0
        cursor = self.attachment.cursor
        for offset in range(cursor - count, cursor):
            if offset >= self.desk.console.ring.start:
                self.complaints.append(f"missed {offset}, which was in the ring")
            if self.desk.transcript.keeps(offset) and not self.desk.transcript.failing:
                self.complaints.append(f"missed {offset}, which was on the disk")
        self.parts.append((self.at, cursor - count, self.own_lines))
        self.at = cursor
        super().missed(count)

    def change(self, flavour: Any) -> None:
        self.parts.append((self.at, self.attachment.cursor, self.own_lines))
        self.at, self.own_lines = self.attachment.cursor, flavour.own_lines
        self.changing = True
        self.attachment.change_flavour(flavour)
        self.changing = False


class Streams(RuleBasedStateMachine):
    """The node talks, the disk misbehaves, clients come, stall and go."""

    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.small = patch.object(attachment_module, "CHUNK", 16)
        self.small.start()
        self.desk = Desk(transcript=FakeTranscript(START, b"<older output\n"), ring=24)
        self.console: Console = self.desk.console
        self.transcript = self.desk.transcript
        self.own = set[int]()
        self.here: list[Witness] = []
        self.gone: list[Witness] = []

    def teardown(self) -> None:
        try:
            self.in_the_end_everybody_has_everything()
        finally:
            self.small.stop()

    # The node and the daemon.

    @rule(data=PIECES)
    def the_node_speaks(self, data: bytes) -> None:
        self.console.received(data)

    @rule()
    def the_daemon_notes(self) -> None:
        before = self.console.ring.head
        self.console.note("ok")
        self.own |= set(range(before, self.console.ring.head))

    @rule(seconds=st.sampled_from([0.2, 0.5]))
    def time_passes(self, seconds: float) -> None:
        self.desk.clock.advance(seconds)

    @rule(slow=st.booleans())
    def the_disk_is_waited_for(self, slow: bool) -> None:
        self.transcript.slow_to_write = slow
        self.console.stream.written()

    @rule(keep=st.integers(0, 20))
    def the_ring_shrinks(self, keep: int) -> None:
        self.console.ring.shrink(keep)

    # The disk.

    @rule(what=st.sampled_from(["late", "prompt", "failing", "well", "forgets", "hole"]), share=st.integers(0, 20))
    def the_disk_changes(self, what: str, share: int) -> None:
        disk = self.transcript
        if what in ("late", "prompt"):
            disk.late = what == "late"
        elif what in ("failing", "well"):
            disk.failing = what == "failing"
        elif what == "forgets":
            disk.start = max(disk.start, self.place(share))
        else:
            start = self.place(share)
            disk.holes |= set(range(start, min(start + 5, disk.head)))

    @precondition(lambda self: self.transcript.waiting)
    @rule()
    def the_disk_answers(self) -> None:
        self.transcript.answer()

    # The clients.

    @initialize(target=clients, flavours=st.lists(FLAVOURS, min_size=2, max_size=3), late=st.booleans())
    def some_are_there(self, flavours: list[Any], late: bool) -> Any:
        self.transcript.late = late
        return multiple(*(self.one_at(self.console.head, flavour, None, None) for flavour in flavours))

    @precondition(lambda self: len(self.here) < 5)
    @rule(target=clients, flavour=FLAVOURS, room=ROOM, share=st.integers(0, 20), head=st.booleans(), ends=st.booleans())
    def one_comes(self, flavour: Any, room: int | None, share: int, head: bool, ends: bool) -> Any:
        at = self.console.head if head else self.place(share) - 10
        return self.one_at(at, flavour, room, self.console.head if ends else None)

    def one_at(self, at: int, flavour: Any, room: int | None, until: int | None) -> Witness:
        witness = Witness(self.desk, room, flavour.own_lines, at)
        self.here.append(witness)
        self.desk.attach(flavour, outlet=witness, at=at, until=until)
        return witness

    @rule(client=clients, room=ROOM)
    def one_drains(self, client: Witness, room: int | None) -> None:
        client.drain(room)

    @rule(client=clients)
    def one_stalls(self, client: Witness) -> None:
        client.full = True
        client.attachment.pause()

    @rule(client=clients, flavour=FLAVOURS)
    def one_changes_flavour(self, client: Witness, flavour: Any) -> None:
        if client in self.here and ("finished",) not in client.told:
            client.change(flavour)

    @rule(client=consumes(clients))
    def one_leaves(self, client: Witness) -> None:
        client.attachment.leave()
        self.here.remove(client)
        self.gone.append(client)

    # What must hold.

    def place(self, share: int) -> int:
        return START + share * (self.console.head - START) // 20

    def stream(self, start: int, end: int, own_lines: bool) -> bytes:
        everything = self.transcript.everything
        return bytes(everything[at - START] for at in range(start, end) if own_lines or at not in self.own)

    def expected(self, client: Witness) -> bytes:
        parts = [*client.parts, (client.at, client.attachment.cursor, client.own_lines)]
        return b"".join(self.stream(*part) for part in parts)

    @invariant()
    def everybody_has_the_stream_up_to_its_cursor(self) -> None:
        for client in self.here + self.gone:
            assert not client.complaints
            expected, got = self.expected(client), client.text
            # One that came in the middle of a pair may be shown the whole pair.
            if not expected.startswith(got) and self.stream(START, client.since, False).endswith(b"<"):
                got = got.removeprefix(b"<")
            assert expected.startswith(got)
            assert expected[len(got) :] in (b"", b"<"), "more than half a pair is held back"

    @invariant()
    def who_stalls_is_in_no_feed(self) -> None:
        members = {outlet for feed in self.console.stream._feeds.values() for outlet in feed.members}
        assert all(self.console.stream._feeds[flavour].members for flavour in self.console.stream._feeds)
        in_step = {one for one in self.here if not one.full and one.attachment.cursor == self.console.head}
        assert members <= in_step

    def in_the_end_everybody_has_everything(self) -> None:
        self.transcript.late = self.transcript.failing = False
        self.console.stream.written()
        while self.transcript.waiting:
            self.transcript.answer()
        for client in self.here:
            client.drain()
        self.desk.clock.advance(1)
        for client in self.here:
            assert len(client.text) >= len(self.expected(client))
            until = client.attachment._until
            if until is None:
                assert client.attachment.cursor == self.console.head
            else:
                assert client.told[-1] == ("finished",)
                assert client.told.count(("finished",)) == 1
                assert client.attachment.cursor == max(until, client.since)
        self.everybody_has_the_stream_up_to_its_cursor()


Streams.TestCase.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
TestStreams = Streams.TestCase
