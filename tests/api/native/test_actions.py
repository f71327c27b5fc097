"""Acting: kick, link, break, note, broadcast, reload."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from consoled.core.changes import Changes
from consoled.core.faults import LinkDown, NoBreak, NodeNotReading, NotReloaded
from consoled.core.status import Waiting
from tests.api.world import World
from tests.fakes import EPOCH

JSON = ("Content-Type", "application/json")


def do(world: World, path: str, body: Any = None, user: str | None = "ada", method: str = "POST") -> Any:
    text = "" if body is None else json.dumps(body)
    return world.ask(f"/v1/{path}", [JSON] if text else [], user, method, text)


def said(world: World, name: str = "x1") -> str:
    """The console's transcript."""
    return bytes(world.nodes[name].transcript.everything).decode()


def test_a_kick(world: World) -> None:
    victim, other = world.joined(), world.joined(user="olga")
    assert do(world, "consoles/x1/clients/1", method="DELETE").status == 204
    assert "terminated by server (Kicked by ada@192.0.2.7)" in victim.news()
    assert victim.close_code == 1008
    assert other.is_open
    [record] = world.audited("kick")
    assert (record["account"], record["machine"], record["client"]) == ("ada", "x1", "oscar@192.0.2.7")


@pytest.mark.parametrize("number", ["0", "2", "-1", "one", "%ff", "1" * 30, "%D9%A1"])
def test_a_kick_of_nobody(world: World, number: str) -> None:
    world.joined()
    assert do(world, f"consoles/x1/clients/{number}", method="DELETE").status == 404
    assert not world.audited("kick")


def test_a_number_is_given_once(world: World) -> None:
    world.joined().socket.hang_up()
    world.joined()
    assert do(world, "consoles/x1/clients/1", method="DELETE").status == 404
    assert do(world, "consoles/x1/clients/2", method="DELETE").status == 204


def test_dial_now(world: World) -> None:
    world.x1.link.status = Waiting(EPOCH + 50, "refused")
    answer = do(world, "consoles/x1/link", {"action": "now"})
    assert (answer.status, answer.json["name"]) == (200, "x1")
    assert world.x1.link.asked == ["open", "dial_now"]
    assert world.audited("dial-now")


def test_parked_and_released(world: World) -> None:
    answer = do(world, "consoles/x1/link", {"action": "hold"})
    assert (answer.json["state"], answer.json["why"]) == ("parked", "parked by ada@192.0.2.7")
    refused = do(world, "consoles/x1/link", {"action": "now"})
    assert (refused.status, refused.message) == (409, "Console [x1] is parked; release it first")
    assert do(world, "consoles/x1/link", {"action": "release"}).json["state"] == "off"
    assert world.x1.link.asked == ["open", "park", "release"]
    assert "parked by <ada@192.0.2.7> at" in said(world)
    assert "released by <ada@192.0.2.7> at" in said(world)
    assert [record["action"] for record in world.records if record["action"] in ("park", "release")] == [
        "park",
        "release",
    ]


def test_a_break(world: World) -> None:
    assert do(world, "consoles/x1/break", user="oscar").status == 204
    assert world.x1.link.asked == ["open", "break"]
    assert "break sent by <oscar@192.0.2.7> at" in said(world)
    [record] = world.audited("break")
    assert (record["account"], record["machine"]) == ("oscar", "x1")


@pytest.mark.parametrize("refusal", [LinkDown("x1"), NoBreak("x1")])
def test_a_break_that_cannot_be(world: World, refusal: Exception) -> None:
    world.x1.link.refusal = refusal
    answer = do(world, "consoles/x1/break")
    assert (answer.status, answer.message) == (409, str(refusal))
    assert not world.audited("break")


def test_whoever_holds_the_keyboard_is_not_disturbed(world: World) -> None:
    holder = world.joined()
    holder.send("&F")
    assert do(world, "consoles/x1/break", user="olga").message == "The keyboard is held by oscar@192.0.2.7"
    answer = do(world, "broadcast", {"names": "x[1-2]", "line": "w"})
    assert [result["sent"] for result in answer.json["results"]] == [False, True]
    assert world.x1.heard == b""
    assert "break" not in world.x1.link.asked


