"""The kind `telnet`: when it is usable, what it keeps until then, and how it watches the silence."""

from __future__ import annotations

import msgspec
import pytest
from twisted.internet.defer import CancelledError
from twisted.logger import globalLogPublisher

from consoled.backends.telnet import MOST_EARLY, SETTLE, TelnetSettings
from consoled.backends.telnet_codec import AYT, BINARY, BRK, DO, ECHO, IAC, NOP, SGA, WILL, WONT
from tests.backends.stream_fakes import Dial, Wire, network
from tests.fakes import around

EVERYTHING = bytes(range(256))
ASKED = bytes([IAC, WILL, BINARY, IAC, DO, BINARY, IAC, DO, SGA])
AGREED = bytes([IAC, DO, BINARY, IAC, WILL, BINARY, IAC, WILL, SGA])


@pytest.fixture
def net():
    with network() as net:
        yield net


def dial(net, **more: object) -> Dial:
    return Dial(TelnetSettings(name="x1", address="bmc1:23", **more).backend(around(net.reactor)))


def connected(net, **more: object) -> tuple[Dial, Wire]:
    attempt = dial(net, **more)
    wire = net.accept()
    wire.sent()
    wire.says(AGREED)
    assert attempt.line
    return attempt, wire


def test_settings() -> None:
    settings = TelnetSettings(name="x1", address="[::1]:23")
    assert settings.backend(around(None)).address == "<[::1]:23>"
    with pytest.raises(msgspec.ValidationError, match="no address"):
        msgspec.convert({"kind": "telnet", "name": "x1", "address": "bmc1"}, TelnetSettings)


def test_it_is_usable_once_everything_was_answered(net) -> None:
    attempt = dial(net)
    wire = net.accept()
    assert wire.sent() == ASKED
    wire.says(b"early" + AGREED[:4])
    assert attempt.result is None
    wire.says(AGREED[4:] + b"late")
    assert attempt.line
    assert attempt.owner.told == [("received", b"earlylate")]
    net.turn(SETTLE)
    assert attempt.owner.output == b"earlylate"


def test_a_server_without_telnet_gets_a_second(net) -> None:
    attempt = dial(net)
    wire = net.accept()
    wire.says(b"login: ")
    net.turn(SETTLE * 0.9)
    assert attempt.result is None
    net.turn(SETTLE * 0.1)
    assert attempt.line
    assert attempt.owner.told == [("received", b"login: ")]


def test_answers_that_come_late_still_count(net) -> None:
    attempt = dial(net)
    wire = net.accept()
    net.turn(SETTLE)
    attempt.line.write(b"\r")
    wire.says(AGREED)
    attempt.line.write(b"\r")
    assert wire.sent() == ASKED + b"\r\0\r"
    assert attempt.owner.told == []


def test_a_flood_before_that_is_not_hoarded(net) -> None:
    attempt = dial(net)
    wire = net.accept()
    wire.says(b"x" * (MOST_EARLY + 1))
    assert attempt.line
    assert len(attempt.owner.output) == MOST_EARLY + 1


def test_all_bytes_both_ways(net) -> None:
    attempt, wire = connected(net)
    wire.says(EVERYTHING.replace(b"\xff", b"\xff\xff"))
    assert attempt.owner.output == EVERYTHING
    attempt.line.write(EVERYTHING)
    assert wire.sent() == EVERYTHING.replace(b"\xff", b"\xff\xff")


def test_a_break(net) -> None:
    attempt, wire = connected(net)
    assert attempt.line.send_break() is True
    assert wire.sent() == bytes([IAC, BRK])
    wire.producer.pauseProducing()
    assert attempt.line.send_break() is False


def test_options_are_answered_and_are_no_output(net) -> None:
    attempt, wire = connected(net)
    wire.says(bytes([IAC, WILL, ECHO]))
    assert wire.sent() == bytes([IAC, DO, ECHO])
    assert attempt.owner.told == []


