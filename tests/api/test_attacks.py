"""What an attacker tries at the open door, each a small story.  Forged tokens: `tests/auth/test_jwt_attacks.py`.

Every story ends with `serves`: the next good client finds everything in order.
"""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.logger import LogEvent
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory

from consoled.api.doors import Door
from consoled.api.origin import Origins
from consoled.api.site import make_site
from tests.api.conftest import failures
from tests.api.test_csm_routes import HANDSHAKE, is_json_refusal
from tests.api.test_fuzz import serves
from tests.api.wire import Client
from tests.api.world import BARE, World, bearer, token

ATTACKER = IPv4Address("TCP", "203.0.113.66", 6666)
PROXY = IPv4Address("TCP", "10.0.0.1", 1234)


def raw(world: World, *lines: str, peer: Any = ATTACKER) -> Client:
    """A client that has sent these lines and an empty one."""
    client = world.client(peer)
    client.socket.arrive("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape"))
    return client


def upgrade_lines(*more: str, path: str = f"{BARE}/interact/x1", host: str = "Host: consoled") -> list[str]:
    return [f"GET {path} HTTP/1.1", host, *(f"{name}: {value}" for name, value in HANDSHAKE.items()), *more]


def ask(user: str) -> str:
    return f"Authorization: Bearer {token(user)}"


# --------------------------------------------------------------------------------- headers that say two things


@pytest.mark.parametrize("order", [("ada", "wrong"), ("wrong", "ada"), ("ada", "ada"), ("bob", "ada")])
def test_two_proofs_are_none(world: World, order: tuple[str, str]) -> None:
    # A proxy in front may have looked at the one, and we at the other.
    client = raw(world, *upgrade_lines(*(ask(user) for user in order)))
    assert is_json_refusal(client.answer(), 401)
    serves(world)


@pytest.mark.parametrize("tenants", [("blue", "green"), ("green", "blue"), ("blue", ""), ("blue,green",), ("blue\tx",)])
def test_two_tenants_are_none(world: World, tenants: tuple[str, ...]) -> None:
    client = raw(world, *upgrade_lines(ask("bob"), *(f"Cray-Tenant-Name: {tenant}" for tenant in tenants)))
    assert is_json_refusal(client.answer(), 403)
    serves(world)


@pytest.mark.parametrize(
    "lines",
    [
        ["Authorization: Bearer", f" {token('ada')}"],
        ["X-Harmless: 1", f"\tAuthorization: Bearer {token('ada')}"],
        [" Authorization: Bearer x", ask("ada")],
        [ask("bob"), "Cray-Tenant-Name: blue", " green"],
    ],
)
def test_headers_on_folded_lines_are_refused(world: World, lines: list[str]) -> None:
    client = raw(world, *upgrade_lines(*lines))
    assert is_json_refusal(client.answer(), 400)
    assert client.socket.closed
    serves(world)


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5, 5"],
        ["Content-Length: +5"],
        ["Content-Length: 0x5"],
        ["Content-Length: -1"],
        ["Content-Length: "],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Authorization : Bearer x"],
        ["Host\x00: x"],
        ["X: a\x00b"],
        ["X: a\nAuthorization: b"],
        ["no colon"],
        [": no name"],
    ],
)
def test_a_request_that_two_servers_may_read_differently_is_refused_and_hung_up_on(
    world: World, lines: list[str]
) -> None:
    smuggled = "\r\n".join([*upgrade_lines(ask("ada")), "", ""])
    client = raw(world, f"POST {BARE}/health HTTP/1.1", "Host: consoled", *lines)
    client.socket.arrive(f"0\r\n\r\n{smuggled}".encode())
    assert is_json_refusal(client.answer(), 400)
    assert client.socket.closed
    assert bytes(client.socket.sent).count(b"\r\n\r\n") == 1
    assert not world.x1.clients
    serves(world)


