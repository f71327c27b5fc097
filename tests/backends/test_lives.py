"""The transitions that all kinds over a socket share, for each of them: what is their own is in their own tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionLost, ConnectionRefusedError

from consoled.backends.settings import ConsoleSettings
from consoled.backends.tcp import TcpSettings
from consoled.backends.telnet import TelnetSettings
from consoled.backends.unix import UnixSettings
from tests.backends.stream_fakes import Dial, Network, Wire, network
from tests.backends.test_telnet import AGREED
from tests.fakes import around


@dataclass(frozen=True)
class Kind:
    """How to dial one, and what its peer says before it is up."""

    settings: Callable[[], ConsoleSettings]
    welcome: bytes = b""


KINDS = {
    "tcp": Kind(lambda: TcpSettings(name="x1", address="bmc1:2001")),
    "unix": Kind(lambda: UnixSettings(name="x1", path="/run/x1")),
    "unix with a greeting": Kind(lambda: UnixSettings(name="x1", path="/run/x1", zone_handshake=True), b"OK zone1\n"),
    "telnet": Kind(lambda: TelnetSettings(name="x1", address="bmc1:23"), AGREED),
}


class World:
    """One dial of the kind, and the network."""

    def __init__(self, kind: Kind, net: Network) -> None:
        self.net = net
        self.attempt = Dial(kind.settings().backend(around(net.reactor)))
        self._welcome = kind.welcome

    def up(self) -> tuple[Any, Wire]:
        wire = self.net.accept()
        if self._welcome:
            wire.says(self._welcome)
        wire.sent()
        return self.attempt.line, wire

    def is_over(self, *told: tuple[str, Any]) -> None:
        """So much was told, nothing more comes whatever is done, and nothing is left."""
        self.net.turn()
        if told:
            line = self.attempt.line
            assert line.write(b"x") is False
            assert line.send_break() is False
            line.close()
            line.abort()
            self.net.turn()
        assert self.attempt.owner.told == [*told]
        self.net.assert_quiet()


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with network() as net:
        yield World(request.param, net)


def test_nobody_lets_us_in(world: World) -> None:
    world.net.refuse(ConnectionRefusedError())
    world.net.turn(1)  # another address might have been tried
    assert "refused" in world.attempt.error
    world.is_over()


def test_cancelled_while_connecting(world: World) -> None:
    world.attempt.deferred.cancel()
    assert world.attempt.result.check(CancelledError)
    assert world.net.reactor.connectors[-1].stoppedConnecting
    world.is_over()


def test_all_bytes_both_ways(world: World) -> None:
    line, wire = world.up()
    assert line.write(b"root\r")
    assert wire.sent()
    wire.says(b"Password: ")
    assert world.attempt.owner.output == b"Password: "


def test_lost(world: World) -> None:
    _, wire = world.up()
    wire.hang_up(ConnectionLost())
    world.is_over(("lost", "Connection to the other side was lost in a non-clean fashion."))


def test_closed_in_good_order(world: World) -> None:
    line, wire = world.up()
    line.close()
    assert wire.disconnecting
    assert not wire.disconnected
    world.is_over(("lost", "Connection was closed cleanly."))


def test_closed_and_then_aborted_since_it_took_too_long(world: World) -> None:
    line, wire = world.up()
    wire._go = lambda error: None  # a peer whose kernel takes nothing more
    line.close()
    assert not wire.disconnected
    line.abort()
    assert wire.disconnected
    wire.hang_up(ConnectionLost())
    world.is_over(("lost", "Connection to the other side was lost in a non-clean fashion."))


def test_aborted(world: World) -> None:
    line, wire = world.up()
    line.abort()
    assert wire.disconnected
    world.is_over(("lost", "Connection was aborted locally using ITCPTransport.abortConnection."))
