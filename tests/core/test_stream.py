"""A stream: kept, then shown, how soon, and its last lines."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, succeed
from twisted.logger import capturedLogs

from consoled.core.attachment import CHUNK
from consoled.core.console import UNSEEN
from consoled.core.status import Dialing, Up, Waiting
from consoled.core.stream import AT_ONCE, ECHO, NOW, PACE, PACE_EACH, PACE_MOST
from tests.fakes import EPOCH, Desk, FakeOutlet, FakeTranscript, result

AT = b" at 2026-11-21 23:45:01 UTC.\r\n"


def line(text: str) -> bytes:
    return b"<ConMan> Console [x1] " + text.encode() + AT


def stream(desk: Desk) -> bytes:
    return bytes(desk.transcript.everything)


# ---------------------------------------------------------------------------------------------- the stream


def test_ring_and_transcript_have_the_same_offsets() -> None:
    desk = Desk(transcript=FakeTranscript(1000, b"old"))
    assert desk.console.head == 1003
    assert desk.console.last_output is None
    desk.clock.advance(5)
    desk.console.received(b"new")
    assert desk.console.head == desk.transcript.head == 1006
    assert desk.console.last_output == 1795304706.0


def test_a_large_read_is_cut() -> None:
    desk = Desk()
    clients = [desk.attach(), desk.attach()]
    data = bytes(range(256)) * (4 * CHUNK // 256)
    desk.console.received(data[: CHUNK + 1])
    desk.console.received(data[CHUNK + 1 :])
    assert max(len(frame) - 1 for frame in clients[0].frames) == CHUNK
    assert clients[0].text == clients[1].text == stream(desk) == data
    assert len(clients[0].frames) == 5


def test_a_client_that_stalls_within_a_large_read_loses_nothing() -> None:
    desk = Desk()
    client = desk.attach(room=10)
    data = bytes(range(256)) * 1024
    desk.console.received(data)
    assert client.attachment.cursor == CHUNK
    client.drain()
    assert client.text == data


LINES = st.lists(st.sampled_from([b"a", b"\n", b"bc\n", b"defg"]), max_size=12)


@settings(max_examples=300)
@given(LINES, LINES, st.integers(0, 8), st.integers(0, 6), st.booleans())
def test_the_last_lines(old: list[bytes], new: list[bytes], count: int, forgotten: int, late: bool) -> None:
    """Wherever they are: in the ring, on the disk, partly on each, or partly nowhere."""
    kept = b"".join(old)
    desk = Desk(transcript=FakeTranscript(100, kept), ring=8)
    for piece in new:
        desk.console.received(piece)
    desk.transcript.start = min(100 + forgotten, desk.console.head)
    desk.transcript.late = late
    wanted = desk.console.stream.last_lines(count)
    while desk.transcript.waiting:
        desk.transcript.answer()
    start = min(desk.transcript.start, desk.console.ring.start)
    reachable = stream(desk)[start - 100 :]
    lines = reachable.splitlines(keepends=True)
    assert result(wanted) == desk.console.head - len(b"".join(lines[-count:] if count else []))


def test_lines_that_the_ring_has_need_no_disk() -> None:
    desk = Desk(transcript=FakeTranscript(0, b"old\n"))
    desk.console.received(b"one\ntwo\nthree")
    desk.transcript.late = True
    assert result(desk.console.stream.last_lines(2)) == 8
    assert not desk.transcript.waiting


def test_a_disk_that_fails_leaves_the_rings_lines() -> None:
    desk = Desk(transcript=FakeTranscript(0, b"old\n"))
    desk.console.received(b"one\ntwo")
    desk.transcript.failing = True
    with capturedLogs() as logs:
        assert result(desk.console.stream.last_lines(10)) == desk.console.ring.start == 4
    assert [event["name"] for event in logs] == ["x1"]


def test_who_no_longer_wants_the_lines_gets_none() -> None:
    desk = Desk(transcript=FakeTranscript(0, b"old\n"))
    desk.transcript.late = True
    wanted = desk.console.stream.last_lines(10)
    wanted.cancel()
    with pytest.raises(CancelledError):
        result(wanted)
    assert not desk.transcript.waiting


# ---------------------------------------------------------------------------------------------- written, then shown


def test_clients_see_what_the_disk_has_and_a_turns_worth_at_once() -> None:
    desk = Desk()
    desk.transcript.slow_to_write = True
    alice, bob = desk.attach(), desk.attach()
    late = desk.attach(pump=False, at=0)
    desk.console.received(b"one ")
    desk.console.received(b"two ")
    desk.console.note("reset")
    late.attachment.pump()
    assert (alice.frames, bob.frames, late.frames, desk.console.head) == ([], [], [], 0)
    desk.console.stream.written()
    assert len(alice.frames) == 2
    assert alice.frames[0] == b"|one two "
    assert all(one is other for one, other in zip(alice.frames, bob.frames, strict=True))
    assert alice.text == late.text == desk.transcript.everything
    assert desk.console.head == len(desk.transcript.everything)
    desk.console.stream.written()
    assert len(alice.frames) == 2


def test_clients_hear_of_the_link_after_what_the_node_said_before() -> None:
    desk = Desk()
    desk.console.changed(Up(0))
    alice = desk.attach()
    desk.transcript.slow_to_write = True
    desk.console.received(b"last words")
    desk.console.changed(Waiting(9, "gone"))
    desk.console.changed(Dialing(9))
    assert alice.changes == []
    desk.console.stream.written()
    assert [status for status, _ in alice.changes] == [Waiting(9, "gone"), Dialing(9)]
    assert all(b"last words" in text for _, text in alice.changes)
    desk.console.changed(Dialing(10))
    assert alice.changes[-1][0] == Dialing(10)


def test_a_client_that_is_to_read_no_further_reads_so_far() -> None:
    desk = Desk()
    quick, slow = desk.attach(), desk.attach()
    slow.attachment.pause()
    desk.console.received(b"last words")
    for one in (quick, slow):
        one.attachment.read_to(desk.console.head)
    desk.console.received(b" and more")
    assert (quick.text, quick.told) == (b"last words", [("finished",)])
    assert (slow.text, slow.told) == (b"", [])
    slow.drain()
    assert (slow.text, slow.told) == (b"last words", [("finished",)])


def test_a_client_whose_sending_is_an_accident_is_let_go_and_disturbs_nobody() -> None:
    desk = Desk()

    class Broken(FakeOutlet):
        def send(self, frame: bytes) -> None:
            raise RuntimeError("an accident")

    before, broken, after = desk.attach(), desk.attach(outlet=Broken()), desk.attach()
    with capturedLogs() as logs:
        desk.console.received(b"one")
        desk.console.received(b"two")
    assert before.text == after.text == b"onetwo"
    assert broken.told == [("ended", "Internal error", 1011)]
    assert len([event for event in logs if "log_failure" in event]) == 1


def test_nobody_waits_for_a_disk_that_has_become_slow() -> None:
    desk = Desk()
    alice = desk.attach()
    desk.transcript.slow_to_write = True
    desk.console.received(b"one")
    desk.transcript.slow_to_write = False
    desk.console.received(b"two")
    assert alice.text == b"onetwo"


def test_a_client_that_stops_before_it_is_shown_reads_it_later() -> None:
    desk = Desk()
    desk.transcript.slow_to_write = True
    alice = desk.attach()
    desk.console.received(b"one")
    alice.attachment.pause()
    desk.console.stream.written()
    desk.console.received(b"two")
    alice.drain()
    assert alice.text == b"one"
    desk.console.stream.written()
    assert alice.text == b"onetwo"


def test_a_read_behind_a_hole_shows_nothing_before_its_time() -> None:
    old = b"0123456789"
    desk = Desk(transcript=FakeTranscript(0, old))
    desk.transcript.slow_to_write = True
    late = desk.attach(at=0, pump=False)
    desk.console.received(b"new")
    # All but the last of the old bytes are gone, and the disk has the new ones already.
    desk.transcript.read = lambda offset, limit: succeed((9, (old + b"new")[9:][:limit]))  # type: ignore[method-assign]
    late.attachment.pump()
    assert (late.text, late.told) == (b"9", [("missed", 9)])
    desk.console.stream.written()
    assert late.text == b"9new"


# ---------------------------------------------------------------------------------------------- how soon


class Asked(FakeTranscript):
    """Writes down how long each piece may wait."""

    def __init__(self) -> None:
        super().__init__()
        self.slow_to_write = True
        self.patience: list[float] = []

    def append(self, data: bytes, own: bool = False, within: float = 0.0) -> bool:
        self.patience.append(within)
        return super().append(data, own, within)


def test_a_busy_console_is_shown_every_few_milliseconds() -> None:
    desk = Desk(transcript=(transcript := Asked()))
    desk.attach()
    desk.console.received(b"at once")
    desk.console.stream.written()
    desk.console.received(b"soon")
    desk.clock.advance(PACE + 2 * PACE_EACH)
    desk.console.received(b"with what waits already")
    desk.console.stream.written()
    desk.clock.advance(PACE + 2 * PACE_EACH)
    desk.console.received(b"at once")
    desk.console.stream.written()
    desk.console.received(b"x" * AT_ONCE)
    desk.console.received(b"more than is held back")
    assert transcript.patience == [0, soon := PACE + PACE_EACH, soon, 0, soon, 0]


@pytest.mark.parametrize(("crowd", "pace"), [(100, PACE + 100 * PACE_EACH), (1000, PACE_MOST)])
def test_a_console_that_a_crowd_watches_is_shown_less_often_but_at_once_after_a_pause(crowd: int, pace: float) -> None:
    desk = Desk(transcript=(transcript := Asked()))
    for _ in range(crowd):
        desk.attach()
    for pause in (0, 0.9 * pace, 1.1 * pace):
        desk.clock.advance(pause)
        desk.console.received(b"x")
        desk.console.stream.written()
    assert transcript.patience == [0, pytest.approx(pace), 0]


def test_an_echo_is_not_held_back() -> None:
    desk = Desk(transcript=(transcript := Asked()))
    client = desk.sit_down("alice")
    client.attachment.typing = True
    for pause in (0, ECHO):
        client.attachment.write(b"x")
        desk.clock.advance(pause)
        desk.console.received(b"x")
        desk.console.stream.written()
        desk.console.received(b"y")
        desk.console.stream.written()
    assert transcript.patience == [NOW, NOW, 0, PACE + PACE_EACH]


def test_what_nobody_sees_can_wait_and_a_note_does_not() -> None:
    desk = Desk(transcript=(transcript := Asked()))
    desk.console.received(b"x")
    desk.console.note("reset")
    client = desk.attach()
    desk.console.received(b"y")
    desk.console.stream.written()
    assert client.text == b"x\r\n" + line("reset") + b"y"
    client.attachment.leave()
    desk.console.received(b"z")
    assert transcript.patience == [UNSEEN, 0, PACE + PACE_EACH, UNSEEN]


def test_a_clock_that_was_set_back_holds_nothing_back() -> None:
    desk = Desk(transcript=(transcript := Asked()))
    now = [EPOCH]
    desk.console._now = desk.console.stream._now = lambda: now[0]
    desk.attach()
    desk.console.received(b"x")
    desk.console.stream.written()
    now[0] -= 3600
    desk.console.received(b"y")
    assert transcript.patience == [0, 0]
