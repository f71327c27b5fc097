"""The clients that exist against the whole daemon: each logs in, types, leaves, tails and is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.real import lack, need
from tests.real.daemon import RunningDaemon
from tests.real.talk import Program, WebSocket

pytestmark = pytest.mark.real

HERE = Path(__file__).parent
DEBIAN_MODULES = Path("/usr/share/nodejs")
TOKEN = sha256(b"long and random").hexdigest()
CONFIG = """
[auth]
tokens = "tokens.toml"
[tenants]
blue = "x1"
[defaults]
kind = "demo"
[[console]]
name = "x[1-4]"
speed = 1_000_000_000  # so that a prompt comes in one piece: wsdump writes between the pieces
[[console]]
name = "echo[1-2]"
role = "echo"
"""
TOKENS = f"""
[[token]]
name = "olga"
sha256 = "{sha256(TOKEN.encode()).hexdigest()}"
role = "operator"
"""


@dataclass(frozen=True)
class Stock:
    """How to start one of the clients, and what it says at the end."""

    node: str
    """The node that it logs into: the demo's nodes have one shell each."""
    closed: str
    """At a close frame, with the code 1000 if it tells that."""
    refused: str
    """At an answer `{status}` with the message `{message}`, of which it tells one or both."""

    async def start(self, url: str, token: str = TOKEN, lines: str = "", tenant: str = "") -> Program | WebSocket:
        raise NotImplementedError


class Sample(Stock):
    async def start(self, url: str, token: str = TOKEN, lines: str = "", tenant: str = "", follow: str = "") -> Program:
        argv = [sys.executable, str(HERE / "sample.py"), url, lines, follow]
        return Program(argv, {"TOKEN": token, "TENANT": tenant}, pty=True)


class Autobahn(Stock):
    async def start(self, url: str, token: str = TOKEN, lines: str = "", tenant: str = "") -> WebSocket:
        return await WebSocket.open(url, headers(token, lines, tenant))


class Node(Stock):
    async def start(self, url: str, token: str = TOKEN, lines: str = "", tenant: str = "") -> Program:
        argv = [need("node", "nodejs"), str(HERE / "node" / "client.js"), url, lines]
        if not (DEBIAN_MODULES / "ws").exists():
            lack("the Node module ws", "node-ws")
        return Program(argv, {"NODE_PATH": str(DEBIAN_MODULES), "TOKEN": token, "TENANT": tenant})


class Wsdump(Stock):
    async def start(self, url: str, token: str = TOKEN, lines: str = "", tenant: str = "") -> Program:
        wsdump = str(Path(sys.executable).with_name("wsdump"))
        more = ",".join(f"{name}: {value}" for name, value in headers(token, lines, tenant).items())
        # It keeps the close code to itself; that it got a close frame is seen by its answering it.
        return Program([wsdump, "--raw", "--verbose=2", f"--headers={more}", url], pty=True)


def headers(token: str, lines: str, tenant: str) -> dict[str, str]:
    values = {
        "Authorization": token and f"Bearer {token}",
        "Cray-Console-Lines": lines,
        "Cray-Tenant-Name": tenant,
    }
    return {name: value for name, value in values.items() if value}


STOCK = {
    "sample": Sample("x1", "Connection closed by the server. (1000)", "Error: {message}\r\n"),
    "autobahn": Autobahn("x2", "\nclosed 1000 ", "upgrade failed [{status}]"),
    "ws": Node("x3", "\nclosed 1000 ", "refused {status} {message}\n"),
    "wsdump": Wsdump("x4", "++Sent decoded: fin=1 opcode=8", '"message":"{message}"'),
}


@pytest.fixture(params=STOCK.values(), ids=STOCK)
def stock(request: pytest.FixtureRequest) -> Stock:
    return request.param


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    directory = tmp_path_factory.mktemp("clients")
    (directory / "tokens.toml").write_text(TOKENS)
    daemon = RunningDaemon(reactor, directory, CONFIG)
    daemon.token = TOKEN
    try:
        blockon(daemon.start())
        blockon(daemon.holds(6))
        yield daemon
    finally:
        blockon(daemon.stop())
    assert "Traceback" not in daemon.log
    assert TOKEN not in daemon.log


@pytest.fixture
def begin(daemon: RunningDaemon) -> Iterator[Any]:
    """Start a client for a path of the API, and see that it ends with the test."""
    started: list[Program | WebSocket] = []

    async def begin(stock: Stock, path: str, *arguments: str, **options: str) -> Any:
        client = await stock.start(daemon.ws(path), *arguments, **options)
        started.append(client)
        return client

    yield begin
    with ExitStack() as leaving:
        for client in started:
            leaving.callback(lambda client=client: pytest_twisted.blockon(client.leave()))


def blockon(coroutine: Any) -> None:
    pytest_twisted.blockon(Deferred.fromCoroutine(coroutine))


@pytest_twisted.ensureDeferred
async def test_a_tail_ends(begin: Any, stock: Stock) -> None:
    typist = await begin(STOCK["autobahn"], "interact/echo1")
    await typist.until("opened.")
    for line in ("one", "two", "three", "four"):
        typist.type(line)
        await typist.until(f"{line}\n")
    client = await begin(stock, "tail/echo1", lines="3")
    await client.until("three")
    await client.until("four")
    await client.until(stock.closed)
    assert b"two" in client.said
    assert b"one" not in client.said


@pytest_twisted.ensureDeferred
async def test_a_tail_follows(begin: Any) -> None:
    typist = await begin(STOCK["autobahn"], "interact/echo2")
    await typist.until("opened.")
    typist.type("one")
    await typist.until("one\n")
    sample = STOCK["sample"]
    client = await begin(sample, "tail/echo2", lines="1", follow="yes")
    await client.until("one")
    for line in ("two", "grüße", "three"):
        typist.type(line)
        await client.until(line)
    client.type("&.")
    await client.until(sample.closed)
    assert b"joined" not in client.said


REFUSALS = {
    401: ("interact/x1", {"token": ""}, "Authentication is required"),
    "401 for a wrong token": ("tail/x1", {"token": "f" * 64}, "Authentication is required"),
    403: ("interact/x2", {"tenant": "blue"}, "User does not have permission to access x2"),
    404: ("interact/x9", {}, "x9 is not a valid node."),
    400: ("tail/x1", {"lines": "-1"}, "Cray-Console-Lines must be a whole number from 0 to 1000000"),
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("case", REFUSALS)
async def test_a_refusal_says_why(begin: Any, stock: Stock, case: int | str) -> None:
    path, options, message = REFUSALS[case]
    client = await begin(stock, path, **options)
    await client.until(stock.refused.format(status=str(case)[:3], message=message))


@pytest_twisted.ensureDeferred
async def test_log_in_run_a_command_and_leave(begin: Any, stock: Stock) -> None:
    client = await begin(stock, f"interact/{stock.node}")
    await client.until(f"<ConMan> Connection to console [{stock.node}] opened.")
    client.type("")  # the node may have said `login:` before
    await client.until("login: ")
    client.type("root")
    await client.until("Password: ")
    client.type("demo")
    await client.until(f"root@{stock.node}:~# ")
    client.type("echo & && &&x | uname -a")
    await client.until("& & &x | uname -a")
    client.type("uname")
    await client.until("Linux")
    client.type("&.")
    await client.until(f"<ConMan> Connection to console [{stock.node}] closed.")
    await client.until(stock.closed)
