"""RFC 2217 against ser2net: what we ask for reaches the terminal behind it."""

from __future__ import annotations

import termios
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from consoled.backends.rfc2217 import ComPortSettings
from consoled.backends.telnet import TelnetSettings
from tests.real import need
from tests.real.test_ser2net import EVERYTHING, Server, check_both_ways

pytestmark = pytest.mark.real

CFLAG, SPEED = 2, 5


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    servers: list[Server] = []

    def start(accepter: str) -> Server:
        need("ser2net", "ser2net")
        servers.append(Server(tmp_path, accepter))
        return servers[-1]

    yield start
    with ExitStack() as ending:
        for server in servers:
            ending.callback(server.end)


def settings_of(server: Server) -> list[Any]:
    return termios.tcgetattr(server.node._slave)


@pytest_twisted.inlineCallbacks
def test_the_port_is_set(serve: Any) -> Any:
    server = serve("telnet(rfc2217=true),tcp")
    serial = ComPortSettings(speed=9600, stop_bits=2, flow="none", bits=8, parity="none")
    owner, line = yield server.dial(TelnetSettings, serial=serial)
    assert line.note == ""
    assert settings_of(server)[SPEED] == termios.B9600
    assert settings_of(server)[CFLAG] & termios.CSTOPB
    yield check_both_ways(server, owner, line)
    line.close()
    yield owner.gone


@pytest_twisted.inlineCallbacks
def test_a_break_between_what_is_typed_before_and_after(serve: Any) -> Any:
    """A pseudo terminal has no break to see; what is typed meanwhile must come after it, and whole."""
    server = serve("telnet(rfc2217=true),tcp")
    owner, line = yield server.dial(TelnetSettings, serial=ComPortSettings(speed=115200))
    line.write(b"before")
    assert line.send_break() is True
    assert line.write(EVERYTHING) is True
    assert (yield server.node.input.take(6)) == b"before"
    assert (yield server.node.input.take(len(EVERYTHING))) == EVERYTHING
    yield check_both_ways(server, owner, line)
    line.close()
    yield owner.gone


@pytest_twisted.inlineCallbacks
def test_a_server_that_was_not_told_to(serve: Any) -> Any:
    server = serve("telnet,tcp")
    owner, line = yield server.dial(TelnetSettings, serial=ComPortSettings(speed=9600))
    assert "does not do RFC 2217" in line.note
    yield check_both_ways(server, owner, line)
    line.close()
    yield owner.gone
