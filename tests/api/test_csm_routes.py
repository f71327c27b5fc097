"""Paths, methods, the opening handshake and the probes of the CSM face (contract 1.1, 1.2, 1.3 and 1.9)."""

from __future__ import annotations

import pytest
from twisted.internet.address import UNIXAddress
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from consoled.core.status import Waiting
from tests.api.wire import Answer
from tests.api.world import BARE, PUBLIC, World, bearer
from tests.fakes import EPOCH

both_bases = pytest.mark.parametrize("base", [PUBLIC, BARE])
both_verbs = pytest.mark.parametrize("verb", ["interact", "tail"])

HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


def is_json_refusal(answer: Answer, status: int) -> bool:
    """The one shape of every refusal."""
    return (
        answer.status == status
        and answer.headers["content-type"] == "application/json"
        and answer.headers["content-length"] == str(len(answer.body))
        and isinstance(answer.json, dict)
        and isinstance(answer.message, str)
        and answer.message != ""
    )


# ------------------------------------------------------------------------------------------------- addresses


@both_verbs
def test_c_route_1_the_full_public_prefix(world: World, verb: str) -> None:
    assert world.knock(f"{PUBLIC}/{verb}/x1").response.status_code == 101


@both_verbs
def test_c_route_2_behind_the_gateway(world: World, verb: str) -> None:
    assert world.knock(f"{BARE}/{verb}/x1").response.status_code == 101


def test_c_route_2_the_prefix_is_configurable(empty: World) -> None:
    world = empty.begin(settings={"base_path": "/consoles/v1/"})
    assert world.knock("/consoles/v1/interact/x1").is_open
    assert world.knock(f"{BARE}/interact/x1").is_open
    assert world.knock(f"{PUBLIC}/interact/x1").refusal.status == 404


@both_bases
def test_c_route_2_a_doubled_leading_slash(world: World, base: str) -> None:
    assert world.knock(f"/{base}/interact/x1").is_open


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/interact/x1",
        BARE,
        f"{BARE}/",
        f"{BARE}/interact",
        f"{BARE}/interact/",
        f"{BARE}/tail/",
        f"{BARE}/interact/x1/",
        f"{BARE}/interact/x1/more",
        f"{BARE}//interact/x1",
        f"{BARE}/interact//x1",
        f"{BARE}/Interact/x1",
        f"{BARE}/interact%2Fx1",
        f"{BARE}/liveness/",
        f"{BARE}/clearData",
        f"{PUBLIC}{BARE}/interact/x1",
        "/apis/console-operator/interact/x1",
    ],
)
def test_c_route_3_anything_else_is_404(world: World, path: str) -> None:
    for refusal in (world.ask(path, user="ada"), world.ask(path), world.knock(path).refusal):
        assert is_json_refusal(refusal, 404)


@both_verbs
@pytest.mark.parametrize(
    "segment",
    [
        "%2F",
        "x1%2F",
        "x2%2F..%2Fx1",
        "%2e%2e",
        "..",
        ".",
        "x1%00",
        "%00",
        "%ff",
        "x1%0d%0aA:%20b",
        "x%2531",
        "X1",
        "%20x1",
        "%",
    ],
)
def test_c_route_4_what_can_be_no_name_is_404(world: World, verb: str, segment: str) -> None:
    refusal = world.knock(f"{BARE}/{verb}/{segment}").refusal
    assert is_json_refusal(refusal, 404)
    assert refusal.message.isprintable()
    assert refusal.message.endswith(" is not a valid node.")


def test_c_route_4_decoded_once(world: World) -> None:
    assert world.knock(f"{BARE}/interact/x%31").is_open


def test_c_route_4_a_query_is_no_part_of_the_name(world: World) -> None:
    assert world.knock(f"{BARE}/interact/x1?x=/../../x2").is_open
    assert len(world.x1.clients) == 1


# --------------------------------------------------------------------------------------------------- methods


@both_bases
@pytest.mark.parametrize("path", ["interact/x1", "tail/x1", "interact/nobody", "liveness", "readiness", "health"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "get"])
def test_c_method_1_and_c_health_3_only_get(world: World, base: str, path: str, method: str) -> None:
    answer = world.ask(f"{base}/{path}", method=method, body="{}")
    assert is_json_refusal(answer, 405)
    assert answer.headers["allow"] == "GET"
    assert method in answer.message


def test_c_method_1_head_has_no_body(world: World) -> None:
    answer = world.ask(f"{BARE}/interact/x1", method="HEAD", user="ada")
    assert (answer.status, answer.headers["allow"], answer.body) == (405, "GET", b"")


