"""Who and what is refused before the upgrade, with which words and in which order (contract 1.3 and 1.4).

Where the originals are wrong (contract, part 4), and the test that shows that consoled is not:

    1  tenant check fails open                 test_csm_tenants: c_tenant_3; here: c_upg_4, an_accident
    2  tenant name unescaped                   test_csm_tenants: c_tenant_6
    3  tenant header optional                  test_csm_tenants: c_tenant_8
    4  group x equals tenant x                 (JWT; a bound token names its tenants: c_tenant_8)
    5  405 without Allow or body               test_csm_routes: c_method_1
    6  unmonitored node: 101, then a drop      here: c_node_3
    7  not UTF-8 in text frames                test_csm_interact: c_int_9, c_int_10; test_frames
    8  stray LF when a client leaves           test_csm_interact: c_int_15; test_session
    9  a 32 KiB message kills the service      test_csm_interact: c_int_22
   10  no close frame at the end               test_csm_interact: c_int_5; test_csm_tail: c_tail_4
   11  bad line count: 101 and a complaint     test_csm_tail: c_tail_7
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.logger import LogEvent

from tests.api.conftest import failures
from tests.api.test_csm_routes import HANDSHAKE, both_bases, both_verbs, is_json_refusal
from tests.api.world import BARE, Anything, Deaf, World, bearer, token


def refused(answer: Any, status: int, message: str) -> bool:
    return is_json_refusal(answer, status) and answer.message == message


# ------------------------------------------------------------------------------------------------------ nodes


@both_bases
@both_verbs
def test_c_node_1_unknown(world: World, base: str, verb: str) -> None:
    assert refused(world.knock(f"{base}/{verb}/x9").refusal, 404, "x9 is not a valid node.")


@both_verbs
def test_c_node_2_unknown_without_upgrade_headers(world: World, verb: str) -> None:
    assert refused(world.ask(f"{BARE}/{verb}/x9", user="oscar"), 404, "x9 is not a valid node.")


@both_verbs
def test_c_node_3_known_and_not_monitored(world: World, verb: str) -> None:
    message = "Node x3 is not currently being monitored"
    assert refused(world.knock(f"{BARE}/{verb}/x3").refusal, 404, message)
    assert refused(world.ask(f"{BARE}/{verb}/x3", user="oscar"), 404, message)


# --------------------------------------------------------------------------------------------------- strangers

CREDENTIALS = [
    [],
    [("Authorization", "")],
    [("Authorization", "Bearer")],
    [("Authorization", "Bearer  ")],
    [("Authorization", "Bearer wrong")],
    [("Authorization", f"Basic {token('ada')}")],
    [("Authorization", token("ada"))],
    [("Authorization", f"Bearer {token('ada')} {token('ada')}")],
    [("Authorization", f"Bearer {token('ada')}x")],
    [("Authorization", f"Bearer {token('ada')[:-1]}")],
    [("Authorization", "Bearer " + "x" * 9000)],
    [("Authorization", f"Bearer {token('ada')}"), ("Authorization", "Bearer wrong")],
    [("Proxy-Authorization", f"Bearer {token('ada')}")],
    [("Authorization", "Bearer \udcff\udcfe")],
]


@both_verbs
@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_c_auth_1_nobody_we_know(world: World, verb: str, credentials: list[tuple[str, str]]) -> None:
    answer = world.ask(f"{BARE}/{verb}/x1", [*HANDSHAKE.items(), *credentials])
    assert refused(answer, 401, "Authentication is required")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert not world.x1.clients


def test_c_auth_1_the_scheme_is_case_insensitive(world: World) -> None:
    assert world.knock(f"{BARE}/interact/x1", None, [("authorization", f"bEARER {token('ada')}")]).is_open


@pytest.mark.parametrize(("user", "verb", "allowed"), [("vera", "tail", True), ("vera", "interact", False)])
def test_c_auth_6_the_role_lacks_the_right(world: World, user: str, verb: str, allowed: bool) -> None:
    client = world.knock(f"{BARE}/{verb}/x1", user)
    if allowed:
        assert client.response.status_code == 101
    else:
        assert refused(client.refusal, 403, "User does not have permission to interact")
        assert world.audited("refused")[-1]["verb"] == "interact"


@both_verbs
@pytest.mark.parametrize("credentials", CREDENTIALS[:6])
def test_c_auth_7_a_stranger_cannot_tell_nodes_apart(
    world: World, verb: str, credentials: list[tuple[str, str]]
) -> None:
    answers = set()
    for node in ("x1", "x2", "x3", "x9", "%2e%2e", "%ff", "a%2Fb"):
        for headers in ([], HANDSHAKE.items()):
            answer = world.ask(f"{BARE}/{verb}/{node}", [*headers, *credentials])
            del answer.headers["date"]
            answers.add(repr(answer))
    assert len(answers) == 1


# ------------------------------------------------------------------------------------------------------- order


@pytest.mark.parametrize(
    ("user", "tenant", "verb", "node", "lines", "status", "message"),
    [
        (None, "-", "interact", "x9", "a", 401, "Authentication is required"),
        ("vera", "-", "interact", "x9", "", 403, "User does not have permission to interact"),
        ("vera", "-", "tail", "x9", "a", 403, "User does not have permission to act for this tenant"),
        ("bob", "green", "tail", "x9", "a", 403, "User does not have permission to act for this tenant"),
        ("bob", "", "tail", "x9", "a", 404, "x9 is not a valid node."),
        ("gina", "", "tail", "x3", "a", 404, "Node x3 is not currently being monitored"),
        ("gina", "", "tail", "x1", "a", 403, "User does not have permission to access x1"),
        ("bob", "", "tail", "x1", "a", 400, "Cray-Console-Lines must be a whole number from 0 to 1000000"),
        ("bob", "", "tail", "x1", "", 400, "This is a WebSocket endpoint: the request must ask for an upgrade"),
        ("bob", "", "interact", "x1", "a", 400, "This is a WebSocket endpoint: the request must ask for an upgrade"),
    ],
)
def test_the_order_of_checks(
    world: World, user: str | None, tenant: str, verb: str, node: str, lines: str, status: int, message: str
) -> None:
    headers = [("Cray-Tenant-Name", tenant), ("Cray-Console-Lines", lines)]
    assert refused(world.ask(f"{BARE}/{verb}/{node}", headers, user), status, message)


# ------------------------------------------------------------------------------------- not now, and not in time


@both_verbs
def test_not_open_yet(empty: World, verb: str) -> None:
    world = empty.begin(opened=False)
    refusal = world.knock(f"{BARE}/{verb}/x1").refusal
    assert refused(refusal, 503, "The console service is starting or stopping; try again later")
    assert int(refusal.headers["retry-after"]) > 0
    assert world.knock(f"{BARE}/{verb}/x1", None).refusal.status == 401
    world.open()
    assert world.knock(f"{BARE}/{verb}/x1").response.status_code == 101


@both_verbs
def test_full(empty: World, verb: str) -> None:
    world = empty.begin(max_clients=1)
    first = world.interact("x2")
    refusal = world.knock(f"{BARE}/{verb}/x1").refusal
    assert refused(refusal, 503, "Too many clients are attached; try again later")
    assert int(refusal.headers["retry-after"]) > 0
    first.socket.hang_up()
    assert world.knock(f"{BARE}/{verb}/x1").response.status_code == 101


@both_verbs
@pytest.mark.parametrize("known", [False, True], ids=["login", "authorise"])
def test_c_upg_4_answered_in_time_although_nobody_can_decide(empty: World, verb: str, known: bool) -> None:
    gate = Deaf(empty.gate if known else None)
    world = empty.begin(gate=gate)
    client = world.knock(f"{BARE}/{verb}/x1")
    world.clock.advance(3.9)
    client.receive()
    assert client.response is None
    world.clock.advance(0.1)
    assert is_json_refusal(client.refusal, 503)
    assert int(client.refusal.headers["retry-after"]) > 0
    assert gate.cancelled == 1
    assert not world.clock.getDelayedCalls() or world.clock.seconds() == 4.0
    assert not world.audited("attached")


@both_verbs
@pytest.mark.parametrize("known", [False, True], ids=["login", "authorise"])
def test_c_upg_4_a_client_leaves_while_it_is_decided(empty: World, verb: str, known: bool) -> None:
    gate = Deaf(empty.gate if known else None)
    world = empty.begin(gate=gate)
    client = world.knock(f"{BARE}/{verb}/x1")
    client.socket.hang_up()
    assert gate.cancelled == 1
    assert not world.clock.getDelayedCalls()
    assert not world.audited("attached")


class Headstrong(Deaf):
    """A gate that says yes when it is cancelled."""

    def _cancel(self, deferred: Deferred[Any]) -> None:
        self.cancelled += 1
        deferred.callback(Anything())


def test_a_gate_that_cannot_be_interrupted(empty: World) -> None:
    world = empty.begin(gate=(gate := Headstrong(empty.gate)))
    client = world.knock(f"{BARE}/interact/x1")
    client.socket.hang_up()
    assert gate.cancelled == 1
    assert not world.x1.clients
    assert not world.audited("attached")


@pytest.mark.parametrize("closes", [False, True])
def test_c_upg_4_the_log_cannot_be_read_in_time(empty: World, closes: bool) -> None:
    world = empty.begin(kept=b"line\r\n" * 50)
    world.x1.transcript.late = True
    client = world.knock(f"{BARE}/tail/x1")
    assert len(world.x1.transcript.waiting) == 1
    if closes:
        world.hub.close()
        world.x1.transcript.answer()
        assert refused(client.refusal, 503, "The console service is starting or stopping; try again later")
    else:
        world.clock.advance(4)
        assert is_json_refusal(client.refusal, 503)
        assert not world.x1.transcript.waiting
    assert not world.x1.clients


class Broken:
    """A gate with a bug."""

    def login(self, knock: Any) -> Deferred[Any]:
        return fail(ZeroDivisionError("the details"))


def test_an_accident_is_a_refusal_without_details(empty: World, log: list[LogEvent]) -> None:
    world = empty.begin(gate=Broken())  # type: ignore[arg-type]
    assert refused(world.knock(f"{BARE}/interact/x1").refusal, 500, "Internal error")
    [trouble] = failures(log)
    assert "ZeroDivisionError" in trouble
    log.clear()


def test_decisions_are_written_down(world: World) -> None:
    world.ask(f"{BARE}/interact/x1", bearer(None))
    world.knock(f"{BARE}/interact/x1", "gina")
    nobody, gina = world.audited("refused")
    assert nobody == {
        "timestamp": "2026-11-21T23:45:01.000Z",
        "action": "refused",
        "remoteAddress": "192.0.2.7",
        "remotePort": 40112,
        "why": "no credentials",
    }
    assert (gina["account"], gina["verb"], gina["machine"]) == ("gina", "interact", "x1")
