"""The life of a session: how it begins, what ends it and with which code, and what is left of it (contract 1.8)."""

from __future__ import annotations

import struct
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from twisted.logger import LogEvent

from consoled.api import frames
from consoled.api.pace import Bucket
from consoled.api.session import CLOSING_PATIENCE, PING_INTERVAL, PING_PATIENCE
from consoled.core.feed import Feed
from tests.api.conftest import failures
from tests.api.test_csm_commands import says
from tests.api.world import BARE, Anything, Deaf, World, bearer

# ------------------------------------------------------------------------------------------------------ beginning


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """A short masked frame."""
    return bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


@pytest.mark.parametrize("cut", [0, 1, 3, 9, 17, 18])
def test_a_hasty_client_loses_nothing(world: World, cut: int) -> None:
    client = world.client()
    request = client.handshake(f"{BARE}/interact/x1", bearer("oscar"))
    hasty = frame(b"one") + frame(b"two")
    client.socket.arrive(request + hasty[:cut])
    client.socket.arrive(hasty[cut:])
    assert world.x1.heard == b"one\ntwo\n"
    client.receive()
    client.send("three")
    assert world.x1.heard == b"one\ntwo\nthree\n"


@pytest.mark.parametrize("size", [10, 50_000])
def test_a_hasty_client_loses_nothing_while_it_is_decided(empty: World, size: int) -> None:
    gate = Deaf(empty.gate)
    world = empty.begin(gate=gate)
    client = world.client()
    request = client.handshake(f"{BARE}/interact/x1", bearer("oscar"))
    head = b"\x82" + (bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack("!H", size)) + b"\0\0\0\0"
    client.socket.arrive(request + head)
    for _ in range(0, size, 10):
        client.socket.arrive(b"0123456789")
    client.socket.arrive(frame(b"and this"))
    assert world.x1.heard == b""
    gate.asked[0].callback(Anything())
    world.clock.pump([0])
    client.socket.arrive(b"")
    assert world.x1.heard == b"0123456789" * (size // 10) + b"and this\n"
    assert client.is_open


def test_a_burst_of_messages_is_heard_a_little_in_each_turn(world: World) -> None:
    client = world.joined()
    heard = [0]

    def meanwhile() -> None:
        heard.append(len(world.x1.heard))
        if heard[-1] < 16_000:
            world.clock.callLater(0, meanwhile)

    world.clock.callLater(0, meanwhile)
    client.socket.arrive(frame(b"x") * 8000)
    assert heard[-1] == 16_000
    assert max(after - before for before, after in pairwise(heard)) <= 600


@pytest.mark.parametrize("at_once", [1, 7])
def test_more_messages_than_are_heard_wait_their_turn(world: World, at_once: int) -> None:
    world.sessions.pace = partial(Bucket, 10, 50, world.clock.seconds)
    client = world.joined()
    for _ in range(0, 420, at_once):
        client.socket.arrive(frame(b"x", opcode=2) * at_once)
    assert 50 <= len(world.x1.heard) < 60
    client.socket.arrive(frame(b"", opcode=9) + frame(b"last", opcode=2))
    client.receive()
    assert not client.pongs
    before = len(world.x1.heard)
    world.clock.advance(5)
    client.socket.arrive(b"")
    assert before < len(world.x1.heard) < 424
    for _ in range(100):
        world.clock.advance(1)
        client.socket.arrive(b"")
    assert world.x1.heard == b"x" * 420 + b"last"
    client.receive()
    assert len(client.pongs) == 1


def test_a_keystroke_among_fragments_is_a_violation(world: World) -> None:
    client = world.joined()
    client.send_frame(b"\x01\x02", b"re")
    client.send_frame(b"\x82\x01", b"x")
    client.receive()
    assert client.close_code == 1002
    assert world.x1.heard == b""


def test_a_keystroke_behind_half_a_frame_belongs_to_it(world: World) -> None:
    client = world.joined()
    client.socket.arrive(b"\x82\x8d\0\0\0\0")
    client.socket.arrive(frame(b"1234567", opcode=2))
    assert world.x1.heard == frame(b"1234567", opcode=2)


def test_a_keystroke_behind_half_a_head_belongs_to_it(world: World) -> None:
    client = world.joined()
    client.socket.arrive(b"\x82\x89")
    client.socket.arrive(frame(b"1234567", opcode=2))
    assert world.x1.heard == bytes(a ^ b for a, b in zip(b"\0\x001234567", b"\x82\x87\0\0" * 3, strict=False))


def test_a_keystroke_is_a_sign_of_life(world: World) -> None:
    client = world.joined()
    for _ in range(10):
        world.clock.advance(PING_INTERVAL + 1)
        client.socket.sent.clear()
        client.socket.arrive(frame(b"x", opcode=2))
    world.clock.advance(PING_PATIENCE - 1)
    assert not client.socket.closed
    assert world.x1.heard == b"x" * 10


def test_a_client_vanishes_in_the_middle_of_a_burst(world: World) -> None:
    client = world.joined()
    client.socket.turn = lambda: None
    client.socket.arrive(frame(b"x") * 8000)
    client.socket.hang_up()
    before = world.x1.heard
    world.clock.pump([0] * 60)
    assert world.x1.heard == before
    assert not world.x1.clients


def test_whoever_leaves_in_the_middle_of_a_burst_has_left(world: World) -> None:
    client = world.joined()
    client.socket.arrive(frame(b"x") * 300 + frame(b"&.") + frame(b"y") * 8000 + frame(b"\x03\xe8", 8))
    assert world.x1.heard == b"x\n" * 300
    client.receive()
    assert client.close_code == 1000
    assert client.socket.closed


def test_a_request_s_body_is_not_taken_for_messages(world: World) -> None:
    client = world.client()
    body = frame(b"reboot")
    request = client.handshake(f"{BARE}/interact/x1", [*bearer("oscar"), ("Content-Length", str(len(body)))])
    client.socket.arrive(request + body)
    assert client.is_open
    assert world.x1.heard == b""


def test_a_connection_without_a_request_is_dropped_and_a_session_is_not(world: World) -> None:
    idle, client = world.client(), world.joined()
    for _ in range(120):
        world.clock.advance(30)
        client.receive()
    assert idle.socket.closed
    assert client.is_open


# ------------------------------------------------------------------------------------------------------ leaving


@pytest.mark.parametrize("verb", ["interact", "tail"])
@pytest.mark.parametrize("full", [False, True])
def test_a_client_vanishes(world: World, verb: str, full: bool) -> None:
    other = world.joined(user="olga")
    client = world.interact() if verb == "interact" else world.tail(follow=True)
    if full:
        client.socket.stop_reading()
        world.x1.says(b"x" * 200_000)
    client.socket.hang_up()
    assert len(world.x1.clients) == len(world.sessions.sessions) == 1
    world.x1.says(b"on it goes")
    assert other.news().endswith("on it goes")
    assert world.x1.heard == b""


def test_a_client_closes(world: World) -> None:
    client = world.joined()
    client.close()
    client.receive()
    assert (client.close_code, client.socket.closed) == (1000, True)
    assert not world.x1.clients


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
def test_any_proper_close_is_answered(world: World, code: int) -> None:
    client = world.joined()
    client.send_frame(b"\x88\x05", struct.pack("!H", code) + b"bye")
    client.receive()
    assert client.close_code == 1000
    assert client.socket.closed


def test_what_follows_a_close_never_reaches_the_node(world: World) -> None:
    for goodbye in (frame(b"&."), frame(b"\x03\xe8", 8), frame(b"\xff")):
        client = world.joined()
        client.socket.arrive(goodbye + frame(b"reboot") + frame(b"", 9))
        client.socket.arrive(frame(b"reboot"))
    assert world.x1.heard == b""


def test_a_goodbye_and_more_in_one_segment(world: World) -> None:
    other, client = world.joined(user="olga"), world.joined()
    client.send("ls", "&.", "reboot", b"reboot", "&F", "&R", "&B")
    assert world.x1.heard == b"ls\n"
    assert world.x1.link.asked == ["open"]
    assert not world.x1.resets
    other.send("mine")
    assert world.x1.heard == b"ls\nmine\n"


def test_a_client_that_never_answers_our_close_is_dropped(world: World) -> None:
    client = world.joined()
    client.socket.arrive(frame(b"&."))
    assert not world.x1.clients
    world.clock.advance(CLOSING_PATIENCE - 1)
    assert not client.socket.closed
    world.clock.advance(2)
    assert client.socket.aborted


@pytest.mark.parametrize("reads_again", [False, True])
def test_a_client_that_closes_and_does_not_read(world: World, reads_again: bool) -> None:
    client = world.joined()
    client.socket.stop_reading()
    world.x1.says(b"x" * 200_000)
    client.close()
    assert not world.x1.clients
    assert not client.socket.closed
    if reads_again:
        client.socket.start_reading()
        client.receive()
        assert (client.close_code, client.socket.aborted) == (1000, False)
    else:
        world.clock.advance(CLOSING_PATIENCE)
        assert client.socket.aborted
    assert client.socket.closed
    assert not world.sessions.sessions


def test_a_client_that_answers_no_ping_is_dropped(world: World) -> None:
    client = world.joined()
    world.clock.advance(PING_INTERVAL + 1)
    assert client.socket.sent[:1] == b"\x89"
    world.clock.advance(PING_PATIENCE - 2)
    assert not client.socket.closed
    world.clock.advance(2)
    assert client.socket.aborted
    assert not world.x1.clients


# ------------------------------------------------------------------------------------------------- violations

TOO_LONG = b"\x82\x7f" + struct.pack("!Q", 65537)


@pytest.mark.parametrize(
    ("head", "payload", "mask", "code"),
    [
        (b"\x81\x06", b"reboot", None, 1002),
        (b"\x82\x06", b"reboot", None, 1002),
        (b"\xc1\x06", b"reboot", b"\0\0\0\0", 1002),
        (b"\x83\x06", b"reboot", b"\0\0\0\0", 1002),
        (b"\x80\x06", b"reboot", b"\0\0\0\0", 1002),
        (b"\x09\x06", b"reboot", b"\0\0\0\0", 1002),
        (b"\x89\x7e\x00\x7e", b"x" * 126, b"\0\0\0\0", 1002),
        (b"\x88\x01", b"\x03", b"\0\0\0\0", 1002),
        (b"\x88\x02", b"\x03\xed", b"\0\0\0\0", 1002),
        (b"\x88\x03", b"\x03\xe8\xff", b"\0\0\0\0", 1007),
        (b"\x81\x02", b"\xc3\x28", b"\0\0\0\0", 1007),
        (b"\x81\x02", b"\xe2\x82", b"\0\0\0\0", 1007),
        (TOO_LONG, b"reboot", b"\0\0\0\0", 1009),
        (b"\x81\x7f\x00\xff\xff\xff\xff\xff\xff\xff", b"reboot", b"\0\0\0\0", 1009),
        (b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff", b"reboot", b"\0\0\0\0", 1002),
    ],
)
def test_violations(world: World, head: bytes, payload: bytes, mask: bytes | None, code: int) -> None:
    other, client = world.joined(user="olga"), world.joined()
    client.send_frame(head, payload, mask)
    client.receive()
    assert client.close_code == code
    assert client.close_reason
    assert len(client.close_reason.encode()) <= 123
    assert len(world.x1.clients) == 1
    assert world.x1.heard == b""
    other.send("unharmed")
    assert world.x1.heard == b"unharmed\n"
    world.clock.advance(CLOSING_PATIENCE + 1)
    assert client.socket.closed


def test_a_character_split_over_fragments_is_valid(world: World) -> None:
    client = world.joined()
    client.send_frame(b"\x01\x02", b"\xe2\x82")
    client.send_frame(b"\x80\x01", b"\xac")
    assert world.x1.heard == "€\n".encode()


# ------------------------------------------------------------------------------------------------- our own end


def test_shutdown(world: World) -> None:
    client, tail = world.joined(), world.tail(follow=True, lines=0)
    world.hub.close()
    for one in (client, tail):
        one.receive()
        assert (one.close_code, one.close_reason) == (1001, "The console service is shutting down")
    reason = "Connection to console [x1] terminated by server (The console service is shutting down)"
    assert client.text().endswith(says(reason))
    assert tail.text() == ""
    assert world.knock(f"{BARE}/interact/x1").refusal.status == 503


def test_shutdown_does_not_wait_for_the_deaf(world: World) -> None:
    client = world.joined()
    client.socket.stop_reading()
    world.x1.says(b"x" * 200_000)
    world.hub.close()
    world.sessions.abort()
    assert client.socket.aborted


@pytest.mark.parametrize("reason", ["x" * 1000, "é" * 1000])
def test_a_reason_is_cut_to_what_a_frame_holds(world: World, reason: str) -> None:
    client = world.tail(follow=True, lines=0)
    world.x1.console.end_clients(reason, 1008)
    client.receive()
    assert client.close_code == 1008
    assert client.close_reason
    assert reason.startswith(client.close_reason)


@pytest.mark.parametrize("where", ["attach", "write", "join"])
def test_an_accident_ends_its_own_session_only(
    world: World, log: list[LogEvent], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    other = world.joined("x2")

    def stumble(*args: Any, **named: Any) -> None:
        raise ZeroDivisionError("the details")

    if where == "write":
        client = world.joined()
    monkeypatch.setattr(Feed if where == "join" else world.x1.console, where, stumble)
    if where == "write":
        client.send("x")
    else:
        client = world.knock(f"{BARE}/interact/x1")
    client.receive()
    assert (client.close_code, client.close_reason) == (1011, "Internal error")
    assert client.socket.closed
    assert "ZeroDivisionError" in failures(log)[0]
    assert not world.x1.clients
    log.clear()
    other.send("unharmed")
    assert world.x2.heard == b"unharmed\n"


# ------------------------------------------------------------------------------------------- sharing and audit


def test_clients_in_step_share_one_frame(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = [world.tail(follow=True, lines=0), world.tail(follow=True, lines=0), world.joined()]
    made: list[bytes] = []
    sent: list[bytes] = []
    make = frames.Text.encode
    monkeypatch.setattr(frames.Text, "encode", lambda text, data, *at: made.append(data) or make(text, data, *at))
    for attachment in world.x1.clients:
        outlet: Any = attachment.outlet
        attachment.pause()
        monkeypatch.setattr(outlet, "send", lambda frame, send=outlet.send: sent.append(frame) or send(frame))
        attachment.resume()
    world.x1.says(b"once")
    assert [client.news() for client in clients] == ["once"] * 3
    assert [data for data in made if data] == [b"once"]
    assert len(sent) == 3
    assert sent[0] is sent[1] is sent[2]


@pytest.mark.parametrize("verb", ["interact", "tail"])
def test_no_frame_of_the_stream_follows_a_close_frame(world: World, verb: str) -> None:
    client = world.joined() if verb == "interact" else world.tail(follow=True, lines=0)
    other = world.tail(follow=True, lines=0)
    world.x1.says(b"before")
    client.socket.arrive(frame(b"&."))
    world.x1.says(b"after")
    client.receive()
    assert client.close_code == 1000
    assert "after" not in "".join(map(str, client.messages))
    assert "after" in other.news()


@pytest.mark.parametrize("how", ["&.", "close", "vanish"])
def test_what_is_written_down_of_a_session(world: World, how: str) -> None:
    client = world.joined()
    world.clock.advance(1.5)
    world.x1.says(b"12345")
    client.send("root", b"x")
    person = {"account": "oscar", "roles": "operator", "remoteAddress": "192.0.2.7", "remotePort": 40112}
    attached = {"timestamp": "2026-11-21T23:45:01.000Z", "action": "attached", "verb": "interact", "machine": "x1"}
    assert world.audited("attached") == [{**attached, **person}]
    assert world.audited("detached") == []
    match how:
        case "&.":
            client.send("&.")
        case "close":
            client.close()
        case _:
            client.socket.hang_up()
    [record] = world.audited("detached")
    assert record["timestamp"] == "2026-11-21T23:45:02.500Z"
    assert (record["seconds"], record["toClient"], record["toNode"]) == (1.5, 5, 6)
    assert person.items() <= record.items()


def test_what_is_written_down_of_a_tail(world: World) -> None:
    world.x1.says(b"1\r\n2\r\n3\r\n")
    client = world.tail(lines=2)
    assert client.text() == "2\r\n3\r\n"
    [record] = world.audited("detached")
    assert (record["verb"], record["toClient"], record["toNode"]) == ("tail", 6, 0)
    assert len(world.audited("attached")) == 1


def test_no_token_is_kept_where_autobahn_could_log_it(world: World) -> None:
    world.joined()
    [session] = world.sessions.sessions
    assert b"canary" not in session.http_request_data
