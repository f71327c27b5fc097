"""A reload in this process, with real sockets at both ends: what it changes, and that it leaves alone what it must."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import treq
import trustme
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.web.client import HTTPConnectionPool
from twisted.web.server import Site

from consoled.config import load
from consoled.core.changes import Changes
from consoled.core.faults import NotOpen, NotReloaded
from consoled.tap import Daemon
from tests.auth.keycloak import Keycloak
from tests.auth.tapms import Page, Tapms
from tests.in_process import eventually as soon
from tests.in_process import put_back, told
from tests.real import free_port
from tests.real.talk import WebSocket

LIMIT = 20.0
eventually = partial(soon, limit=LIMIT)
ADMIN = {"Authorization": "Bearer " + "a" * 32}
WATCHER = {"Authorization": "Bearer " + "w" * 32}


class Node(Factory):
    """A raw port of a terminal server."""

    noisy = False

    def __init__(self) -> None:
        self.calls: list[_Call] = []
        """All that ever came, the newest last."""
        self._port = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.address = f"127.0.0.1:{self._port.getHost().port}"

    def buildProtocol(self, addr: Any) -> _Call:
        return _Call(self, addr.port)

    @property
    def call(self) -> _Call:
        [there] = [call for call in self.calls if call.is_there]
        return there

    def say(self, text: str) -> None:
        self.call.transport.write(text.encode())

    async def close(self) -> None:
        await self._port.stopListening()
        for call in self.calls:
            call.transport.abortConnection()


class _Call(Protocol):
    def __init__(self, node: Node, port: int) -> None:
        self.port = port
        self.heard = b""
        self.is_there = True
        node.calls.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_there = False


class House:
    """A daemon, its configuration, its nodes and its clients."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "consoled.toml"
        self.port = free_port()
        self.nodes: dict[str, Node] = {}
        self.clients: list[WebSocket] = []
        self.daemon: Daemon

    def write(self, consoles: str = "", *, http: str = "", hub: str = "", transcript: str = "", more: str = "") -> None:
        listen = http or f'listen = ["tcp:{self.port}:interface=127.0.0.1"]'
        new = self.path.with_suffix(".new")  # a reload may be reading the one before
        new.write_text(
            f'[http]\n{listen}\n[hub]\nstate = "state"\n{hub}\n'
            f'[transcript]\ndirectory = "transcripts"\n{transcript}\n{more}\n{consoles}'
        )
        new.replace(self.path)

    async def start(self, *consoles: str, **tables: str) -> None:
        self.write("".join(consoles), **tables)
        self.begin()
        await self.opened()

    def begin(self) -> None:
        self.daemon = Daemon(load(self.path), reactor, partial(load, self.path))
        self.daemon.privilegedStartService()
        self.daemon.startService()

    async def opened(self) -> None:
        await eventually(lambda: self.daemon._hub.is_open, "the start")

    async def reload(self, *consoles: str, **tables: str) -> Changes:
        self.write("".join(consoles), **tables)
        return await self.daemon.reload()

    async def refused(self, *consoles: str, **tables: str) -> str:
        with pytest.raises(NotReloaded) as caught:
            await self.reload(*consoles, **tables)
        return str(caught.value)

    def node(self, name: str, more: str = "") -> str:
        """The table of a console that one of our nodes is behind."""
        if name not in self.nodes:
            self.nodes[name] = Node()
        return tcp(name, self.nodes[name].address, more)

    async def connected(self, *names: str) -> None:
        for name in names:
            await eventually(lambda name=name: any(call.is_there for call in self.nodes[name].calls), name)

    async def client(
        self, name: str, verb: str = "tail", headers: dict[str, str] | None = None, port: int = 0, base: str = ""
    ) -> WebSocket:
        path = f"{base or '/console-operator'}/{verb}/{name}"
        url = f"ws://127.0.0.1:{port or self.port}{path}"
        client = await WebSocket.open(url, {"Cray-Console-Follow": "true", **(headers or {})})
        self.clients.append(client)
        return client

    async def viewer(self, name: str, verb: str = "tail", **more: Any) -> WebSocket:
        """A client that is in."""
        client = await self.client(name, verb, **more)
        await client.until("log opened" if verb == "tail" else "\n")
        return client

    async def status(self, name: str, **more: Any) -> str:
        """What becomes of a client that wants to see `name`: `open`, or how it was closed."""
        client = await self.client(name, **more)
        await eventually(lambda: client.state == client.STATE_OPEN or client.over.called)
        status = "open" if client.state == client.STATE_OPEN else client.said.decode()
        await client.leave()
        return status

    async def post(self, what: str = "reload", headers: dict[str, str] | None = None) -> tuple[int, Any]:
        pool = HTTPConnectionPool(reactor, persistent=False)
        url = f"http://127.0.0.1:{self.port}/v1/{what}"
        answer = await treq.post(url, json={}, headers=headers or {}, pool=pool)
        return answer.code, await answer.json()

    def stream(self, name: str) -> str:
        return (self.home / "transcripts" / f"console.{name}").read_text()

    async def close(self) -> None:
        for client in self.clients:
            if not client.over.called:
                client.transport.abortConnection()
                await client.over
        if hasattr(self, "daemon"):
            await self.daemon.stopService()
        for node in self.nodes.values():
            await node.close()


