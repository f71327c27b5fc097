"""A console's life: events as lines, dialing on demand, resets, and what it takes of memory."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from consoled.core.console import REMEMBERED, RESTING
from consoled.core.faults import LinkDown, NoReset, ReadOnly
from consoled.core.status import Closing, Dialing, Off, Up, Waiting
from tests.fakes import Desk, FakeTranscript, Plain, Raw, result

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


def test_ten_thousand_consoles_share_the_keys_of_their_attributes() -> None:
    one = Desk().console
    assert len(vars(one)) <= 30, "CPython shares no more, and each console would take a kilobyte for its own"
