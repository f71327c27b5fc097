"""`tail`: the last lines, and on from there (contract 1.7)."""

from __future__ import annotations

import pytest

from consoled.core.attachment import CHUNK
from consoled.core.status import Waiting
from tests.api.test_csm_routes import HANDSHAKE, is_json_refusal
from tests.api.world import BARE, World
from tests.fakes import EPOCH

OPENING = "<ConMan> Console [x1] log opened at 2026-11-21 23:45:01 UTC.\r\n"
LINES = [f"line {number}\r\n" for number in range(30)]


@pytest.fixture(params=["in memory", "on disk", "on both"])
def full(request: pytest.FixtureRequest, empty: World) -> World:
    """A world where x1 has said thirty lines since its opening."""
    everything = "".join(LINES).encode()
    match request.param:
        case "in memory":
            world = empty.begin()
            world.x1.says(everything)
        case "on disk":
            world = empty.begin(kept=everything, noted=False)
            assert world.x1.console.ring.start == len(everything)
        case _:
            world = empty.begin(console={"ring": 64})
            for line in LINES:
                world.x1.says(line.encode())
            assert world.x1.console.ring.start > 0
    return world


def shown(world: World, **options: object) -> str:
    return world.tail(**options).text()  # type: ignore[arg-type]


@pytest.mark.parametrize("headers", [[], [("Cray-Console-Lines", "")], [("cray-console-lines", " ")]])
def test_c_tail_1_ten_lines_unless_told_otherwise(full: World, headers: list[tuple[str, str]]) -> None:
    client = full.knock(f"{BARE}/tail/x1", "vera", headers)
    assert client.text() == "".join(LINES[-10:])


@pytest.mark.parametrize("count", [1, 3, 29, 30])
def test_c_tail_2_the_last_lines(full: World, count: int) -> None:
    assert shown(full, lines=count) == "".join(LINES[-count:])


def test_c_tail_2_an_unfinished_line_is_a_line(full: World) -> None:
    full.x1.says(b"login: ")
    assert shown(full, lines=1) == "login: "
    assert shown(full, lines=2) == LINES[-1] + "login: "


def test_c_tail_2_leading_zeros(full: World) -> None:
    client = full.knock(f"{BARE}/tail/x1", "vera", [("Cray-Console-Lines", "0000000002")])
    assert client.text() == "".join(LINES[-2:])


def test_c_tail_3_more_than_there_are_is_all(full: World) -> None:
    assert shown(full, lines=1000).removeprefix(OPENING) == "".join(LINES)


def test_c_tail_3_zero_is_none(full: World) -> None:
    client = full.tail(lines=0)
    assert (client.text(), client.close_code) == ("", 1000)
    client = full.tail(lines=0, follow=True)
    full.x1.says(b"new")
    assert client.text() == "new"


def test_c_tail_4_without_follow_it_ends_properly(full: World) -> None:
    client = full.tail(lines=2)
    assert client.text() == "".join(LINES[-2:])
    assert (client.close_code, client.close_reason, client.socket.closed) == (1000, "end of the log", True)


def test_c_tail_4_it_ends_where_the_stream_ended_when_it_began(full: World) -> None:
    client = full.client()
    client.socket.stop_reading()
    client.upgrade(f"{BARE}/tail/x1", [("Authorization", "Bearer canary-vera-4711")])
    full.x1.says(b"later")
    client.socket.start_reading()
    assert client.text() == "".join(LINES[-10:])
    assert client.close_code == 1000


@pytest.mark.parametrize("follow", ["True", "true", "TRUE"])
def test_c_tail_5_following(full: World, follow: str) -> None:
    headers = [("Cray-Console-Follow", follow), ("Cray-Console-Lines", "1")]
    client = full.knock(f"{BARE}/tail/x1", "vera", headers)
    full.x1.says(b"one\r\n")
    full.x1.says(b"two\r\n")
    assert client.text() == LINES[-1] + "one\r\ntwo\r\n"
    assert client.is_open


@pytest.mark.parametrize("follow", ["False", "0", "", "1", "yes", "TrueTrue", "None"])
def test_c_tail_6_anything_else_is_no_following(full: World, follow: str) -> None:
    client = full.knock(f"{BARE}/tail/x1", "vera", [("Cray-Console-Follow", follow)])
    assert client.close_code == 1000