def tcp(name: str, address: str, more: str = "") -> str:
    return f'[[console]]\nname = "{name}"\nkind = "tcp"\naddress = "{address}"\n{more}\n'


def demo(name: str, role: str = "quiet", more: str = "") -> str:
    return f'[[console]]\nname = "{name}"\nkind = "demo"\nrole = "{role}"\n{more}\n'


async def closed(client: WebSocket) -> str:
    await eventually(lambda: client.over.called, "the end of a session")
    return client.said.decode().rpartition("closed ")[2].strip()


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with put_back(monkeypatch) as systemd:
        yield systemd


@pytest_twisted.async_yield_fixture
async def house(tmp_path: Path, process: Any) -> AsyncIterator[House]:
    house = House(tmp_path)
    yield house
    await house.close()


# ------------------------------------------------------------------------------------------------- identity


@pytest_twisted.ensureDeferred
async def test_fifty_reloads_leave_untouched_consoles_their_transport_and_their_clients(house: House) -> None:
    dice = random.Random(50)
    names = [f"k{number}" for number in range(5)]
    other = {f"other{number}": Node() for number in range(3)}
    house.nodes.update(other)

    def kept() -> str:
        """What does not concern the connection may change as it likes."""
        more = dice.choice(["", 'reset_command = ["true"]', 'retry_max = "90s"', 'quiet_timeout = "1h"'])
        return "".join(house.node(name, more) for name in names)

    def others() -> str:
        tables = ""
        for number in range(12):
            name = f"o{number}"
            address = dice.choice(list(other.values())).address
            more = dice.choice(["", "on_demand = true", 'keepalive = "9s"', "record_input = true"])
            tables += dice.choice(
                [
                    "",
                    demo(name, dice.choice(["node", "chatter", "quiet"])),
                    tcp(name, address, more),
                    tcp(name, "127.0.0.1:1"),
                    demo(name, more="enabled = false"),
                ]
            )
        return tables

    def tables() -> dict[str, str]:
        blue = dice.choice(["0-1", "2-4"])
        return {
            "hub": f"ring = {dice.choice([4096, 65536])}\nmax_dials = {dice.choice([1, 4, 128])}",
            "transcript": f"max_size = {dice.choice([4096, 1 << 20])}\ncompress = {dice.choice(['true', 'false'])}",
            "more": f'[tenants]\nblue = "k[{blue}]"\n[limits]\nidle = "{dice.choice([30, 60])}s"',
            "http": f"listen = {json.dumps(places[: dice.choice([1, 2])])}",
        }

    places = [f"tcp:{port}:interface=127.0.0.1" for port in (house.port, free_port())]
    await house.start(kept(), others(), **tables())
    await house.connected(*names)
    ports = {name: house.nodes[name].call.port for name in names}
    viewers = {name: [await house.viewer(name) for _ in range(2)] for name in names}
    typists = {name: await house.viewer(name, "interact") for name in names}
    sockets = {client: client.transport.getHost().port for client in house.clients}
    links = {name: house.daemon._hub.find(name).link for name in names}
    consoles = {name: house.daemon._hub.find(name) for name in names}
    seen = set()
    said = ""
    for turn in range(50):
        line = f"line {turn:06} {dice.random()}\r\n"
        for name in names:
            house.nodes[name].say(line[:7])
        changes = await house.reload(kept(), others(), **tables())
        seen |= {key for key in ("added", "changed", "removed", "reconnected", "settings") if getattr(changes, key)}
        assert not set(names) & {*changes.added, *changes.removed, *changes.reconnected}
        for name in names:
            house.nodes[name].say(line[7:])
            typists[name].press(b"%d;" % turn)
        said += line
        assert {name: house.nodes[name].call.port for name in names} == ports
    assert {client: client.transport.getHost().port for client in house.clients} == sockets
    for name in names:
        for viewer in (*viewers[name], typists[name]):
            await viewer.until(line)
            assert viewer.state == viewer.STATE_OPEN
        for viewer in viewers[name]:
            assert viewer.said.decode().partition("connected to")[2].partition("UTC.\r\n")[2] == said
        keys = b"".join(b"%d;" % turn for turn in range(50))
        await eventually(lambda name=name, keys=keys: house.nodes[name].call.heard == keys, "what was typed")
        assert len(house.nodes[name].calls) == 1
        assert house.daemon._hub.find(name) is consoles[name]
        assert consoles[name].link is links[name]
        assert len(consoles[name].attachments) == 3
    assert seen == {"added", "changed", "removed", "reconnected", "settings"}, "else nothing has been tried"


@pytest_twisted.ensureDeferred
async def test_a_simulated_machine_goes_on(house: House) -> None:
    await house.start(demo("n1", "echo"))
    link = house.daemon._hub.find("n1").link
    backend = link._backend
    await house.reload(demo("n1", "echo", 'retry_max = "90s"'), demo("n2"))
    assert link._backend is backend
    changes = await house.reload(demo("n1", "chatter"), demo("n2"))
    assert changes == Changes(changed=("n1",), reconnected=("n1",))
    assert link._backend is not backend


