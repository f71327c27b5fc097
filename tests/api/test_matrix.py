"""Every role by every way in, at every console, for every tenant, against the tables of the documentation.

A new way in is one line in `WAYS` and one in `docs/security.md`; a new verb is one column in `docs/operations.md`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from consoled.auth.consoles import Consoles
from consoled.auth.gate import Gate
from consoled.auth.roles import ROLES, Role
from consoled.auth.tenants import TenantTable
from consoled.auth.tokens import TokensFile
from consoled.core.access import Verb
from consoled.core.status import Waiting
from tests.api.wire import Answer, Client, Headers
from tests.api.world import ACME, BARE, MACHINES, TENANTS, World, bearer, entry

DOCS = Path(__file__).parents[2] / "docs"


def table(page: str, head: str) -> list[list[str]]:
    """The rows of the table of `page` whose first line begins with `head`."""
    lines = (DOCS / page).read_text().splitlines()
    begin = next(at for at, line in enumerate(lines) if line.startswith(head))
    rows = []
    for line in [lines[begin], *lines[begin + 2 :]]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


# ---------------------------------------------------------------------------------------------- what is documented

VERBS, *_rows = table("operations.md", "| role | list |")
VERBS = VERBS[1:]
DOCUMENTED = {role: {verb for verb, cell in zip(VERBS, cells, strict=True) if cell == "yes"} for role, *cells in _rows}
"""The verbs of each role that is there without being configured."""
NEEDED = {way.replace("`", ""): verb for way, verb in table("security.md", "| way in |")[1:]}
"""The verb that each way in takes."""


def test_the_documented_roles_are_the_roles() -> None:
    assert set(VERBS) == set(get_args(Verb))
    assert {name: role.verbs for name, role in ROLES.items()} == DOCUMENTED


def test_every_way_in_is_documented_and_walked() -> None:
    assert set(NEEDED) == set(WAYS)
    assert set(NEEDED.values()) <= set(VERBS)


def test_every_verb_has_a_way_in() -> None:
    assert set(VERBS) == set(NEEDED.values())


def test_every_route_of_v1_is_documented(empty: World) -> None:
    """With its verb, or as one that is for everybody, or as one that is for no console."""
    text = (DOCS / "security.md").read_text()
    for route in empty.begin().native.routes:
        name = f"{route.method} {route.path}"
        ways = {verb for way, verb in NEEDED.items() if way.partition(",")[0] == name}
        assert route.verb in ways or (not ways and f"`{name}`" in text), name


# ---------------------------------------------------------------------------------------------- who tries

WHERE = {"everywhere": "@*", "x1 only": "x1", "all but x1": "@*!x1", "blue's": "@tenant:blue", "the group": "@rack"}
"""The consoles that the roles of the test are for, and what that is, of x1 and x2, spelled out:"""
ARE = {"everywhere": "x1 x2", "x1 only": "x1", "all but x1": "x2", "blue's": "x1", "the group": "x2"}
GROUPS = {"rack": frozenset({"x2"})}

STANDS_FOR = {"nobody": "x1 x2", "blue": "x1", "green": "x2", "both": "x1 x2", "blue by header": "x1", "no tenant": ""}
"""For which tenants somebody stands, and whose nodes these are."""
BOUND = {"blue": ["blue"], "green": ["green"], "both": ["blue", "green"], "no tenant": []}


@dataclass(frozen=True)
class Somebody:
    """One user: some verbs on some consoles, for some tenants."""

    name: str
    roles: tuple[str, ...]
    grants: tuple[tuple[frozenset[str], str], ...]
    """For each role its verbs and its consoles, as they are documented or spelled out above."""
    stands_for: str

    def may(self, verb: str, console: str) -> bool:
        """What the documentation says."""
        granted = any(verb in verbs and console in where.split() for verbs, where in self.grants)
        return granted and console in STANDS_FOR[self.stands_for].split()

    def may_at_all(self, verb: str) -> bool:
        return any(verb in verbs for verbs, _ in self.grants)

    @property
    def headers(self) -> list[tuple[str, str]]:
        named = [("Cray-Tenant-Name", "blue")] if self.stands_for == "blue by header" else []
        return [*bearer(self.name), *named]


def own_roles() -> Iterator[tuple[str, frozenset[Verb], str]]:
    """Roles that a site might make: each verb alone, and each that is of use in a session only with that session."""
    for verb in get_args(Verb):
        for at, where in enumerate(WHERE):
            yield f"{verb}-{at}", frozenset({verb}), where
            yield f"typing-{verb}-{at}", frozenset({"interact", verb}), where


OWN = {name: (verbs, where) for name, verbs, where in own_roles()}


def everybody() -> Iterator[Somebody]:
    mixed = [("viewer", "typing-take-1"), ("tail-2", "interact-1"), ("admin", "viewer")]
    for at, names in enumerate([*((name,) for name in [*ROLES, *OWN]), *mixed]):
        grants = tuple(
            (frozenset(DOCUMENTED[name]), "x1 x2") if name in ROLES else (OWN[name][0], ARE[OWN[name][1]])
            for name in names
        )
        # Tenants cut across everything else: all of them for the roles that say the most, one for each other.
        built_in = names[0] in ROLES or len(names) > 1
        for stands_for in STANDS_FOR if built_in else [list(STANDS_FOR)[at % len(STANDS_FOR)]]:
            yield Somebody(f"{at}.{stands_for.replace(' ', '-')}", names, grants, stands_for)


EVERYBODY = list(everybody())


@pytest.fixture
def world(empty: World) -> World:
    """A world in which they all have tokens."""
    tokens = empty.directory / "everybody.toml"
    victim = entry("oscar", "operator", None)
    tokens.write_text(
        victim + "".join(entry(one.name, list(one.roles), BOUND.get(one.stands_for)) for one in EVERYBODY)
    )
    roles = {
        **ROLES,
        **{name: Role(verbs, Consoles.parse(WHERE[where], GROUPS)) for name, (verbs, where) in OWN.items()},
    }
    checkers = [TokensFile(tokens, roles, empty.clock), empty.tickets]
    gate = Gate(checkers, roles, TenantTable(TENANTS), empty.audit, empty.now)
    return empty.begin(gate=gate, max_clients=10)


# ---------------------------------------------------------------------------------------------- the ways in

Way = Callable[[World, Somebody, str], bool]
"""Whether somebody gets in at a console; it leaves nobody attached."""


def said_no(answer: Answer) -> bool:
    """A refusal, and the right one: nothing else may be the reason."""
    assert answer.status == 403, answer
    assert answer.message.startswith("User does not have permission to "), answer
    return False


def opens(client: Client) -> bool:
    assert client.response is not None
    opened = client.response.status_code == 101 or said_no(client.refusal)
    client.socket.hang_up()
    return opened


def ask(world: World, path: str, headers: Headers, method: str = "GET", body: str = "") -> Answer:
    """A plain request, over a connection of its own that is gone afterwards."""
    client = world.client()
    answer = client.request(path, headers, method, body)
    client.socket.hang_up()
    assert answer is not None
    return answer


def upgrade(verb: str) -> Way:
    def way(world: World, who: Somebody, console: str) -> bool:
        client = world.client()
        client.upgrade(f"{BARE}/{verb}/{console}", [*who.headers, ("Cray-Console-Follow", "True")])
        return opens(client)

    return way


def console_of_a_machine(query: str) -> Way:
    def way(world: World, who: Somebody, console: str) -> bool:
        client = world.client()
        client.upgrade(f"/{ACME}/machines/{MACHINES[console]}/console{query}", who.headers)
        assert client.response is not None
        opened = client.response.status_code == 101
        # A machine that is out of a tenant's reach is not there.
        assert opened or (client.refusal.status, client.refusal.json["code"]) in CLOUDAPIS_NO, client.refusal
        client.socket.hang_up()
        return opened

    return way


CLOUDAPIS_NO = [(403, "NotAuthorized"), (404, "ResourceNotFound")]


def escape(keys: str, did: Callable[[World, str, str], bool]) -> Way:
    def way(world: World, who: Somebody, console: str) -> bool:
        client = world.client()
        client.upgrade(f"{BARE}/interact/{console}", who.headers)
        if client.response is None or client.response.status_code != 101:
            opens(client)
            return False  # one has to be in to type it
        client.news()
        world.nodes[console].link.asked.clear()
        world.nodes[console].resets.clear()
        client.send(keys)
        answer = client.news()
        happened = did(world, console, answer)
        assert happened != ("User does not have permission to " in answer), answer
        client.socket.hang_up()
        return happened

    return way


def in_detail(world: World, who: Somebody, console: str) -> bool:
    answer = ask(world, f"{BARE}/health", who.headers)
    if answer.status != 200:
        return said_no(answer)
    # The two consoles are told apart by their states.
    return {"x1": "links_up", "x2": "links_waiting"}[console] in answer.json


def issue(world: World, who: Somebody, console: str, mode: str) -> Answer:
    body = json.dumps({"console": console, "mode": mode})
    headers = [*who.headers, ("Content-Type", "application/json")]
    return ask(world, "/v1/tickets", headers, "POST", body)


def ask_for_ticket(mode: str) -> Way:
    def way(world: World, who: Somebody, console: str) -> bool:
        answer = issue(world, who, console, mode)
        world.clock.advance(31)  # nobody may have too many that are not used
        return answer.status == 201 or said_no(answer)

    return way


def use_ticket(mode: str) -> Way:
    def way(world: World, who: Somebody, console: str) -> bool:
        answer = issue(world, who, console, mode)
        if answer.status != 201:
            return said_no(answer)
        other = {"x1": "x2", "x2": "x1"}[console]
        client = world.client()
        client.upgrade(f"{BARE}/{mode}/{other}?ticket={answer.json['ticket']}")
        assert not opens(client), "a ticket opens one console"
        client = world.client()
        client.upgrade(f"{BARE}/{mode}/{console}?ticket={issue(world, who, console, mode).json['ticket']}")
        return opens(client)

    return way


def v1(verb: str, path: str, body: Any = None) -> Way:
    """A request of `/v1`; the first client of the console is somebody who may be thrown out."""

    def way(world: World, who: Somebody, console: str) -> bool:
        victim = world.interact(console, "oscar")
        [attachment] = world.nodes[console].clients
        text = "" if body is None else json.dumps(body)
        headers = [*who.headers, *([("Content-Type", "application/json")] if text else [])]
        full = "/v1/" + path.format(name=console, id=attachment.number)
        answer = ask(world, full, headers, verb, text)
        victim.socket.hang_up()
        return answer.status in (200, 204) or said_no(answer)

    return way


def v1_list(world: World, who: Somebody, console: str) -> bool:
    answer = ask(world, "/v1/consoles", who.headers)
    if answer.status != 200:
        return said_no(answer)
    return console in [one["name"] for one in answer.json["consoles"]]


def v1_broadcast(world: World, who: Somebody, console: str) -> bool:
    headers = [*who.headers, ("Content-Type", "application/json")]
    answer = ask(world, "/v1/broadcast", headers, "POST", json.dumps({"names": console, "line": "x"}))
    if answer.status != 200:
        return said_no(answer)
    [result] = answer.json["results"]
    assert result["sent"] == (b"x\r" in world.nodes[console].heard)
    world.nodes[console].link.written.clear()
    return bool(result["sent"])


def v1_stream(mode: str) -> Way:
    def way(world: World, who: Somebody, console: str) -> bool:
        client = world.client()
        client.upgrade(f"/v1/consoles/{console}/stream?mode={mode}", who.headers)
        return opens(client)

    return way


def v1_command(command: str, did: Callable[[World, str], bool]) -> Way:
    def way(world: World, who: Somebody, console: str) -> bool:
        client = world.client()
        client.upgrade(f"/v1/consoles/{console}/stream?mode=interact", who.headers)
        if client.response is None or client.response.status_code != 101:
            opens(client)
            return False  # one has to be in to say it
        client.receive()
        world.nodes[console].link.asked.clear()
        client.send(json.dumps({"type": "watch"}), json.dumps({"type": command}))
        answer = "".join(str(message) for message in client.receive())
        happened = did(world, console)
        client.socket.hang_up()
        assert happened != ("User does not have permission to " in answer), answer
        return happened

    return way


def was_reset(world: World, console: str, _: str) -> bool:
    resets = world.nodes[console].resets
    for reset in resets:
        reset.callback("succeeded")  # one runs at a time
    return bool(resets)


WAYS: dict[str, Way] = {
    "GET tail/{node}": upgrade("tail"),
    "GET interact/{node}": upgrade("interact"),
    "GET /:account/machines/:machine/console?mode=tail": console_of_a_machine("?mode=tail"),
    "GET /:account/machines/:machine/console": console_of_a_machine(""),
    "&F in a session": escape("&F", lambda world, console, _: world.nodes[console].console.keyboard.holder is not None),
    "&J in a session": escape("&J", lambda world, console, answer: "Connected R/W" in answer),
    "&B in a session": escape("&B", lambda world, console, _: "break" in world.nodes[console].link.asked),
    "&R in a session": escape("&R", was_reset),
    "GET health, in detail": in_detail,
    "POST /v1/tickets, mode tail": ask_for_ticket("tail"),
    "POST /v1/tickets, mode interact": ask_for_ticket("interact"),
    "GET tail/{node}?ticket=": use_ticket("tail"),
    "GET interact/{node}?ticket=": use_ticket("interact"),
    "GET /v1/consoles": v1_list,
    "GET /v1/consoles/{name}": v1("GET", "consoles/{name}"),
    "GET /v1/consoles/{name}/clients": v1("GET", "consoles/{name}/clients"),
    "DELETE /v1/consoles/{name}/clients/{id}": v1("DELETE", "consoles/{name}/clients/{id}"),
    "POST /v1/consoles/{name}/link": v1("POST", "consoles/{name}/link", {"action": "release"}),
    "POST /v1/consoles/{name}/break": v1("POST", "consoles/{name}/break"),
    "POST /v1/consoles/{name}/note": v1("POST", "consoles/{name}/note", {"text": "x"}),
    "GET /v1/consoles/{name}/transcript": v1("GET", "consoles/{name}/transcript"),
    "GET /v1/consoles/{name}/stream, mode tail": v1_stream("tail"),
    "GET /v1/consoles/{name}/stream, mode interact": v1_stream("interact"),
    "take in a session of /v1": v1_command(
        "take", lambda world, console: world.nodes[console].console.keyboard.holder is not None
    ),
    "join in a session of /v1": v1_command(
        "join", lambda world, console: any(one.typing for one in world.nodes[console].clients)
    ),
    "POST /v1/broadcast": v1_broadcast,
}


@pytest.mark.parametrize("name", WAYS)
def test_the_matrix(world: World, name: str) -> None:
    way, verb = WAYS[name], NEEDED[name]
    world.x2.link.status = Waiting(world.now(), "for the health page")
    wrong = []
    answers = set()
    for who in EVERYBODY:
        for console in ("x1", "x2"):
            expected = who.may(verb, console) and (" in a session" not in name or who.may("interact", console))
            found = way(world, who, console)
            answers.add(found)
            if found != expected:
                wrong.append(f"{who.name} as {', '.join(who.roles)} at {console}: {found}")
    assert not wrong
    assert answers == {True, False}
