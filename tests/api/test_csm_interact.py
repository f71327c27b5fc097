"""`interact`: banner, lines and keystrokes in, text out, several at once (contract 1.6)."""

from __future__ import annotations

import pytest

from consoled.api.session import MESSAGE_LIMIT
from consoled.core.attachment import CHUNK
from consoled.core.faults import LinkDown, NodeNotReading
from consoled.core.status import Up, Waiting
from tests.api.world import World
from tests.fakes import EPOCH

OPENED = "\r\n<ConMan> Connection to console [x1] opened.\r\n"
CLOSED = "\r\n<ConMan> Connection to console [x1] closed.\r\n"


def test_c_int_1_the_banner_comes_first_and_in_one_message(world: World) -> None:
    client = world.interact()
    world.x1.says(b"login: ")
    assert client.receive() == ["login: "]
    assert client.messages[0] == OPENED


def test_c_int_1_while_the_node_is_away(world: World) -> None:
    world.x1.link.status = Waiting(EPOCH + 5, "refused")
    client = world.interact()
    assert client.messages == [
        OPENED,
        "\r\n<ConMan> Console [x1] is currently disconnected from <bmc-x1:2001>.\r\n",
    ]


def test_c_int_2_output_goes_out_as_it_comes_in_text(world: World) -> None:
    client = world.joined()
    for piece in (b"a", b"bc", b"\r\n$ "):
        world.x1.says(piece)
        assert client.receive() == [piece.decode()]


def test_c_int_2_what_was_before_is_not_shown(world: World) -> None:
    world.x1.says(b"yesterday")
    assert world.interact().text() == OPENED


@pytest.mark.parametrize(
    ("message", "keys"),
    [("root", b"root\n"), ("root\n", b"root\n"), ("root\r", b"root\r"), ("root\r\n", b"root\r\n"), ("a\nb", b"a\nb\n")],
)
def test_c_int_3_a_text_message_is_a_line(world: World, message: str, keys: bytes) -> None:
    world.joined().send(message)
    assert world.x1.link.written == [keys]


def test_c_int_4_an_empty_message_is_a_bare_line_feed(world: World) -> None:
    world.joined().send("")
    assert world.x1.link.written == [b"\n"]


@pytest.mark.parametrize("message", ["&.", "pre&.post", "&.\n", b"&.", b"pre&.post"])
def test_c_int_5_leaving(world: World, message: str | bytes) -> None:
    client = world.joined()
    client.send(message)
    assert client.news() == "&." + CLOSED
    assert (client.close_code, client.socket.closed) == (1000, True)
    assert not world.x1.clients


def test_c_int_5_leaving_with_two_messages_of_keystrokes(world: World) -> None:
    client = world.joined()
    client.send(b"ls&", b".")
    assert client.news() == "&." + CLOSED
    assert client.close_code == 1000
    assert world.x1.heard == b"ls"


@pytest.mark.parametrize("message", ["pre&.post", b"pre&.post", "pre&.", "pre&.&Ipost\n"])
def test_c_int_6_what_stands_before_it_is_delivered_and_nothing_else(world: World, message: str | bytes) -> None:
    world.joined().send(message)
    assert world.x1.heard == b"pre"


@pytest.mark.parametrize(
    ("message", "keys"),
    [("a&&b", b"a&b\n"), ("&&", b"&\n"), ("&&&&", b"&&\n"), ("&&.", b"&.\n"), (b"&&", b"&"), ("&&I", b"&I\n")],
)
def test_c_int_7_a_doubled_prefix_is_one(world: World, message: str | bytes, keys: bytes) -> None:
    client = world.joined()
    client.send(message)
    assert world.x1.heard == keys
    assert client.is_open


@pytest.mark.parametrize(
    ("message", "keys"),
    [
        ("a&b", b"a&b\n"),
        ("&x", b"&x\n"),
        ("& .", b"& .\n"),
        ("&i", b"&i\n"),
        ("&é", "&é\n".encode()),
        ("cmd &", b"cmd &\n"),
        ("&", b"&\n"),
        ("&\r", b"&\r"),
    ],
)
def test_c_int_8_other_pairs_go_through(world: World, message: str, keys: bytes) -> None:
    world.joined().send(message)
    assert world.x1.heard == keys


