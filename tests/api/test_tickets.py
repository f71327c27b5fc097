"""Tickets over HTTP: a browser's way to a WebSocket, and everybody else's way to nothing."""

import json
from typing import Any

import pytest
from twisted.logger import LogEvent, eventAsText

from consoled.auth.tickets import EACH, LIFETIME
from tests.api.world import BARE, Deaf, World, bearer

TICKETS = "/v1/tickets"
JSON = ("Content-Type", "application/json")


def ask(world: World, wish: Any, user: str | None = "oscar", *headers: tuple[str, str]) -> Any:
    """The answer to a request for a ticket."""
    text = wish if isinstance(wish, str) else json.dumps(wish)
    return world.ask(TICKETS, [*(headers or (JSON,))], user, "POST", text)


def ticket(world: World, mode: str = "interact", console: str = "x1", user: str = "oscar") -> str:
    answer = ask(world, {"console": console, "mode": mode}, user)
    assert answer.status == 201, answer.body
    assert answer.json == {"ticket": world.issued[-1], "expires_in": 30}
    assert answer.headers["cache-control"] == "no-store"
    return world.issued[-1]


@pytest.fixture(autouse=True)
def nowhere(world: World, log: list[LogEvent]) -> Any:
    yield
    for one in world.issued:
        assert one not in json.dumps(world.records)
        assert not any(one in eventAsText(event) for event in log)


def test_a_browser_opens_a_session(world: World) -> None:
    client = world.knock(f"{BARE}/interact/x1?ticket={ticket(world)}", None)
    assert client.is_open
    client.send("root")
    assert world.x1.heard == b"root\n"
    assert world.audited("attached")[-1]["account"] == "oscar"
    assert str(world.audited("accepted")[-1]["proof"]).startswith("ticket ")


def test_a_browser_tails(world: World) -> None:
    world.x1.says(b"hello\r\n")
    client = world.knock(f"{BARE}/tail/x1?ticket={ticket(world, 'tail', user='vera')}", None)
    assert "hello" in client.text()


def test_the_ticket_is_good_once(world: World) -> None:
    path = f"{BARE}/interact/x1?ticket={ticket(world)}"
    assert world.knock(path, None).is_open
    assert world.knock(path, None).refusal.status == 401
    # "Used by another", too, who is known here.
    path = f"{BARE}/interact/x1?ticket={ticket(world)}"
    assert world.knock(path, "olga").refusal.status == 401
    assert len(world.x1.clients) == 1


@pytest.mark.parametrize("path", ["interact/x2", "tail/x1", "tail/x2", "interact/x3", "interact/absent"])
def test_the_ticket_is_for_one_console_and_one_mode(world: World, path: str) -> None:
    one = ticket(world)
    assert world.knock(f"{BARE}/{path}?ticket={one}", None).refusal.status in (403, 404)
    assert world.knock(f"{BARE}/interact/x1?ticket={one}", None).refusal.status == 401, "burnt"


def test_the_ticket_expires(world: World) -> None:
    one = ticket(world)
    world.clock.advance(LIFETIME)
    assert world.knock(f"{BARE}/interact/x1?ticket={one}", None).refusal.status == 401


def test_two_tickets_are_one_too_many(world: World) -> None:
    one = ticket(world)
    assert world.knock(f"{BARE}/interact/x1?ticket={one}&ticket={one}", None).refusal.status == 400


def test_the_ticket_is_no_right_to_another(world: World) -> None:
    one = ticket(world)
    answer = world.ask(f"{TICKETS}?ticket={one}", [JSON], None, "POST", '{"console": "x1", "mode": "tail"}')
    assert answer.status == 401


def test_a_tenant_that_was_named_stays_named(world: World) -> None:
    wish = {"console": "x1", "mode": "interact"}
    assert ask(world, wish, "oscar", JSON, ("Cray-Tenant-Name", "green")).status == 403
    assert ask(world, wish, "oscar", JSON, ("Cray-Tenant-Name", "blue")).status == 201
    refused = world.knock(f"{BARE}/interact/x1?ticket={world.issued[-1]}", None, [("Cray-Tenant-Name", "green")])
    assert refused.refusal.status == 403


def test_who_loses_the_token_loses_the_ticket(world: World) -> None:
    one = ticket(world)
    (world.directory / "tokens.toml").write_text("")
    world.clock.advance(2)
    assert world.knock(f"{BARE}/interact/x1?ticket={one}", None).refusal.status == 401


