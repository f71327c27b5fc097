"""How much a line reads at once, and what the sluice does to lines that flood."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.testing import StringTransport

from consoled.backends.line import FLOOD, READ, TransportLine
from consoled.backends.sluice import LARGE, sluice
from tests.backends.stream_fakes import Owner
from tests.test_straight import FULL, connection


class Transport(StringTransport):
    """As a socket's, with a size of its reads."""

    bufferSize = READ


@pytest.fixture(autouse=True)
def opened() -> Iterator[None]:
    yield
    sluice.turn(False)
    assert not sluice.flooding


def connected() -> tuple[TransportLine, Transport]:
    line, transport = TransportLine(Owner()), Transport()
    line.makeConnection(transport)
    return line, transport


def test_reads_grow_with_a_flood_and_shrink_after_it() -> None:
    line, transport = connected()
    sizes = []
    for size in (10, READ - 1, READ, FLOOD, FLOOD // 2 + 1, FLOOD // 2, READ, 1):
        line.dataReceived(bytes(size))
        sizes.append(transport.bufferSize)
    assert sizes == [READ, READ, FLOOD, FLOOD, FLOOD, READ, FLOOD, READ]
    assert Transport.bufferSize == READ


def test_a_transport_without_a_size_is_left_alone() -> None:
    line, transport = TransportLine(Owner()), StringTransport()
    line.makeConnection(transport)
    line.dataReceived(bytes(READ))
    assert not hasattr(transport, "bufferSize")


def test_who_floods_is_not_read_while_the_sluice_is_shut() -> None:
    (flood, floods), (busy, busily), (quiet, quietly) = connected(), connected(), connected()
    flood.dataReceived(bytes(READ))
    sluice.turn(True)
    assert floods.producerState == "paused"
    busy.dataReceived(bytes(LARGE))
    quiet.dataReceived(bytes(LARGE - 1))
    assert (busily.producerState, quietly.producerState) == ("paused", "producing")
    assert len(busy.owner.output) == LARGE  # what was read is not lost
    sluice.turn(False)
    assert (floods.producerState, busily.producerState) == ("producing", "producing")
    busy.dataReceived(bytes(LARGE))
    assert busily.producerState == "producing"
    flood.connectionLost()


def test_a_line_that_ends_behind_the_sluice_is_forgotten() -> None:
    line, transport = connected()
    line.dataReceived(bytes(READ))
    sluice.turn(True)
    line.connectionLost()
    sluice.turn(False)
    assert transport.producerState == "paused"


def test_keystrokes_go_straight_to_the_node_and_behind_what_it_has_not_read() -> None:
    line = TransportLine(Owner())
    transport, kernel, reactor = connection(line)
    line.makeConnection(transport)
    assert line.write(b"ls\n")
    assert kernel.taken == b"ls\n"
    assert not reactor.writers
    kernel.room = [FULL, 2]
    assert line.write(b"cat ")
    assert line.write(b"x\n")
    assert kernel.taken == b"ls\n"
    while reactor.writers:
        reactor.turn(transport)
    assert kernel.taken == b"ls\ncat x\n"


def test_a_node_that_does_not_read_gets_no_more_than_its_transport_likes() -> None:
    line = TransportLine(Owner())
    transport, kernel, reactor = connection(line)
    line.makeConnection(transport)
    kernel.room = [FULL] * 3
    assert line.write(bytes(READ))
    assert line.write(b"one more")
    assert not line.write(b"refused")
    while reactor.writers:
        reactor.turn(transport)
    assert line.write(b"taken")
    assert kernel.taken == bytes(READ) + b"one moretaken"


def test_a_node_that_is_gone_takes_nothing() -> None:
    line = TransportLine(Owner())
    transport, kernel, _ = connection(line)
    line.makeConnection(transport)
    assert line.write(b"x")
    line.connectionLost()
    assert not line.write(b"y")
    assert kernel.taken == b"x"