def test_c_int_9_a_character_split_over_two_reads_is_joined(world: World) -> None:
    client = world.joined()
    for byte in "é€😀x".encode():
        world.x1.says(bytes([byte]))
    assert client.receive() == ["é", "€", "😀", "x"]


def test_c_int_10_what_is_no_utf_8_is_replaced_and_its_neighbours_arrive(world: World) -> None:
    client = world.joined()
    world.x1.says(b"before\xff\xfe\x80after \xc3\x28 end\xed\xa0\x80.")
    assert client.news() == "before\ufffd\ufffd\ufffdafter \ufffd( end\ufffd\ufffd\ufffd."
    assert client.is_open


def test_c_int_10_a_dangling_character_is_flushed_within_a_second(world: World) -> None:
    client = world.joined()
    world.x1.says(b"a\xe2\x82")
    assert client.news() == "a"
    world.clock.advance(1)
    assert client.news() == "\ufffd"
    world.x1.says(b"b")
    assert client.news() == "b"


def test_c_int_11_control_bytes_pass_unchanged_both_ways(world: World) -> None:
    client = world.joined()
    everything = bytes(range(0x80)) + b"\x1b[2J\x1b]0;title\x07\r\n\r\r\n\n\r"
    world.x1.says(everything)
    assert client.news() == everything.decode()
    keys = everything.replace(b"&", b"")
    client.send(keys, keys.decode())
    assert world.x1.heard == keys + keys


def test_c_int_12_all_see_all_and_all_may_type(world: World) -> None:
    clients = [world.joined(), world.joined(user="olga"), world.joined(user="ada")]
    for client in clients:
        client.news()
    world.x1.says(b"hello")
    assert [client.news() for client in clients] == ["hello"] * 3
    for client in clients:
        client.send("hi")
    assert world.x1.heard == b"hi\n" * 3


def test_c_int_13_one_connection_for_any_number_of_sessions(world: World) -> None:
    for _ in range(3):
        world.interact()
    world.tail(follow=True)
    assert world.x1.link.asked == ["open"]


@pytest.mark.parametrize("keys", [b"p", b"", b"pass word", b"\x03", b"a\n", b"\xff\x00\xfe", "é".encode()[:1]])
def test_c_int_14_a_binary_message_is_its_bytes_and_nothing_else(world: World, keys: bytes) -> None:
    client = world.joined()
    client.send(keys)
    assert world.x1.heard == keys
    client.send(b"&I", b"x")
    assert "Connected R/W" in client.news()
    assert world.x1.heard == keys + b"x"


@pytest.mark.parametrize("how", ["closes", "vanishes", "says so", "is in the middle of a message", "holds a prefix"])
def test_c_int_15_leaving_sends_the_node_nothing_and_disturbs_nobody(world: World, how: str) -> None:
    other, leaver = world.joined(), world.joined(user="olga")
    other.news()
    match how:
        case "closes":
            leaver.close()
        case "vanishes":
            leaver.socket.hang_up()
        case "says so":
            leaver.send("&.")
        case "is in the middle of a message":
            leaver.send_frame(b"\x01\x02", b"rm")
            leaver.send_frame(b"\x80\x7d", b" -rf")
            leaver.socket.hang_up()
        case "holds a prefix":
            leaver.send(b"&")
            leaver.socket.hang_up()
    assert world.x1.heard == b""
    assert other.news() == "\r\n<ConMan> Console [x1] departed by <olga@192.0.2.7> at 11-21 23:45.\r\n"
    other.send("still here")
    assert world.x1.heard == b"still here\n"


def test_c_int_16_sessions_survive_the_loss_of_the_node(world: World) -> None:
    world.x1.console.changed(Up(EPOCH))
    client = world.joined()
    world.x1.says(b"half a li")
    world.x1.link.status, world.x1.link.refusal = Waiting(EPOCH + 1, "reset"), LinkDown("x1")
    world.x1.console.changed(world.x1.link.status)
    client.send("lost", "lost too")
    world.x1.link.status, world.x1.link.refusal = Up(EPOCH), None
    world.x1.console.changed(world.x1.link.status)
    client.send("back")
    world.x1.says(b"welcome")
    assert client.news() == (
        "half a li\r\n<ConMan> Console [x1] disconnected from <bmc-x1:2001> (reset) at 2026-11-21 23:45:01 UTC.\r\n"
        "\r\n<ConMan> Console [x1] is currently disconnected; the input was discarded.\r\n"
        "<ConMan> Console [x1] connected to <bmc-x1:2001> at 2026-11-21 23:45:01 UTC.\r\n"
        "welcome"
    )
    assert world.x1.heard == b"back\n"


