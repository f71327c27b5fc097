"""No secret shows: canaries of every kind go through the whole daemon, and then it is searched for them everywhere.

The daemon logs in to SSH servers and BMCs with secrets of every form, some good, some refused, some broken; people show
good and bad tokens and tickets and type passwords.  Each secret must have come where it belongs, and must be in no log,
transcript, index, state file, audit line, argument list, error body, health page, session, `--check` or repr.  What is
typed at a console that records its input is in that record, and nowhere else.
"""

from __future__ import annotations

import json
import pprint
import signal
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from threading import Event, Thread
from typing import Any

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import Site

from consoled.config import ConfigError, load
from tests.backends.ssh_server import Server, ServerTransport, key
from tests.real import need
from tests.real.daemon import READY, RunningDaemon
from tests.real.talk import Program, WebSocket
from tests.real.test_ipmi import PACKAGES, WORKAROUNDS, Bmc
from tests.real.test_ipmi import PASSWORD as BMC_PASSWORD

pytestmark = pytest.mark.real

ESCAPES = (b"&I", b"&W", b"&?", b"&L", b"&R", b"&B", b"&Q", b"&Q")
LAST_ANSWER = "Quiet-mode disabled"
PAUSE = 0.005
"""Seconds between two looks at all argument lists."""


class Canaries:
    """What nobody may see, and what was looked at."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.seen: dict[str, bytes] = {}
        """Everything that somebody could see, by where."""

    def new(self, name: str) -> str:
        return self.add(name, f"c4n4ry-{token_hex(6)}")

    def add(self, name: str, value: str) -> str:
        assert name not in self.values
        self.values[name] = value
        return value

    def saw(self, where: str, what: str | bytes) -> None:
        self.seen[where] = self.seen.get(where, b"") + (what.encode() if isinstance(what, str) else what) + b"\n"

    def found(self) -> list[str]:
        """Which canary is where, in any of the usual spellings."""
        return [
            f"{name} in {where}: {_around(data, at)!r}"
            for where, data in self.seen.items()
            for name, value in self.values.items()
            for spelling in (value.encode(), b64encode(value.encode()).rstrip(b"=")[:-1], value.encode().hex().encode())
            if (at := data.find(spelling)) >= 0
        ]


def _around(data: bytes, at: int) -> bytes:
    return data[max(0, at - 100) : at + 100]


class Watch(Thread):
    """Looks at the argument lists of all processes, over and over."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self._enough = Event()

    def run(self) -> None:
        while not self._enough.wait(PAUSE):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(file.read_bytes())
                except OSError:
                    pass  # it has ended

    def stop(self) -> bytes:
        self._enough.set()
        self.join()
        return b"\n".join(self.seen)


class LoudBmc(Server):
    """An SSH server on a port of its own.  It takes the passwords and keys that it was told to."""

    noisy = False

    def __init__(self) -> None:
        super().__init__()
        self.passwords = set()
        self.listening = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.port = self.listening.getHost().port

    def buildProtocol(self, addr: Any) -> ServerTransport:
        protocol: ServerTransport = super().buildProtocol(addr)
        protocol.server = self
        return protocol


class Vault(Resource):
    """A KV store of version 2.  What it is asked for and has not, it complains about at length."""

    isLeaf = True

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token
        self.secrets: dict[str, str] = {}
        self.words: dict[str, tuple[int, bytes]] = {}
        """Other answers than those of Vault."""
        site = Site(self)
        site.noisy = False
        site.log = lambda request: None
        self.listening = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.address = f"http://127.0.0.1:{self.listening.getHost().port}"

    def render(self, request: Any) -> bytes:
        assert request.getHeader("x-vault-token") == self.token
        name = request.path.decode().removeprefix("/v1/kv/data/")
        status, body = self.words.get(name, (200, b""))
        request.setResponseCode(status)
        return body or json.dumps({"data": {"data": {"Password": self.secrets[name]}}}).encode()