def test_a_note(world: World) -> None:
    watcher = world.tail(follow=True)
    assert do(world, "consoles/x1/note", {"text": "fan 3 replaced, \u00fc"}, "oscar").status == 204
    line = "<ConMan> Console [x1] note by <oscar@192.0.2.7>: fan 3 replaced, \u00fc at 2026-11-21 23:45:01 UTC.\r\n"
    assert watcher.text().endswith(line)
    assert world.x1.transcript.marks.run(world.x1.console.head - 1, 1) == (1, True)
    [record] = world.audited("note")
    assert record["text"] == "fan 3 replaced, \u00fc"


@pytest.mark.parametrize("text", ["", "x" * 201, "a\nb", "\x1b[2J", "\u202e", "tab\t", None, 7])
def test_a_note_that_is_none(world: World, text: Any) -> None:
    before = said(world)
    assert do(world, "consoles/x1/note", {"text": text}).status == 400
    assert said(world) == before


@pytest.mark.parametrize(("end", "keys"), [("cr", b"\r"), ("lf", b"\n"), ("crlf", b"\r\n"), ("none", b"")])
def test_a_broadcast(world: World, end: str, keys: bytes) -> None:
    answer = do(world, "broadcast", {"names": "x[1-4]", "line": "secret-canary", "end": end})
    assert answer.json == {
        "sent": 2,
        "failed": 2,
        "results": [
            {"console": "x1", "sent": True, "message": ""},
            {"console": "x2", "sent": True, "message": ""},
            {"console": "x3", "sent": False, "message": "Node x3 is not currently being monitored"},
            {"console": "x4", "sent": False, "message": "x4 is not a valid node."},
        ],
    }
    assert world.x1.heard == world.x2.heard == b"secret-canary" + keys
    assert "broadcast by <ada@192.0.2.7> at" in said(world)
    [record] = world.audited("broadcast")
    assert (record["names"], record["sent"], record["failed"]) == ("x[1-4]", 2, 2)


def test_a_broadcast_says_for_each_why_not(world: World) -> None:
    world.x1.link.refusal = NodeNotReading("x1")
    results = do(world, "broadcast", {"names": "x[1-2]", "line": "x"}).json["results"]
    assert results[0]["message"] == str(NodeNotReading("x1"))
    assert results[1]["sent"]


@pytest.mark.parametrize(
    "wish",
    [
        {"names": "", "line": "x"},
        {"names": "x[", "line": "x"},
        {"names": "x[1-20001]", "line": "x"},
        {"names": "x1", "line": "x" * 1025},
        {"names": "x1", "line": "", "end": "none"},
        {"names": "x1", "line": "x", "end": "tab"},
        {"names": "x1", "line": "x", "more": 1},
        {"line": "x"},
        ["x1"],
    ],
)
def test_a_broadcast_that_is_none(world: World, wish: Any) -> None:
    assert do(world, "broadcast", wish).status == 400
    assert not world.x1.heard
    assert not world.audited("broadcast")