def test_a_complaint_is_repeated_only_after_something_got_through(world: World) -> None:
    client = world.joined()
    complaint = "\r\n<ConMan> Console [x1] is not taking input; it was discarded.\r\n"
    world.x1.link.refusal = NodeNotReading("x1")
    client.send("a", "b", b"c")
    assert client.news() == complaint
    world.x1.link.refusal = None
    client.send("d")
    world.x1.link.refusal = NodeNotReading("x1")
    client.send("e")
    assert client.news() == complaint
    assert world.x1.heard == b"d\n"


@pytest.mark.parametrize("unit", [b"x", "é".encode(), b"\xff"])
def test_c_int_17_messages_stay_small(world: World, unit: bytes) -> None:
    client = world.joined()
    world.x1.says(unit * (10**6 // len(unit)))
    messages = client.receive()
    assert "".join(messages) == (unit * (10**6 // len(unit))).decode(errors="replace")
    assert max(len(message) for message in messages) <= CHUNK


def test_c_int_18_a_ping_is_answered_at_once(world: World) -> None:
    client = world.joined()
    client.ping(b"idle")
    client.receive()
    assert client.pongs == [b"idle"]
    for payload in (b"1", b"2"):
        world.x1.says(b"busy" * 10000)
        client.ping(payload)
        client.send("and typing")
    client.receive()
    assert client.pongs == [b"idle", b"1", b"2"]


def test_c_int_19_fragments_are_one_message(world: World) -> None:
    client = world.joined()
    client.send_fragments("ca", "t ", "/etc/", "", "motd")
    assert world.x1.link.written == [b"cat /etc/motd\n"]


def test_c_int_19_a_ping_between_fragments(world: World) -> None:
    client = world.joined()
    client.send_frame(b"\x01\x02", b"ca")
    client.ping(b"?")
    client.send_frame(b"\x80\x01", b"t")
    client.receive()
    assert client.pongs == [b"?"]
    assert world.x1.heard == b"cat\n"


def test_c_int_20_an_unmasked_frame_ends_the_connection(world: World) -> None:
    client = world.joined()
    client.send_frame(b"\x81\x06", b"reboot", mask=None)
    client.receive()
    assert client.close_code == 1002
    assert world.x1.heard == b""


@pytest.mark.parametrize("size", [32768, 32769, MESSAGE_LIMIT])
def test_c_int_22_a_large_message_is_delivered(world: World, size: int) -> None:
    client = world.joined()
    client.send(b"x" * size)
    assert world.x1.heard == b"x" * size
    assert client.is_open


@pytest.mark.parametrize("fragments", [1, 3])
def test_c_int_22_a_larger_one_ends_its_own_session_only(world: World, fragments: int) -> None:
    other, client = world.joined(), world.joined(user="olga")
    if fragments == 1:
        client.send("x" * (MESSAGE_LIMIT + 1))
    else:
        client.send_fragments(*["x" * (MESSAGE_LIMIT // 2)] * fragments)
    client.receive()
    assert client.close_code == 1009
    assert world.x1.heard == b""
    other.send("ok")
    assert world.x1.heard == b"ok\n"


def test_notes_on_who_comes_and_goes(world: World) -> None:
    first = world.joined()
    second = world.interact(user="olga")
    assert first.news() == "\r\n<ConMan> Console [x1] joined by <olga@192.0.2.7> at 11-21 23:45.\r\n"
    assert second.text() == OPENED + "\r\n<ConMan> Console [x1] joined with <oscar@192.0.2.7>.\r\n"
    second.close()
    assert first.news() == "\r\n<ConMan> Console [x1] departed by <olga@192.0.2.7> at 11-21 23:45.\r\n"


def test_a_tail_comes_and_goes_unnoticed(world: World) -> None:
    client = world.joined()
    world.tail(follow=True).close()
    assert client.news() == ""
