"""The kind `tcp`, and with it every transition that all streams share."""

from __future__ import annotations

import gc
import socket
import weakref

import msgspec
import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IHostnameResolver
from zope.interface import implementer

from consoled.backends.tcp import TcpSettings
from consoled.units import units
from tests.backends.stream_fakes import Dial, network
from tests.fakes import around

EVERYTHING = bytes(range(256))


def settings(**more: object) -> TcpSettings:
    return TcpSettings(name="x1", address="bmc1:2001", **more)


@pytest.fixture
def net():
    with network() as net:
        yield net


def dial(net, **more: object) -> Dial:
    return Dial(settings(**more).backend(around(net.reactor)))


def test_settings_come_from_a_table() -> None:
    table = {"kind": "tcp", "name": "x", "address": "[::1]:23", "tls": {"ca": "/ca.pem"}}
    read = msgspec.convert(table, TcpSettings, dec_hook=units("/"))
    assert read.tls.ca == "/ca.pem"
    with pytest.raises(msgspec.ValidationError, match="no address"):
        msgspec.convert({"kind": "tcp", "name": "x", "address": "bmc1"}, TcpSettings)


def test_it_says_where_it_is() -> None:
    assert settings().backend(around(None)).address == "<bmc1:2001>"


def test_up_and_all_bytes_both_ways(net) -> None:
    attempt = dial(net)
    assert net.calls[0][1] == 2001
    wire = net.accept()
    wire.says(EVERYTHING)
    assert attempt.line.write(EVERYTHING)
    assert wire.sent() == EVERYTHING
    assert attempt.owner.told == [("received", EVERYTHING)]
    assert attempt.line.send_break() is False
    assert wire.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


def test_no_time_limit_of_its_own(net) -> None:
    attempt = dial(net)
    net.turn(100_000)
    assert attempt.result is None
    net.accept()
    assert attempt.line


def test_refused(net) -> None:
    attempt = dial(net)
    net.refuse(ConnectionRefusedError())
    net.turn(1)
    assert "refused" in attempt.error
    assert attempt.owner.told == []
    net.assert_quiet()


def test_cancelled_while_connecting(net) -> None:
    attempt = dial(net)
    attempt.deferred.cancel()
    assert attempt.result.check(CancelledError)
    assert net.reactor.connectors[-1].stoppedConnecting
    net.turn()
    net.assert_quiet()
    assert attempt.owner.told == []


def test_lost_is_told_once(net) -> None:
    attempt = dial(net)
    wire = net.accept()
    wire.hang_up()
    line = attempt.line
    assert attempt.owner.told == [("lost", "Connection was closed cleanly.")]
    assert line.write(b"x") is False
    line.close()
    line.abort()
    net.turn()
    assert len(attempt.owner.told) == 1
    net.assert_quiet()


def test_close_goes_in_good_order(net) -> None:
    attempt = dial(net)
    wire = net.accept()
    attempt.line.close()
    assert wire.disconnecting
    assert not wire.disconnected
    net.turn()
    assert [event for event, _ in attempt.owner.told] == ["lost"]


def test_abort_goes_at_once(net) -> None:
    attempt = dial(net)
    wire = net.accept()
    attempt.line.abort()
    assert wire.disconnected
    net.turn()
    assert [event for event, _ in attempt.owner.told] == ["lost"]


def test_a_node_that_does_not_read_is_given_nothing_more(net) -> None:
    attempt = dial(net)
    wire = net.accept()
    wire.producer.pauseProducing()
    assert attempt.line.write(b"x") is False
    assert wire.sent() == b""
    wire.producer.resumeProducing()
    assert attempt.line.write(b"y") is True
    assert wire.sent() == b"y"


def test_an_owner_may_hang_up_while_it_is_told(net) -> None:
    attempt = dial(net)
    attempt.deferred.addCallback(lambda _: attempt.result.abort())
    wire = net.accept()
    assert wire.disconnected
    net.turn()
    assert [event for event, _ in attempt.owner.told] == ["lost"]


@implementer(IHostnameResolver)
class Both:
    """A resolver that knows an address of each family."""

    def resolveHostName(self, receiver, name, port=0, addressTypes=None, transportSemantics="TCP", portNumber=0):
        receiver.resolutionBegan(None)
        receiver.addressResolved(IPv6Address("TCP", "2001:db8::1", portNumber))
        receiver.addressResolved(IPv4Address("TCP", "192.0.2.1", portNumber))
        receiver.resolutionComplete()


def test_both_address_families_are_tried(net) -> None:
    net.reactor.installNameResolver(Both())
    attempt = dial(net)
    net.refuse(ConnectionRefusedError())
    net.turn(1)
    assert [call[0] for call in net.calls] == ["2001:db8::1", "192.0.2.1"]
    net.accept().says(b"x")
    assert attempt.owner.told == [("received", b"x")]


def test_names_are_resolved_at_each_dial(net) -> None:
    backend = settings().backend(around(net.reactor))
    Dial(backend)
    net.reactor.installNameResolver(Both())
    Dial(backend)
    assert [call[0] for call in net.calls] == ["127.0.0.1", "2001:db8::1"]


def test_a_lost_line_holds_nothing_of_its_connection(net) -> None:
    attempt = dial(net)
    net.accept().hang_up()
    wire = weakref.ref(net.wires.pop())
    gc.collect()
    assert attempt.line
    assert wire() is None


def test_nothing_holds_a_lost_line(net) -> None:
    attempt = dial(net)
    net.accept().hang_up()
    line = weakref.ref(attempt.result)
    attempt.result = attempt.deferred = None
    net.reactor.tcpClients.clear()
    net.reactor.connectors.clear()
    net.wires.clear()
    gc.collect()
    assert line() is None
