"""Looking: lists, pages, one console, its clients, the health."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

import pytest

from consoled import __version__
from consoled.api.census import STATES
from consoled.api.native import shapes
from consoled.core.sources import Asked, HeldBack, SourceState
from consoled.core.status import Closing, Dialing, Held, Off, Parked, Up, Waiting, word
from tests.api.world import World
from tests.fakes import EPOCH

NOW = "2026-11-21T23:45:01Z"


def get(world: World, path: str, user: str | None = "vera", *headers: tuple[str, str]) -> Any:
    return world.ask(f"/v1/{path}", headers, user)


def names(world: World, query: str = "", user: str = "vera", *headers: tuple[str, str]) -> list[str]:
    answer = get(world, f"consoles{query}", user, *headers)
    assert answer.status == 200, answer.body
    return [one["name"] for one in answer.json["consoles"]]


def test_a_console(world: World) -> None:
    world.x1.console.kind = "tcp"
    world.x1.link.note = "at 9600 baud"
    world.x1.says(b"login: ")
    world.joined()
    head = world.x1.console.head
    assert get(world, "consoles/x1").json == {
        "name": "x1",
        "kind": "tcp",
        "address": "<bmc-x1:2001>",
        "state": "up",
        "since": NOW,
        "until": None,
        "why": "",
        "note": "at 9600 baud",
        "start": 0,
        "head": head,
        "received": 7,
        "last_output": NOW,
        "on_demand": False,
        "record_input": False,
        "clients": 1,
        "holder": "",
    }


@pytest.mark.parametrize(
    ("status", "state", "why"),
    [
        (Off(), "off", ""),
        (Parked(EPOCH, "ada@h"), "parked", "parked by ada@h"),
        (Dialing(EPOCH), "dialing", ""),
        (Up(EPOCH), "up", ""),
        (Waiting(EPOCH, "refused"), "waiting", "refused"),
        (Held(EPOCH, "in use"), "held", "in use"),
        (Closing(EPOCH), "closing", ""),
    ],
)
def test_every_state_has_its_word(world: World, status: Any, state: str, why: str) -> None:
    world.x1.link.status = status
    found = get(world, "consoles/x1").json
    assert (found["state"], found["why"]) == (state, why)
    assert names(world, f"?state={state}") == (["x1", "x2"] if state == "up" else ["x1"])
    assert word(status) in get_args(shapes.State)


def test_the_states_are_the_states() -> None:
    assert set(STATES) == set(get_args(shapes.State))


def test_the_list_has_what_may_be_seen(world: World) -> None:
    assert names(world) == ["x1", "x2"]
    assert names(world, user="bob") == ["x1"]
    assert names(world, "?tenant=green") == ["x2"]
    assert names(world, "", "vera", ("Cray-Tenant-Name", "blue")) == ["x1"]
    assert names(world, "?tenant=blue", "both") == ["x1"]
    assert get(world, "consoles?tenant=green", "bob").status == 403
    assert get(world, "consoles?tenant=green", "vera", ("Cray-Tenant-Name", "blue")).status == 403
    assert get(world, "consoles", None).status == 401


def test_the_list_is_filtered(world: World) -> None:
    world.x2.link.status = Waiting(EPOCH + 9, "refused")
    assert names(world, "?names=x[1-3],y7") == ["x1", "x2"]
    assert names(world, "?names=x2") == ["x2"]
    assert names(world, "?state=waiting,held") == ["x2"]
    assert names(world, "?names=y7") == []
    assert names(world, "?names=x1!x1") == []


def test_pages(world: World) -> None:
    first = get(world, "consoles?limit=1").json
    assert [one["name"] for one in first["consoles"]] == ["x1"]
    second = get(world, f"consoles?limit=1&after={first['next']}").json
    assert [one["name"] for one in second["consoles"]] == ["x2"]
    assert second["next"] is None
    assert get(world, "consoles?after=x2").json == {"consoles": [], "next": None}


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=many",
        "limit=1&limit=2",
        "lines=3",
        "names=x[1-",
        "names=x[1-20001]",
        "names=%40rack",
        "names=%1b[2J",
        "state=sleeping",
        "names=%ff",
        "%ff=1",
        "state=%00",
    ],
)
def test_what_is_not_understood(world: World, query: str) -> None:
    answer = get(world, f"consoles?{query}")
    assert answer.status == 400
    assert answer.message.isprintable()


@pytest.mark.parametrize(
    ("name", "user", "status"),
    [("x3", "vera", 404), ("absent", "vera", 404), ("%1b", "vera", 404), ("x2", "bob", 403), ("x1", None, 401)],
)
def test_who_sees_it(world: World, name: str, user: str | None, status: int) -> None:
    for path in (f"consoles/{name}", f"consoles/{name}/clients"):
        assert get(world, path, user).status == status


def test_a_foreign_console_may_be_hidden(empty: World) -> None:
    world = empty.begin(settings={"hide_forbidden": True})
    hidden, absent = get(world, "consoles/x2", "bob"), get(world, "consoles/x9", "bob")
    assert (hidden.status, absent.status) == (404, 404)
    assert hidden.message.replace("x2", "x9") == absent.message


def test_a_bad_query_is_no_oracle(world: World) -> None:
    assert get(world, "consoles/x2/transcript?lines=no", "bob").status == 403
    assert get(world, "consoles/x1/transcript?lines=no", None).status == 401


def test_clients(world: World) -> None:
    world.joined()
    world.clock.advance(5)
    follower = world.tail(follow=True)
    first, second = get(world, "consoles/x1/clients").json["clients"]
    assert (first["id"], first["user"], first["host"], first["face"]) == (1, "oscar", "192.0.2.7", "csm")
    assert (first["mode"], first["typing"], first["since"]) == ("interact", True, NOW)
    assert (second["id"], second["mode"], second["typing"], second["behind"]) == (2, "tail", False, 0)
    assert second["bytes_out"] == len(follower.text())
    assert get(world, "consoles/x1").json["clients"] == 2


def test_a_client_that_is_behind(world: World) -> None:
    client = world.tail(follow=True)
    client.text()
    client.socket.stop_reading()
    for _ in range(8):
        world.x1.says(b"x" * 200_000)
    [found] = get(world, "consoles/x1/clients").json["clients"]
    assert found["behind"] > 0
    assert found["offset"] + found["behind"] == world.x1.console.head


def test_health(world: World) -> None:
    world.clock.advance(60)
    world.x2.link.status = Waiting(EPOCH + 70, "connection refused")
    world.trouble = "the disk is full"
    world.x1.transcript.trouble = "No space left on device"
    assert get(world, "health", None).json == {"status": "degraded", "time": "2026-11-21T23:46:01Z"}
    assert get(world, "health").json == {
        "status": "degraded",
        "time": "2026-11-21T23:46:01Z",
        "trouble": "the disk is full",
        "version": __version__,
        "up_since": NOW,
        "consoles": 2,
        "states": {"up": 1, "waiting": 1},
        "clients": 0,
        "unwritten": ["x1"],
        "down": [{"console": "x2", "state": "waiting", "why": "connection refused"}],
    }
    assert get(world, "health", "bob").json["consoles"] == 1
    assert get(world, "health", "nobody").status == 401


def test_sources(world: World) -> None:
    lost = tuple(f"n{number:03}" for number in range(70))
    cmdb = SourceState("cmdb", "command", 100, 2, ("entry 3: no",), "70 are missing", 0, None, Asked(7, good_at=EPOCH))
    asked = Asked(9, Counter(timeout=3))
    hsm = SourceState("hsm", "csm", 0, 0, (), "it is down", 3, HeldBack(EPOCH, lost, 100), asked)
    assert get(world, "sources", "ada").json == {"sources": []}
    world.sources = [cmdb, hsm]
    first, second = get(world, "sources", "ada").json["sources"]
    assert first == {
        "name": "cmdb",
        "kind": "command",
        "consoles": 100,
        "left_out": 2,
        "complaints": ["entry 3: no"],
        "why": "70 are missing",
        "failures": 0,
        "asked": 7,
        "answered": NOW,
        "held_back": None,
    }
    assert (second["answered"], second["failures"]) == (None, 3)
    assert second["held_back"] == {"since": NOW, "would_remove": 70, "of": 100, "some": list(lost[:20])}
    assert [get(world, "sources", user).status for user in ("vera", "oscar", "bob", None)] == [403, 403, 403, 401]


def test_probes(empty: World) -> None:
    world = empty.begin(opened=False)
    csm = "/console-operator/"
    assert get(world, "liveness", None).status == world.ask(f"{csm}liveness").status == 204
    assert get(world, "readiness", None).status == world.ask(f"{csm}readiness").status == 503
    world.open()
    assert get(world, "readiness", None).status == world.ask(f"{csm}readiness").status == 204
    world.unready = "The directory of the transcripts cannot be written to"
    answers = get(world, "readiness", None), world.ask(f"{csm}readiness")
    assert {(answer.status, answer.message) for answer in answers} == {(503, world.unready)}


def test_version(world: World) -> None:
    assert get(world, "version").json == {"version": __version__, "api": "v1"}
    assert get(world, "version", None).status == 401


@pytest.mark.parametrize("path", ["consoles/", "consoles//clients", "consoles/x1/", "consoles/x1/keys", "", "health/x"])
def test_there_is_nothing_else(world: World, path: str) -> None:
    assert get(world, path).status == 404


def test_other_methods(world: World) -> None:
    answer = world.ask("/v1/consoles/x1/clients", (), "ada", "DELETE")
    assert (answer.status, answer.headers["allow"]) == (405, "GET")
