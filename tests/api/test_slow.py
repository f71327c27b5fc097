"""A client that does not read costs its transport's buffer and one frame, and nobody else anything (C-INT-21)."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consoled.core.attachment import CHUNK
from tests.api.test_csm_commands import says
from tests.api.wire import BUFFER
from tests.api.world import World

ENOUGH = BUFFER + CHUNK + 200
"""The transport's buffer and one frame, with its header and a sentence or two."""


def flood(world: World, size: int, piece: int = 8192) -> str:
    """x1 says so many bytes, each block of ten its own.  Returns them."""
    everything = "".join(f"{number:09}\n" for number in range(size // 10))
    for at in range(0, len(everything), piece):
        world.x1.says(everything[at : at + piece].encode())
    return everything


@pytest.mark.parametrize("piece", [1000, 8192, 200_000])
def test_c_int_21_a_client_that_stops_reading_during_a_flood(world: World, piece: int) -> None:
    slow, quick, tail = world.joined(), world.joined(user="olga"), world.tail(follow=True, lines=0)
    slow.news()
    slow.socket.stop_reading()
    everything = flood(world, 3_000_000, piece)
    assert (quick.news(), tail.news()) == (everything, everything)
    assert slow.socket.fullest <= ENOUGH
    assert world.x1.console.ring.start > 0, "the transcript was not needed"
    quick.send("still here")
    assert world.x1.heard == b"still here\n"

    slow.socket.start_reading()
    assert slow.news() == everything
    world.x1.says(b"live again")
    assert slow.news() == "live again"
    assert slow.socket.fullest <= ENOUGH


def test_c_int_21_what_is_kept_nowhere_is_counted(world: World) -> None:
    slow = world.joined()
    before = world.x1.console.head
    slow.socket.stop_reading()
    everything = flood(world, 3_000_000)
    sent = len(everything) - (world.x1.console.head - world.x1.clients[0].cursor)
    world.x1.transcript.start = before + 2_000_000
    slow.socket.start_reading()
    missing = 2_000_000 - sent
    line = says(f"{missing} bytes of the log are missing here")
    assert slow.news() == everything[:sent] + line + everything[2_000_000:]
    slow.socket.hang_up()
    assert world.audited("detached")[-1]["toClient"] == len(everything) - missing


def test_c_int_21_the_disk_answers_while_the_client_has_stopped_again(world: World) -> None:
    slow = world.joined()
    slow.socket.stop_reading()
    everything = flood(world, 1_000_000)
    world.x1.transcript.late = True
    slow.socket.start_reading()
    slow.socket.stop_reading()
    assert len(world.x1.transcript.waiting) == 1
    for _ in range(10):
        world.x1.says(b"z" * 60_000)
    world.x1.transcript.late = False
    world.x1.transcript.answer()
    assert slow.socket.fullest <= ENOUGH
    slow.socket.start_reading()
    assert slow.news() == everything + "z" * 600_000


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(st.integers(1, 150_000), st.sampled_from(["stop", "start", "sip", "&Z", "&Q", "x", "ping"])),
        max_size=30,
    )
)
def test_c_int_21_any_pace_gives_the_whole_stream_in_order(empty: World, steps: list[int | str]) -> None:
    world = empty.begin(console={"ring": 100_000})
    client = world.joined()
    # Its remarks among the stream would be in the way: they are all that is not from the node.
    client.send("&Q")
    client.news()
    alphabet, at = "".join(f"{number:09}\n" for number in range(15_000)), 0
    spoken, got = "", ""
    for step in steps:
        match step:
            case int():
                piece = (alphabet * 2)[at : at + step]
                at = (at + step) % len(alphabet)
                spoken += piece
                world.x1.says(piece.encode())
            case "stop":
                client.socket.stop_reading()
            case "start":
                client.socket.start_reading()
            case "sip":
                client.socket.read_some(20_000)
            case "ping":
                client.ping(b"?")
            case _:
                client.send(step)
        assert client.socket.fullest <= ENOUGH
        got += client.news()
    client.socket.start_reading()
    client.send("x")  # if it is suspended
    got += client.news()
    for remark in (
        says("Connection to console [x1] suspended -- type anything to resume"),
        says("Connection to console [x1] resumed"),
        says("Quiet-mode enabled -- info msgs will be suppressed"),
        says("Quiet-mode disabled -- info msgs will be displayed"),
    ):
        got = got.replace(remark, "")
    assert got == spoken


@pytest.mark.parametrize(
    "message", ["&?" * 30_000, "&L" * 30_000, "&W" * 30_000, "&Z&Q" * 15_000, "&E" + "x" * 60_000, "&I" * 30_000]
)
def test_answers_do_not_pile_up_for_a_client_that_does_not_read(world: World, message: str) -> None:
    client = world.joined()
    world.x1.says(b"x" * 5000)
    client.socket.stop_reading()
    for _ in range(4):
        client.send(message)
        world.x1.says(b"y" * 100_000)
    assert client.socket.fullest <= ENOUGH
    client.socket.start_reading()
    client.send("", "&I")
    assert client.news().endswith(f"log: {world.x1.console.head} bytes.\r\n")


def test_notes_do_not_pile_up_for_a_client_that_does_not_read(world: World) -> None:
    client = world.joined()
    client.socket.stop_reading()
    flood(world, 200_000)
    for _ in range(1000):
        world.joined(user="olga").close()
    assert client.socket.fullest <= ENOUGH


def test_pongs_do_not_pile_up_for_a_client_that_does_not_read(world: World) -> None:
    client = world.joined()
    client.socket.stop_reading()
    flood(world, 200_000)
    before = client.socket.fullest
    for number in range(1000):
        client.ping(b"%120d" % number)
    assert client.socket.fullest == before
    client.socket.start_reading()
    client.receive()
    assert client.pongs == [b"%120d" % 999]


def test_typing_goes_through_while_the_client_does_not_read(world: World) -> None:
    client = world.joined()
    client.socket.stop_reading()
    flood(world, 500_000)
    client.send(b"\x03")
    assert world.x1.heard == b"\x03"
    client.send("&.")
    assert not world.x1.clients


def test_a_slow_client_still_gets_its_goodbye_in_order(world: World) -> None:
    client = world.joined()
    client.socket.stop_reading()
    everything = flood(world, 500_000)
    world.hub.close()
    client.socket.start_reading()
    text = client.news()
    goodbye = says("Connection to console [x1] terminated by server (The console service is shutting down)")
    assert text.endswith(goodbye)
    assert everything.startswith(text.removesuffix(goodbye))
    assert client.close_code == 1001
