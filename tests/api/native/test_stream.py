"""The WebSocket: bytes with their offsets, events beside them, and a client that comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consoled.api.native import shapes
from consoled.auth.gate import Gate
from consoled.auth.roles import Role
from consoled.auth.tenants import TenantTable
from consoled.auth.tokens import TokensFile
from consoled.core.access import Limits
from consoled.core.faults import NodeNotReading
from consoled.core.status import Off, Up, Waiting
from tests.api.wire import Client
from tests.api.world import World, entry
from tests.fakes import EPOCH

PROTOCOL = "consoled.v1"


def knock(world: World, query: str = "", user: str | None = "oscar", node: str = "x1", **options: Any) -> Client:
    return world.knock(f"/v1/consoles/{node}/stream{query}", user, **options)


def stream(world: World, query: str = "", user: str = "oscar") -> Client:
    client = knock(world, query, user, subprotocols=[PROTOCOL])
    assert client.is_open, client.refusal
    return client


def events(client: Client) -> list[dict[str, Any]]:
    """The events since the last time; bytes are passed over."""
    return [json.loads(message) for message in client.receive() if isinstance(message, str)]


def pieces(messages: list[str | bytes]) -> list[tuple[int, bytes]]:
    return [(int.from_bytes(one[:8], "big"), one[8:]) for one in messages if isinstance(one, bytes)]


def tell(client: Client, kind: str, **more: Any) -> list[dict[str, Any]]:
    client.send(json.dumps({"type": kind, **more}))
    return events(client)


def test_it_begins_with_how_things_stand(world: World) -> None:
    client = knock(world, "?mode=interact", subprotocols=[PROTOCOL])
    assert client.response.headers["Sec-WebSocket-Protocol"] == PROTOCOL
    head = world.x1.console.head
    assert [json.loads(one) for one in client.messages] == [
        {"type": "hello", "console": "x1", "mode": "interact", "recorded": False,
         "offset": head, "start": 0, "head": head},
        {"type": "link", "state": "up", "since": "2026-11-21T23:45:01Z", "until": None, "why": ""},
        {"type": "keyboard", "typing": True, "holder": ""},
    ]  # fmt: skip


def test_bytes_have_their_offsets(world: World) -> None:
    client = stream(world)
    at = world.x1.console.head
    client.receive()
    world.x1.says(b"login: ")
    world.x1.says(b"\xff\x00")
    assert pieces(client.receive()) == [(at, b"login: "), (at + 7, b"\xff\x00")]


def test_own_lines_are_in_it_or_not(world: World) -> None:
    with_own, without = stream(world), stream(world, "?own=false")
    before = len(pieces(with_own.messages)), len(pieces(without.messages))
    at = world.x1.console.head
    world.x1.console.note("something")
    world.x1.says(b"x")
    length = world.x1.console.head - at - 1
    found = pieces(with_own.receive() and with_own.messages)[before[0] :]
    assert [offset for offset, _ in found] == [at, at + length]
    assert pieces(without.receive() and without.messages)[before[1] :] == [(at + length, b"x")]


def test_in_step_all_get_the_same_frame(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = [stream(world) for _ in range(3)]
    frames: list[bytes] = []
    for client in clients:
        client.receive()
    for attachment in world.x1.clients:
        outlet: Any = attachment.outlet
        attachment.pause()
        monkeypatch.setattr(outlet, "send", frames.append)
        attachment.resume()
    world.x1.says(b"x" * 1000)
    assert len(frames) == 3
    assert frames[0] is frames[1] is frames[2]


@pytest.mark.parametrize(("lines", "text"), [(0, b""), (1, b"two\r\n"), (2, b"one\r\ntwo\r\n")])
def test_it_begins_some_lines_back(world: World, lines: int, text: bytes) -> None:
    world.x1.says(b"one\r\ntwo\r\n")
    client = stream(world, f"?lines={lines}")
    assert b"".join(data for _, data in pieces(client.messages)) == text


def test_what_is_missing_is_told(empty: World) -> None:
    world = empty.begin(kept=b"x" * 1000, noted=False)
    world.x1.transcript.start = 600
    client = stream(world, "?offset=100")
    assert [one for one in map(str, client.messages) if "missed" in one] == [
        '{"type":"missed","offset":100,"count":500}'
    ]
    assert pieces(client.messages) == [(600, b"x" * 400)]


# ---------------------------------------------------------------------------------------------- who comes in


@pytest.mark.parametrize(
    ("query", "user", "status"),
    [
        ("", None, 401),
        ("", "gina", 403),
        ("?mode=interact", "vera", 403),
        ("?mode=no", "gina", 403),
        ("?mode=no", "vera", 400),
        ("?mode=tail&mode=interact", "vera", 400),
        ("?offset=-1", "vera", 400),
        ("?offset=99999", "vera", 416),
        ("?offset=99999999999999999999", "vera", 400),
        ("?offset=1&lines=1", "vera", 400),
        ("?offset=1&from=1", "vera", 400),
        ("?from=yesterday", "vera", 400),
        ("?from=2026-13-01T10:00Z", "vera", 400),
        ("?lines=x", "vera", 400),
        ("?own=perhaps", "vera", 400),
        ("?follow=1", "vera", 400),
    ],
)
def test_refusals(world: World, query: str, user: str | None, status: int) -> None:
    assert knock(world, query, user).refusal.status == status
    assert not world.x1.clients


def test_a_subprotocol_of_somebody_else(world: World) -> None:
    assert knock(world, subprotocols=["chat"]).refusal.status == 400


def test_no_subprotocol_is_taken_for_ours(world: World) -> None:
    client = knock(world)
    assert client.is_open
    assert "Sec-WebSocket-Protocol" not in client.response.headers


def test_a_plain_request(world: World) -> None:
    assert world.ask("/v1/consoles/x1/stream", (), "vera").status == 400


def test_a_page_of_another_site(world: World) -> None:
    assert knock(world, headers=[("Origin", "https://evil.example")]).refusal.status == 403


@pytest.mark.parametrize(("mode", "query"), [("tail", ""), ("interact", "?mode=interact")])
def test_a_ticket(world: World, mode: str, query: str) -> None:
    wish = json.dumps({"console": "x1", "mode": mode})
    world.ask("/v1/tickets", [("Content-Type", "application/json")], "oscar", "POST", wish)
    query = f"{query}{'&' if query else '?'}ticket={world.issued[-1]}"
    assert knock(world, query, None).is_open
    assert knock(world, query, None).refusal.status == 401


def test_a_ticket_to_watch_does_not_type(world: World) -> None:
    wish = json.dumps({"console": "x1", "mode": "tail"})
    world.ask("/v1/tickets", [("Content-Type", "application/json")], "oscar", "POST", wish)
    assert knock(world, f"?mode=interact&ticket={world.issued[-1]}", None).refusal.status == 403


# ---------------------------------------------------------------------------------------------- typing


def test_keystrokes(world: World) -> None:
    client = stream(world, "?mode=interact")
    client.send(b"ro", b"ot\r", b"\xff&.")
    assert world.x1.heard == b"root\r\xff&."
    assert client.is_open


def test_who_came_to_watch_does_not_type(world: World) -> None:
    client = stream(world)
    events(client)
    client.send(b"x")
    assert events(client) == [{"type": "error", "message": "This session may only watch"}]
    client.send(b"x")
    assert events(client) == [], "it is said once"
    [error] = tell(client, "take")
    assert error["message"] == "This session may only watch"
    assert not world.x1.heard


def test_input_that_is_refused(world: World) -> None:
    client = stream(world, "?mode=interact")
    events(client)
    world.x1.link.refusal = NodeNotReading("x1")
    client.send(b"x")
    assert events(client) == [{"type": "error", "message": str(NodeNotReading("x1"))}]
    world.x1.link.refusal = None
    client.send(b"y")
    world.x1.link.refusal = NodeNotReading("x1")
    client.send(b"z")
    assert len(events(client)) == 1, "it is news again"
    assert world.x1.heard == b"y"


def test_the_keyboard(world: World) -> None:
    first, second = stream(world, "?mode=interact"), stream(world, "?mode=interact", "olga")
    assert {"type": "notice", "text": "Console [x1] joined by <olga@192.0.2.7> at 11-21 23:45"} in events(first)
    events(second)
    assert {"type": "keyboard", "typing": True, "holder": "olga@192.0.2.7"} in tell(second, "take")
    assert {"type": "keyboard", "typing": False, "holder": "olga@192.0.2.7"} in events(first)
    assert tell(first, "join") == [{"type": "error", "message": "The keyboard is held by olga@192.0.2.7"}]
    assert {"type": "keyboard", "typing": True, "holder": ""} in tell(second, "join")
    assert {"type": "keyboard", "typing": False, "holder": ""} in events(first)
    assert {"type": "keyboard", "typing": True, "holder": ""} in tell(first, "join")
    assert {"type": "keyboard", "typing": False, "holder": ""} in tell(first, "watch")


def test_it_shares_the_keyboard_with_other_faces(world: World) -> None:
    client, conman = stream(world, "?mode=interact"), world.joined(user="olga")
    conman.send("&F")
    assert {"type": "keyboard", "typing": False, "holder": "olga@192.0.2.7"} in events(client)


def test_a_break(world: World) -> None:
    client = stream(world, "?mode=interact")
    events(client)
    assert tell(client, "break") == []
    assert world.x1.link.asked == ["open", "break"]
    [record] = world.audited("break")
    assert record["account"] == "oscar"


@pytest.mark.parametrize("number", ["a", 7])
def test_a_ping(world: World, number: Any) -> None:
    client = stream(world)
    events(client)
    assert tell(client, "ping", id=number) == [{"type": "pong", "id": number}]


def test_a_window_has_no_size_here(world: World) -> None:
    client = stream(world)
    events(client)
    assert tell(client, "resize", rows=24, cols=80) == []


@pytest.mark.parametrize(
    "text", ["", "ls", "{}", '{"type": "quit"}', '{"type": "resize", "rows": -1, "cols": 1}', "[" * 5000, '"\\ud800"',
             '{"type": "take", "more": 1}', "\x1b[2J"]
)  # fmt: skip
def test_a_command_that_is_none(world: World, text: str) -> None:
    client = stream(world, "?mode=interact")
    events(client)
    client.send(text)
    [error] = events(client)
    assert error["type"] == "error"
    assert error["message"].isprintable()
    assert client.is_open
    assert not world.x1.heard


def test_commands_are_what_is_described() -> None:
    assert {kind.__name__.lower() for kind in shapes.Command.__args__} == {
        "take", "join", "watch", "break", "resize", "ping"
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------- what happens


def test_the_link_comes_and_goes_behind_what_was_said(world: World) -> None:
    client = stream(world)
    client.receive()
    world.x1.console.changed(Up(EPOCH))
    client.receive()
    world.x1.says(b"last words")
    world.x1.link.status = Waiting(EPOCH + 9, "reset by peer")
    world.x1.console.changed(world.x1.link.status)
    messages = client.receive()
    assert pieces(messages)[0][1] == b"last words"
    assert json.loads(messages[-1]) == {
        "type": "link", "state": "waiting", "since": None, "until": "2026-11-21T23:45:10Z", "why": "reset by peer"
    }  # fmt: skip


def test_a_client_that_does_not_read_is_told_the_last_of_it(world: World) -> None:
    client = stream(world)
    client.receive()
    client.socket.stop_reading()
    for _ in range(10):
        world.x1.says(b"x" * 200_000)
    waiting = len(client.socket.buffer)
    for _ in range(1000):
        world.x1.console.changed(Off())
        world.x1.console.changed(Up(EPOCH + 5))
    assert len(client.socket.buffer) == waiting
    client.socket.start_reading()
    told = events(client)
    assert [one["state"] for one in told if one["type"] == "link"] == ["up"]


def test_a_kick_and_the_end(world: World) -> None:
    client = stream(world)
    events(client)
    world.ask("/v1/consoles/x1/clients/1", (), "ada", "DELETE")
    assert events(client) == [{"type": "end", "why": "Kicked by ada@192.0.2.7"}]
    assert (client.close_code, client.close_reason) == (1008, "Kicked by ada@192.0.2.7")
    assert not world.x1.clients


def test_a_program_that_pings_is_idle_all_the_same(empty: World) -> None:
    role = Role(frozenset({"interact"}), limits=Limits(idle=60))
    tokens = empty.directory / "idle.toml"
    tokens.write_text(entry("oscar", "sleepy", None))
    checker = TokensFile(tokens, {"sleepy": role}, empty.clock)
    gate = Gate([checker], {"sleepy": role}, TenantTable({}), empty.audit, empty.now)
    world = empty.begin(gate=gate)
    typist, sleeper = stream(world, "?mode=interact"), stream(world, "?mode=interact")
    for _ in range(10):
        world.clock.advance(10)
        typist.send(b"x")
        if sleeper.is_open:
            tell(sleeper, "ping")
            tell(sleeper, "resize", rows=1, cols=1)
    assert typist.is_open
    assert sleeper.close_code == 4408


def test_the_right_ends(world: World) -> None:
    client = stream(world)
    (world.directory / "tokens.toml").write_text("")
    world.clock.pump([1.0] * 40)
    client.receive()
    assert client.close_code == 4401


def test_it_is_counted_and_audited(world: World) -> None:
    client = stream(world, "?mode=interact")
    client.send(b"abc")
    client.socket.hang_up()
    record = world.audited("detached")[-1]
    assert (record["account"], record["verb"], record["toNode"]) == ("oscar", "interact", 3)


# ---------------------------------------------------------------------------------------------- coming back

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("says"), st.binary(min_size=1, max_size=3000)),
        st.tuples(st.just("notes"), st.just(b"")),
        st.tuples(st.just("reads"), st.integers(1, 4000)),
        st.tuples(st.just("stalls"), st.just(0)),
        st.tuples(st.just("cuts"), st.just(0)),
        st.tuples(st.just("floods"), st.integers(70_000, 700_000)),
        st.tuples(st.just("forgets"), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(steps=STEPS, own=st.booleans())
def test_who_comes_back_misses_nothing_and_gets_nothing_twice(empty: World, steps: Any, own: bool) -> None:
    world = empty.begin(console={"ring": 4096})
    node, said = world.x1, b""
    begin = node.console.head
    got, offset = b"", begin
    client = stream(world, f"?offset={offset}&own={int(own)}")

    def hear() -> None:
        nonlocal got, offset
        client.receive()
        news, client.messages = client.messages, []
        for at, data in pieces(news):
            assert at >= offset, "twice"
            assert at == offset or not own, "missed"
            got, offset = got + data, at + len(data)

    for what, how in [*steps, ("cuts", 0)]:
        match what:
            case "says":
                node.says(how)
                said += how
            case "floods":
                node.says(b"f" * how)
                said += b"f" * how
            case "notes":
                node.console.note("a line of ours")
            case "stalls":
                client.socket.stop_reading()
            case "reads":
                client.socket.read_some(how)
                hear()
            case "forgets":
                node.console.ring.shrink(1)
            case "cuts":
                hear()
                client.socket.hang_up()  # what was half way to it is lost
                client = stream(world, f"?offset={offset}&own={int(own)}")
    hear()
    everything = bytes(node.transcript.everything)[begin - node.transcript.base :]
    assert got == (everything if own else said)
    assert (offset == node.console.head) or not own
    client.socket.hang_up()
