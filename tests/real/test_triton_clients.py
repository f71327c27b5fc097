"""Triton's clients against the whole daemon, between VMAPI, CNAPI and vmadmd as a data centre has them.

The clients are `triton` itself, as published, and one on the packages that it is made of, since its `console` command
is not published yet.  The services are played here: they answer as theirs do, slowly, wrongly, or not at all.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from consoled.auth.accounts import fingerprints
from tests.real import lack, need
from tests.real.daemon import RunningDaemon
from tests.real.talk import Owner, Program, Talk

pytestmark = pytest.mark.real

HERE = Path(__file__).parent
INSTALLING = 300.0
"""Seconds for npm."""

ACME = "930896af-bf8c-48d4-885c-6573a94b1853"
WEB = "b2c5c0cb-0a0b-4a0e-9a0e-1b2c3d4e5f60"
"""A machine that VMAPI knows."""
ZONE = "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"
"""One whose console is configured, and is a zone's."""
SERVER = "564d1b5c-2f2c-4b4d-8f1d-7d3f3c1a9d5e"
KEYS = {
    "rsa": rsa.generate_private_key(65537, 2048),
    "ecdsa": ec.generate_private_key(ec.SECP256R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "bob": ec.generate_private_key(ec.SECP256R1()),
    "stranger": rsa.generate_private_key(65537, 2048),
}


def public(name: str) -> str:
    return KEYS[name].public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


ACCOUNTS = f"""
[[account]]
login = "acme"
uuid = "{ACME}"
keys = ["{public("rsa")}", "{public("ecdsa")}", "{public("ed25519")}"]
    [[account.role]]
    name = "console"
    rules = ["CAN connectmachineconsole"]
    machines = ["{WEB}"]
    [[account.user]]
    login = "bob"
    keys = ["{public("bob")}"]
    roles = ["console"]
"""


# ---------------------------------------------------------------------------------------------- the data centre


class Services(Resource):
    """VMAPI and CNAPI."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.port = 0
        """Where CNAPI says that the console is."""
        self.state = "running"
        self.broken = ""
        """The service that answers 500."""
        self.silent = ""
        """The service that does not answer."""

    def render_GET(self, request: Any) -> Any:
        path = request.path.decode()
        self.asked.append(path)
        service = "vmapi" if path.startswith("/vms/") else "cnapi"
        if self.silent == service:
            return NOT_DONE_YET
        request.setHeader("content-type", "application/json")
        if self.broken == service:
            request.setResponseCode(500)
            return b'{"code":"InternalError","message":"secret of the data centre"}'
        if service == "cnapi":
            assert path == f"/servers/{SERVER}/vms/{WEB}/console"
            return json.dumps({"host": "127.0.0.1", "port": self.port, "type": "socket"}).encode()
        if path != f"/vms/{WEB}" or request.args[b"owner_uuid"] != [ACME.encode()]:
            request.setResponseCode(404)
            return b'{"code":"ResourceNotFound","message":"VM not found"}'
        vm = {"uuid": WEB, "owner_uuid": ACME, "state": self.state, "brand": "bhyve", "server_uuid": SERVER}
        return json.dumps(vm).encode()


class Console(Owner, Protocol):
    """A machine's end of a connection to its console: what was typed is kept, and given back."""

    transport: Any
    greeting = b"login: "

    def connectionMade(self) -> None:
        self.factory.consoles.append(self)
        self.transport.write(self.greeting)
        came, self.factory.came = self.factory.came, Deferred()
        came.callback(self)

    def dataReceived(self, data: bytes) -> None:
        self.received(data)
        self.transport.write(data.replace(b"\r", b"\r\n"))

    def connectionLost(self, reason: Any = None) -> None:
        self.lost(str(reason))


class Zone(Console):
    """The same behind zoneadmd's socket."""

    greeting = b""
    _greeted = False

    def dataReceived(self, data: bytes) -> None:
        if self._greeted:
            super().dataReceived(data)
            return
        assert data == b"IDENT C 0\n"
        self._greeted = True
        self.transport.write(b"OK zone1 /dev/pts/1\nzone login: ")


class Proxy(Factory):
    """vmadmd's listener for one machine, or zoneadmd's socket: it takes any number of connections."""

    noisy = False

    def __init__(self, kind: type[Console]) -> None:
        self.protocol = kind
        self.consoles: list[Console] = []
        self.came: Deferred[Console] = Deferred()
        """Fires with the next one."""

    def here(self) -> list[Console]:
        return [one for one in self.consoles if not one.gone.called]


class DataCentre:
    """All of it around one daemon."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.services = Services()
        self.proxy, self.zone = Proxy(Console), Proxy(Zone)
        site = Site(self.services)
        site.noisy = False
        self.listening = [
            reactor.listenTCP(0, site, interface="127.0.0.1"),
            reactor.listenTCP(0, self.proxy, interface="127.0.0.1"),
            reactor.listenUNIX(str(home / "zone.sock"), self.zone),
        ]
        self.services.port = self.listening[1].getHost().port
        url = f"http://127.0.0.1:{self.listening[0].getHost().port}"
        (home / "accounts.toml").write_text(ACCOUNTS)
        config = f"""
            [auth]
            [cloudapi]
            accounts = "accounts.toml"
            vmapi = "{url}"
            cnapi = "{url}"
            linger = "200ms"
            [[console]]
            name = "zone1"
            kind = "unix"
            path = "zone.sock"
            zone_handshake = true
            account = "{ACME}"
            machine = "{ZONE}"
            brand = "joyent"
        """
        self.daemon = RunningDaemon(reactor, home, config)
        for name, key in KEYS.items():
            kind = PrivateFormat.TraditionalOpenSSL if name in ("rsa", "stranger") else PrivateFormat.OpenSSH
            path = home / name
            path.write_bytes(key.private_bytes(Encoding.PEM, kind, NoEncryption()))
            path.chmod(0o600)

    def again(self) -> None:
        """As it was at the beginning."""
        self.services.asked.clear()
        self.services.state = "running"
        self.services.broken = self.services.silent = ""
        self.services.port = self.listening[1].getHost().port

    async def close(self) -> None:
        await self.daemon.stop()
        for listening in self.listening:
            await listening.stopListening()
        for one in (*self.proxy.here(), *self.zone.here()):
            one.transport.abortConnection()


def blockon(coroutine: Any) -> Any:
    return pytest_twisted.blockon(Deferred.fromCoroutine(coroutine))


@pytest.fixture(scope="module")
def modules() -> Path:
    """A folder with the packages, installed once for each state of the lock file."""
    npm = need("npm", "npm")
    need("node", "nodejs")
    source = HERE / "node_triton"
    digest = sha256((source / "package-lock.json").read_bytes()).hexdigest()[:16]
    place = Path(sys.prefix) / "node" / digest
    if not place.exists():
        making = place.with_name(f"{digest}.{os.getpid()}")
        making.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, making)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(command, cwd=making, capture_output=True, text=True, timeout=INSTALLING, check=False)
        if done.returncode:
            shutil.rmtree(making)
            lack(f"the Node package triton ({done.stderr[-300:]})", "npm")
        try:
            making.rename(place)
        except OSError:  # another test run was quicker
            shutil.rmtree(making)
    return place / "node_modules"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataCentre]:
    centre = DataCentre(tmp_path_factory.mktemp("triton"))
    try:
        blockon(centre.daemon.start())
        yield centre
    finally:
        blockon(centre.close())
    assert "Traceback" not in centre.daemon.log
    assert "signature=" not in centre.daemon.log


@pytest.fixture
def centre(whole: DataCentre) -> Iterator[DataCentre]:
    """The data centre, of which nobody uses the found machine."""
    whole.again()
    yield whole
    for one in whole.proxy.here():
        pytest_twisted.blockon(one.end())


@pytest.fixture
def begin(centre: DataCentre, modules: Path) -> Iterator[Any]:
    """Start a client, and see that it ends with the test."""
    started: list[Program] = []

    def begin(key: str, *more: str, machine: str = WEB, user: str = "acme", pty: bool = False) -> Program:
        path = f"/{user.partition('/')[0]}/machines/{machine}/console"
        argv = [
            need("node", "nodejs"),
            str(HERE / "node_triton" / "client.js"),
            f"http://{centre.daemon.address}",
            path,
        ]
        client = Program([*argv, user, str(centre.home / key), *more], {"NODE_PATH": str(modules)}, pty=pty)
        started.append(client)
        return client

    yield begin
    for client in started:
        pytest_twisted.blockon(client.leave())


# ---------------------------------------------------------------------------------------------- who may come in


@pytest.mark.parametrize("how", ["", "presigned"])
@pytest.mark.parametrize("key", ["rsa", "ecdsa", "ed25519"])
@pytest_twisted.ensureDeferred
async def test_every_kind_of_key_in_a_header_and_in_a_url(begin: Any, key: str, how: str) -> None:
    client = begin(key, how)
    await client.until("login: ")
    client.type("root")
    await client.until("root\n")


@pytest.mark.parametrize("how", ["", "presigned"])
@pytest_twisted.ensureDeferred
async def test_a_sub_user_by_its_role(begin: Any, how: str) -> None:
    client = begin("bob", how, user="acme/bob")
    await client.until("login: ")
    await begin("bob", how, user="acme/bob", machine=ZONE).until('refused 403 {"code":"NotAuthorized"')


@pytest_twisted.ensureDeferred
async def test_refusals_have_a_body_that_node_can_read(begin: Any, centre: DataCentre) -> None:
    await begin("stranger").until('refused 401 {"code":"InvalidCredentials"')
    await begin("rsa", machine=ACME).until('refused 404 {"code":"ResourceNotFound"')
    centre.services.state = "stopped"
    await begin("rsa").until('refused 400 {"code":"MachineStoppedError"')


# ---------------------------------------------------------------------------------------------- a session


@pytest_twisted.ensureDeferred
async def test_a_raw_terminal_and_its_own_way_out(begin: Any, centre: DataCentre) -> None:
    came = centre.proxy.came
    client = begin("ed25519", pty=True)
    console = await came
    await client.until("login: ")
    client.transport.write(b"\x03\x04\x1a\xc3\xa4&.")  # nothing of it is the terminal's, or ours
    await console.until(b"\x03\x04\x1a\xc3\xa4&.")
    client.transport.write(b"exit\x1d")
    await client.until("closed NORMAL")
    await console.until(b"exit")
    await console.end()
    assert b"\x1d" not in console.output


@pytest_twisted.ensureDeferred
async def test_several_clients_share_one_connection(begin: Any, centre: DataCentre) -> None:
    first = begin("rsa")
    await first.until("login: ")
    second = begin("ecdsa")
    await second.until("attached")
    first.type("hello")
    await first.until("hello")
    await second.until("hello")
    second.type("there")
    await first.until("there")
    assert len(centre.proxy.here()) == 1
    await first.leave()
    second.type("still here")
    await second.until("still here")


@pytest_twisted.ensureDeferred
async def test_bulk_both_ways(begin: Any, centre: DataCentre) -> None:
    came = centre.proxy.came
    client = begin("rsa")
    console = await came
    await client.until("login: ")
    text = b"".join(b"%07d\n" % number for number in range(50_000))
    client.transport.write(text + b"<end>")
    await console.until(text[-80:] + b"<end>")
    await client.until("<end>")
    assert bytes(client.said).endswith(b"login: " + text + b"<end>")


@pytest_twisted.ensureDeferred
async def test_a_zones_console(begin: Any, centre: DataCentre) -> None:
    first, second = begin("rsa", machine=ZONE), begin("ed25519", machine=ZONE)
    await first.until("attached")
    await second.until("attached")
    first.type("uname")
    await second.until("uname")
    assert len(centre.zone.here()) == 1
    assert b"OK zone1" not in first.said + second.said


@pytest_twisted.ensureDeferred
async def test_the_published_triton(centre: DataCentre, modules: Path, tmp_path: Path) -> None:
    keys = tmp_path / ".ssh"
    keys.mkdir()
    shutil.copy(centre.home / "rsa", keys / "id_rsa")
    (keys / "id_rsa.pub").write_text(public("rsa"))
    md5, _ = fingerprints(KEYS["rsa"].public_key())
    # Without a key agent, whatever the machine has.
    program = [need("env", "coreutils"), "-u", "SSH_AUTH_SOCK", need("node", "nodejs")]
    triton = [*program, str(modules / "triton" / "bin" / "triton"), "-U", f"http://{centre.daemon.address}"]
    argv = [*triton, "-a", "acme", "-k", md5, "instance", "vnc", WEB]
    client = Program(argv, {"HOME": str(tmp_path), "NODE_NO_WARNINGS": "1"})
    try:
        said = await client.until("\n")
        found = re.search(r"vnc://127\.0\.0\.1:(\d+)", said)
        assert found, said
        viewer = await TCP4ClientEndpoint(reactor, "127.0.0.1", int(found[1])).connect(Factory.forProtocol(Viewer))
        await viewer.until("login: ")
        viewer.transport.write(b"root\r")
        await viewer.until("root\r\n")
        [console] = centre.proxy.here()
        console.transport.loseConnection()
        await viewer.over
    finally:
        await client.leave()


class Viewer(Talk, Protocol):
    """Whoever connects to the port that `triton instance vnc` opens."""

    def dataReceived(self, data: bytes) -> None:
        self.heard(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.finish()


# ---------------------------------------------------------------------------------------------- what goes wrong


@pytest_twisted.ensureDeferred
async def test_vmapi_is_down(begin: Any, centre: DataCentre) -> None:
    centre.services.broken = "vmapi"
    client = begin("rsa")
    await client.until("refused 503 ")
    await client.over
    assert b"secret" not in client.said


@pytest.mark.parametrize("how", ["broken", "silent"])
@pytest_twisted.ensureDeferred
async def test_cnapi_is_down(begin: Any, centre: DataCentre, how: str) -> None:
    setattr(centre.services, how, "cnapi")
    client = begin("rsa")
    await client.until("attached")
    await client.until("closed ")
    await client.over
    assert b'"message":"Failed to retrieve console socket details"' in client.said
    assert b"secret" not in client.said


@pytest_twisted.ensureDeferred
async def test_nobody_listens_at_the_port(begin: Any, centre: DataCentre) -> None:
    unused = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
    centre.services.port = unused.getHost().port
    await unused.stopListening()
    client = begin("rsa")
    await client.until("attached")
    await client.until("Failed to connect to console server")


@pytest_twisted.ensureDeferred
async def test_the_machine_stops_in_mid_session_and_comes_back_elsewhere(begin: Any, centre: DataCentre) -> None:
    came = centre.proxy.came
    client = begin("rsa")
    console = await came
    await client.until("login: ")
    console.transport.write(b"going down\r\n")
    console.transport.loseConnection()
    await client.until("going down")
    await client.until("closed ")
    await client.until("Remote connection closed")
    moved = Proxy(Console)
    port = reactor.listenTCP(0, moved, interface="127.0.0.1")
    try:
        centre.services.port = port.getHost().port
        again = begin("rsa")
        await again.until("login: ")
        await again.leave()
        for one in moved.here():
            await one.end()
    finally:
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_client_that_vanishes_lets_go_of_the_machine(begin: Any, centre: DataCentre) -> None:
    came = centre.proxy.came
    client = begin("rsa")
    console = await came
    await client.until("login: ")
    await client.leave()  # SIGKILL
    await console.end()