class World:
    """The canaries, where the daemon finds them, and whom it tells."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.canaries = Canaries()
        self.new = self.canaries.new
        self.places = home / "places"
        """Files with secrets: nobody looks for canaries in here."""
        self.places.mkdir()
        self.home = home / "daemon"
        self.home.mkdir()
        self.state = home / "state"
        self.state.mkdir()
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(self.places))
        self.server, self.asker = LoudBmc(), LoudBmc()
        self.vault = Vault(self.new("vault's token"))
        self.consoles: dict[str, bool] = {}
        """Whether they are to come up."""
        self._config = f'[hub]\nstate = "{self.state}"\n[auth]\ntokens = "tokens.toml"\n[vault]\n'
        self._config += f'address = "{self.vault.address}"\ntoken = {self.file(self.vault.token)}\n'
        self._config += f'[audit]\nfile = "{self.home}/audit.log"\nlog = true\n'
        self._config += '[defaults]\nretry_initial = "1h"\nretry_max = "1h"\nconnect_timeout = "10s"\n'

    # What it knows.

    def path(self, value: str | bytes, mode: int = 0o600) -> Path:
        path = self.places / f"place{len(list(self.places.iterdir()))}"
        path.write_bytes(value.encode() if isinstance(value, str) else value)
        path.chmod(mode)
        return path

    def file(self, value: str | bytes, mode: int = 0o600) -> str:
        return f'{{ file = "{self.path(value, mode)}" }}'

    def program(self, script: str) -> str:
        """A reference to what a program prints.  It takes a moment, so that its arguments are seen."""
        return f'{{ command = ["sh", "{self.path(f"sleep 0.2; {script}")}", "asking"] }}'

    def in_vault(self, value: str, words: tuple[int, bytes] | None = None) -> str:
        name = f"place{len(self.vault.secrets)}"
        self.vault.secrets[name] = value
        if words is not None:
            self.vault.words[name] = words
        return f'{{ vault = "kv/{name}", field = "password" }}'

    def forms(self, value: str) -> Mapping[str, str]:
        """Each way to refer to `value`."""
        name = f"PLACE{len(list(self.places.iterdir()))}"
        self._monkeypatch.setenv(name, value)
        return {
            "literal": json.dumps(value),
            "file": self.file(f"{value}\n"),
            "env": f'{{ env = "{name}" }}',
            "credential": f'{{ credential = "{self.path(value).name}" }}',
            "command": self.program(f"cat {self.path(value)}"),
            "vault": self.in_vault(value),
        }

    # Whom it reaches.

    def console(self, name: str, kind: str, up: bool = True, **keys: str) -> None:
        """One that is to come up, or never to."""
        self.consoles[name] = up
        table = "".join(f"{key} = {value}\n" for key, value in keys.items())
        self._config += f'[[console]]\nname = "{name}"\nkind = "{kind}"\n{table}'

    def ssh(self, name: str, up: bool, server: LoudBmc | None = None, **keys: str) -> None:
        port = (server or self.server).port
        self.console(name, "ssh", up, address=f'"127.0.0.1:{port}"', user='"admin"', trust_on_first_use="true", **keys)

    def daemon(self) -> RunningDaemon:
        daemon = RunningDaemon(reactor, self.home, self._config)
        (self.home / "consoled.toml").chmod(0o600)
        return daemon

    def end(self) -> None:
        with ExitStack() as ending:
            for port in (self.server.listening, self.asker.listening, self.vault.listening):
                ending.callback(lambda port=port: pytest_twisted.blockon(port.stopListening()))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(tmp_path, monkeypatch)
    yield world
    world.end()


# ---------------------------------------------------------------------------------------- what goes in


def good_and_refused(world: World) -> list[tuple[str, str]]:
    """Two consoles for each form of a password, of which the server takes one.  Returns the logins."""
    logins = []
    for form in world.forms("any"):
        good, refused = world.new(f"good {form}"), world.new(f"refused {form}")
        world.server.passwords.add(good)
        world.ssh(f"good-{form}", True, password=world.forms(good)[form])
        world.ssh(f"refused-{form}", False, password=world.forms(refused)[form])
        logins += [("password", good), ("password", refused)]
    answer = world.new("answer to a question")
    world.asker.methods = ["keyboard-interactive"]
    world.asker.questions = [([(b"Password: ", False)], 1)]
    world.asker.passwords.add(answer)
    world.ssh("question", True, world.asker, password=json.dumps(answer))
    return logins


def keys(world: World) -> None:
    """A key by reference, one behind a passphrase, and some that cannot be read."""
    private = key("ed25519")._keyObject

    def text(passphrase: str = "") -> str:
        protection = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
        return str(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, protection).decode())

    world.server.keys.add(key("ed25519").blob())
    plain = text()
    world.canaries.add("private key", plain.splitlines()[2])
    world.ssh("key", True, key=world.file(plain))
    world.ssh("literal-key", True, key=json.dumps(plain))
    passphrase, wrong = world.new("passphrase"), world.new("wrong passphrase")
    encrypted = world.path(text(passphrase))
    world.ssh("passphrase", True, key_files=f'["{encrypted}"]', passphrase=world.in_vault(passphrase))
    world.ssh("wrong-passphrase", False, key_files=f'["{encrypted}"]', passphrase=json.dumps(wrong))
    world.ssh("unread", False, key=world.file(f"-----BEGIN PRIVATE KEY-----\n{world.new('no key')}\n"))


def broken(world: World) -> None:
    """References that lead to nothing, or to something else."""
    new = world.new
    for name, password in {
        "open-file": world.file(new("open file"), 0o644),
        "no-text": world.file(new("no text").encode() + b"\xff"),
        "failing-program": world.program(f"echo {new('failing program')}; exit 3"),
        "chatty-program": world.program(f"set -x; echo {new('chatty program')}; exit 3"),
        "flooding-program": world.program(f"while cat {world.path(new('flooding program'))}; do :; done"),
        "no-program": f'{{ command = ["{world.places}/absent"] }}',
        "no-variable": '{ env = "PLACE_ABSENT" }',
        "no-credential": '{ credential = "absent" }',
        "denied": world.in_vault("", (403, f'{{"errors": ["{new("denied")}"]}}'.encode())),
        "garbage": world.in_vault("", (200, f'{{"data": {new("garbage")}'.encode())),
        "other-field": world.in_vault("", (200, f'{{"data": {{"data": {{"{new("field")}": 1}}}}}}'.encode())),
        "server-error": world.in_vault("", (500, new("server error").encode())),
    }.items():
        world.ssh(name, False, password=password)


# ---------------------------------------------------------------------------------------- what is seen


async def settled(world: World, daemon: RunningDaemon) -> None:
    """Fires when each link is what it is to be; the others have been told to dial a few times more, for the watch."""
    up = sum(world.consoles.values())
    await daemon.holds(up)
    for _ in range(3):
        daemon.signal(signal.SIGUSR2)
        await deferLater(reactor, 0.5)
    deadline = reactor.seconds() + READY
    while (health := await daemon.health()).get("links_waiting") != str(len(world.consoles) - up):
        assert reactor.seconds() < deadline, f"{health}\n{daemon.log}"
        await deferLater(reactor, 0.02)


async def converse(world: World, daemon: RunningDaemon, token: str) -> None:
    """Sit down at each console, ask everything that can be asked, and type a password."""
    for name in world.consoles:
        seat = await WebSocket.open(daemon.ws(f"interact/{name}"), {"Authorization": f"Bearer {token}"})
        await seat.until("opened")
        typed = world.new(f"typed at {name}")
        if name == "node":
            seat.press(b"\r")
            await seat.until("login: ")
            seat.press(b"root\r")
            await seat.until("Password: ")
            seat.press(f"{typed}\r".encode())
            await seat.until("# ")
        else:
            seat.press(f"{typed}\r".encode())
        for escape in ESCAPES:
            seat.press(escape)
        await seat.until(LAST_ANSWER)
        await seat.leave()
        # Only so much is certain to be in the log, too: there it is summed up when many fail at once.
        assert (b"up since" if world.consoles[name] else b"down since") in seat.said
        world.canaries.saw(f"session {name}", bytes(seat.said))


def ask(url: str, headers: Mapping[str, str]) -> bytes:
    """In a thread."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=10) as answer:
            return bytes(str(answer.headers), "utf-8") + answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return bytes(str(refusal.headers), "utf-8") + refusal.read()


