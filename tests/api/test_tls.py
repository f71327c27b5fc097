"""The whole way in over TLS, in memory: the door, the handshake, the site, and who it is by its certificate."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.logger import LogEvent

from consoled.api.doors import Door
from consoled.auth.certificates import CertificateRule, Certificates
from consoled.auth.gate import Gate
from consoled.auth.roles import ROLES
from consoled.auth.tenants import TenantTable
from consoled.listening.contexts import Contexts
from consoled.listening.descriptions import with_backlog
from consoled.listening.listeners import secured
from consoled.listening.settings import CertificateFiles, TlsSettings
from tests.api.conftest import failures
from tests.api.test_csm_routes import HANDSHAKE
from tests.api.world import BARE, TENANTS, World, bearer
from tests.listening.pipe import PEER, Pipe, client_context, write_pair

Connect = Callable[..., Pipe]


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def connect(empty: World, ca: trustme.CA, tmp_path: Path) -> Connect:
    """Connects a client, perhaps with a certificate of its own, which a rule knows if it is somebody's of the lab."""
    files = write_pair(tmp_path, "server", ca.issue_cert("console.example"))
    (tmp_path / "clients.pem").write_bytes(ca.cert_pem.bytes())
    tls = TlsSettings(certificates=(CertificateFiles(**files),), client_ca=str(tmp_path / "clients.pem"))
    contexts = Contexts(tls, empty.now)
    rule = CertificateRule(email="*@lab.example", user="{email}", roles=("operator",))
    checkers = [empty.tokens, Certificates([rule], ROLES, contexts.is_revoked)]
    world = empty.begin(
        gate=Gate(checkers, ROLES, TenantTable(TENANTS), empty.audit, empty.now), limits={"waiting_each_address": 100}
    )
    entrance = Door(world.doors, secured(world.site, contexts, world.clock), is_tls=True)

    def connect(mine: trustme.LeafCert | None = None, peer: Any = PEER) -> Pipe:
        return Pipe(entrance, world.clock, client_context(ca, mine), peer=peer)

    return connect


def ask(pipe: Pipe, *headers: tuple[str, str]) -> bytes:
    """The status of an upgrade's answer."""
    lines = [f"GET {BARE}/interact/x1 HTTP/1.1", "Host: console.example"]
    lines += [f"{name}: {value}" for name, value in (*HANDSHAKE.items(), *headers)]
    pipe.send("\r\n".join([*lines, "", ""]).encode())
    return pipe.receive()[9:12]


def hang_up(pipe: Pipe) -> None:
    pipe.socket.abortConnection()


def test_a_session_over_tls(empty: World, connect: Connect) -> None:
    pipe = connect().shake_hands()
    assert ask(pipe, *bearer("oscar")) == b"101"
    pipe.send(b"\x82\x84\0\0\0\0echo")
    assert empty.x1.heard == b"echo"
    empty.x1.says(b"hello")
    assert b"hello" in pipe.receive()
    hang_up(pipe)
    assert not empty.x1.clients


def test_a_certificate_is_a_proof(empty: World, ca: trustme.CA, connect: Connect) -> None:
    pipe = connect(ca.issue_cert("ada@lab.example")).shake_hands()
    assert ask(pipe) == b"101"
    assert empty.audited("attached")[-1]["account"] == "ada@lab.example"
    hang_up(pipe)


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("eve@elsewhere.example", []),
        ("ada@lab.example", [("Authorization", "Bearer wrong")]),
        ("ada@lab.example", [("Authorization", "Basic x")]),
    ],
)
def test_what_is_shown_must_be_good(
    ca: trustme.CA, connect: Connect, name: str, headers: list[tuple[str, str]]
) -> None:
    pipe = connect(ca.issue_cert(name)).shake_hands()
    assert ask(pipe, *headers) == b"401"
    hang_up(pipe)


def test_a_token_counts_before_a_certificate(empty: World, ca: trustme.CA, connect: Connect) -> None:
    pipe = connect(ca.issue_cert("ada@lab.example")).shake_hands()
    assert ask(pipe, *bearer("vera")) == b"403"
    assert empty.audited("refused")[-1]["account"] == "vera"
    hang_up(pipe)


@pytest.mark.parametrize(
    ("origin", "status"), [("https://console.example", b"101"), ("http://console.example", b"403")]
)
def test_a_page_that_came_in_clear_is_not_our_own(connect: Connect, origin: str, status: bytes) -> None:
    pipe = connect().shake_hands()
    assert ask(pipe, ("Origin", origin), *bearer("oscar")) == status
    hang_up(pipe)


# ----------------------------------------------------------------------------------------------- half-open


def test_a_thousand_half_open_handshakes(empty: World, connect: Connect) -> None:
    attacker = [connect(peer=IPv4Address("TCP", "203.0.113.66", at)) for at in range(1000)]
    assert sum(not pipe.socket.closed for pipe in attacker) == 100
    good = connect().shake_hands()
    assert ask(good, *bearer("oscar")) == b"101"
    empty.clock.advance(10)
    assert all(pipe.socket.aborted for pipe in attacker)
    assert not good.socket.closed
    hang_up(good)


def test_a_handshake_that_trickles_has_an_end(empty: World, connect: Connect) -> None:
    pipe = connect()
    with pytest.raises(ssl.SSLWantReadError):
        pipe.tls.do_handshake()
    hello = pipe._out.read()
    for byte in hello[:9]:
        empty.clock.advance(1)
        pipe.socket.protocol.dataReceived(bytes([byte]))
    assert not pipe.socket.closed
    empty.clock.advance(1.1)
    assert pipe.socket.aborted


def test_whoever_has_shaken_hands_has_the_time_of_an_idle_connection(empty: World, connect: Connect) -> None:
    pipe = connect().shake_hands()
    empty.clock.advance(59)
    assert not pipe.socket.closed
    empty.clock.advance(1.1)
    # It need not answer our goodbye.
    empty.clock.advance(15.1)
    assert pipe.socket.closed


def test_plain_http_at_the_tls_door(connect: Connect) -> None:
    pipe = connect()
    pipe.socket.protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert pipe.socket.closed


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.binary(max_size=60), max_size=5), at=st.integers(0, 300))
def test_any_bytes_instead_of_a_handshake(
    empty: World, connect: Connect, log: list[LogEvent], pieces: list[bytes], at: int
) -> None:
    pipe = connect()
    with pytest.raises(ssl.SSLWantReadError):
        pipe.tls.do_handshake()
    for piece in [pipe._out.read()[:at], *pieces]:
        if piece and not pipe.socket.closed:
            pipe.socket.protocol.dataReceived(piece)
    empty.clock.advance(10)
    assert pipe.socket.closed
    assert not failures(log)


@pytest.mark.parametrize(
    ("description", "made"),
    [
        ("tcp:8080", "tcp:8080:backlog=7"),
        ("tcp6:8443:interface=\\:\\:1", "tcp6:8443:interface=\\:\\:1:backlog=7"),
        ("haproxy:tcp:8080", "haproxy:tcp:8080:backlog=7"),
        ("unix:/run/x", "unix:/run/x:backlog=7"),
        ("tcp:8080:backlog=9", "tcp:8080:backlog=9"),
        ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0"),
    ],
)
def test_the_kernel_keeps_more_than_fifty(description: str, made: str) -> None:
    assert with_backlog(description, 7) == made