def test_a_body_of_any_length_is_let_go(world: World) -> None:
    client = world.client()
    assert client.request(f"{BARE}/tail/x1", method="POST", headers=[("Content-Length", str(10**12))]) is None
    for _ in range(20):
        client.socket.arrive(b"x" * 65536)
    [request] = client.socket.protocol.wrappedProtocol.requests
    assert request.content.getvalue() == b""


# ----------------------------------------------------------------------------------------- the opening handshake


@both_verbs
def test_c_upg_1_a_plain_get(world: World, verb: str) -> None:
    answer = world.ask(f"{BARE}/{verb}/x1", user="oscar")
    assert is_json_refusal(answer, 400)
    assert answer.headers["sec-websocket-version"] == "13"


def test_c_upg_2_the_handshake_succeeds(world: World) -> None:
    # That the accept key is right is for the client to say: it would not be open.
    client = world.interact()
    headers = client.response.headers
    assert headers["Upgrade"].lower() == "websocket"
    assert headers["Connection"] == "Upgrade"
    assert client.socket.no_delay


@pytest.mark.parametrize(
    "headers",
    [
        [("Connection", "keep-alive, Upgrade")],
        [("Connection", "UPGRADE")],
        [("Upgrade", "WebSocket")],
        [("Upgrade", "h2c, websocket")],
        [("Origin", "http://consoled")],
        [("Origin", "https://consoled")],
        [("X-Forwarded-For", "10.0.0.1, é")],
        [("Cookie", "a=b; c")],
        [("User-Agent", "\udcff\udcfe")],
    ],
)
def test_c_upg_2_headers_that_do_not_matter(world: World, headers: list[tuple[str, str]]) -> None:
    request = {**HANDSHAKE, **dict(headers)}
    client = world.client()
    answer = client.request(f"{BARE}/interact/x1", [*request.items(), *bearer("oscar")])
    assert answer.status == 101


def test_c_upg_3_nothing_is_selected_that_was_not_offered(world: World) -> None:
    headers = world.interact().response.headers
    assert "Sec-WebSocket-Protocol" not in headers
    assert "Sec-WebSocket-Extensions" not in headers


def test_c_upg_3_offers_are_let_lie(world: World) -> None:
    client = world.knock(
        f"{BARE}/interact/x1", subprotocols=["binary", "console"], extensions=[ClientPerMessageDeflateFactory()]
    )
    assert client.is_open
    assert "Sec-WebSocket-Protocol" not in client.response.headers
    assert "Sec-WebSocket-Extensions" not in client.response.headers


@pytest.mark.parametrize(
    "offer",
    ["permessage-deflate; client_max_window_bits=99", "a, a", "permessage-deflate, permessage-deflate", ';;,,="'],
)
@pytest.mark.parametrize("header", ["Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"])
def test_c_upg_3_odd_offers_are_let_lie(world: World, header: str, offer: str) -> None:
    answer = world.ask(f"{BARE}/interact/x1", [*HANDSHAKE.items(), (header, offer)], user="oscar")
    assert answer.status == 101


@both_verbs
@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("Sec-WebSocket-Key", []),
        ("Sec-WebSocket-Key", [""]),
        ("Sec-WebSocket-Key", ["short"]),
        ("Sec-WebSocket-Key", ["AAAAAAAAAAAAAAAAAAAAAAAA"]),
        ("Sec-WebSocket-Key", ["A!AAAAAAAAAAAAAAAAAAAA=="]),
        ("Sec-WebSocket-Key", ["é" * 12]),
        ("Sec-WebSocket-Key", ["AAAAAAAAAAAAAAAAAAAAAA==", "BAAAAAAAAAAAAAAAAAAAAA=="]),
        ("Sec-WebSocket-Version", []),
        ("Sec-WebSocket-Version", ["8"]),
        ("Sec-WebSocket-Version", ["14"]),
        ("Sec-WebSocket-Version", ["013"]),
        ("Sec-WebSocket-Version", ["13", "13"]),
        ("Sec-WebSocket-Version", ["thirteen"]),
        ("Upgrade", ["h2c"]),
        ("Upgrade", []),
        ("Connection", ["keep-alive"]),
        ("Connection", []),
    ],
)
def test_c_upg_5_a_bad_handshake(world: World, verb: str, header: str, values: list[str]) -> None:
    headers = [one for one in HANDSHAKE.items() if one[0] != header] + [(header, value) for value in values]
    answer = world.ask(f"{BARE}/{verb}/x1", headers, user="oscar")
    assert is_json_refusal(answer, 400)
    assert answer.headers["sec-websocket-version"] == "13"
    assert not world.x1.clients


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1\r\nX-No-Host: 1"])
def test_c_upg_5_http_1_1_with_a_host(world: World, version: str) -> None:
    headers = "".join(f"{name}: {value}\r\n" for name, value in [*HANDSHAKE.items(), *bearer("oscar")])
    client = world.client()
    client.socket.arrive(f"GET {BARE}/interact/x1 {version}\r\n{headers}\r\n".encode())
    assert is_json_refusal(client.answer(), 400)