@pytest.mark.parametrize(
    ("user", "wish", "status"),
    [
        (None, {"console": "x1", "mode": "interact"}, 401),
        ("vera", {"console": "x1", "mode": "interact"}, 403),
        ("vera", {"console": "x1", "mode": "tail"}, 201),
        ("gina", {"console": "x1", "mode": "tail"}, 403),
        ("oscar", {"console": "x3", "mode": "tail"}, 404),
        ("oscar", {"console": "absent", "mode": "tail"}, 404),
        ("oscar", {"console": "", "mode": "tail"}, 404),
        ("oscar", {"console": "\x1b[2J", "mode": "tail"}, 404),
        ("oscar", {"console": "x1", "mode": "list"}, 400),
        ("oscar", {"console": "x1"}, 400),
        ("oscar", {"console": "x1", "mode": "tail", "more": 1}, 400),
        ("oscar", {"console": 1, "mode": "tail"}, 400),
        ("oscar", ["x1", "tail"], 400),
        ("oscar", "", 400),
        ("oscar", '{"console": "x1", "mode": "tail"', 400),
        ("oscar", '{"console": "\\ud800", "mode": "tail"}', 400),
        ("oscar", '{"console": "' + "x" * 4096 + '", "mode": "tail"}', 413),
        ("oscar", "[" * 4000, 400),
    ],
)
def test_who_gets_one(world: World, user: str | None, wish: Any, status: int) -> None:
    answer = ask(world, wish, user)
    assert answer.status == status, answer.body
    assert "message" in answer.json or status == 201
    assert b"\x1b" not in answer.body


def test_a_stranger_learns_nothing_of_consoles(world: World) -> None:
    answers = [ask(world, {"console": name, "mode": "tail"}, None) for name in ("x1", "x3", "absent", "\x1b", "")]
    assert len({(answer.status, answer.body) for answer in answers}) == 1


@pytest.mark.parametrize(
    "headers",
    [
        [("Content-Type", "text/plain")],
        [("Content-Type", "application/x-www-form-urlencoded")],
        [("Content-Type", "application/json"), ("Content-Type", "text/plain")],
        [("Accept", "*/*")],
    ],
)
def test_what_a_form_can_send_is_refused(world: World, headers: list[tuple[str, str]]) -> None:
    assert ask(world, {"console": "x1", "mode": "tail"}, "oscar", *headers).status == 415


def test_a_page_of_another_site_is_refused(world: World) -> None:
    wish = {"console": "x1", "mode": "tail"}
    assert ask(world, wish, "oscar", JSON, ("Origin", "https://evil.example")).status == 403
    assert not world.issued


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_other_methods(world: World, method: str) -> None:
    answer = world.ask(TICKETS, [], "oscar", method)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/ticket", "/v1/tickets/", "/v1/tickets/x", "/V1/tickets"])
def test_other_paths(world: World, path: str) -> None:
    assert world.ask(path, [JSON], "oscar", "POST", "{}").status == 404


def test_too_many(world: World) -> None:
    for _ in range(EACH):
        ticket(world)
    answer = ask(world, {"console": "x1", "mode": "tail"})
    assert (answer.status, answer.headers["retry-after"]) == (429, "30")


def test_a_gate_that_does_not_answer(empty: World) -> None:
    gate = Deaf()
    world = empty.begin(gate=gate)
    client = world.client()
    client.socket.arrive(
        b"POST /v1/tickets HTTP/1.1\r\nHost: consoled\r\nContent-Type: application/json\r\nContent-Length: 31\r\n\r\n"
        b'{"console":"x1","mode":"tail" }'
    )
    world.clock.advance(5)
    assert b"503" in bytes(client.socket.sent).split(b"\r\n")[0]
    assert gate.cancelled == 1


def test_nothing_shows_the_request_with_its_ticket(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    login = world.gate.login

    def look(knock: Any) -> Any:
        seen.append(repr(knock))
        return login(knock)

    monkeypatch.setattr(world.gate, "login", look)
    one = ticket(world)
    client = world.client()
    client.upgrade(f"{BARE}/interact/x1?ticket={one}")
    assert client.is_open
    session = next(iter(world.sessions.sessions))
    seen += [repr(vars(session)), repr(vars(client.socket.protocol))]
    assert one not in "".join(seen)


def test_nothing_shows_the_request_that_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[Any] = []
    monkeypatch.setattr("consoled.api.csm.refuse_for", lambda request, error: requests.append(request))
    world.client().upgrade(f"{BARE}/interact/x2?ticket={ticket(world)}")
    [request] = requests
    assert "/interact/x2" in repr(request)
    assert "ticket" not in repr(request)
    assert "ticket" not in repr(request.args)


def test_a_token_beside_a_ticket_is_refused(world: World) -> None:
    refused = world.knock(f"{BARE}/interact/x1?ticket={ticket(world)}", None, bearer("oscar"))
    assert refused.refusal.status == 401