def test_a_second_request_behind_the_first_has_no_part_in_its_proof(world: World) -> None:
    client = world.client(ATTACKER)
    first = "\r\n".join([f"GET {BARE}/interact/x1 HTTP/1.1", "Host: consoled", ask("ada"), "", ""])
    client.socket.arrive((first + "\r\n".join([*upgrade_lines(), "", ""])).encode())
    answers = bytes(client.socket.sent).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"400", b"401"]
    serves(world)


@pytest.mark.parametrize("hosts", [("consoled", "evil.example"), ("consoled", "consoled")])
def test_two_hosts_are_refused(world: World, hosts: tuple[str, str]) -> None:
    client = raw(world, *upgrade_lines(ask("ada"), f"Host: {hosts[1]}", host=f"Host: {hosts[0]}"))
    assert is_json_refusal(client.answer(), 400)


def test_no_host_is_refused(world: World) -> None:
    assert is_json_refusal(raw(world, f"GET {BARE}/liveness HTTP/1.1").answer(), 400)
    assert raw(world, f"GET {BARE}/liveness HTTP/1.0").answer().status == 204


# ------------------------------------------------------------------------------------------------------ paths


@pytest.mark.parametrize(
    "path",
    [
        f"{BARE}/tail/../interact/x1",
        f"{BARE}/tail/%2e%2e/interact/x1",
        f"{BARE}/./interact/x1",
        f"{BARE}//interact/x1",
        f"{BARE}/interact//x1",
        f"{BARE}/interact%2fx1",
        f"{BARE}%2finteract/x1",
        f"{BARE}/INTERACT/x1",
        f"{BARE.upper()}/interact/x1",
        f"{BARE}/interact/X1",
        f"{BARE}/interact/x1/",
        f"{BARE}/interact/x1%00",
        f"{BARE}/interact/x1\x00",
        f"{BARE}/interact/x1;y",
        f"{BARE}\\interact\\x1",
        f"{BARE}/interact/x%2531",
        f"{BARE}/interact/%78%31%0a",
        f"{BARE}/interact/х1",  # noqa: RUF001  # Cyrillic
        f"{BARE}/interact/x１",  # noqa: RUF001  # fullwidth
        f"{BARE}/ınteract/x1",  # noqa: RUF001  # dotless
        f"{BARE}/interact/x%c0%b1",
        f"{BARE}/interact/{'x' * 4000}",
        f"{BARE}/interact/" + "%2e%2e/" * 500,
        "*",
        "x/console-operator/interact/x1",
        "http://consoled" + BARE + "/interact/x1",
        "//evil.example/interact/x1",
    ],
)
def test_no_other_spelling_of_a_path_opens_anything(world: World, path: str) -> None:
    client = raw(world, *upgrade_lines(ask("oscar"), path=path))
    answer = bytes(client.socket.sent)
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400"))
    assert not world.x1.clients
    assert answer.isascii(), "a look-alike came back"
    serves(world)


def test_a_path_without_an_end(world: World) -> None:
    client = world.client(ATTACKER)
    client.socket.arrive(f"GET {BARE}/interact/{'x' * 9000} HTTP/1.1\r\n".encode())
    assert is_json_refusal(client.answer(), 414)
    assert client.socket.closed
    client = world.client(ATTACKER)
    for _ in range(20):
        client.socket.arrive(b"x" * 4096)
    assert is_json_refusal(client.answer(), 414)
    assert client.socket.closed
    serves(world)


@pytest.mark.parametrize(
    "headers", [[f"X-{at}: x" for at in range(101)], ["X: " + "x" * 17000], ["X: " + "x" * 5000] * 4]
)
def test_headers_without_an_end(world: World, headers: list[str]) -> None:
    client = raw(world, *upgrade_lines(ask("ada"), *headers))
    assert is_json_refusal(client.answer(), 431)
    assert client.socket.closed
    serves(world)


def test_a_body_without_an_end(world: World) -> None:
    client = raw(world, "POST /v1/tickets HTTP/1.1", "Host: consoled", ask("ada"), "Transfer-Encoding: chunked")
    for _ in range(70):
        client.socket.arrive(b"400\r\n" + b"x" * 1024 + b"\r\n")
    [request] = client.socket.protocol.wrappedProtocol.requests
    assert request.content.getbuffer().nbytes == 0
    client.socket.arrive(b"0\r\n\r\n")
    assert is_json_refusal(client.answer(), 413)
    serves(world)


