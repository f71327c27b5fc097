"""One client's place: what it shares, what it costs, and the corners that `test_every_client` finds by chance only."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from twisted.logger import capturedLogs

from consoled.core.attachment import CHUNK, Client
from consoled.core.faults import LinkDown, NoBreak, NodeNotReading, ReadOnly
from consoled.core.feed import DANGLING
from tests.fakes import Desk, FakeOutlet, FakeTranscript, Pairs, Plain, Raw, RawPairs, counted

NOTE = b"<ConMan> Console [x1] hello at 2026-11-21 23:45:01 UTC.\r\n"


# ---------------------------------------------------------------------------------------------- in step


def test_clients_in_step_share_one_frame_made_once() -> None:
    desk = Desk()
    flavour, pieces = counted(Plain)
    clients = [desk.attach(flavour) for _ in range(5)]
    desk.console.received(b"one")
    desk.console.note("hello")
    desk.console.received(b"two")
    assert len(pieces) == 3
    assert [client.text for client in clients] == [b"one\r\n" + NOTE + b"two"] * 5
    for mine, first in zip(clients[1].frames, clients[0].frames, strict=True):
        assert mine is first


def test_each_flavour_has_its_frame_and_raw_ones_only_the_nodes_bytes() -> None:
    desk = Desk()
    text, raw = desk.attach(Plain), desk.attach(Raw)
    desk.console.received(b"one\n")
    desk.console.note("hello")
    desk.console.received(b"two\n")
    assert text.text == b"one\n" + NOTE + b"two\n"
    assert raw.text == b"one\ntwo\n"
    late = desk.attach(Raw, at=2)
    assert late.text == b"e\ntwo\n"


def test_who_has_caught_up_is_in_step_again() -> None:
    desk = Desk()
    steady, slow = desk.attach(), desk.attach(room=3)
    desk.console.received(b"one ")
    desk.console.received(b"two ")
    assert slow.text == b"one "
    slow.drain()
    desk.console.received(b"three")
    assert steady.text == slow.text == b"one two three"
    assert slow.frames[-1] is steady.frames[-1]


def test_nothing_is_made_for_nobody() -> None:
    desk = Desk()
    flavour, pieces = counted(Pairs)
    client = desk.attach(flavour)
    desk.console.received(b"x<")
    client.attachment.leave()
    desk.console.received(b"yz")
    assert pieces == [b"x<", b"<"]
    assert not desk.clock.getDelayedCalls()


# ---------------------------------------------------------------------------------------------- pace


def test_a_client_that_does_not_read_costs_nothing() -> None:
    class Oblivious(FakeTranscript):
        """It counts, and keeps nothing."""

        count = 0
        head = property(lambda self: self.count)  # type: ignore[assignment]

        def append(self, data: bytes, own: bool = False, within: float = 0.0) -> None:
            self.count += len(data)

    desk = Desk(transcript=Oblivious(), ring=4096)
    flavour, pieces = counted(Pairs)
    clients = [desk.attach(flavour, room=1) for _ in range(20)]
    desk.console.received(b"x" * 16384)
    del pieces[:]
    tracemalloc.start()
    try:
        for _ in range(500):
            desk.console.received(b"y" * 8192)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024
    assert not pieces
    assert all(len(client.frames) == 1 for client in clients)
    assert clients[0].attachment.cursor == 16384


def test_pause_and_resume_may_come_twice() -> None:
    desk = Desk()
    client = desk.attach()
    for _ in range(2):
        client.attachment.pause()
    desk.console.received(b"abc")
    assert client.text == b""
    for _ in range(2):
        client.attachment.resume()
    assert client.text == b"abc"


def test_a_replay_stops_where_the_transport_is_full() -> None:
    desk = Desk()
    desk.console.received(b"x" * 3 * CHUNK)
    client = desk.attach(at=0, room=CHUNK + 10)
    assert [len(frame) - 1 for frame in client.frames] == [CHUNK, CHUNK]
    assert client.attachment.cursor == 2 * CHUNK
    client.drain()
    assert client.attachment.cursor == len(client.text) == 3 * CHUNK


def test_what_was_read_for_a_client_that_is_full_meanwhile_is_read_again() -> None:
    desk = Desk(transcript=FakeTranscript(0, b"old "))
    desk.transcript.late = True
    client = desk.attach(at=0)
    client.attachment.pause()
    desk.transcript.answer()
    assert not client.frames
    client.attachment.resume()
    assert not client.frames
    desk.transcript.answer()
    assert client.text == b"old "
    assert not desk.transcript.waiting


def test_resuming_twice_reads_once() -> None:
    desk = Desk(transcript=FakeTranscript(0, b"old "))
    desk.transcript.late = True
    client = desk.attach(at=0)
    client.attachment.pause()
    client.attachment.resume()
    assert len(desk.transcript.waiting) == 1
    desk.transcript.answer()
    assert client.text == b"old "


def test_a_client_that_is_gone_waits_for_no_disk() -> None:
    desk = Desk(transcript=FakeTranscript(0, b"old "))
    desk.transcript.late = True
    client = desk.attach(at=0)
    with capturedLogs() as logs:
        client.attachment.leave()
    assert not desk.transcript.waiting
    assert not client.frames
    assert not client.told
    assert not logs
    client.attachment.leave()
    client.attachment.resume()
    desk.console.received(b"new")
    assert not client.frames


def test_one_read_serves_however_many_of_our_lines_are_in_it() -> None:
    desk = Desk(ring=8)
    for _ in range(10):
        desk.console.received(b"ab\n")
        desk.console.note("hello")
    reads = []
    read = desk.transcript.read
    desk.transcript.read = lambda offset, limit: reads.append(offset) or read(offset, limit)  # type: ignore[assignment, func-returns-value]
    assert desk.attach(Raw, at=0).text == b"ab\n" * 10
    text = desk.attach(Plain, at=0)
    assert text.text == bytes(desk.transcript.everything)
    assert len(reads) == 2
    assert len(text.frames) <= 2


def test_who_takes_it_all_is_read_more_for_each_time_and_who_does_not_little() -> None:
    desk = Desk(transcript=FakeTranscript(0, b"x" * 20 * CHUNK))
    asked: list[int] = []
    read = desk.transcript.read
    desk.transcript.read = lambda offset, limit: asked.append(limit // CHUNK) or read(offset, limit)  # type: ignore[assignment, func-returns-value]
    quick = desk.attach(at=0)
    assert asked == [1, 2, 4, 8, 5]
    assert quick.text == bytes(desk.transcript.everything)
    assert max(len(frame) - 1 for frame in quick.frames) == CHUNK
    asked.clear()
    slow = desk.attach(at=0, room=CHUNK + 10)
    assert asked == [1, 2]
    slow.drain(room=10)
    slow.drain(room=10)
    assert asked == [1, 2, 1, 2]
    slow.drain()
    assert slow.text == quick.text


# ---------------------------------------------------------------------------------------------- what is missing


def test_what_is_nowhere_is_counted() -> None:
    desk = Desk(transcript=FakeTranscript(100, b"0123456789"))
    client = desk.attach(at=40)
    assert client.told == [("missed", 60)]
    assert client.text == b"0123456789"
    assert client.attachment.missed == 60
    assert client.attachment.bytes_out == 10


@pytest.mark.parametrize("kept_from", [20, 25])
def test_what_the_disk_lost_the_ring_may_have(kept_from: int) -> None:
    desk = Desk(ring=10)
    desk.console.received(b"a" * 15)
    desk.console.received(b"b" * 10)
    ring_starts = desk.console.ring.start
    assert ring_starts == 15
    desk.transcript.start = kept_from
    client = desk.attach(at=5)
    assert client.told == [("missed", 10)]
    assert client.text == b"b" * 10


def test_a_disk_that_fails_is_no_end() -> None:
    desk = Desk(transcript=FakeTranscript(0, b"old"))
    desk.transcript.failing = True
    desk.console.received(b"new")
    with capturedLogs() as logs:
        client = desk.attach(at=1)
    assert client.told == [("missed", 2)]
    assert client.text == b"new"
    assert [event["name"] for event in logs] == ["x1"]


def test_a_read_that_fails_for_a_client_that_is_full_is_tried_again() -> None:
    desk = Desk(transcript=FakeTranscript(0, b"old"))
    desk.transcript.late = desk.transcript.failing = True
    client = desk.attach(at=0)
    client.attachment.pause()
    with capturedLogs():
        desk.transcript.answer()
    desk.transcript.failing = False
    client.attachment.resume()
    desk.transcript.answer()
    assert client.told == []
    assert client.text == b"old"


def test_an_unfinished_character_is_not_joined_to_what_comes_after_a_gap() -> None:
    desk = Desk(transcript=FakeTranscript(0, b"a<bcd"))
    desk.transcript.holes = {2, 3}
    client = desk.attach(Pairs, at=0)
    assert client.frames == [b"|a", b"|<", b"|d"]
    assert client.told == [("missed", 2)]


# ---------------------------------------------------------------------------------------------- until


@pytest.mark.parametrize("late", [False, True])
def test_a_replay_ends_where_it_was_to_end(late: bool) -> None:
    desk = Desk(transcript=FakeTranscript(0, b"old "))
    desk.transcript.late = late
    desk.console.received(b"now <")
    client = desk.attach(Pairs, at=0, until=desk.console.head)
    desk.console.received(b"later")
    if late:
        assert client.told == []
        desk.transcript.answer()
    assert client.text == b"old now <"
    assert client.told == [("finished",)]
    assert not desk.console.attachments
    client.attachment.leave()
    desk.console.received(b"more")
    assert client.text == b"old now <"


def test_only_what_was_asked_for_is_missed() -> None:
    desk = Desk(ring=10)
    desk.console.received(b"a" * 30)
    client = desk.attach(at=0, until=30, pump=False)
    desk.console.received(b"b" * 50)
    desk.transcript.start = desk.console.head
    client.attachment.pump()
    assert client.told == [("missed", 30), ("finished",)]


def test_a_gap_does_not_make_it_longer() -> None:
    desk = Desk(transcript=FakeTranscript(0, b"0123456789"))
    desk.transcript.holes = {2, 3, 4}
    client = desk.attach(at=2, until=7)
    assert client.text == b"56"
    assert client.told == [("missed", 3), ("finished",)]


def test_nothing_to_replay() -> None:
    client = Desk(transcript=FakeTranscript(0, b"old")).attach(at=3, until=3)
    assert client.told == [("finished",)]
    assert not client.frames


@pytest.mark.parametrize("where", [{"at": -1}, {"at": 4}, {"until": 4}])
def test_places_outside_of_the_stream_are_named(where: dict[str, int]) -> None:
    desk = Desk(transcript=FakeTranscript(0, b"old"))
    [offset] = where.values()
    with pytest.raises(ValueError, match=f"{offset} is outside of 0 to 3"):
        desk.attach(**where)
    assert not desk.console.attachments


# ---------------------------------------------------------------------------------------------- unfinished characters


def test_a_character_split_over_two_reads_arrives_whole() -> None:
    desk = Desk()
    clients = [desk.attach(Pairs), desk.attach(Pairs)]
    desk.console.received(b"a<")
    desk.clock.advance(DANGLING - 0.1)
    desk.console.received(b"b")
    for client in clients:
        assert client.frames == [b"|a", b"|<b"]
    desk.clock.advance(10)
    assert len(clients[0].frames) == 2


def test_it_is_given_up_after_a_while_for_everybody() -> None:
    desk = Desk()
    clients = [desk.attach(Pairs), desk.attach(Pairs)]
    desk.console.received(b"a<")
    desk.clock.advance(DANGLING)
    desk.console.received(b"b")
    for client in clients:
        assert client.frames == [b"|a", b"|<", b"|b"]
    assert clients[0].frames[1] is clients[1].frames[1]


def test_each_unfinished_character_has_its_own_time() -> None:
    desk = Desk()
    client = desk.attach(Pairs)
    desk.console.received(b"<")
    desk.clock.advance(DANGLING - 0.1)
    desk.console.received(b"a<")
    desk.clock.advance(DANGLING - 0.1)
    desk.console.received(b"b")
    assert client.frames == [b"|<a", b"|<b"]


def test_our_own_line_does_not_come_between_the_halves_for_a_raw_client() -> None:
    desk = Desk()
    client = desk.attach(RawPairs)
    desk.console.received(b"<")
    desk.console.note("hello")
    desk.console.received(b"b")
    assert client.frames == [b"|<b"]


def test_one_that_joins_in_the_middle_takes_nothing_from_the_others() -> None:
    desk = Desk()
    first = desk.attach(Pairs)
    desk.console.received(b"a<")
    replaying, newcomer = desk.attach(Pairs, at=0), desk.attach(Pairs)
    desk.console.received(b"b")
    assert first.frames == [b"|a", b"|<b"]
    assert replaying.text == b"a<b"
    assert newcomer.text == b"<b", "it is shown the whole character"


def test_one_that_leaves_in_the_middle_takes_nothing_with_it() -> None:
    desk = Desk()
    stays, pauses, leaves = (desk.attach(Pairs) for _ in range(3))
    desk.console.received(b"a<")
    pauses.attachment.pause()
    leaves.attachment.leave()
    desk.console.received(b"b")
    assert stays.text == b"a<b"
    assert pauses.text == leaves.text == b"a"
    pauses.drain()
    assert pauses.frames == [b"|a", b"|<b"]


def test_one_that_pauses_while_the_others_give_up_gives_up_too() -> None:
    desk = Desk()
    stays, pauses = desk.attach(Pairs), desk.attach(Pairs)
    desk.console.received(b"a<")
    pauses.attachment.pause()
    desk.clock.advance(DANGLING)
    pauses.drain()
    desk.console.received(b"b")
    assert stays.frames == pauses.frames == [b"|a", b"|<", b"|b"]


def test_giving_up_may_fill_the_transport() -> None:
    desk = Desk()
    stays, fills = desk.attach(Pairs), desk.attach(Pairs)
    desk.console.received(b"a<")
    fills.attachment.pause()
    desk.clock.advance(DANGLING)
    fills.drain(room=1)
    desk.console.received(b"b")
    assert fills.text == b"a<", "it said that it was full"
    fills.drain()
    assert stays.text == fills.text == b"a<b"


def test_one_that_has_had_the_half_is_not_sent_it_again() -> None:
    desk = Desk()
    in_step = desk.attach(Pairs)
    desk.console.received(b"<")
    desk.console.received(b"<<")
    # Started in the middle, it pairs the bytes in another way.
    other = desk.attach(Pairs, at=1)
    desk.console.received(b"z")
    assert in_step.text == b"<<<z"
    assert other.text == b"<<z"


@pytest.mark.parametrize(("before", "after"), [(Pairs, RawPairs), (Pairs, Raw), (RawPairs, Pairs), (Plain, Pairs)])
@pytest.mark.parametrize("paused", [False, True])
def test_a_change_of_flavour_loses_nothing(before: Any, after: Any, paused: bool) -> None:
    desk = Desk()
    client = desk.attach(before)
    desk.console.received(b"a<")
    if paused:
        client.attachment.pause()
    client.attachment.change_flavour(after)
    desk.console.received(b"bc\n")
    desk.console.note("hello")
    client.attachment.resume()
    assert client.text == b"a<bc\n" + (NOTE if after.own_lines else b"")
    assert all(feed.members for feed in desk.console.stream._feeds.values())


# ---------------------------------------------------------------------------------------------- keys


def test_who_only_watches_cannot_type() -> None:
    desk = Desk()
    watcher = desk.attach()
    for forbidden in (lambda: watcher.attachment.write(b"x"), watcher.attachment.send_break):
        with pytest.raises(ReadOnly):
            forbidden()
    assert not desk.link.written
    assert not desk.link.asked


def test_keystrokes_are_counted_when_they_went_out() -> None:
    desk = Desk()
    typist = desk.sit_down("alice").attachment
    typist.write(b"root\r")
    for refusal in (LinkDown("x1"), NodeNotReading("x1"), NoBreak("x1")):
        desk.link.refusal = refusal
        with pytest.raises(type(refusal)):
            typist.write(b"secret\r")
        with pytest.raises(type(refusal)):
            typist.send_break()
    assert desk.link.written == [b"root\r"]
    assert typist.bytes_in == 5
    assert desk.console.head == 0, "neither keystrokes nor a break that failed are in the stream"


def test_a_client_says_who_it_is() -> None:
    assert str(Client("alice", "10.0.0.1", "csm")) == "alice@10.0.0.1"


def test_the_outlet_is_the_one_that_attached() -> None:
    outlet = FakeOutlet()
    assert Desk().attach(outlet=outlet).attachment.outlet is outlet
