"""Tests against real servers on loopback, and what they need to start them.

A test that needs a program asks `need` for it: where it is not installed the test is skipped with the name of the
Debian package, and where CONSOLED_REQUIRE_REAL=1 (CI) it fails.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import SystemRandom
from typing import Any, ClassVar, NoReturn

import pytest
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def need(binary: str, package: str) -> str:
    """The path of `binary`, or the end of the test."""
    path = shutil.which(binary, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")
    if path is None:
        lack(binary, package)
    return path


def lack(what: str, package: str) -> NoReturn:
    """The end of a test that cannot do without `what`."""
    text = f"{what} is missing: apt-get install {package}"
    if os.environ.get("CONSOLED_REQUIRE_REAL") == "1":
        pytest.fail(text)
    pytest.skip(text)


def free_port(family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> int:
    """A port on loopback that nobody uses.

    Not one of those that the kernel gives to whoever connects: it could be somebody's before its server has started.
    """
    for port in iter(lambda: SystemRandom().randrange(10240, 32768), None):
        with socket.socket(family, kind) as probe, suppress(OSError):
            probe.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", port))
            return port
    raise AssertionError("unreachable")


def descendants(pid: int) -> list[int]:
    """The processes that a server of ours has started; one that ends while they are counted has none."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def tell(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class Spawned:
    """A server of the test's own: started here, its output in a file, ended by its pid."""

    running: ClassVar[list[Spawned]] = []
    """Those that have not been ended (see `conftest`)."""

    def __init__(self, argv: Sequence[str], output: Path, env: dict[str, str] | None = None) -> None:
        self.output = output
        self._left: list[int] = []
        """What it had started when it was killed."""
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                list(argv), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=env
            )
        self.running.append(self)

    @property
    def pid(self) -> int:
        return self._process.pid

    @inlineCallbacks
    def listening(self, reactor: Any, port: int, host: str = "127.0.0.1", limit: float = 10.0) -> Any:
        """Fires once the server takes connections on `port`; fails with its output if it does not, or has ended."""
        deadline = reactor.seconds() + limit
        while True:
            try:
                knock = yield TCP4ClientEndpoint(reactor, host, port, timeout=1).connect(Factory.forProtocol(_Knock))
            except ConnectError as error:
                if self._process.poll() is not None or reactor.seconds() > deadline:
                    said = self.output.read_text(errors="replace")
                    raise AssertionError(f"{self._process.args!r} takes no connections: {said}") from error
                yield deferLater(reactor, 0.05)
            else:
                knock.transport.loseConnection()
                yield knock.gone
                return

    def kill(self) -> None:
        """SIGKILL, as a crash would; what it has started lives on until `end`."""
        if self._process.poll() is None:
            self._left += descendants(self.pid)
            self._process.kill()
            self._process.wait()

    def end(self) -> None:
        """SIGTERM, and SIGKILL if that is not heeded within five seconds, and to what it had started.

        Harmless when it has ended.
        """
        if self._process.poll() is None:
            self._left += descendants(self.pid)
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.kill()
        left, self._left = self._left, []
        tell(left, signal.SIGKILL)
        if self in self.running:
            self.running.remove(self)


class _Knock(Protocol):
    def __init__(self) -> None:
        self.gone: Deferred[None] = Deferred()

    def connectionLost(self, reason: object = None) -> None:
        self.gone.callback(None)