# ------------------------------------------------------------------------------------------------- other pages

PAGES = [
    ("https://evil.example", "consoled", 403),
    ("null", "consoled", 403),
    ("", "consoled", 403),
    ("file://", "consoled", 403),
    ("http://consoled.evil.example", "consoled", 403),
    ("http://consoled@evil.example", "consoled", 403),
    ("http://consoled:8080", "consoled", 403),
    ("http://consoled, http://evil.example", "consoled", 403),
    ("http://\u0441onsoled", "consoled", 403),
    ("http://consoled", "consoled", 101),
    ("https://consoled", "consoled", 101),
    ("http://CONSOLED:80", "consoled", 101),
    ("https://consoled", "consoled:443", 101),
    ("https://noc.example", "consoled", 101),
    ("https://noc.example:444", "consoled", 403),
    ("http://noc.example", "consoled", 403),
    ("http://[2001:db8::1]:8080", "[2001:db8::1]:8080", 101),
]


@pytest.mark.parametrize(("origin", "host", "status"), PAGES)
def test_a_page_of_another_origin_cannot_use_a_browsers_rights(
    empty: World, origin: str, host: str, status: int
) -> None:
    world = empty.begin(origins=Origins(["https://noc.example"]))
    answer = raw(world, *upgrade_lines(ask("ada"), f"Origin: {origin}", host=f"Host: {host}")).answer()
    assert answer.status == status
    assert status == 101 or is_json_refusal(answer, status)


def test_null_can_be_allowed(empty: World) -> None:
    world = empty.begin(origins=Origins(["null"]))
    assert raw(world, *upgrade_lines(ask("ada"), "Origin: null")).answer().status == 101


def test_two_origins_are_refused(world: World) -> None:
    lines = upgrade_lines(ask("ada"), "Origin: http://consoled", "Origin: https://evil.example")
    assert is_json_refusal(raw(world, *lines).answer(), 400)


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("localhost:8080", True),
        ("console.localhost", True),
        ("mgmt1", True),
        ("noc.example", True),
        ("evil.example", False),
        ("evil.example:8080", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("evil.example.", False),
        ("", False),
        ("a b", False),
    ],
)
def test_a_name_that_is_bound_anew_to_loopback_opens_nothing(empty: World, host: str, good: bool) -> None:
    # Without [auth]: the page's origin and the host agree, and both are the attacker's.
    world = empty.begin(origins=Origins(["https://noc.example"], is_open=True))
    page = f"http://{host}"
    answer = raw(world, *upgrade_lines(ask("ada"), f"Origin: {page}", host=f"Host: {host}")).answer()
    plain = raw(world, f"GET {BARE}/liveness HTTP/1.1", f"Host: {host}").answer()
    if good:
        assert plain.status == 204
        assert answer.status == 101
    else:
        assert is_json_refusal(answer, 421)
        assert is_json_refusal(plain, 421)


# ------------------------------------------------------------------------------------------------------ slowly


@pytest.mark.parametrize("what", [b"G", b"GET / HTTP/1.1\r\nX: ", b"POST / HTTP/1.1\r\nContent-Length: 999\r\n\r\n"])
def test_slowloris(world: World, what: bytes) -> None:
    client = world.client(ATTACKER)
    client.socket.arrive(what)
    for _ in range(30):
        assert not client.socket.closed
        world.clock.advance(0.999)
        client.socket.arrive(b"x")
    world.clock.advance(0.1)
    assert is_json_refusal(client.answer(), 408)
    assert client.socket.closed
    serves(world)


def test_each_request_has_its_own_time(world: World) -> None:
    client = world.client()
    for _ in range(5):
        world.clock.advance(29)
        assert client.request(f"{BARE}/liveness").status == 204
        client.socket.sent.clear()


