"""RFC 2217's client: against a server in memory that has ideas of its own about what a port can do."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from consoled.backends.rfc2217 import BREAK, COM_PORT, MOST_HELD, ComPort, ComPortSettings
from consoled.backends.telnet import SETTLE_PORT, TelnetSettings
from consoled.backends.telnet_codec import BINARY, BRK, DO, DONT, IAC, SB, SE, SGA, WILL, subnegotiation
from tests.backends.stream_fakes import Dial, Network, Wire, network
from tests.fakes import around

AGREED = bytes([IAC, DO, BINARY, IAC, WILL, BINARY, IAC, WILL, SGA])
TAKEN = bytes([IAC, DO, COM_PORT])
REFUSED = bytes([IAC, DONT, COM_PORT])
SERIAL = {"speed": 115200, "bits": 7, "parity": "even", "stop_bits": 2, "flow": "rtscts", "dtr": "on"}
ASKED = [b"\1\0\1\xc2\0", b"\2\7", b"\3\3", b"\4\2", b"\5\3", b"\5\x08"]


def said(*parts: bytes) -> bytes:
    return b"".join(subnegotiation(COM_PORT, part) for part in parts)


def asked(wire: Wire) -> list[bytes]:
    """The option's subnegotiations in what was sent; nothing else may be there."""
    sent, parts = wire.sent(), []
    while sent:
        assert sent.startswith(bytes([IAC, SB, COM_PORT])), sent
        part, _, sent = sent[3:].partition(bytes([IAC, SE]))
        parts.append(part.replace(b"\xff\xff", b"\xff"))
    return parts


@pytest.fixture
def net():
    with network() as net:
        yield net


@pytest.fixture
def warnings():
    found: list[str] = []

    def observe(event: Any) -> None:
        if "note" in event:
            found.append(event["note"])

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


def begun(net: Network, **serial: Any) -> tuple[Dial, Wire]:
    """A dial up to where the server has agreed to the option."""
    settings = {"kind": "telnet", "name": "x1", "address": "bmc1:23", "serial": serial}
    attempt = Dial(msgspec.convert(settings, TelnetSettings).backend(around(net.reactor)))
    wire = net.accept()
    assert bytes([IAC, WILL, COM_PORT]) in wire.sent()
    wire.says(AGREED + TAKEN)
    return attempt, wire


def echo(parts: list[bytes]) -> list[bytes]:
    return [bytes([part[0] + 100]) + part[1:] for part in parts]


