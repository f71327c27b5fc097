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
from pathlib import Path
from typing import Any, NoReturn

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


def free_port(family: int = socket.AF_INET) -> int:
    """A TCP port on loopback that nobody used a moment ago."""
    with socket.socket(family) as probe:
        probe.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Spawned:
    """A server of the test's own: started here, its output in a file, ended by its pid."""

    def __init__(self, argv: Sequence[str], output: Path, env: dict[str, str] | None = None) -> None:
        self.output = output
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                list(argv), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=env
            )

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
        """SIGKILL, as a crash would."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """SIGTERM, and SIGKILL if that is not heeded within five seconds.  Harmless when it has ended."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.kill()


class _Knock(Protocol):
    def __init__(self) -> None:
        self.gone: Deferred[None] = Deferred()

    def connectionLost(self, reason: object = None) -> None:
        self.gone.callback(None)