def test_a_connection_without_a_request_ends(world: World) -> None:
    silent, content = world.client(ATTACKER), world.client()
    assert content.request(f"{BARE}/liveness").status == 204
    world.clock.advance(59.9)
    assert not silent.socket.closed
    assert not content.socket.closed
    world.clock.advance(0.2)
    assert silent.socket.closed
    assert content.socket.closed


def test_whoever_does_not_read_the_last_answer_is_cut_off(world: World) -> None:
    client = world.client(ATTACKER)
    client.socket.stop_reading()
    client.socket.arrive(b"nonsense\r\n\r\n")
    assert not client.socket.closed
    world.clock.advance(15)
    assert client.socket.aborted


# ------------------------------------------------------------------------------------------------------- many


def crowd(world: World, count: int, host: str = ATTACKER.host) -> list[Client]:
    return [world.client(IPv4Address("TCP", host, 1000 + at)) for at in range(count)]


def test_a_thousand_half_open_connections_of_one_address(empty: World) -> None:
    world = empty.begin(limits={"waiting_each_address": 100})
    clients = crowd(world, 1000)
    assert sum(not client.socket.closed for client in clients) == 100
    for client in clients[100:]:
        answer = client.answer()
        assert is_json_refusal(answer, 429)
        assert answer.headers["retry-after"] == "5"
    serves(world)
    world.clock.advance(61)
    assert all(client.socket.closed for client in clients)
    [again] = crowd(world, 1)
    assert again.request(f"{BARE}/liveness").status == 204


def test_an_ipv6_network_is_one_address(empty: World) -> None:
    world = empty.begin(limits={"waiting_each_address": 100})
    clients = [world.client(IPv6Address("TCP", f"2001:db8::{at:x}", 1)) for at in range(1, 151)]
    assert sum(not client.socket.closed for client in clients) == 100
    assert not world.client(IPv6Address("TCP", "2001:db8:0:1::1", 1)).socket.closed


def test_half_open_connections_of_all_the_world(empty: World) -> None:
    world = empty.begin(limits={"waiting": 50})
    good = world.joined()
    clients = [world.client(IPv4Address("TCP", f"198.51.{at // 250}.{at % 250}", 1)) for at in range(1000)]
    # Whoever has waited longest goes, so the door is never shut; who has a session does not wait.
    assert [client.socket.closed for client in clients] == [True] * 950 + [False] * 50
    good.send("echo")
    assert world.x1.heard == b"echo\n"
    serves(world)


def test_sessions_do_not_wait_and_are_counted_for_their_address(empty: World) -> None:
    world = empty.begin(limits={"waiting_each_address": 2, "connections_each_address": 4})
    here = [world.joined() for _ in range(3)]
    assert not world.client().socket.closed
    full = world.client()
    assert is_json_refusal(full.answer(), 429)
    assert "from this address;" in full.answer().message
    here[0].socket.hang_up()
    assert not world.client().socket.closed


def test_sessions_are_counted_for_their_user(empty: World) -> None:
    world = empty.begin(limits={"sessions_each_user": 2})
    first, _ = world.joined(), world.joined("x2")
    refusal = world.knock(f"{BARE}/tail/x1").refusal
    assert is_json_refusal(refusal, 429)
    assert refusal.headers["retry-after"] == "5"
    assert world.interact(user="olga").is_open
    first.socket.hang_up()
    assert world.interact().is_open


def test_nothing_is_kept_of_who_has_gone(empty: World) -> None:
    world = empty.begin(proxies=("10.0.0.1",))
    for client in [*crowd(world, 10), world.joined(), world.knock(f"{BARE}/interact/x9")]:
        client.socket.hang_up()
    raw(world, *upgrade_lines(ask("ada"), "X-Forwarded-For: 192.0.2.9"), peer=PROXY).socket.hang_up()
    doors = world.doors
    assert not (doors._waiting or doors._waiting_from or doors._here_from or doors._seated)


# -------------------------------------------------------------------------------------------------- guessing


def guess(world: World, secret: str = "wrong", peer: Any = ATTACKER) -> Any:
    client = world.client(peer)
    headers = [*HANDSHAKE.items(), ("Authorization", f"Bearer {secret}")]
    return client.request(f"{BARE}/interact/x1", headers) or client


