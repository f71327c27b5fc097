"""The kind `unix`, and the greeting of a zone's console."""

from __future__ import annotations

import itertools
import socket

import msgspec
import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import CancelledError

from consoled.backends.unix import LONGEST_ANSWER, UnixSettings
from consoled.core.seams import Refused
from consoled.units import units
from tests.backends.stream_fakes import Dial, network
from tests.fakes import around


@pytest.fixture
def net():
    with network() as net:
        yield net


def dial(net, zone: bool = True) -> Dial:
    return Dial(UnixSettings(name="x1", path="/run/x1", zone_handshake=zone).backend(around(net.reactor)))


def test_it_says_where_it_is() -> None:
    assert UnixSettings(name="x1", path="/run/x1").backend(around(None)).address == '"/run/x1"'


@pytest.mark.parametrize("path", ["", "/" + "x" * 107])
def test_a_path_that_no_socket_can_have(path: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="no socket's path"):
        msgspec.convert({"kind": "unix", "name": "x", "path": path}, UnixSettings, dec_hook=units("/"))


def test_tls_must_say_whose_certificate_is_good() -> None:
    with pytest.raises(msgspec.ValidationError, match="server_name"):
        msgspec.convert({"kind": "unix", "name": "x", "path": "/x", "tls": {}}, UnixSettings, dec_hook=units("/"))
    msgspec.convert(
        {"kind": "unix", "name": "x", "path": "/x", "tls": {"server_name": "x1"}}, UnixSettings, dec_hook=units("/")
    )


def test_without_a_greeting_it_is_usable_at_once(net) -> None:
    attempt = dial(net, zone=False)
    assert net.calls[0][0] == "/run/x1"
    wire = net.accept()
    wire.says(b"OK not an answer\n")
    assert attempt.line.write(b"x")
    assert wire.sent() == b"x"
    assert attempt.owner.output == b"OK not an answer\n"


def test_the_greeting(net) -> None:
    attempt = dial(net)
    wire = net.accept()
    assert wire.sent() == b"IDENT C 0\n"
    wire.says(b"OK zone1 /dev/pts/2\nlogin: ")
    assert attempt.line
    assert attempt.owner.told == [("received", b"login: ")]
    wire.says(b"root\n")
    assert attempt.owner.output == b"login: root\n"


@given(st.lists(st.integers(0, 40), max_size=6), st.binary(max_size=20))
def test_the_greeting_may_come_in_any_pieces(cuts: list[int], output: bytes) -> None:
    said = b"OK zone1 /dev/pts/2\n" + output
    edges = [0, *sorted(min(cut, len(said)) for cut in cuts), len(said)]
    with network() as net:
        attempt = dial(net)
        wire = net.accept()
        for a, b in itertools.pairwise(edges):
            wire.says(said[a:b])
        assert attempt.line
        assert attempt.owner.output == output


def test_refused_and_quoted_harmlessly(net) -> None:
    attempt = dial(net)
    wire = net.accept()
    wire.says(b"BUSY \x1b[2J\xff\nrest")
    assert attempt.result.check(Refused)
    assert attempt.error == r"zone handshake refused: 'BUSY \x1b[2J\xff'"
    assert wire.disconnected
    net.turn()
    assert attempt.owner.told == []


@pytest.mark.parametrize("said", [b"O" * 2000, b"OK" + b"x" * (LONGEST_ANSWER - 2) + b"\n"])
@pytest.mark.parametrize("size", [1, 2000])
def test_a_flood_without_line_end_is_cut_off(net, said: bytes, size: int) -> None:
    attempt = dial(net)
    wire = net.accept()
    for at in range(0, len(said), size):
        if attempt.result is None:
            wire.says(said[at : at + size])
    assert f"no line within {LONGEST_ANSWER} bytes" in attempt.error
    assert len(attempt.error) < 200
    assert wire.disconnected


def test_the_longest_answer(net) -> None:
    attempt = dial(net)
    net.accept().says(b"OK" + b"x" * (LONGEST_ANSWER - 3) + b"\n")
    assert attempt.line


def test_hung_up_within_the_greeting(net) -> None:
    attempt = dial(net)
    wire = net.accept()
    wire.says(b"OK zone")
    wire.hang_up()
    assert attempt.error.startswith("lost during the zone handshake")
    assert attempt.owner.told == []


def test_cancelled_within_the_greeting(net) -> None:
    attempt = dial(net)
    wire = net.accept()
    attempt.deferred.cancel()
    assert attempt.result.check(CancelledError)
    assert wire.disconnected
    wire.says(b"OK zone1\nlogin: ")
    net.turn()
    assert attempt.owner.told == []
    net.assert_quiet()


@pytest_twisted.inlineCallbacks
def test_no_such_socket(tmp_path) -> None:
    attempt = Dial(UnixSettings(name="x1", path=str(tmp_path / "none")).backend(around(reactor)))
    yield attempt.deferred
    assert "No such file" in attempt.error


@pytest_twisted.inlineCallbacks
def test_a_listener_without_room_is_said_plainly(tmp_path) -> None:
    path = str(tmp_path / "full")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as taker:
        listener.bind(path)
        listener.listen(0)
        taker.connect(path)
        attempt = Dial(UnixSettings(name="x1", path=path).backend(around(reactor)))
        yield attempt.deferred
        assert attempt.error == "the socket's listener has no room for one more caller"