async def knock(world: World, daemon: RunningDaemon, token: str) -> None:
    """Requests that end in an error, with secrets in all places that people put them."""
    wrong = world.new("wrong token")
    basic = b64encode(f"admin:{wrong}".encode()).decode()
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    upgrade["Sec-WebSocket-Key"] = "MDEyMzQ1Njc4OWFiY2RlZg=="
    for path, headers in [
        ("interact/node", {}),
        ("interact/node", {"Authorization": f"Bearer {wrong}"}),
        ("interact/node", {"Authorization": f"Basic {basic}"}),
        ("interact/node", {"Authorization": wrong, "Cookie": f"token={wrong}"}),
        (f"interact/node?access_token={wrong}", {"Authorization": f"Bearer {token}, Bearer {wrong}"}),
        ("interact/absent", {"Authorization": f"Bearer {token}"}),
        ("absent", {"Authorization": f"Bearer {token}"}),
        ("interact/node", {"Authorization": f"Bearer {token}", "Cray-Console-Lines": wrong}),
        ("interact/node", {"Authorization": f"Bearer {token}", "Cray-Tenant-Name": "blue"}),
        ("health", {"Authorization": f"Bearer {wrong}"}),
    ]:
        for more in ({}, upgrade):
            body = await deferToThread(ask, daemon.http(path), {**headers, **more, "X-Token": wrong})
            world.canaries.saw("answers", body)