# ------------------------------------------------------------------------------------------------- consoles


@pytest_twisted.ensureDeferred
async def test_a_console_that_moves_is_dialled_anew_and_keeps_its_clients(house: House) -> None:
    await house.start(house.node("n1"))
    await house.connected("n1")
    viewer = await house.viewer("n1")
    before = house.nodes["n1"]
    house.nodes["n1"] = Node()
    house.nodes["before"] = before
    changes = await house.reload(house.node("n1"))
    assert changes == Changes(changed=("n1",), reconnected=("n1",))
    await house.connected("n1")
    house.nodes["n1"].say("here I am\r\n")
    seen = await viewer.until("here I am")
    assert f"disconnected from <{before.address}> at" in seen
    assert f"connected to <{house.nodes['n1'].address}> at" in seen
    assert not any(call.is_there for call in before.calls)


@pytest_twisted.ensureDeferred
async def test_a_console_that_is_waiting_dials_the_new_address_at_once(house: House) -> None:
    await house.start(tcp("n1", "127.0.0.1:1", 'retry_initial = "1h"\nretry_max = "1h"'))
    await eventually(lambda: type(house.daemon._hub.find("n1").link.status).__name__ == "Waiting")
    await house.reload(house.node("n1", 'retry_initial = "1h"\nretry_max = "1h"'))
    await house.connected("n1")


@pytest_twisted.ensureDeferred
async def test_a_shorter_patience_counts_at_once(house: House) -> None:
    address = f"127.0.0.1:{free_port()}"
    await house.start(tcp("n1", address, 'retry_initial = "1h"\nretry_max = "1h"'))
    link = house.daemon._hub.find("n1").link
    await eventually(lambda: type(link.status).__name__ == "Waiting")
    changes = await house.reload(tcp("n1", address, 'retry_initial = "1s"\nretry_max = "2s"'))
    assert changes == Changes(changed=("n1",))
    await eventually(lambda: getattr(link.status, "until", 1e12) < reactor.seconds() + 1e9 and link._failures > 1)


@pytest_twisted.ensureDeferred
async def test_the_clients_of_a_console_that_is_removed_are_told(house: House) -> None:
    await house.start(house.node("n1"), house.node("n2"))
    await house.connected("n1", "n2")
    gone, stays = await house.viewer("n1"), await house.viewer("n2")
    changes = await house.reload(house.node("n2"))
    assert changes == Changes(removed=("n1",))
    assert await closed(gone) == "1001 The console was taken out of the configuration"
    assert stays.state == stays.STATE_OPEN
    assert "404" in await house.status("n1")
    await eventually(lambda: not any(call.is_there for call in house.nodes["n1"].calls), "the hanging up")
    await eventually(lambda: "log closed" in house.stream("n1").splitlines()[-1], "the end of the transcript")
    head = len(house.stream("n1"))
    assert (await house.reload(house.node("n1"), house.node("n2"))).added == ("n1",)
    assert house.daemon._hub.find("n1").head > head, "offsets go on"
    await house.connected("n1")


@pytest_twisted.ensureDeferred
async def test_a_console_that_is_switched_off_and_on(house: House) -> None:
    await house.start(house.node("n1"))
    await house.connected("n1")
    viewer = await house.viewer("n1")
    assert await house.reload(house.node("n1", "enabled = false")) == Changes(changed=("n1",))
    assert await closed(viewer) == "1001 The console was switched off"
    assert "404" in await house.status("n1")
    assert await house.reload(house.node("n1", "enabled = false")) == Changes()
    assert await house.reload(house.node("n1")) == Changes(changed=("n1",))
    await house.connected("n1")
    assert await house.status("n1") == "open"
    await house.reload(house.node("n1", "enabled = false"))
    assert (await house.reload()).removed == ("n1",)


@pytest_twisted.ensureDeferred
async def test_a_link_that_is_held_stays_so_while_its_console_is_away(house: House) -> None:
    await house.start(house.node("n1"))
    await house.connected("n1")
    house.daemon._hub.find("n1").link.park("ada@h")
    await house.reload()
    assert (await house.reload(house.node("n1"))).added == ("n1",)
    console = house.daemon._hub.find("n1")
    assert getattr(console.link.status, "by", "") == "ada@h"
    console.link.release()
    await house.connected("n1")
    assert len(house.nodes["n1"].calls) == 2


@pytest_twisted.ensureDeferred
async def test_on_demand_on_and_off(house: House) -> None:
    await house.start(house.node("n1"))
    await house.connected("n1")
    assert (await house.reload(house.node("n1", 'on_demand = true\nlinger = "0s"'))).reconnected == ()
    await eventually(lambda: not any(call.is_there for call in house.nodes["n1"].calls), "the hanging up")
    await house.reload(house.node("n1"))
    await house.connected("n1")
    viewer = await house.viewer("n1")
    await house.reload(house.node("n1", 'on_demand = true\nlinger = "0s"'))
    assert house.nodes["n1"].call, "somebody is there"
    await viewer.leave()
    await eventually(lambda: not any(call.is_there for call in house.nodes["n1"].calls), "the hanging up")