@pytest.mark.parametrize(
    "lines",
    ["abc", "-2", "+2", "1.0", "1e3", "0x10", "1 2", "1_0", "٣", "²", "1000001", "9" * 19, "9" * 5000, ";ls", "$(id)"],
)
def test_c_tail_7_a_bad_number_is_refused_before_the_upgrade(full: World, lines: str) -> None:
    headers = [*HANDSHAKE.items(), ("Cray-Console-Lines", lines)]
    answer = full.ask(f"{BARE}/tail/x1", headers, user="vera")
    assert is_json_refusal(answer, 400)
    assert answer.message == "Cray-Console-Lines must be a whole number from 0 to 1000000"


def test_c_tail_7_the_site_sets_the_maximum(empty: World) -> None:
    world = empty.begin(settings={"max_lines": 5})
    headers = [*HANDSHAKE.items(), ("Cray-Console-Lines", "6")]
    assert world.ask(f"{BARE}/tail/x1", headers, user="vera").message.endswith("from 0 to 5")
    assert world.tail(lines=5).close_code == 1000


@pytest.mark.parametrize("header", ["Cray-Console-Lines", "Cray-Console-Follow"])
def test_c_tail_7_two_different_values_are_not_chosen_from(world: World, header: str) -> None:
    headers = [*HANDSHAKE.items(), (header, "1"), (header, "2")]
    answer = world.ask(f"{BARE}/tail/x1", headers, user="vera")
    assert is_json_refusal(answer, 400)
    assert answer.message == f"{header} was sent more than once"


@pytest.mark.parametrize("message", ["reboot", "", b"\x03", "&I", "&B", "&R", b"&", "&F", "&Z", "&."])
def test_c_tail_8_nothing_a_client_says_reaches_the_node(world: World, message: str | bytes) -> None:
    client = world.tail(follow=True, user="ada")
    before = client.text()
    client.send(message, message)
    assert world.x1.heard == b""
    assert world.x1.link.asked == ["open"]
    assert not world.x1.resets
    assert client.text() == before
    assert client.close_code == (1000 if message == "&." else None)


def test_c_tail_9_a_large_dump_goes_out_in_pieces_as_they_are_taken(empty: World) -> None:
    line = b"0123456789abcdef" * 4 + b"\r\n"
    world = empty.begin(kept=line * 30_000, noted=False)
    client = world.client()
    client.socket.stop_reading()
    headers = [("Authorization", "Bearer canary-vera-4711"), ("Cray-Console-Lines", "20000")]
    client.upgrade(f"{BARE}/tail/x1", headers)
    assert client.socket.fullest < 2 * CHUNK
    client.socket.start_reading()
    assert client.text().encode() == line * 20_000
    assert client.socket.fullest < 2 * CHUNK
    assert client.close_code == 1000


def test_c_tail_10_while_the_node_is_away(full: World) -> None:
    full.x1.link.status = Waiting(EPOCH + 60, "no route")
    assert shown(full, lines=1) == LINES[-1]


def test_c_tail_11_output_is_recorded_when_nobody_is_attached(world: World) -> None:
    world.x1.says(b"alone\r\n")
    assert world.x1.transcript.everything.endswith(b"alone\r\n")
    assert shown(world, lines=1) == "alone\r\n"


def test_c_tail_12_what_clients_type_is_not_in_the_log(world: World) -> None:
    world.joined().send("secret", b"secret")
    assert world.x1.heard
    assert b"secret" not in world.x1.transcript.everything
    assert "secret" not in shown(world)
    assert "secret" not in str(world.records)


def test_c_tail_no_log_yet(empty: World) -> None:
    world = empty.begin(noted=False)
    client = world.tail()
    assert (client.text(), client.close_code) == ("", 1000)
    client = world.tail(follow=True)
    world.x1.says(b"first")
    assert client.text() == "first"


def test_a_tail_is_text_like_any_other(world: World) -> None:
    client = world.tail(follow=True, lines=0)
    world.x1.says(b"\xff\xe2\x82")
    world.x1.says(b"\xac\x00")
    assert client.receive() == ["\ufffd", "€\x00"]
