"""TLS with clients as an operator sees it: a real daemon, a renewal under its sessions, a client's certificate."""

from __future__ import annotations

import ssl
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.listening.pipe import client_context, write_pair
from tests.real import free_port
from tests.real.bare import Client, asking
from tests.real.daemon import RunningDaemon

pytestmark = pytest.mark.real
LIMIT = 30.0
TOKEN = "a-token-of-ada"


class Place:
    """A daemon with an echoing console behind TLS."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = trustme.CA()
        self.port = free_port()
        self.renew("first.example")
        (directory / "ca.pem").write_bytes(self.ca.cert_pem.bytes())
        (directory / "tokens.toml").write_text(
            f'[[token]]\nname = "ada"\nsha256 = "{sha256(TOKEN.encode()).hexdigest()}"\nrole = "operator"\n'
        )
        self.daemon = RunningDaemon(
            reactor,
            directory,
            f"""
[tls]
listen = ["tcp:{self.port}:interface=127.0.0.1"]
certificates = [{{ certificate = "server.pem", key = "server.key" }}]
client_ca = "ca.pem"
[auth]
tokens = "tokens.toml"
[[auth.certificate]]
email = "*@lab.example"
user = "{{email}}"
roles = ["viewer"]
[[console]]
name = "x1"
kind = "demo"
role = "echo"
""",
        )

    def renew(self, name: str) -> None:
        write_pair(self.directory, "server", self.ca.issue_cert("localhost", name))

    def attach(self, verb: str, mine: trustme.LeafCert | None = None, token: str = "") -> Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = asking(f"/console-operator/{verb}/x1", **headers)
        return Client(self.port, request, tls=client_context(self.ca, mine))


def shown(session: Client) -> set[str]:
    assert isinstance(session.socket, ssl.SSLSocket)
    return {value for _, value in session.socket.getpeercert()["subjectAltName"]}


def says(session: Client, text: bytes) -> None:
    """The session echoes `text`."""
    session.type(text)
    session.until(text)


@pytest_twisted.ensureDeferred
async def test_a_renewal_under_an_open_session(tmp_path: Path) -> Any:
    place = Place(tmp_path)
    place.daemon.token = TOKEN
    await place.daemon.start()
    try:
        await place.daemon.holds(1)  # or what is typed goes nowhere
        before = await deferToThread(place.attach, "interact", None, TOKEN)
        await deferToThread(says, before, b"before")
        place.renew("second.example")
        deadline = reactor.seconds() + LIMIT
        while True:
            after = await deferToThread(place.attach, "interact", None, TOKEN)
            if "second.example" in shown(after):
                break
            after.leave()
            assert reactor.seconds() < deadline, place.daemon.log
            await deferLater(reactor, 0.2)
        await deferToThread(says, before, b"still here")
        before.leave()
        after.leave()
    finally:
        await place.daemon.stop()


@pytest_twisted.ensureDeferred
async def test_a_client_certificate_is_a_proof(tmp_path: Path) -> Any:
    place = Place(tmp_path)
    await place.daemon.start()
    try:
        mine = place.ca.issue_cert("eve@lab.example")
        session = await deferToThread(place.attach, "tail", mine)
        session.leave()
        assert '"account":"eve@lab.example"' in place.daemon.log
    finally:
        await place.daemon.stop()