@pytest_twisted.ensureDeferred
async def test_input_that_begins_to_be_recorded_is_announced(house: House) -> None:
    await house.start(house.node("n1"))
    await house.connected("n1")
    typist = await house.viewer("n1", "interact")
    typist.press(b"before")
    await eventually(lambda: house.nodes["n1"].call.heard == b"before")
    assert (await house.reload(house.node("n1", "record_input = true"))).reconnected == ()
    await typist.until("Input to console [n1] is recorded")
    typist.press(b"after")
    record = house.home / "transcripts" / "input.n1"
    await eventually(lambda: record.exists() and record.read_text())
    assert [json.loads(line)["input"] for line in record.read_text().splitlines()] == ["after"]
    await house.reload(house.node("n1"))
    await typist.until("Input to console [n1] is no longer recorded")
    assert len(house.nodes["n1"].calls) == 1


# ------------------------------------------------------------------------------------------------- the daemon's own


@pytest_twisted.ensureDeferred
async def test_what_all_consoles_share(house: House) -> None:
    await house.start(house.node("n1"), demo("n2"))
    await house.connected("n1")
    changes = await house.reload(
        house.node("n1"), demo("n2"), hub='tag = "<new>"\nring = 4096\nmax_clients = 1', transcript="max_size = 4096"
    )
    assert changes == Changes(settings=("hub", "transcript"))
    console = house.daemon._hub.find("n1")
    assert console.ring.capacity == 4096
    viewer = await house.viewer("n1")
    assert "503" in await house.status("n1")
    house.nodes["n1"].call.transport.loseConnection()
    await viewer.until("<new> Console [n1] disconnected")
    await house.connected("n1")
    house.nodes["n1"].say("x" * 5000 + "\r\nend\r\n")
    await viewer.until("end")
    house.nodes["n1"].say("of it\r\n")
    await eventually(lambda: list((house.home / "transcripts").glob("console.n1.0*")), "the rotation")


@pytest_twisted.ensureDeferred
async def test_what_takes_a_restart_is_said_each_time_and_left_alone(house: House) -> None:
    await house.start(demo("n1"))
    elsewhere = 'directory = "elsewhere"'
    text = house.path.read_text()
    for _ in range(2):
        house.path.write_text(text.replace('directory = "transcripts"', elsewhere).replace('"state"', '"other"'))
        changes = await house.daemon.reload()
        assert changes == Changes(restart=("hub.state", "transcript.directory"))
        assert "NOT taken up before a restart: hub.state, transcript.directory" in str(changes)
    await house.daemon.reload()
    house.path.write_text(text + demo("n2"))
    assert await house.daemon.reload() == Changes(added=("n2",))
    assert (house.home / "transcripts" / "console.n2").exists()
    assert not (house.home / "elsewhere").exists()


@pytest_twisted.ensureDeferred
async def test_listeners_come_and_go_and_open_sessions_stay(house: House) -> None:
    await house.start(house.node("n1"))
    await house.connected("n1")
    viewer = await house.viewer("n1")
    there = free_port()
    both = f'listen = ["tcp:{house.port}:interface=127.0.0.1", "tcp:{there}:interface=127.0.0.1"]'
    await house.reload(house.node("n1"), http=both)
    second = await house.viewer("n1", port=there)
    await house.reload(house.node("n1"), http=f'listen = ["tcp:{there}:interface=127.0.0.1"]')
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", house.port)).close()
    assert await house.status("n1", port=there) == "open"
    house.nodes["n1"].say("still here\r\n")
    await viewer.until("still here")
    await second.until("still here")


@pytest_twisted.ensureDeferred
async def test_a_listener_takes_the_port_of_the_one_that_it_replaces(house: House) -> None:
    """Both cannot have it at once; if the new one cannot be had after all, the old one is there again."""
    await house.start(demo("n1"))
    wide = f'listen = ["tcp:{house.port}"]\ninsecure = true'
    with socket.create_server(("127.0.0.1", 0)) as taken:
        other = taken.getsockname()[1]
        why = await house.refused(demo("n1"), http=f'listen = ["tcp:{house.port}", "tcp:{other}"]\ninsecure = true')
        assert f"http.listen: tcp:{other}: " in why
        assert "Address already in use" in why
        assert await house.status("n1") == "open"
    assert (await house.reload(demo("n1"), http=wide)).settings == ("http",)
    assert await house.status("n1") == "open"