async def tickets(world: World, daemon: RunningDaemon, token: str) -> None:
    """Tickets that are used, used again, shown for something else, and not used at all."""

    def issue(name: str) -> str:
        wish = json.dumps({"console": "node", "mode": "interact"}).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        address = f"http://{daemon.address}/v1/tickets"
        with urllib.request.urlopen(urllib.request.Request(address, wish, headers), timeout=10) as answer:
            return world.canaries.add(name, json.load(answer)["ticket"])

    used, elsewhere, _ = [await deferToThread(issue, f"ticket {name}") for name in ("used", "elsewhere", "unused")]
    seat = await WebSocket.open(daemon.ws(f"interact/node?ticket={used}"), {})
    await seat.until("opened")
    await seat.leave()
    world.canaries.saw("session by ticket", bytes(seat.said))
    for path in (f"interact/node?ticket={used}", f"interact/process?ticket={elsewhere}", f"?ticket={elsewhere}"):
        world.canaries.saw("answers", await deferToThread(ask, daemon.http(path), {}))


async def spoil_tokens(world: World, daemon: RunningDaemon, token: str) -> None:
    """The slip of everybody's: a token where its hash belongs."""
    file = world.home / "tokens.toml"
    good = file.read_text()
    spoilt = f'sha256 = "{world.new("token for its hash")}"', f"sha256 = {world.new('token without quotes')}"
    for times, said in enumerate(spoilt, 1):
        file.write_text(f'{good}\n[[token]]\nname = "bob"\nrole = "viewer"\n{said}\n')
        deadline = reactor.seconds() + READY
        while daemon.log.count("what it said before stays in force") < times:
            assert reactor.seconds() < deadline, daemon.log
            bearer = {"Authorization": f"Bearer {token}"}
            world.canaries.saw("answers", await deferToThread(ask, daemon.http("interact/absent"), bearer))
        world.canaries.saw("health", json.dumps(await daemon.health()))
    file.write_text(good)


async def check(world: World) -> None:
    twistd = str(Path(sys.executable).with_name("twistd"))
    config = str(world.home / "consoled.toml")
    program = Program([twistd, "--nodaemon", "--pidfile=", "consoled", "--config", config, "--check", "--list"])
    await program.over
    said = bytes(program.said + program.errors)
    assert b"nothing wrong" in said, said
    world.canaries.saw("--check", said)


def mistakes(world: World) -> None:
    """Each has a canary in the same line.  `--check` shows the text of the error."""
    good = (world.home / "consoled.toml").read_text()
    head = '[[console]]\nname = "mistake"\nkind = "ssh"\naddress = "a"\nuser = "b"\ntrust_on_first_use = true\n'
    for number, (mistake, mode) in enumerate(
        {
            'password = "{}"': 0o644,
            'passwd = "{}"': 0o600,
            'password = ["{}"]': 0o600,
            'password = {{ file = "x", value = "{}" }}': 0o600,
            'password = {{ value = "{}" }}': 0o600,
            "password = {}": 0o600,
            'password = "{}" "x"': 0o600,
            'password = "{}\npassword = "x"': 0o600,
            'key = "{}"': 0o600,
            'let = {{ secret = "{}" }}\ncommand = "{{absent}}"': 0o600,
            'let = {{ secret = ["{}"] }}': 0o600,
            'let = {{ secret = "{}" }}\ncommand = "{{secret+1}}"': 0o600,
            '[[console]]\nname="m"\nkind="process"\ncommand=["a"]\nenvironment={{ A="{}\\u0000" }}': 0o600,
            '[[console]]\nname="m"\nkind="process"\ncommand=["a"]\nenvironment=["{}"]': 0o600,
            '[[console]]\nname="m"\nkind="ipmi"\naddress="a"\nuser="a"\npassword="{}"\nworkarounds=["-"]': 0o600,
        }.items()
    ):
        path = world.home / f"mistake{number}.toml"
        path.write_text(f"{good}{head}{mistake.format(world.new(f'mistake {number}'))}\n")
        path.chmod(mode)
        with pytest.raises(ConfigError) as refused:
            load(path)
        world.canaries.saw("--check", str(refused.value))


def settings(world: World) -> None:
    """In this process: what a debugger, a log line or a traceback would show of them."""
    config = load(world.home / "consoled.toml")
    for thing in (config, config.vault, config.auth, *config.consoles):
        for text in (repr(thing), str(thing), f"{thing}", pprint.pformat(thing)):
            world.canaries.saw(f"repr of {type(thing).__name__}", text)