def test_guessing_is_slowed_down_and_then_refused(empty: World) -> None:
    world = empty.begin(patient=True)
    statuses = []
    for _ in range(60):
        answer = guess(world)
        if isinstance(answer, Client):  # it takes its time
            world.clock.advance(0.9)
            assert answer.answer() is None
            world.clock.advance(0.1)
            answer = answer.answer()
        statuses.append(answer.status)
        if answer.status == 429:
            break
    # Twenty at once; one more for every three seconds that it took.
    assert 24 <= len(statuses) <= 30
    assert set(statuses[:-1]) == {401}
    assert is_json_refusal(answer, 429)
    wait = int(answer.headers["retry-after"])
    assert 1 <= wait <= 3
    # The right token makes no difference to somebody who was never let in with it ...
    assert guess(world, token("olga")).status == 429
    # ... and others are not concerned.
    serves(world)
    world.clock.advance(wait)
    assert guess(world, token("olga")).status == 101


def test_a_success_forgives_no_guesses_and_is_not_forgotten(empty: World) -> None:
    world = empty.begin(patient=True, limits={"failed_logins": 4})
    assert guess(world, token("ada")).status == 101
    for _ in range(4):
        guess(world)
        assert guess(world, token("ada")).status == 101
        world.clock.advance(1)
    guess(world)
    assert guess(world).status == 429
    assert guess(world, token("ada")).status == 101, "known before, and behind the same address as the attacker"