def test_a_broadcast_to_many_takes_turns(world: World) -> None:
    client = world.client()
    head = "POST /v1/broadcast HTTP/1.1\r\nHost: consoled\r\nContent-Type: application/json\r\n"
    body = json.dumps({"names": "x1,y[1-250]", "line": "x"})
    token = "Authorization: Bearer canary-ada-4711\r\n"
    client.socket.arrive(f"{head}{token}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    assert client.answer() is None
    assert world.x1.heard == b"x\r"
    client.socket.hang_up()
    world.clock.advance(0)
    [record] = world.audited("broadcast")
    assert (record["sent"], record["failed"], record["asked"]) == (1, 99, 251)


def test_a_reload(world: World) -> None:
    waiting: Deferred[Changes] = Deferred()
    asked: list[Any] = []

    def reload(by: Any, confirm: tuple[str, ...]) -> Deferred[Changes]:
        asked.append((by.name, confirm))
        return waiting

    world.reload = reload
    world.begin()
    client = world.client()
    client.socket.arrive(b"POST /v1/reload HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer canary-ada-4711\r\n\r\n")
    world.clock.advance(30)
    assert client.answer() is None, "it may take long"
    waiting.callback(Changes(added=("x9",)))
    answer = client.answer()
    assert answer is not None
    assert (answer.status, answer.json["added"], asked) == (200, ["x9"], [("ada", ())])


def test_a_reload_that_fails(world: World) -> None:
    world.reload = lambda by, confirm: fail(NotReloaded("consoled.toml: csm.max_lines: expected int"))
    world.begin()
    answer = do(world, "reload")
    assert (answer.status, answer.message) == (422, "consoled.toml: csm.max_lines: expected int")


@pytest.mark.parametrize(
    ("query", "confirm"),
    [
        ("", ()),
        ("?confirm=", ()),
        ("?confirm=cmdb", ("cmdb",)),
        ("?confirm=net-box,cmdb,,cmdb", ("cmdb", "net-box")),
    ],
)
def test_a_reload_that_confirms(world: World, query: str, confirm: tuple[str, ...]) -> None:
    asked: list[Any] = []

    def reload(by: Any, confirm: tuple[str, ...]) -> Deferred[Changes]:
        asked.append(confirm)
        return succeed(Changes(removed=("x9",), held_back=("netbox",)))

    world.reload = reload
    world.begin()
    answer = do(world, f"reload{query}")
    assert (answer.status, answer.json["held_back"], asked) == (200, ["netbox"], [confirm])


@pytest.mark.parametrize(
    "query", ["confirm=a&confirm=b", "confirm=%1b", "confirm=a%20b", "sources=cmdb", "confirm=%ff"]
)
def test_a_confirmation_that_is_not_understood_reloads_nothing(world: World, query: str) -> None:
    world.reload = lambda by, confirm: pytest.fail("it was reloaded")
    world.begin()
    answer = do(world, f"reload?{query}")
    assert answer.status == 400
    assert answer.message.isprintable()
    assert do(world, f"reload?{query}", user="oscar").status == 403, "the gate comes first"


def test_there_is_nothing_to_confirm(world: World) -> None:
    world.reload = lambda by, confirm: fail(NotReloaded("nothing is held back of source cmdb"))
    world.begin()
    answer = do(world, "reload?confirm=cmdb")
    assert (answer.status, answer.message) == (422, "nothing is held back of source cmdb")


def test_who_leaves_does_not_stop_a_reload(world: World) -> None:
    waiting: Deferred[Changes] = Deferred()
    world.reload = lambda by, confirm: waiting
    world.begin()
    client = world.client()
    client.socket.arrive(b"POST /v1/reload HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer canary-ada-4711\r\n\r\n")
    client.socket.hang_up()
    assert not waiting.called
    waiting.callback(Changes())


@pytest.mark.parametrize(
    ("path", "body", "method", "users"),
    [
        ("consoles/x1/clients/1", None, "DELETE", {"ada": 404}),
        ("consoles/x1/link", {"action": "release"}, "POST", {"ada": 200}),
        ("consoles/x1/break", None, "POST", {"ada": 204, "oscar": 204, "bob": 204}),
        ("consoles/x1/note", {"text": "x"}, "POST", {"ada": 204, "oscar": 204, "bob": 204}),
        ("broadcast", {"names": "x1", "line": "x"}, "POST", {"ada": 200}),
        ("reload", None, "POST", {"ada": 200}),
        ("reload?confirm=cmdb", None, "POST", {"ada": 200}),
        ("sources", None, "GET", {"ada": 200}),
    ],
)
def test_who_may(world: World, path: str, body: Any, method: str, users: dict[str, int]) -> None:
    world.reload = lambda by, confirm: succeed(Changes())
    world.begin()
    for user in ("ada", "oscar", "vera", "bob", "gina", "lost"):
        assert do(world, path, body, user, method).status == users.get(user, 403), user
    assert do(world, path, body, None, method).status == 401


@pytest.mark.parametrize("path", ["consoles/x1/note", "consoles/x1/link", "broadcast"])
def test_bodies(world: World, path: str) -> None:
    assert world.ask(f"/v1/{path}", [("Content-Type", "text/plain")], "ada", "POST", "{}").status == 415
    assert world.ask(f"/v1/{path}", [JSON], "ada", "POST", "{").status == 400
    assert world.ask(f"/v1/{path}", [JSON], "ada", "POST", '"' + "x" * 65536).status == 413
    assert world.ask(f"/v1/{path}", [JSON], "ada", "POST", '{"text": "' + "[" * 3000).status == 400