def test_c_upg_6_a_refusal_leaves_the_connection_fit_for_the_next_request(world: World) -> None:
    client = world.client()
    for _ in range(3):
        assert is_json_refusal(client.request(f"{BARE}/interact/x1", bearer("oscar")), 400)
        client.socket.sent.clear()
    client.upgrade(f"{BARE}/interact/x1", bearer("oscar"))
    assert client.is_open


def test_a_listener_on_a_local_socket_has_no_host(world: World) -> None:
    watcher = world.joined(user="ada")
    assert world.knock(f"{BARE}/interact/x1", peer=UNIXAddress("")).is_open
    assert "joined by <oscar@local>" in watcher.news()
    assert world.audited("attached")[-1]["remoteAddress"] == "local"


# ---------------------------------------------------------------------------------------------------- probes


@both_bases
@pytest.mark.parametrize("probe", ["liveness", "readiness"])
def test_c_health_1_probes(world: World, base: str, probe: str) -> None:
    answer = world.ask(f"{base}/{probe}")
    assert (answer.status, answer.body) == (204, b"")
    assert "content-length" not in answer.headers
    assert "transfer-encoding" not in answer.headers


def test_c_health_1_alive_but_not_ready_before_the_consoles_are_held(empty: World) -> None:
    world = empty.begin(opened=False)
    assert world.ask(f"{BARE}/liveness").status == 204
    answer = world.ask(f"{BARE}/readiness")
    assert is_json_refusal(answer, 503)
    assert int(answer.headers["retry-after"]) > 0
    world.open()
    assert world.ask(f"{BARE}/readiness").status == 204


ORIGINAL = {
    "consoles",
    "hardwareupdatesec",
    "hardwareupdate",
    "nodepods",
    "rvrnodesperpod",
    "mtnnodesperpod",
    "maxrvrnodesperpod",
    "maxmtnnodesperpod",
    "heartbeatcheck",
    "heartbeatstale",
}


@both_bases
@pytest.mark.parametrize("user", [None, "vera"])
def test_c_health_2_health_is_strings(world: World, base: str, user: str | None) -> None:
    answer = world.ask(f"{base}/health", user=user)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json) >= ORIGINAL
    assert all(isinstance(value, str) for value in answer.json.values())
    assert answer.json["consoles"] == "2"
    assert answer.json["time"] == "2026-11-21T23:45:01Z"


def test_c_health_2_health_tells_a_stranger_no_more_than_whether_it_is_well(world: World) -> None:
    world.joined()
    members = ORIGINAL | {"status", "time"}
    stranger = world.ask(f"{BARE}/health").json
    assert (set(stranger), stranger["status"]) == (members, "ok")
    world.trouble = "/var/log/consoled: the disk is full"
    stranger = world.ask(f"{BARE}/health").json
    assert (set(stranger), stranger["status"]) == (members, "degraded")
    assert not world.audited("refused")


def test_c_health_2_health_tells_who_may_list_what_is_wrong(world: World) -> None:
    world.joined()
    world.x2.link.status = Waiting(EPOCH, "refused")
    world.trouble = "/var/log/consoled: the disk is full"
    health = world.ask(f"{BARE}/health", user="vera").json
    assert health["status"] == world.trouble
    assert (health["clients"], health["links_up"], health["links_waiting"]) == ("1", "1", "1")
    health = world.ask(f"{BARE}/health", user="gina").json
    assert (health["clients"], health["links_waiting"]) == ("0", "1")
    assert "links_up" not in health


def test_c_health_2_a_bad_token_is_not_no_token(world: World) -> None:
    assert is_json_refusal(world.ask(f"{BARE}/health", [("Authorization", "Bearer wrong")]), 401)
    assert is_json_refusal(world.ask(f"{BARE}/health", [("Cray-Tenant-Name", "green")], user="bob"), 403)