def files(world: World, daemon: RunningDaemon) -> None:
    """All that it has written."""
    world.canaries.saw("log", daemon.log)
    world.canaries.saw("audit", (world.home / "audit.log").read_bytes())
    for directory in (daemon.transcripts, world.state):
        for path in directory.rglob("*"):
            if path.is_file() and path not in recorded(daemon):
                world.canaries.saw(f"{directory.name}/{path.relative_to(directory)}", path.read_bytes())
    assert any("/.index/" in where for where in world.canaries.seen)
    assert "state/known_hosts" in world.canaries.seen


def recorded(daemon: RunningDaemon) -> list[Path]:
    """The records of input."""
    return list(daemon.transcripts.glob("input.*"))


async def live(world: World, then: Any = None) -> RunningDaemon:
    """The whole life of a daemon, watched from all sides."""
    token = world.new("token")
    hashed = sha256(token.encode()).hexdigest()
    tokens = f'[[token]]\nname = "olga"\nsha256 = "{hashed}"\nrole = "admin"\n'
    (world.home / "tokens.toml").write_text(tokens)
    daemon = world.daemon()
    daemon.token = token
    await check(world)
    watch = Watch()
    watch.start()
    try:
        await daemon.start()
        await settled(world, daemon)
        await converse(world, daemon, token)
        if then is not None:
            await then(world, daemon, token)
        world.canaries.saw("health", json.dumps(await daemon.health()))
    finally:
        await daemon.stop()
        world.canaries.saw("argument lists", watch.stop())
    settings(world)
    files(world, daemon)
    assert "Traceback" not in daemon.log, daemon.log
    return daemon


@pytest_twisted.ensureDeferred
async def test_no_secret_shows(world: World) -> None:
    logins = good_and_refused(world)
    keys(world)
    broken(world)
    world.console("node", "demo", role='"node"', speed="1_000_000_000")
    environment = world.new("environment of a program")
    world.console("process", "process", command='["sleep", "1000"]', environment=f'{{ TOKEN = "{environment}" }}')

    world.console("recorded", "process", command='["sleep", "1000"]', record_input="true")

    async def then(world: World, daemon: RunningDaemon, token: str) -> None:
        await knock(world, daemon, token)
        await tickets(world, daemon, token)
        await spoil_tokens(world, daemon, token)
        mistakes(world)

    daemon = await live(world, then)
    # They were all there, or it would prove nothing.
    assert set(logins) <= set(world.server.asked)
    assert world.asker.asked[-1] == ("keyboard-interactive", world.canaries.values["answer to a question"])
    assert b"asking" in world.canaries.seen["argument lists"]
    assert '"action":"refused"' in daemon.log
    audit = world.canaries.seen["audit"]
    assert all(json.loads(line) for line in audit.strip().splitlines())
    for action in (
        b"refused",
        b"accepted",
        b"attached",
        b"detached",
        b"ticket-issued",
        b"ticket-used",
        b"key-accepted",
    ):
        assert b'"action":"%s"' % action in audit, action
    [record] = recorded(daemon)
    typed = world.canaries.values["typed at recorded"]
    assert [line["input"] for line in map(json.loads, record.read_text().splitlines())] == [f"{typed}\r"]
    assert record.stat().st_mode & 0o777 == 0o600
    assert b"Input to console [recorded] is recorded" in world.canaries.seen["session recorded"]
    assert b"is recorded" not in world.canaries.seen["session node"]
    assert not world.canaries.found()


@pytest.mark.parametrize("program", PACKAGES)
@pytest_twisted.ensureDeferred
async def test_no_secret_of_a_bmc_shows(world: World, tmp_path: Path, program: str) -> None:
    need(program, PACKAGES[program])
    (tmp_path / "bmc").mkdir()
    bmc = Bmc(tmp_path / "bmc")
    try:
        await bmc.start()
        world.canaries.add("good", BMC_PASSWORD)
        about = {
            "address": f'"127.0.0.1:{bmc.port}"',
            "user": '"op"',
            "program": f'"{program}"',
            "workarounds": json.dumps(WORKAROUNDS[program]),
        }
        world.console("good", "ipmi", password=world.file(BMC_PASSWORD), **about)
        world.console("refused", "ipmi", False, password=world.in_vault(world.new("refused")), **about)
        world.console(
            "key", "ipmi", False, password=json.dumps(world.new("other")), k_g=json.dumps(world.new("k_g")), **about
        )
        world.ssh("known", False, password=json.dumps(world.new("somebody's")))
        await live(world)
        assert program.encode() in world.canaries.seen["argument lists"]
        assert b"does not accept" in world.canaries.seen["log"]
    finally:
        await bmc.end()
    assert not world.canaries.found()
