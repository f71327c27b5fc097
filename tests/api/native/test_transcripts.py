"""The transcript as a download: whole, by offsets, by lines; slowly, with gaps, and broken off."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consoled.api.native.transcripts import STALLED
from tests.api.wire import Client
from tests.api.world import World, bearer

KEPT = b"".join(b"line %d\r\n" % number for number in range(100))


@pytest.fixture
def world(empty: World) -> World:
    return empty.begin(kept=KEPT, start=0, noted=False)


def get(world: World, query: str = "", user: str | None = "vera", *headers: tuple[str, str]) -> Any:
    return world.ask(f"/v1/consoles/x1/transcript{query}", headers, user)


def ask(world: World, headers: str = "", user: str = "vera") -> Client:
    """A client that reads when it is told to."""
    client = world.client()
    client.socket.stop_reading()
    [(_, token)] = bearer(user)
    head = f"GET /v1/consoles/x1/transcript HTTP/1.1\r\nHost: consoled\r\nAuthorization: {token}\r\n{headers}\r\n"
    client.socket.arrive(head.encode())
    return client


def test_the_whole(world: World) -> None:
    answer = get(world)
    assert (answer.status, answer.body) == (200, KEPT)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["consoled-offset"] == "0"
    assert not world.x1.clients
    assert [record["action"] for record in world.records][-2:] == ["attached", "detached"]
    assert world.audited("detached")[-1]["toClient"] == len(KEPT)


def test_an_empty_one(empty: World) -> None:
    world = empty.begin(noted=False)
    assert (get(world).status, get(world).body) == (200, b"")


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-9", 0, 9),
        ("bytes=10-19", 10, 19),
        ("bytes=880-", 880, 889),
        ("bytes=880-9999", 880, 889),
        ("bytes=-5", 885, 889),
        ("bytes=-5000", 0, 889),
    ],
)
def test_a_range(world: World, asked: str, first: int, last: int) -> None:
    assert len(KEPT) == 890
    answer = get(world, "", "vera", ("Range", asked))
    assert (answer.status, answer.body) == (206, KEPT[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/890"
    assert answer.headers["consoled-offset"] == str(first)


@pytest.mark.parametrize(
    "asked", ["bytes=890-", "bytes=5-4", "bytes=-0", "bytes=0-1,5-6", "bytes=a-b", "bytes=", "bytes=-", "bytes=1e3-"]
)
def test_a_range_that_cannot_be(world: World, asked: str) -> None:
    answer = get(world, "", "vera", ("Range", asked))
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */890")
    assert "message" in answer.json


def test_two_ranges(world: World) -> None:
    assert get(world, "", "vera", ("Range", "bytes=0-1"), ("Range", "bytes=0-1")).status == 416


def test_another_unit_is_ignored(world: World) -> None:
    assert get(world, "", "vera", ("Range", "lines=0-1")).status == 200


@pytest.mark.parametrize(("lines", "body"), [(0, b""), (2, b"line 98\r\nline 99\r\n"), (1000, KEPT)])
def test_lines(world: World, lines: int, body: bytes) -> None:
    answer = get(world, f"?lines={lines}")
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["consoled-offset"] == str(890 - len(body))


@pytest.mark.parametrize(
    "query",
    [
        *("?lines=-1", "?lines=1000001", "?lines=x", "?own=1", "?lines=1&lines=2"),
        *("?from=2026-01-01", "?to=now", "?from=", "?from=2026-01-01T10:00", "?from=2026-13-01T10:00Z", "?from=-5"),
        *("?to=0001-01-01T00:00%2B23:59", "?from=9e9", "?from=1e400", "?from=12345678901234567890", "?to=5%0A"),
        *("?from=5&to=5", "?from=6&to=5", "?from=2026-01-01T10:00:61Z", "?from=2026-01-01T10:00%2B99:99"),
    ],
)
def test_what_is_not_understood(world: World, query: str) -> None:
    assert get(world, query).status == 400


@pytest.mark.parametrize("query", ["?lines=1", "?from=1", "?to=9"])
def test_a_range_and_something_else(world: World, query: str) -> None:
    answer = get(world, query, "vera", ("Range", "bytes=0-1"))
    assert (answer.status, "by a Range" in answer.json["message"]) == (400, True)


def test_lines_of_a_time(world: World) -> None:
    assert get(world, "?lines=1&from=5").status == 400


@pytest.mark.parametrize(
    ("query", "body", "headers"),
    [
        ("?from=2026-11-21T23:50:00Z&to=2026-11-21T23:51:00Z", b"two\r\n", ("23:50:00.000Z", "23:50:00.000Z")),
        ("?from=2026-11-22T00:50:00%2B01:00&to=2026-11-22t00:51%2B01:00", b"two\r\n", ("23:50:00.000Z",) * 2),
        ("?from=2026-11-22T00:50:00+01:00", b"two\r\nthree\r\n", ("23:50:00.000Z", "23:59:00.500Z")),
        ("?from=2026-11-21%2018:50-05:00", b"two\r\nthree\r\n", ("23:50:00.000Z", "23:59:00.500Z")),
        ("?from=1795305540.5", b"three\r\n", ("23:59:00.500Z",) * 2),
        ("?from=1795305540.500001", b"", None),
        ("?to=1795305000", b"one\r\n", ("23:40:00.000Z",) * 2),
        ("?from=99999999999", b"", None),
        ("?from=0&to=1", b"", None),
    ],
)
def test_times(empty: World, query: str, body: bytes, headers: tuple[str, str] | None) -> None:
    world = empty.begin(kept=b"one\r\ntwo\r\nthree\r\n", noted=False)
    world.x1.transcript.came = [(0, 1795304400.0), (5, 1795305000.0), (10, 1795305540.5)]
    answer = get(world, query)
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["content-length"] == str(len(body))
    found = answer.headers.get("consoled-from"), answer.headers.get("consoled-to")
    assert found == (tuple(f"2026-11-21T{one}" for one in headers) if headers else (None, None))


def test_who_may_ask_for_times(world: World) -> None:
    assert get(world, "?from=1", "gina").status == 403
    assert get(world, "?from=1", None).status == 401


@pytest.mark.parametrize(("user", "status"), [(None, 401), ("gina", 403), ("bob", 200), ("lost", 403), ("nobody", 401)])
def test_who_may(world: World, user: str | None, status: int) -> None:
    assert get(world, "", user).status == status


def test_a_ticket_is_good_for_it(world: World) -> None:
    wish = '{"console": "x1", "mode": "tail"}'
    world.ask("/v1/tickets", [("Content-Type", "application/json")], "vera", "POST", wish)
    assert get(world, f"?ticket={world.issued[-1]}", None).status == 200


def test_one_with_lines_of_our_own(empty: World) -> None:
    world = empty.begin()
    world.x1.says(b"login: ")
    assert get(world).body == bytes(world.x1.transcript.everything)


# ---------------------------------------------------------------------------------------------- what is missing


def test_what_has_gone_before_it_is_counted(world: World) -> None:
    world.x1.transcript.start = 100
    world.x1.console.ring.shrink(0)
    answer = get(world)
    assert (answer.status, answer.body, answer.headers["consoled-offset"]) == (200, KEPT[100:], "100")
    assert "consoled-missed" not in answer.headers, "nobody asked for it"
    answer = get(world, "", "vera", ("Range", "bytes=40-199"))
    assert (answer.status, answer.body) == (206, KEPT[100:200])
    assert (answer.headers["content-range"], answer.headers["consoled-missed"]) == ("bytes 100-199/890", "60")


def test_nothing_of_the_range_is_left(world: World) -> None:
    world.x1.transcript.start = 100
    world.x1.console.ring.shrink(0)
    answer = get(world, "", "vera", ("Range", "bytes=40-49"))
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */890")
    assert not world.x1.clients


def test_a_gap_within_breaks_it_off_and_the_next_begins_behind_it(world: World) -> None:
    world.x1.console.ring.shrink(0)
    world.x1.transcript.holes = set(range(300, 400))
    client = ask(world)
    client.socket.start_reading()
    head, _, body = bytes(client.socket.sent).partition(b"\r\n\r\n")
    assert b"Content-Length: 890" in head
    assert body == KEPT[:300]
    assert client.socket.closed
    answer = get(world, "", "vera", ("Range", "bytes=300-"))
    assert (answer.body, answer.headers["consoled-missed"]) == (KEPT[400:], "100")


# ---------------------------------------------------------------------------------------------- pace


def much(world: World) -> bytes:
    for at in range(40):
        world.x1.says(b"%04d" % at * 25_000)
    return bytes(world.x1.transcript.everything)


def test_a_slow_client_costs_its_buffer(world: World) -> None:
    everything = much(world)
    client = ask(world)
    assert client.socket.fullest < 600_000 < len(everything)
    [attachment] = world.x1.clients
    assert (attachment.client.face, attachment.interactive) == ("v1", False)
    world.x1.says(b"this comes too late")
    client.socket.start_reading()
    assert client.socket.fullest < 600_000
    assert bytes(client.socket.sent).partition(b"\r\n\r\n")[2] == everything
    assert not world.x1.clients


def test_the_disk_takes_its_time(world: World) -> None:
    world.x1.console.ring.shrink(0)
    world.x1.transcript.late = True
    client = world.client()
    client.request("/v1/consoles/x1/transcript", bearer("vera"))
    while world.x1.transcript.waiting:
        world.x1.transcript.answer()
    answer = client.answer()
    assert answer is not None
    assert answer.body == KEPT


def test_who_leaves_is_gone(world: World) -> None:
    much(world)
    client = ask(world)
    client.socket.hang_up()
    assert not world.x1.clients
    assert world.audited("detached")


def test_who_leaves_while_the_disk_is_asked(world: World) -> None:
    world.x1.console.ring.shrink(0)
    world.x1.transcript.late = True
    client = ask(world)
    client.socket.hang_up()
    assert not world.x1.clients
    assert not world.x1.transcript.waiting


def test_who_never_reads_is_given_up(world: World) -> None:
    much(world)
    client = ask(world)
    client.socket.read_some(1000)
    world.clock.advance(STALLED - 1)
    assert not client.socket.closed
    world.clock.advance(1)
    assert client.socket.closed
    assert not world.x1.clients


def test_a_kick(world: World) -> None:
    much(world)
    client = ask(world)
    answer = world.ask("/v1/consoles/x1/clients/1", (), "ada", "DELETE")
    assert answer.status == 204
    assert client.socket.closed
    assert not world.x1.clients


def test_the_right_ends(world: World) -> None:
    much(world)
    client = ask(world)
    (world.directory / "tokens.toml").write_text("")
    world.clock.pump([1.0] * 40)
    assert client.socket.closed
    assert not world.x1.clients


def test_the_console_goes(world: World) -> None:
    much(world)
    client = ask(world)
    world.hub.remove("x1", "it is taken out")
    assert client.socket.closed


def test_the_next_request_of_the_same_connection(world: World) -> None:
    client = world.client()
    for _ in range(2):
        answer = client.request("/v1/consoles/x1/transcript?lines=1", bearer("vera"))
        assert answer is not None
        assert answer.body == b"line 99\r\n"
        client.socket.sent.clear()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(cuts=st.lists(st.integers(1, 60_000), max_size=8), start=st.integers(0, 500))
def test_pieces_make_the_whole(empty: World, cuts: list[int], start: int) -> None:
    """Whoever is cut off anywhere, and goes on where it was, has it all."""
    world = empty.begin(kept=KEPT, start=0, noted=False)
    world.x1.transcript.start = start
    world.x1.console.ring.shrink(0)
    world.x1.says(b"more and more " * 20_000)
    everything, got = bytes(world.x1.transcript.everything), b""
    for cut in [*cuts, 0]:
        client = ask(world, f"Range: bytes={start + len(got)}-\r\n")
        if cut:
            client.socket.read_some(cut)
        else:
            client.socket.start_reading()
        got += bytes(client.socket.sent).partition(b"\r\n\r\n")[2]
        client.socket.hang_up()
    assert got == everything[start:]