@pytest_twisted.ensureDeferred
async def test_tls_takes_over_a_port(house: House) -> None:
    authority = trustme.CA()
    pair = authority.issue_cert("localhost")
    (house.home / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
    (house.home / "key.pem").write_bytes(pair.private_key_pem.bytes())
    (house.home / "key.pem").chmod(0o600)
    await house.start(demo("n1"))
    viewer = await house.viewer("n1")
    place = f"tcp:{house.port}:interface=127.0.0.1"
    tls = f'[tls]\nlisten = ["{place}"]\ncertificates = [{{ certificate = "cert.pem", key = "key.pem" }}]\n'
    assert (await house.reload(demo("n1"), http="listen = []", more=tls)).settings == ("http", "tls")
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def speak() -> bytes:
        plain = socket.create_connection(("127.0.0.1", house.port), LIMIT)
        with context.wrap_socket(plain, server_hostname="localhost") as line:
            line.sendall(b"GET /console-operator/liveness HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return line.recv(100)

    assert (await deferToThread(speak)).startswith(b"HTTP/1.1 204 ")
    assert viewer.state == viewer.STATE_OPEN
    (house.home / "key.pem").write_text("no key")
    assert "tls.certificates[0]: " in await house.refused(demo("n1"), http="listen = []", more=tls)
    assert (await deferToThread(speak)).startswith(b"HTTP/1.1 204 ")
    assert (await house.reload(demo("n1"))).settings == ("http", "tls")
    assert await house.status("n1") == "open"


@pytest_twisted.ensureDeferred
async def test_another_certificate_is_shown_and_nobody_is_dropped(house: House) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    (place := house.home / "pairs").mkdir()
    for name in ("old", "new"):
        pair = authority.issue_cert(f"{name}.example")
        (place / f"{name}.pem").write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
        (place / f"{name}.key").write_bytes(pair.private_key_pem.bytes())
        (place / f"{name}.key").chmod(0o600)

    def shown(name: str) -> str:
        pair = f'{{ certificate = "pairs/{name}.pem", key = "pairs/{name}.key" }}'
        return f'[tls]\nlisten = ["tcp:{house.port}:interface=127.0.0.1"]\ncertificates = [{pair}]\n'

    def line(name: str) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", house.port), LIMIT)
        return context.wrap_socket(plain, server_hostname=f"{name}.example")  # verified

    def ask(line: ssl.SSLSocket) -> bytes:
        line.sendall(b"GET /console-operator/liveness HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += (more := line.recv(1000))
            assert more, answer
        return answer

    await house.start(demo("n1"), http="listen = []", more=shown("old"))
    with await deferToThread(line, "old") as before:
        assert (await deferToThread(ask, before)).startswith(b"HTTP/1.1 204 ")
        assert (await house.reload(demo("n1"), http="listen = []", more=shown("new"))).settings == ("tls",)
        with await deferToThread(line, "new") as after:
            assert (await deferToThread(ask, after)).startswith(b"HTTP/1.1 204 ")
        assert (await deferToThread(ask, before)).startswith(b"HTTP/1.1 204 ")


@pytest_twisted.ensureDeferred
async def test_limits_count_for_whoever_comes_next(house: House) -> None:
    await house.start(demo("n1"))
    long = {"X-Long": "x" * 2000}
    viewers = [await house.viewer("n1", headers=long) for _ in range(2)]
    assert (await house.reload(demo("n1"), more='[limits]\nheaders = "1 KiB"\n')).settings == ("limits",)
    assert "431" in await house.status("n1", headers=long)
    await house.reload(demo("n1"), more="[limits]\nconnections_each_address = 2\n")
    pushed = await house.client("n1")
    await eventually(lambda: pushed.over.called, "the end of one too many")
    assert pushed.state != pushed.STATE_OPEN
    assert all(viewer.state == viewer.STATE_OPEN for viewer in viewers)
    await house.reload(demo("n1"))
    assert await house.status("n1") == "open"


@pytest_twisted.ensureDeferred
async def test_the_metrics_of_single_consoles(house: House) -> None:
    pool = HTTPConnectionPool(reactor, persistent=False)

    async def metrics() -> str:
        return str(await (await treq.get(f"http://127.0.0.1:{house.port}/metrics", pool=pool)).text())

    await house.start(demo("n1"))
    assert "consoled_console_up" not in await metrics()
    assert (await house.reload(demo("n1"), more="[metrics]\nper_console = true")).settings == ("metrics",)
    assert 'consoled_console_up{console="n1"' in await metrics()


@pytest_twisted.ensureDeferred
async def test_transcripts_begin_to_be_compressed_and_counted(house: House) -> None:
    await house.start(house.node("n1"), transcript="max_size = 4096")
    await house.connected("n1")
    viewer = await house.viewer("n1")
    kept = house.home / "transcripts"

    async def say(turn: int) -> None:
        house.nodes["n1"].say("x" * 5000 + f"\r\nend {turn}\r\n")
        await viewer.until(f"end {turn}")

    for turn in range(3):
        await say(turn)
    await eventually(lambda: len([*kept.glob("console.n1.0*")]) >= 2, "the rotation")
    assert not [*kept.glob("console.n1.*.gz")]
    await house.reload(house.node("n1"), transcript="max_size = 4096\ncompress = true\nkeep = 1")
    await say(3)
    await eventually(lambda: [path.suffix for path in kept.glob("console.n1.0*")] == [".gz"], "the upkeep")


@pytest_twisted.ensureDeferred
async def test_the_faces(house: House) -> None:
    await house.start(demo("n1"))
    assert await house.status("n1", base="/elsewhere") != "open"
    await house.reload(demo("n1"), more='[csm]\nbase_path = "/elsewhere"\n[cloudapi]\n')
    assert await house.status("n1", base="/elsewhere") == "open"
    pool = HTTPConnectionPool(reactor, persistent=False)
    ping = f"http://127.0.0.1:{house.port}/--ping"
    assert (await treq.get(ping, pool=pool)).code == 200
    await house.reload(demo("n1"))
    assert (await treq.get(ping, pool=pool)).code == 404
    assert await house.status("n1", base="/elsewhere") != "open"


@pytest_twisted.ensureDeferred
async def test_the_audit_goes_to_another_file(house: House) -> None:
    await house.start(demo("n1"), more='[audit]\nfile = "a.log"\n')
    assert await house.status("n1") == "open"
    await house.reload(demo("n1"), more='[audit]\nfile = "b.log"\n')
    assert await house.status("n1") == "open"
    (house.home / "file").write_text("in the way")
    assert "audit.file: " in await house.refused(demo("n1"), more='[audit]\nfile = "file/c.log"\n')

    def actions(name: str) -> list[str]:
        path = house.home / name
        return [json.loads(line)["action"] for line in path.read_text().splitlines()] if path.exists() else []

    await eventually(lambda: "reload" in actions("b.log"), "the record of the reload")
    await eventually(lambda: any("failed" in line for line in (house.home / "b.log").read_text().splitlines()))
    assert "attached" in actions("a.log")
    assert "reload" not in actions("a.log")


# ------------------------------------------------------------------------------------------------- rights


def tokens(house: House, *entries: str) -> None:
    (house.home / "tokens.toml").write_text("".join(entries))


def token(name: str, headers: dict[str, str], role: str, more: str = "") -> str:
    digest = sha256(headers["Authorization"].removeprefix("Bearer ").encode()).hexdigest()
    return f'[[token]]\nname = "{name}"\nsha256 = "{digest}"\nrole = "{role}"\n{more}\n'


AUTH = '[auth]\ntokens = "tokens.toml"\n'


@pytest_twisted.ensureDeferred
async def test_sessions_whose_right_is_gone_are_closed_at_once_and_no_others(house: House) -> None:
    tokens(house, token("ann", ADMIN, "admin"), token("will", WATCHER, "watcher"))
    watcher = '[[role]]\nname = "watcher"\nverbs = ["list", "tail"]\n'
    await house.start(demo("n1"), more=AUTH + watcher)
    ann = await house.viewer("n1", headers=ADMIN)
    will = await house.viewer("n1", headers=WATCHER)
    await house.reload(demo("n1"), more=AUTH + watcher.replace(', "tail"', ""))
    assert (await closed(will)).startswith("4403 ")
    await house.reload(demo("n1"), more=AUTH + watcher)
    will = await house.viewer("n1", headers=WATCHER)
    tokens(house, token("ann", ADMIN, "admin"))
    await house.reload(demo("n1"), more=AUTH + watcher)
    assert (await closed(will)).startswith("4401 ")
    assert ann.state == ann.STATE_OPEN


@pytest_twisted.ensureDeferred
async def test_another_tokens_file_and_none_at_all(house: House) -> None:
    tokens(house, token("ann", ADMIN, "admin"), token("will", WATCHER, "viewer"))
    await house.start(demo("n1"), more=AUTH)
    ann, will = await house.viewer("n1", headers=ADMIN), await house.viewer("n1", headers=WATCHER)
    (house.home / "others.toml").write_text(token("ann", ADMIN, "viewer"))
    await house.reload(demo("n1"), more=AUTH.replace("tokens.toml", "others.toml"))
    assert (await closed(will)).startswith("4401 ")
    assert ann.state == ann.STATE_OPEN
    accounts = '[auth]\n[cloudapi]\naccounts = "accounts.toml"\n'
    (house.home / "accounts.toml").write_text("")
    await house.reload(demo("n1"), more=accounts)
    assert (await closed(ann)).startswith("4401 ")
    assert "401" in await house.status("n1", headers=ADMIN)


@pytest_twisted.ensureDeferred
async def test_an_identity_provider_comes_and_goes(house: House) -> None:
    keycloak = Keycloak()
    (house.home / "realm.json").write_text(json.dumps(keycloak.jwks()))
    now = int(time.time())
    words = keycloak.token(keycloak.claims(iat=now - 1, exp=now + 3600))
    tokens(house, token("will", WATCHER, "viewer"))
    bearer = {"Authorization": f"Bearer {words}"}
    provider = '[[auth.jwt]]\npreset = "csm"\nkey_files = ["realm.json"]\n'
    await house.start(demo("n1"), more=AUTH)
    assert "401" in await house.status("n1", headers=bearer)
    will = await house.viewer("n1", headers=WATCHER)
    assert (await house.reload(demo("n1"), more=AUTH + provider)).settings == ("auth",)
    ada = await house.viewer("n1", headers=bearer)
    await house.reload(demo("n1"), more=AUTH)
    assert (await closed(ada)).startswith("4401 ")
    assert will.state == will.STATE_OPEN


@pytest_twisted.ensureDeferred
async def test_a_lock_is_put_on_and_taken_off(house: House) -> None:
    tokens(house, token("ann", ADMIN, "admin"))
    await house.start(demo("n1"))
    anybody = await house.viewer("n1")
    await house.reload(demo("n1"), more=AUTH)
    assert (await closed(anybody)).startswith("4401 ")
    assert "401" in await house.status("n1")
    ann = await house.viewer("n1", headers=ADMIN)
    await house.reload(demo("n1"))
    assert await house.status("n1") == "open"
    assert ann.state == ann.STATE_OPEN


@pytest_twisted.ensureDeferred
async def test_a_tenant_loses_a_node(house: House) -> None:
    tokens(house, token("ann", ADMIN, "viewer", 'tenants = ["blue"]'))
    await house.start(demo("n[1-2]"), more=AUTH + '[tenants]\nblue = "n[1-2]"\n')
    loses, keeps = await house.viewer("n1", headers=ADMIN), await house.viewer("n2", headers=ADMIN)
    await house.reload(demo("n[1-2]"), more=AUTH + '[tenants]\nblue = "n2"\n')
    assert (await closed(loses)).startswith("4403 ")
    assert keeps.state == keeps.STATE_OPEN


@pytest_twisted.ensureDeferred
async def test_another_tenant_service_is_asked(house: House) -> None:
    tokens(house, token("ann", ADMIN, "viewer", 'tenants = ["blue"]'))
    services = [reactor.listenTCP(0, Site(Page(Tapms(blue=nodes))), interface="127.0.0.1") for nodes in ("n1", "n2")]
    try:
        first, second = (
            f'[tapms]\nurl = "http://127.0.0.1:{port.getHost().port}"\nunsafe_plaintext = true\n' for port in services
        )
        await house.start(demo("n[1-2]"), more=AUTH + first)
        loses = await house.viewer("n1", headers=ADMIN)
        assert "403" in await house.status("n2", headers=ADMIN)
        assert (await house.reload(demo("n[1-2]"), more=AUTH + second)).settings == ("tapms",)
        assert (await closed(loses)).startswith("4403 ")
        assert await house.status("n2", headers=ADMIN) == "open"
    finally:
        for port in services:
            await port.stopListening()


# ------------------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("consoles", "tables", "named"),
    [
        (demo("n1", "singer"), {}, "console[0].role: "),
        (demo("n1", "flaky", "mean_uptime = 0"), {}, "console n1: mean_uptime: "),
        (demo("n1") * 2, {}, "n1"),
        (demo("n1"), {"http": 'listen = ["gopher:1:interface=127.0.0.1"]\ninsecure = true'}, "http.listen: gopher:1"),
        (demo("n1"), {"http": 'listen = ["tcp:1:interface=127.0.0.1"]\norigins = ["nowhere"]'}, "http.origins: "),
        (
            demo("n1"),
            {"http": 'listen = ["tcp:1:interface=127.0.0.1"]\ntrusted_proxies = ["x"]'},
            "http.trusted_proxies",
        ),
        (demo("n1"), {"hub": "ring = 1"}, "hub: ring"),
        (demo("n1"), {"transcript": "max_size = 1"}, "transcript: max_size"),
        (demo("n1"), {"more": "[limits]\nwaiting = 0"}, "limits.waiting: "),
        (demo("n1"), {"more": '[auth]\ntokens = "absent.toml"'}, "auth.tokens: "),
        (demo("n1"), {"more": '[auth]\n[[auth.jwt]]\npreset = "csm"\nkey_files = ["absent"]'}, "auth.jwt[0]: "),
        (demo("n1"), {"more": '[tenants]\nblue = "n["'}, "tenants.blue: "),
        (demo("n1"), {"more": '[[role]]\nname = "r"\nverbs = []\nconsoles = "@none"'}, "role[0].consoles: "),
        (demo("n1"), {"more": '[tapms]\nurl = "https://tapms"\nca = "absent.pem"'}, "tapms: "),
        (demo("n1"), {"more": '[vault]\naddress = "https://v"\nca = "absent"\ntoken = { env = "T" }'}, "vault: "),
        (demo("n1"), {"more": '[cloudapi]\naccounts = "absent.toml"'}, "cloudapi: "),
        (demo("n1"), {"more": '[tls]\ncertificates = [{ certificate = "absent", key = "absent" }]'}, "tls"),
        (demo("n1"), {"more": "[http"}, "line"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_mistake_is_named_and_changes_nothing(
    house: House, consoles: str, tables: dict[str, str], named: str
) -> None:
    await house.start(house.node("stays"), demo("goes"))
    await house.connected("stays")
    viewers = [await house.viewer("stays"), await house.viewer("goes")]
    daemon = house.daemon
    before = daemon._config, daemon._terms, daemon._records, daemon._plan, dict(daemon._reception.listeners._at)
    assert named in await house.refused(consoles, demo("new"), **tables)
    assert before == (
        *(daemon._config, daemon._terms, daemon._records, daemon._plan),
        dict(daemon._reception.listeners._at),
    )
    assert [console.name for console in daemon._hub] == ["stays", "goes"]
    house.nodes["stays"].say("unharmed\r\n")
    await viewers[0].until("unharmed")
    assert viewers[1].state == viewers[1].STATE_OPEN
    assert await house.reload(house.node("stays"), demo("goes")) == Changes(), "and it can be mended"


# ------------------------------------------------------------------------------------------------- who asks, and when


@pytest_twisted.ensureDeferred
async def test_by_http(house: House) -> None:
    tokens(house, token("ann", ADMIN, "admin"), token("will", WATCHER, "operator"))
    await house.start(demo("n1"), more=AUTH)
    house.write(demo("n2"), more=AUTH)
    assert (await house.post())[0] == 401
    assert (await house.post(headers=WATCHER))[0] == 403
    assert [console.name for console in house.daemon._hub] == ["n1"]
    status, changes = await house.post(headers=ADMIN)
    assert (status, changes["added"], changes["removed"]) == (200, ["n2"], ["n1"])
    house.write(demo("n2", "singer"), more=AUTH)
    status, refusal = await house.post(headers=ADMIN)
    assert status == 422
    assert "console[0].role: " in refusal["message"]


@pytest_twisted.ensureDeferred
async def test_by_signal_and_what_systemd_is_told(house: House, process: socket.socket) -> None:
    await house.start(demo("n1"))

    assert await eventually(lambda: told(process)) == b"READY=1"
    for text in (demo("n[1-2]"), demo("n3", "singer")):
        house.write(text)
        os.kill(os.getpid(), signal.SIGHUP)
        assert (await eventually(lambda: told(process))).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert await eventually(lambda: told(process)) == b"READY=1"
        assert sorted(console.name for console in house.daemon._hub) == ["n1", "n2"]


@pytest_twisted.ensureDeferred
async def test_all_who_ask_while_one_is_under_way_share_the_next(house: House) -> None:
    await house.start(demo("n1"))
    reads: list[int] = []
    read = house.daemon._read

    def counted() -> Any:
        reads.append(1)
        return read()

    house.daemon._read = counted
    first = house.daemon.reload()
    house.write(demo("n[1-2]"))
    others = [house.daemon.reload() for _ in range(10)]
    await first
    assert {(await other).added for other in others} <= {("n2",), ()}
    assert len(reads) == 2
    assert house.daemon._hub.find("n2")


@pytest_twisted.ensureDeferred
async def test_one_that_comes_while_it_starts_waits_for_that(house: House) -> None:
    house.write(demo("n1"))
    house.begin()
    house.write(demo("n[1-2]"))
    assert (await house.daemon.reload()).added == ("n2",)


@pytest_twisted.ensureDeferred
async def test_one_that_comes_while_it_stops_is_refused(house: House) -> None:
    await house.start(demo("n[1-9]"))
    house.write(demo("n[5-200]"))
    under_way, waiting = house.daemon.reload(), house.daemon.reload()
    stopping = house.daemon.stopService()
    late = house.daemon.reload()
    for one in (under_way, waiting, late):
        with pytest.raises(NotOpen):
            await one
    await stopping
    del house.daemon


@pytest_twisted.ensureDeferred
async def test_a_stop_in_the_middle_leaves_whole_transcripts(house: House) -> None:
    await house.start(demo("n[1-9]"), house.node("slow"))
    house.write(demo("n[5-60]"))
    outcome: list[Any] = []
    middle: Deferred[None] = Deferred()
    hub = house.daemon._hub
    remove = hub.remove

    def remove_first(name: str, why: str) -> Any:
        if not middle.called:
            middle.callback(None)
        return remove(name, why)

    hub.remove = remove_first
    reloading = house.daemon.reload().addBoth(outcome.append)
    await middle.addTimeout(LIMIT, reactor)
    await house.daemon.stopService()
    await reloading
    for file in (house.home / "transcripts").glob("console.*"):
        if text := file.read_text():
            assert "log closed" in text.splitlines()[-1], file
    del house.daemon


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


@pytest_twisted.ensureDeferred
async def test_twenty_reloads_leave_nothing_behind(house: House) -> None:
    await house.start(house.node("n1"), demo("n2"))
    await house.connected("n1")
    calls = None
    for turn in range(20):
        await house.reload(house.node("n1"), demo(f"n{turn % 3 + 2}"), more=f"[limits]\nmessages = {turn + 1}")
        if turn == 9:
            calls = len(reactor.getDelayedCalls()), len(reactor.getReaders()), descriptors()
    assert calls is not None

    def settled() -> bool:
        now = len(reactor.getDelayedCalls()), len(reactor.getReaders()), descriptors()
        return all(after <= before + 2 for after, before in zip(now, calls, strict=True))

    await eventually(settled, "the same number of calls, readers and descriptors")