# ---------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("serial", "message"),
    [
        ({"speed": 0}, "speed"),
        ({"bits": 9}, "bits"),
        ({"parity": "strange"}, "parity"),
        ({"stop_bits": 3}, "stop_bits: 3 is none"),
        ({"flow": "rtscts", "rts": "off"}, "rts"),
        ({"flow": "dsr"}, "flow"),
        ({"dtr": True}, "dtr"),
        ({"baud": 9600}, "baud"),
    ],
)
def test_a_wrong_value_is_refused(serial: dict[str, Any], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert({"kind": "telnet", "name": "x1", "address": "a:1", "serial": serial}, TelnetSettings)


@pytest.mark.parametrize(
    ("serial", "wire"),
    [
        ({"speed": 4294967295}, [b"\1\xff\xff\xff\xff"]),
        ({"bits": 5, "stop_bits": 1.5}, [b"\2\5", b"\4\3"]),
        ({"parity": "odd"}, [b"\3\2"]),
        ({"parity": "mark"}, [b"\3\4"]),
        ({"parity": "space"}, [b"\3\5"]),
        ({"flow": "none", "rts": "on"}, [b"\5\1", b"\5\x0b"]),
        ({"flow": "xonxoff", "rts": "off", "dtr": "off"}, [b"\5\2", b"\5\x09", b"\5\x0c"]),
        ({}, []),
    ],
)
def test_what_each_setting_is_on_the_wire(net: Network, serial: dict[str, Any], wire: list[bytes]) -> None:
    attempt, transport = begun(net, **serial)
    assert asked(transport) == wire
    transport.says(said(*echo(wire)))
    assert attempt.line.note == ""


# ---------------------------------------------------------------------------------------------- dialling


def test_it_is_usable_once_everything_is_set(net: Network, warnings: list[str]) -> None:
    attempt, wire = begun(net, **SERIAL)
    assert asked(wire) == ASKED
    for answer in echo(ASKED):
        assert attempt.result is None
        wire.says(said(answer))
    assert attempt.line.note == ""
    assert warnings == []


def test_a_server_that_rounds_is_believed_and_told_of_once(net: Network, warnings: list[str]) -> None:
    attempt, wire = begun(net, **SERIAL)
    wire.says(said(b"\x65\0\0\x96\0", b"\x66\x08", *echo(ASKED[2:])))
    note = "speed is 38400 instead of 115200; bits is 8 instead of 7"
    assert attempt.line.note == note
    assert warnings == [note]
    wire.says(said(b"\x65\0\1\xc2\0", b"\x66\x07"))
    assert attempt.line.note == "", "somebody set it right"
    net.turn(SETTLE_PORT)
    assert warnings == [note]


def test_a_server_without_the_option_is_usable_at_once(net: Network, warnings: list[str]) -> None:
    settings = TelnetSettings(name="x1", address="bmc1:23", serial=ComPortSettings(speed=9600))
    attempt = Dial(settings.backend(around(net.reactor)))
    wire = net.accept()
    wire.says(AGREED + REFUSED)
    assert "does not do RFC 2217" in attempt.line.note
    assert warnings == [attempt.line.note]
    wire.sent()
    assert attempt.line.send_break() is True
    assert wire.sent() == bytes([IAC, BRK])


def test_a_server_that_does_not_answer_gets_three_seconds(net: Network, warnings: list[str]) -> None:
    attempt, wire = begun(net, speed=9600, parity="none")
    wire.says(said(b"\x67\1"))
    net.turn(SETTLE_PORT * 0.9)
    assert attempt.result is None
    net.turn(SETTLE_PORT * 0.1)
    assert attempt.line.note == "no answer about speed"
    wire.says(said(b"\x65\0\0\x25\x80"))
    assert attempt.line.note == ""


def test_a_server_that_agrees_late_is_asked_late(net: Network) -> None:
    attempt = Dial(
        TelnetSettings(name="x1", address="b:1", serial=ComPortSettings(bits=8)).backend(around(net.reactor))
    )
    wire = net.accept()
    net.turn(SETTLE_PORT)
    assert attempt.line
    wire.sent()
    wire.says(TAKEN)
    assert asked(wire) == [b"\2\x08"]


def test_without_the_table_nothing_is_offered(net: Network) -> None:
    attempt = Dial(TelnetSettings(name="x1", address="b:1").backend(around(net.reactor)))
    wire = net.accept()
    assert COM_PORT not in wire.sent()
    wire.says(AGREED + TAKEN)
    assert attempt.line.note == ""
    assert wire.sent() == bytes([IAC, 252, COM_PORT]), "WONT"


# ---------------------------------------------------------------------------------------------- working


def up(net: Network, **serial: Any) -> tuple[Dial, Wire]:
    attempt, wire = begun(net, **serial)
    wire.says(said(*echo(asked(wire))))
    assert attempt.line
    wire.sent()
    return attempt, wire


def test_a_break_holds_back_what_comes_after_it(net: Network) -> None:
    attempt, wire = up(net)
    attempt.line.write(b"before")
    assert attempt.line.send_break() is True
    assert wire.sent() == b"before" + said(b"\5\5")
    assert attempt.line.write(b"h\xff") is True
    assert attempt.line.send_break() is True, "it goes on already"
    net.turn(BREAK * 0.9)
    assert wire.sent() == b""
    net.turn(BREAK * 0.1)
    assert wire.sent() == said(b"\5\6") + b"h\xff\xff"
    attempt.line.write(b"after")
    assert wire.sent() == b"after"


def test_a_line_lost_within_a_break_leaves_nothing(net: Network) -> None:
    attempt, wire = up(net, speed=9600)
    attempt.line.send_break()
    attempt.line.write(b"x")
    wire.hang_up()
    assert attempt.owner.told[-1][0] == "lost"
    assert attempt.line.write(b"x") is False
    assert attempt.line.send_break() is False
    net.assert_quiet()


def test_a_server_that_asks_us_to_wait_is_heeded(net: Network) -> None:
    attempt, wire = up(net)
    wire.says(said(b"\x6c"))
    assert attempt.line.write(b"x" * MOST_HELD) is True
    assert attempt.line.write(b"x") is False, "the queue has a bound"
    assert wire.sent() == b""
    wire.says(said(b"\x6d"))
    assert wire.sent() == b"x" * MOST_HELD
    assert attempt.line.write(b"y") is True
    assert wire.sent() == b"y"


def test_a_break_within_such_a_wait_frees_nothing(net: Network) -> None:
    attempt, wire = up(net)
    wire.says(said(b"\x6c"))
    attempt.line.write(b"x")
    attempt.line.send_break()
    net.turn(BREAK)
    assert asked(wire) == [b"\5\5", b"\5\6"]
    wire.says(said(b"\x6d"))
    assert wire.sent() == b"x"


def test_the_servers_own_remarks(net: Network) -> None:
    attempt, wire = up(net)
    wire.says(said(b"\x64"))
    assert asked(wire) == [b"\0consoled"]
    wire.says(said(b"\x64ser2net", b"\x6a\x10", b"\x6b\xb0"))
    assert wire.sent() == b""
    assert attempt.owner.output == b""


@given(st.lists(st.binary(max_size=6)))
def test_nonsense_is_passed_over(parts: list[bytes]) -> None:
    sent: list[bytes] = []
    port = ComPort(ComPortSettings(speed=9600), Clock(), sent.append, sent.append)
    port.begin()
    for part in parts:
        port.heard(part)
        assert isinstance(port.note, str)
    port.heard(b"\x65\0\0\x25\x80")
    assert port.settled and port.note == ""
