"""A console's life: events as lines, dialing on demand, the last lines, resets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import capturedLogs

from consoled.core.attachment import CHUNK
from consoled.core.console import AT_ONCE, ECHO, NOW, PACE, PACE_EACH, PACE_MOST, REMEMBERED, RESTING, UNSEEN
from consoled.core.faults import LinkDown, NoReset, ReadOnly
from consoled.core.status import Closing, Dialing, Off, Up, Waiting
from tests.fakes import EPOCH, Desk, FakeOutlet, FakeTranscript, Plain, Raw, result

AT = b" at 2026-11-21 23:45:01 UTC.\r\n"


def line(text: str) -> bytes:
    return b"<ConMan> Console [x1] " + text.encode() + AT


def stream(desk: Desk) -> bytes:
    return bytes(desk.transcript.everything)


# ---------------------------------------------------------------------------------------------- events


def test_the_life_of_a_link_is_in_the_stream() -> None:
    desk = Desk()
    desk.console.open()
    for status in (
        Dialing(0),
        Waiting(1, "Connection refused"),
        Dialing(1),
        Up(2),
        Waiting(3, "Connection reset by peer"),
        Dialing(4),
        Up(5),
        Closing(6),
        Off(),
    ):
        desk.console.changed(status)
    result(desk.console.close())
    assert stream(desk) == b"".join(
        map(
            line,
            [
                "log opened",
                "connected to <bmc1:2001>",
                "disconnected from <bmc1:2001> (Connection reset by peer)",
                "connected to <bmc1:2001>",
                "disconnected from <bmc1:2001>",
                "log closed",
            ],
        )
    )
    assert list(desk.transcript.marks) == [(0, desk.console.head)]
    assert desk.transcript.closed


def test_what_comes_while_hanging_up_is_not_after_the_end() -> None:
    desk = Desk()
    desk.console.changed(Up(0))
    desk.console.changed(Closing(1))
    desk.console.received(b"bye\r\n")
    desk.console.changed(Off())
    assert stream(desk).endswith(b"bye\r\n" + line("disconnected from <bmc1:2001>"))
    assert stream(desk).count(b"disconnected") == 1


@pytest.mark.parametrize(
    ("before", "breaks"), [(b"", b""), (b"a\n", b""), (b"a\r\n", b""), (b"a", b"\r\n"), (b"a\r", b"\r\n")]
)
@pytest.mark.parametrize("restarted", [False, True])
def test_an_event_has_a_line_of_its_own(before: bytes, breaks: bytes, restarted: bool) -> None:
    if restarted:
        desk = Desk(transcript=FakeTranscript(500, before or b"\n"))
        # Nobody can say at once how the old stream ended, unless it is with a line of ours.
        breaks = b"\r\n"
    else:
        desk = Desk()
        if before:
            desk.console.received(before)
    head = desk.console.head
    desk.console.note("break sent by <alice@10.0.0.1>")
    assert stream(desk)[head - desk.transcript.base :] == breaks + line("break sent by <alice@10.0.0.1>")
    assert list(desk.transcript.marks) == [(head, desk.console.head)]
    assert stream(desk).endswith(line("break sent by <alice@10.0.0.1>"))


def test_a_restart_after_a_good_end_leaves_no_empty_line() -> None:
    first = Desk()
    first.console.received(b"login: ")
    result(first.console.close())
    again = Desk(transcript=first.transcript)
    first.transcript.closed = False
    again.console.open()
    assert stream(again) == b"login: \r\n" + line("log closed") + line("log opened")


def test_the_tag_is_the_operators_choice_and_a_gap_is_marked() -> None:
    desk = Desk(tag="<consoled>")
    desk.console.lost(4096)
    assert stream(desk) == b"<consoled> Console [x1] log lost 4096 bytes before this line" + AT


@pytest.mark.parametrize("status", [Dialing(0), Waiting(0, "x"), Off(), Closing(0)])
def test_one_that_never_came_is_not_said_to_have_gone(status: Any) -> None:
    desk = Desk()
    desk.console.changed(status)
    assert stream(desk) == b""


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
    wanted = desk.console.last_lines(count)
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
    assert result(desk.console.last_lines(2)) == 8
    assert not desk.transcript.waiting


def test_a_disk_that_fails_leaves_the_rings_lines() -> None:
    desk = Desk(transcript=FakeTranscript(0, b"old\n"))
    desk.console.received(b"one\ntwo")
    desk.transcript.failing = True
    with capturedLogs() as logs:
        assert result(desk.console.last_lines(10)) == desk.console.ring.start == 4
    assert [event["name"] for event in logs] == ["x1"]


def test_who_no_longer_wants_the_lines_gets_none() -> None:
    desk = Desk(transcript=FakeTranscript(0, b"old\n"))
    desk.transcript.late = True
    wanted = desk.console.last_lines(10)
    wanted.cancel()
    with pytest.raises(CancelledError):
        result(wanted)
    assert not desk.transcript.waiting


# ---------------------------------------------------------------------------------------------- on demand


def test_held_from_the_start() -> None:
    desk = Desk()
    desk.console.open()
    client = desk.attach()
    client.attachment.leave()
    desk.clock.advance(1000)
    assert desk.link.asked == ["open"]


def test_dialled_for_the_first_client_and_hung_up_after_the_last() -> None:
    desk = Desk(on_demand=True, linger=60)
    desk.console.open()
    assert desk.link.asked == []
    first, second = desk.attach(), desk.attach(Raw)
    assert desk.link.asked == ["open", "open"]
    first.attachment.leave()
    desk.clock.advance(100)
    second.attachment.leave()
    desk.clock.advance(59)
    assert desk.link.asked == ["open", "open"]
    desk.clock.advance(1)
    assert desk.link.asked == ["open", "open", "close"]
    assert not desk.clock.getDelayedCalls()


def test_one_that_comes_back_in_time_finds_it_open() -> None:
    desk = Desk(on_demand=True, linger=60)
    desk.attach().attachment.leave()
    desk.clock.advance(59)
    back = desk.attach()
    desk.clock.advance(100)
    assert "close" not in desk.link.asked
    back.attachment.leave()
    desk.clock.advance(60)
    assert desk.link.asked[-1] == "close"


def test_a_replay_that_ends_counts_as_leaving() -> None:
    desk = Desk(on_demand=True, linger=60)
    assert desk.attach(at=0, until=0).told == [("finished",)]
    desk.clock.advance(60)
    assert desk.link.asked == ["open", "close"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_nothing_lingers_after_the_close(when: str) -> None:
    desk = Desk(on_demand=True, linger=60)
    client = desk.attach()
    if when == "before":
        client.attachment.leave()
    result(desk.console.close())
    if when == "after":
        client.attachment.leave()
    desk.attach().attachment.leave()
    assert not desk.clock.getDelayedCalls()
    assert desk.link.asked == ["open", "close"]


def test_the_transcript_is_closed_after_the_nodes_last_byte() -> None:
    desk = Desk()
    desk.link.gone = Deferred()
    closed = desk.console.close()
    desk.console.received(b"last words")
    assert not desk.transcript.closed
    desk.link.gone.callback(None)
    result(closed)
    assert desk.transcript.closed
    assert stream(desk) == b"last words\r\n" + line("log closed")


def test_everybody_is_told_the_end() -> None:
    desk = Desk()
    clients = [desk.attach(), desk.attach(Raw), desk.sit_down("alice")]
    desk.console.end_clients("gone", 1001)
    assert all(client.told[-1] == ("ended", "gone", 1001) for client in clients)


# ---------------------------------------------------------------------------------------------- towards the node


def test_a_break_is_noted() -> None:
    desk = Desk()
    desk.sit_down("alice").attachment.send_break()
    assert desk.link.asked == ["break"]
    assert stream(desk) == line("break sent by <alice@10.0.0.1>")


def test_whether_typing_makes_sense() -> None:
    desk = Desk()
    assert isinstance(desk.console.down, LinkDown)
    desk.link.status = Up(0)
    assert desk.console.down is None


def test_a_reset_is_noted_and_its_end_told_to_whom_it_concerns() -> None:
    runs: list[Deferred[str]] = []
    desk = Desk(reset=lambda: runs.append(Deferred()) or runs[-1])  # type: ignore[func-returns-value]
    alice, bob = desk.sit_down("alice"), desk.sit_down("bob")
    desk.console.reset(alice.attachment)
    assert stream(desk) == line("reset by <alice@10.0.0.1>")
    with pytest.raises(NoReset, match="still running"):
        desk.console.reset(bob.attachment)
    runs[0].callback("succeeded")
    assert alice.notices[-1] == "The reset command of console [x1] succeeded"
    assert not any("reset" in text for text in bob.notices)
    desk.console.reset(bob.attachment)
    runs[1].errback(OSError("no"))
    assert bob.notices[-1] == "The reset command of console [x1] failed: no"


def test_a_reset_that_cannot_be_started_can_be_tried_again() -> None:
    def broken() -> Deferred[str]:
        raise ValueError("embedded null byte")

    desk = Desk(reset=broken)
    alice = desk.sit_down("alice")
    for _ in range(2):
        desk.console.reset(alice.attachment)
        assert alice.notices[-1] == "The reset command of console [x1] failed: embedded null byte"


def test_who_may_not_reset() -> None:
    desk = Desk()
    with pytest.raises(NoReset, match=r"\[x1\] cannot be reset: no reset_command is configured"):
        desk.console.reset(desk.sit_down("alice").attachment)
    with pytest.raises(ReadOnly):
        desk.console.reset(desk.attach(Plain).attachment)
    assert stream(desk) == b""


# ---------------------------------------------------------------------------------------------- memory


def test_a_silent_console_gives_its_memory_back_unless_the_disk_has_not_got_it_all() -> None:
    desk = Desk()
    desk.console.received(b"x" * 100_000)
    start = desk.console.ring.start
    desk.clock.advance(RESTING - 1)
    desk.console.rest()
    assert desk.console.ring.start == start
    desk.clock.advance(1)
    desk.transcript.trouble = "No space left on device"
    desk.console.rest()
    assert desk.console.ring.start == start
    desk.transcript.trouble = None
    desk.console.rest()
    assert desk.console.ring.start == desk.console.head - REMEMBERED


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
    desk.console.written()
    assert len(alice.frames) == 2
    assert alice.frames[0] == b"|one two "
    assert all(one is other for one, other in zip(alice.frames, bob.frames, strict=True))
    assert alice.text == late.text == desk.transcript.everything
    assert desk.console.head == len(desk.transcript.everything)
    desk.console.written()
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
    desk.console.written()
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
    desk.console.written()
    desk.console.received(b"two")
    alice.drain()
    assert alice.text == b"one"
    desk.console.written()
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
    desk.console.written()
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
    desk.console.written()
    desk.console.received(b"soon")
    desk.clock.advance(PACE + 2 * PACE_EACH)
    desk.console.received(b"at once")
    desk.console.written()
    desk.console.received(b"x" * AT_ONCE)
    desk.console.received(b"more than is held back")
    assert transcript.patience == [0, PACE + PACE_EACH, 0, PACE + PACE_EACH, 0]


@pytest.mark.parametrize(("crowd", "pace"), [(100, PACE + 100 * PACE_EACH), (1000, PACE_MOST)])
def test_a_console_that_a_crowd_watches_is_shown_less_often_but_at_once_after_a_pause(crowd: int, pace: float) -> None:
    desk = Desk(transcript=(transcript := Asked()))
    for _ in range(crowd):
        desk.attach()
    behind = desk.attach()
    behind.attachment.pause()
    for pause in (0, 0.9 * pace, 1.1 * pace):
        desk.clock.advance(pause)
        desk.console.received(b"x")
        if pause != 0.9 * pace:
            desk.console.written()
    assert transcript.patience == [0, pytest.approx(pace), 0]
    assert len(desk.console.attachments) == crowd + 1


def test_an_echo_is_not_held_back() -> None:
    desk = Desk(transcript=(transcript := Asked()))
    client = desk.sit_down("alice")
    client.attachment.typing = True
    for pause in (0, ECHO):
        client.attachment.write(b"x")
        desk.clock.advance(pause)
        desk.console.received(b"x")
        desk.console.written()
        desk.console.received(b"y")
        desk.console.written()
    assert transcript.patience == [NOW, NOW, 0, PACE + PACE_EACH]


def test_what_nobody_sees_can_wait_and_a_note_does_not() -> None:
    desk = Desk(transcript=(transcript := Asked()))
    desk.console.received(b"x")
    desk.console.note("reset")
    client = desk.attach()
    desk.console.received(b"y")
    desk.console.written()
    assert client.text == b"x\r\n" + line("reset") + b"y"
    client.attachment.leave()
    desk.console.received(b"z")
    assert transcript.patience == [UNSEEN, 0, 0, UNSEEN]


def test_a_clock_that_was_set_back_holds_nothing_back() -> None:
    desk = Desk(transcript=(transcript := Asked()))
    now = [EPOCH]
    desk.console._now = lambda: now[0]
    desk.attach()
    desk.console.received(b"x")
    desk.console.written()
    now[0] -= 3600
    desk.console.received(b"y")
    assert transcript.patience == [0, 0]
