"""How much a line reads at once, and what the sluice does to lines that flood."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.testing import StringTransport

from consoled.backends.line import FLOOD, READ, TransportLine
from consoled.backends.sluice import LARGE, sluice
from tests.backends.stream_fakes import Owner


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