def test_nobody_can_make_us_forget_who_was_let_in(empty: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consoled.api.patience.REMEMBERED", 3)
    world = empty.begin(patient=True, limits={"failed_logins": 4})
    assert guess(world, token("ada")).status == 101
    for at in range(10):  # one token, spelled in many ways; and proofs that are good once
        assert guess(world, " " * at + token("olga")).status == 101
        ask = [("Content-Type", "application/json"), *bearer("olga")]
        ticket = world.client().request("/v1/tickets", ask, "POST", '{"console": "x1", "mode": "tail"}').json["ticket"]
        assert world.client().request(f"{BARE}/tail/x1?ticket={ticket}", [*HANDSHAKE.items()]).status == 101
    for _ in range(5):
        guess(world)
    assert guess(world).status == 429
    assert guess(world, token("ada")).status == 101


def test_who_goes_on_guessing_does_not_fill_the_log(empty: World, log: list[LogEvent]) -> None:
    world = empty.begin(patient=True, limits={"failed_logins": 4})
    for at in range(100):
        guess(world)
        world.clock.advance(0 if at < 5 else 15)
    assert len([event for event in log if "too many failed" in event.get("log_format", "")]) == 1


def test_nothing_is_counted_that_guesses_nothing(empty: World) -> None:
    world = empty.begin(patient=True, limits={"failed_logins": 1})
    for _ in range(10):
        assert world.ask(f"{BARE}/interact/x1", [*HANDSHAKE.items()]).status == 401
    assert world.ask(f"{BARE}/interact/x1", [*HANDSHAKE.items(), *bearer("vera")]).status == 403
    assert world.interact().is_open


def test_many_guessers_cost_a_bounded_memory(empty: World) -> None:
    world = empty.begin(patient=True)
    world.gate._failures._most = 50
    for at in range(200):
        guess(world, peer=IPv4Address("TCP", f"198.51.100.{at}", 1))
    assert len(world.gate._failures) == 50


# --------------------------------------------------------------------------------------------- another's name


FORWARDED = [
    (PROXY, ["192.0.2.9"], "192.0.2.9"),
    (PROXY, ["127.0.0.1, 192.0.2.9"], "192.0.2.9"),
    (PROXY, ["10.0.0.7, 192.0.2.9, 10.0.0.2"], "192.0.2.9"),
    (PROXY, ["6.6.6.6", "192.0.2.9"], "192.0.2.9"),
    (PROXY, ["192.0.2.9:4711"], "192.0.2.9"),
    (PROXY, ["[2001:db8::9]:4711"], "2001:db8::9"),
    (PROXY, ["2001:db8::9"], "2001:db8::9"),
    (PROXY, ["::ffff:192.0.2.9"], "192.0.2.9"),
    (PROXY, ["10.0.0.7"], "10.0.0.7"),
    (PROXY, ["192.0.2.9, unknown"], "10.0.0.1"),
    (PROXY, ["192.0.2.9, \x1b[2J"], "10.0.0.1"),
    (PROXY, [""], "10.0.0.1"),
    (PROXY, [], "10.0.0.1"),
    (ATTACKER, ["192.0.2.9"], "203.0.113.66"),
    (ATTACKER, ["10.0.0.1"], "203.0.113.66"),
]


@pytest.mark.parametrize(("peer", "values", "believed"), FORWARDED)
def test_only_a_known_proxy_is_believed_about_others(empty: World, peer: Any, values: list[str], believed: str) -> None:
    world = empty.begin(proxies=("10.0.0.0/24",))
    client = raw(world, *upgrade_lines(ask("ada"), *(f"X-Forwarded-For: {value}" for value in values)), peer=peer)
    assert client.answer().status == 101
    assert world.audited("attached")[-1]["remoteAddress"] == believed


def test_who_comes_by_a_proxy_is_counted_one_by_one(empty: World) -> None:
    world = empty.begin(proxies=("10.0.0.1",), limits={"connections_each_address": 2})

    def comes(host: str) -> int:
        return raw(world, *upgrade_lines(ask("ada"), f"X-Forwarded-For: {host}"), peer=PROXY).answer().status

    assert [comes("192.0.2.9") for _ in range(3)] == [101, 101, 429]
    assert comes("192.0.2.8") == 101
    assert not any(client.socket.closed for client in crowd(world, 5, "10.0.0.1"))


def test_behind_a_proxy_the_host_is_what_the_client_saw(empty: World) -> None:
    world = empty.begin(proxies=("10.0.0.1",))
    lines = upgrade_lines(ask("ada"), "Origin: https://noc.example", "X-Forwarded-Host: noc.example")
    assert raw(world, *lines, peer=PROXY).answer().status == 101
    assert raw(world, *lines).answer().status == 403


def test_a_proxys_door_is_for_proxies(empty: World, log: list[LogEvent]) -> None:
    world = empty.begin(proxies=("10.0.0.1",))
    world.entrance = Door(world.doors, world.site, is_proxied=True)
    assert world.client(ATTACKER).socket.aborted
    assert not world.client(PROXY).socket.closed
    for client in [*crowd(world, 500), *(world.client(IPv4Address("TCP", f"198.51.100.{at}", 1)) for at in range(200))]:
        assert client.socket.aborted
    assert len([event for event in log if "turned away" in event.get("log_format", "")]) == 100


def test_the_proxy_protocol_names_the_client(empty: World) -> None:
    world = empty.begin(proxies=("10.0.0.1",), limits={"connections_each_address": 1})
    world.entrance = HAProxyWrappingFactory(Door(world.doors, world.site, is_proxied=True))

    def comes(header: bytes, peer: Any = PROXY) -> Client:
        client = world.client(peer)
        lines = upgrade_lines(ask("ada"), "X-Forwarded-For: 127.0.0.1")
        client.socket.arrive(header + "\r\n".join([*lines, "", ""]).encode())
        return client

    evil = comes(b"PROXY TCP4 \x1b[2J 10.0.0.5 4711 8080\r\n")
    assert evil.answer().status == 101
    assert "\x1b" not in world.x1.clients[0].client.host
    evil.socket.hang_up()
    good = comes(b"PROXY TCP4 192.0.2.9 10.0.0.5 4711 8080\r\n")
    assert good.answer().status == 101
    assert world.audited("attached")[-1]["remoteAddress"] == "192.0.2.9"
    assert comes(b"PROXY TCP4 192.0.2.9 10.0.0.5 4712 8080\r\n").answer().status == 429
    assert comes(b"").socket.disconnecting
    assert comes(b"PROXY TCP4 192.0.2.9 10.0.0.5 4711 8080\r\n", ATTACKER).socket.closed
    good.socket.hang_up()
    assert comes(b"PROXY TCP4 192.0.2.9 10.0.0.5 4713 8080\r\n").answer().status == 101


# ------------------------------------------------------------------------------------------ behind the upgrade


def test_a_flood_of_messages_takes_turns(world: World) -> None:
    flooder, other = world.joined(), world.joined("x2", "olga")
    flooder.send(*["x"] * 3000)
    other.send("echo")
    assert world.x2.heard == b"echo\n"
    flooder.socket.hang_up()
    serves(world)


@pytest.mark.parametrize(
    ("head", "payload", "code"),
    [
        (b"\x82\x7f" + (1 << 40).to_bytes(8, "big"), b"", 1009),
        (b"\x82\x7f" + (65537).to_bytes(8, "big"), b"x" * 65537, 1009),
        (b"\xc1\x0a", zlib.compress(b"0" * 100_000)[:10], 1002),
        (b"\xe1\x02", b"ab", 1002),
        (b"\x81\x02", b"\xc3\x28", 1007),
        (b"\x81\x04", b"\xf0\x28\x8c\xbc", 1007),
        (b"\x81\x03", b"\xed\xa0\x80", 1007),
        (b"\x83\x01", b"x", 1002),
        (b"\x89\x7e\x00\x80", b"x" * 128, 1002),
        (b"\x09\x01", b"x", 1002),
        (b"\x80\x01", b"x", 1002),
    ],
)
def test_frames_that_no_client_sends_end_the_session(world: World, head: bytes, payload: bytes, code: int) -> None:
    client, other = world.joined(), world.joined("x2", "olga")
    client.send_frame(head, payload)
    client.receive()
    assert client.close_code == code
    assert world.x1.heard == b""
    other.send("echo")
    assert world.x2.heard == b"echo\n"
    client.socket.hang_up()
    serves(world)


def test_a_message_in_endless_fragments_ends_the_session(world: World) -> None:
    client = world.joined()
    client.send_frame(b"\x01\x01", b"x")
    for _ in range(70):
        client.send_frame(b"\x00\x7e\x04\x00", b"x" * 1024)
    client.receive()
    assert client.close_code == 1009
    assert world.x1.heard == b""


def test_an_unmasked_frame_ends_the_session(world: World) -> None:
    client = world.joined()
    client.send_frame(b"\x81\x02", b"ls", mask=None)
    client.receive()
    assert client.close_code == 1002
    assert world.x1.heard == b""


# ----------------------------------------------------------------------------------------- what is shown to others


@pytest.mark.parametrize("path", ["interact/%1b%5b2J", "interact/x1%07", "interact/%e2%80%ae", "inter\x1bact/x1"])
def test_escape_sequences_do_not_come_back(world: World, log: list[LogEvent], path: str) -> None:
    client = raw(world, *upgrade_lines(ask("ada"), path=f"{BARE}/{path}"))
    assert all(32 <= byte < 127 or byte in b"\r\n" for byte in bytes(client.socket.sent))
    for record in world.records:
        assert all(str(value).isprintable() for value in record.values())
    assert not failures(log)


def test_escape_sequences_in_headers_reach_no_log(world: World, log: list[LogEvent]) -> None:
    evil = "\x1b]0;pwned\x07"
    raw(world, *upgrade_lines(f"Authorization: Bearer {evil}", f"Origin: {evil}", f"X-Forwarded-For: {evil}"))
    raw(world, *upgrade_lines(f"Authorization: Bearer {evil}"))
    raw(world, *upgrade_lines(ask("bob"), f"Cray-Tenant-Name: {evil}"))
    for record in world.records:
        assert all(str(value).isprintable() for value in record.values())
    assert not failures(log)


def test_a_site_that_is_nobodys_knows_nothing(world: World) -> None:
    # The site without faces: whatever is asked, it has no opinion and no accident.
    world.entrance = Door(world.doors, make_site([], world.clock, doors=world.doors))
    assert is_json_refusal(raw(world, *upgrade_lines(ask("ada"))).answer(), 404)