def test_a_loop_is_logged_once(net) -> None:
    events: list[str] = []
    observer = lambda event: events.append(event.get("log_format") or "")  # noqa: E731
    globalLogPublisher.addObserver(observer)
    try:
        _, wire = connected(net)
        for _ in range(100):
            wire.says(bytes([IAC, WILL, ECHO, IAC, WONT, ECHO]) * 10)
    finally:
        globalLogPublisher.removeObserver(observer)
    assert len([text for text in events if "round in circles" in text]) == 1
    assert len(wire.sent()) < 100


def test_hung_up_within_the_negotiation(net) -> None:
    attempt = dial(net)
    net.accept().hang_up()
    assert attempt.error.startswith("lost during the telnet negotiation")
    assert attempt.owner.told == []
    net.assert_quiet()


def test_cancelled_within_the_negotiation(net) -> None:
    attempt = dial(net)
    wire = net.accept()
    attempt.deferred.cancel()
    assert attempt.result.check(CancelledError)
    assert wire.disconnected
    net.turn()
    net.assert_quiet()
    assert attempt.owner.told == []


def test_lost(net) -> None:
    attempt, wire = connected(net)
    wire.hang_up()
    assert [event for event, _ in attempt.owner.told] == ["lost"]
    assert attempt.line.write(b"x") is False
    assert attempt.line.send_break() is False
    net.assert_quiet()


# ---------------------------------------------------------------------------------------------- silence


def test_nop_after_silence_only(net) -> None:
    _, wire = connected(net, keepalive=10)
    net.turn(6)
    wire.says(b"x")
    net.turn(6)
    assert wire.sent() == b""
    net.turn(4)
    assert wire.sent() == bytes([IAC, NOP])
    for _ in range(5):
        net.turn(10)
    assert wire.sent() == bytes([IAC, NOP]) * 5
    assert not wire.disconnecting, "nobody needs to answer a NOP"


def test_no_keepalive(net) -> None:
    _, wire = connected(net, keepalive=0)
    net.assert_quiet()
    net.turn(100_000)
    assert wire.sent() == b""


def test_nop_does_not_pile_up(net) -> None:
    _, wire = connected(net, keepalive=10)
    wire.producer.pauseProducing()
    for _ in range(10):
        net.turn(10)
    assert wire.sent() == b""


def test_are_you_there_must_be_answered(net) -> None:
    attempt, wire = connected(net, keepalive=10, keepalive_command="ayt")
    net.turn(10)
    assert wire.sent() == bytes([IAC, AYT])
    net.turn(10)
    assert wire.sent() == bytes([IAC, AYT])
    assert not wire.disconnecting
    net.turn(10)
    assert wire.disconnected
    net.turn()
    assert attempt.owner.told == [("lost", "no answer to AYT within 20 s")]
    net.assert_quiet()


@pytest.mark.parametrize("answer", [b"\r\n[Yes]\r\n", bytes([IAC, NOP])])
def test_any_answer_will_do(net, answer: bytes) -> None:
    _, wire = connected(net, keepalive=10, keepalive_command="ayt")
    for _ in range(10):
        net.turn(10)
        wire.says(answer)
    assert not wire.disconnecting
    assert wire.sent() == bytes([IAC, AYT]) * 10


def test_a_storm_of_commands_is_worked_off_between_other_consoles_turns(net) -> None:
    attempt, wire = connected(net)
    wire.says(bytes([IAC, NOP]) * 32_768 + b"login: ")
    assert attempt.owner.output == b""
    assert wire.producerState == "paused"
    net.turn()
    assert attempt.owner.output == b"login: "
    assert wire.producerState == "producing"
    wire.says(b"and on")
    assert attempt.owner.output == b"login: and on"


def test_the_last_words_behind_a_storm_are_heard(net) -> None:
    attempt, wire = connected(net)
    wire.says(bytes([IAC, NOP]) * 32_768 + b"panic")
    wire.hang_up()
    assert attempt.owner.output == b"panic"
    assert attempt.owner.told[-1][0] == "lost"
    assert not net.reactor.getDelayedCalls()
