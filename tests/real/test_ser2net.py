"""`tcp` and `telnet` against ser2net, a real terminal server, over a pseudo terminal each."""

from __future__ import annotations

import os
import socket
import tty
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from consoled.backends.tcp import TcpSettings
from consoled.backends.telnet import TelnetSettings
from tests.fakes import around
from tests.real import Spawned, free_port, need

pytestmark = pytest.mark.real

EVERYTHING = bytes(range(256)) * 4
LIMIT = 10.0


class Collected:
    """Bytes as they come, and a Deferred for when there are enough."""

    def __init__(self) -> None:
        self.data = b""
        self._wanted: tuple[int, Deferred[bytes]] | None = None

    def add(self, data: bytes) -> None:
        self.data += data
        self._look()

    def take(self, length: int) -> Deferred[bytes]:
        """Fires with the next `length` bytes; fails after some seconds, showing what came."""
        enough: Deferred[bytes] = Deferred()
        enough.addTimeout(LIMIT, reactor, lambda *_: pytest.fail(f"only {self.data!r} came"))
        self._wanted = length, enough
        self._look()
        return enough

    def _look(self) -> None:
        if self._wanted is not None and len(self.data) >= self._wanted[0]:
            length, enough = self._wanted
            self._wanted = None
            taken, self.data = self.data[:length], self.data[length:]
            enough.callback(taken)


class Owner:
    """A `LineOwner` that collects."""

    def __init__(self) -> None:
        self.output = Collected()
        self.gone: Deferred[str] = Deferred()

    def received(self, data: bytes) -> None:
        self.output.add(data)

    def lost(self, why: str) -> None:
        self.gone.callback(why)


@implementer(IReadDescriptor)
class Node:
    """The far end of a serial line: a pseudo terminal's master side."""

    def __init__(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.device = os.ttyname(self._slave)
        self.input = Collected()
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._master

    def doRead(self) -> None:
        self.input.add(os.read(self._master, 65536))

    def logPrefix(self) -> str:
        return "node"

    def connectionLost(self, reason: object) -> None:
        pass

    def says(self, data: bytes) -> None:
        os.write(self._master, data)

    def end(self) -> None:
        reactor.removeReader(self)
        os.close(self._master)
        os.close(self._slave)


def start_ser2net(directory: Path, accepter: str, device: str) -> Spawned:
    """With one port, which gives access to the serial `device`."""
    config = directory / "ser2net.yaml"
    config.write_text(
        "%YAML 1.1\n---\n"
        "connection: &one\n"
        f"  accepter: {accepter}\n"
        f"  connector: serialdev,{device},115200n81,local\n"
        "  options: {max-connections: 4}\n"
    )
    return Spawned([need("ser2net", "ser2net"), "-n", "-d", "-c", str(config)], directory / "output")


class Server:
    """ser2net with one port."""

    def __init__(self, directory: Path, accepter: str, family: int = socket.AF_INET) -> None:
        self.node = Node()
        self.port = free_port(family)
        self.host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        self.process = start_ser2net(directory, f"{accepter},{self.host},{self.port}", self.node.device)

    @inlineCallbacks
    def dial(self, kind: type, **more: Any) -> Any:
        yield self.process.listening(reactor, self.port, self.host)
        address = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        owner = Owner()
        line = yield kind(name="x1", address=address, **more).backend(around(reactor)).dial(owner)
        return owner, line

    def end(self) -> None:
        self.process.end()
        self.node.end()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    servers: list[Server] = []

    def start(*arguments: Any, **more: Any) -> Server:
        need("ser2net", "ser2net")
        servers.append(Server(tmp_path, *arguments, **more))
        return servers[-1]

    yield start
    with ExitStack() as ending:
        for server in servers:
            ending.callback(server.end)


@inlineCallbacks
def check_both_ways(server: Server, owner: Owner, line: Any) -> Any:
    assert line.write(EVERYTHING)
    assert (yield server.node.input.take(len(EVERYTHING))) == EVERYTHING
    server.node.says(EVERYTHING)
    assert (yield owner.output.take(len(EVERYTHING))) == EVERYTHING


@pytest_twisted.inlineCallbacks
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_raw_port(serve: Any, family: int) -> Any:
    server = serve("tcp", family)
    owner, line = yield server.dial(TcpSettings)
    yield check_both_ways(server, owner, line)
    assert line.send_break() is False
    line.close()
    yield owner.gone


@pytest_twisted.inlineCallbacks
@pytest.mark.parametrize("accepter", ["telnet,tcp", "telnet(rfc2217=true),tcp"])
def test_a_telnet_port(serve: Any, accepter: str) -> Any:
    server = serve(accepter)
    owner, line = yield server.dial(TelnetSettings)
    yield check_both_ways(server, owner, line)
    # A pseudo terminal has no break to see; what follows one must arrive whole.
    assert line.send_break() is True
    yield check_both_ways(server, owner, line)
    line.close()
    yield owner.gone


@pytest_twisted.inlineCallbacks
def test_a_telnet_port_without_binary(serve: Any) -> Any:
    """Text only: ser2net leaves the NUL of CR NUL in what it gives the node."""
    server = serve("telnet,tcp")
    owner, line = yield server.dial(TelnetSettings, binary=False)
    text = bytes(range(32, 256)) + b"\r\n"
    line.write(text)
    assert (yield server.node.input.take(len(text))) == text
    server.node.says(text)
    assert (yield owner.output.take(len(text))) == text
    line.write(b"\r")
    assert (yield server.node.input.take(2)) == b"\r\0"
    line.abort()
    yield owner.gone


@pytest_twisted.inlineCallbacks
@pytest.mark.parametrize(("kind", "accepter"), [(TcpSettings, "tcp"), (TelnetSettings, "telnet,tcp")])
def test_the_server_is_killed(serve: Any, kind: type, accepter: str) -> Any:
    server = serve(accepter)
    owner, line = yield server.dial(kind)
    server.process.kill()
    assert (yield owner.gone)
    assert line.write(b"x") is False
