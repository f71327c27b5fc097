"""The kind `ssh`: the session, its end, its silence, and a server that misbehaves."""

from __future__ import annotations

import gc
import re
import struct
import weakref
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.conch.ssh._kex import getDHGeneratorAndPrime
from twisted.conch.ssh.common import NS
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.transport import SSHClientTransport
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.logger import globalLogPublisher

from consoled.backends.ssh_algorithms import AlgorithmSettings
from consoled.backends.ssh_session import QUEUE
from consoled.core.seams import Refused
from tests.backends.ssh_server import World, key, world
from tests.backends.stream_fakes import Dial

EVERYTHING = bytes(range(256))


@pytest.fixture
def bmc(tmp_path: Path):
    with world(tmp_path) as one:
        yield one


def names(bmc: World) -> list[bytes]:
    return [name for name, _ in bmc.server.requests]


def lost(attempt: Dial) -> list[str]:
    return [what for event, what in attempt.owner.told if event == "lost"]


# ---------------------------------------------------------------------------------------------------- the session


def test_a_shell_on_a_terminal(bmc: World) -> None:
    attempt = bmc.dial(rows=50, columns=132, terminal="xterm")
    assert attempt.line
    terminal = NS("xterm") + struct.pack(">4L", 132, 50, 0, 0) + NS(b"\0")
    assert bmc.server.requests == [(b"pty-req", terminal), (b"shell", b"")]


@pytest.mark.parametrize(
    ("more", "requests"),
    [
        ({"pty": False}, [b"shell"]),
        ({"command": "vsp"}, [b"exec"]),
        ({"command": "vsp", "pty": True}, [b"pty-req", b"exec"]),
        ({"subsystem": "console"}, [b"subsystem"]),
        ({"subsystem": "console", "pty": True}, [b"pty-req", b"subsystem"]),
    ],
)
def test_other_sessions(bmc: World, more: dict[str, Any], requests: list[bytes]) -> None:
    assert bmc.dial(**more).line
    assert names(bmc) == requests
    what = more.get("command") or more.get("subsystem")
    assert bmc.server.requests[-1][1] == (NS(what) if what else b"")


def test_all_bytes_both_ways_and_stderr_too(bmc: World) -> None:
    attempt = bmc.dial()
    assert attempt.line.write(EVERYTHING)
    bmc.run()
    assert bmc.server.typed == EVERYTHING
    bmc.server.says(EVERYTHING)
    bmc.server.channel.writeExtended(1, b"ERR")
    bmc.run()
    assert attempt.owner.output == EVERYTHING + b"ERR"


def test_what_comes_before_the_reply_is_kept(bmc: World) -> None:
    bmc.server.early = [b"U-Boot ", b"2026.01\r\n"]
    bmc.cut = 100
    attempt = bmc.dial()
    assert attempt.owner.output == b"U-Boot 2026.01\r\n"


def test_a_flood_before_the_reply_is_not_kept_for_ever(bmc: World) -> None:
    bmc.server.early = [b"x" * 30_000] * 4
    bmc.server.grants = lambda request: Deferred() if request == b"shell" else True
    attempt = bmc.dial()
    assert attempt.line
    assert len(attempt.owner.output) == 120_000


@given(cut=st.integers(1, 400), sizes=st.lists(st.integers(1, 5000), max_size=8))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_however_it_is_cut(tmp_path: Path, cut: int, sizes: list[int]) -> None:
    with world(tmp_path) as bmc:
        bmc.cut = cut
        bmc.server.early = [b"early"]
        attempt = bmc.dial()
        pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
        for piece in pieces:
            bmc.server.says(piece)
        bmc.run()
        assert attempt.owner.output == b"early" + b"".join(pieces)


def test_many_packets_in_one_read_are_one_piece(bmc: World) -> None:
    attempt = bmc.dial()
    for _ in range(100):
        bmc.server.says(b"x")
    bmc.run()
    assert ("received", b"x" * 100) in attempt.owner.told


@pytest.mark.parametrize(
    ("refuses", "text"), [(b"pty-req", "gives no terminal: try pty = false"), (b"shell", "refuses the shell")]
)
def test_what_the_server_refuses(bmc: World, refuses: bytes, text: str) -> None:
    bmc.server.grants = lambda request: request != refuses
    attempt = bmc.dial()
    assert attempt.result.check(Refused)
    assert text in attempt.error
    assert attempt.owner.told == []


def test_a_command_that_the_server_refuses(bmc: World) -> None:
    bmc.server.grants = lambda request: False
    assert bmc.dial(command="vsp").error == "the server refuses command 'vsp'"


def test_no_session_to_be_had(bmc: World) -> None:
    bmc.server.full_up = True
    attempt = bmc.dial()
    assert attempt.result.check(Refused)
    assert attempt.error == "the server opens no session: no more sessions"


# ------------------------------------------------------------------------------------------------------- keystrokes


def test_a_server_that_takes_no_more(bmc: World) -> None:
    bmc.server.window, bmc.server.reads = 1000, False
    line = bmc.dial().line
    assert line.write(b"a" * 400)
    assert line.write(b"b" * 1000), "the rest of one write may wait"
    assert line.write(b"c") is False
    bmc.run()
    assert bmc.server.typed == b"a" * 400 + b"b" * 600
    bmc.server.reads = True
    bmc.server.channel.conn.adjustWindow(bmc.server.channel, 1000)
    bmc.run()
    assert bmc.server.typed == b"a" * 400 + b"b" * 1000
    assert line.write(b"c")


def test_a_closed_window(bmc: World) -> None:
    bmc.server.window, bmc.server.reads = 100, False
    line = bmc.dial().line
    assert line.write(b"x" * (QUEUE + 101)) is False, "more than may wait"
    assert line.write(b"x" * 100)
    assert line.write(b"x") is False


def test_tcp_takes_no_more(bmc: World) -> None:
    line = bmc.dial().line
    wire, _ = bmc.wires[-1]
    wire.producer.pauseProducing()
    assert line.write(b"x") is False
    wire.producer.resumeProducing()
    assert line.write(b"x")


def test_a_server_that_asks_and_does_not_read(bmc: World) -> None:
    attempt = bmc.dial()
    wire, server = bmc.wires[-1]
    wire.producer.pauseProducing()
    written = 0
    while not wire.disconnecting:
        for _ in range(1000):
            server.sendPacket(80, NS("x") + b"\1")
        wire.says(server.transport.value())
        server.transport.clear()
        written += len(wire.sent())
        assert written < 4 << 20
    bmc.net.turn()
    assert lost(attempt) == ["the server asks and does not read the answers"]
    bmc.net.assert_quiet()


# ------------------------------------------------------------------------------------------------------------ break


def test_break(bmc: World) -> None:
    line = bmc.dial().line
    assert line.send_break()
    bmc.run()
    assert bmc.server.requests[-1] == (b"break", struct.pack(">L", 500))
    assert line.send_break()


def test_a_server_without_break(bmc: World) -> None:
    bmc.server.grants = lambda request: request != b"break"
    events: list[Any] = []
    attempt = bmc.dial()
    globalLogPublisher.addObserver(events.append)
    try:
        assert attempt.line.send_break()
        bmc.run()
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert "console {name}: the server refused a break" in events[0]["log_format"]
    assert attempt.line.send_break() is False
    assert lost(attempt) == []


def test_a_sequence_for_a_break(bmc: World) -> None:
    line = bmc.dial(break_sequence="~B\xff").line
    assert line.send_break()
    bmc.run()
    assert bmc.server.typed == b"~B\xff"
    assert b"break" not in names(bmc)


# ---------------------------------------------------------------------------------------------------------- the end


@pytest.mark.parametrize(
    ("request_", "data", "why"),
    [
        (b"exit-status", struct.pack(">L", 3), "the shell ended with status 3"),
        (b"exit-signal", NS("TERM") + b"\0" + NS("") + NS(""), "the shell was ended by signal TERM"),
        (b"exit-signal", b"\xff\xff\xff\xffKILL\n<ConMan>", "the shell was ended by signal KILL <ConMan>"),
        (b"exit-status", b"", "the shell ended"),
        (b"\xff\xfe", b"", "the shell ended"),
    ],
)
def test_how_the_session_ended(bmc: World, request_: bytes, data: bytes, why: str) -> None:
    attempt = bmc.dial()
    channel = bmc.server.channel
    channel.conn.sendRequest(channel, request_, data)
    channel.conn.sendEOF(channel)
    channel.loseConnection()
    bmc.run()
    assert lost(attempt) == [why]
    assert bmc.server.goodbye == 11
    assert attempt.line.write(b"x") is False
    bmc.net.assert_quiet()


def test_the_end_of_the_output_alone(bmc: World) -> None:
    attempt = bmc.dial()
    channel = bmc.server.channel
    channel.conn.sendEOF(channel)
    bmc.run()
    assert lost(attempt) == []
    channel.conn.sendRequest(channel, b"exit-status", struct.pack(">L", 1))
    bmc.net.turn(1)
    bmc.run()
    assert lost(attempt) == ["the shell ended with status 1"]
    bmc.net.assert_quiet()


def test_the_end_of_the_output_before_the_reply(bmc: World) -> None:
    def end(request: bytes) -> bool:
        if request == b"shell":
            bmc.server.channel.conn.sendEOF(bmc.server.channel)
        return True

    bmc.server.grants = end
    attempt = bmc.dial()
    assert attempt.line
    bmc.net.turn(1)
    bmc.run()
    assert lost(attempt) == ["the shell ended"]


def test_the_end_of_the_output_of_a_server_that_has_died(bmc: World) -> None:
    attempt = bmc.dial()
    bmc.server.channel.conn.sendEOF(bmc.server.channel)
    bmc.run()
    for _ in range(7):
        bmc.net.turn(1)
    assert len(lost(attempt)) == 1
    bmc.net.assert_quiet()


def test_the_server_hangs_up(bmc: World) -> None:
    attempt = bmc.dial()
    bmc.server.transport.sendDisconnect(11, b"the BMC is\nrebooting")
    bmc.run()
    assert lost(attempt) == ["the server hung up: the BMC is rebooting"]
    bmc.net.assert_quiet()


def test_the_connection_breaks(bmc: World) -> None:
    attempt = bmc.dial()
    bmc.wires[-1][0].hang_up()
    assert lost(attempt) == ["Connection was closed cleanly."]
    assert attempt.line.write(b"x") is False
    assert attempt.line.send_break() is False
    attempt.line.close()
    attempt.line.abort()
    bmc.net.assert_quiet()


def test_the_server_closes_while_keystrokes_wait(bmc: World) -> None:
    bmc.server.window, bmc.server.reads = 10, False
    attempt = bmc.dial()
    assert attempt.line.write(b"x" * 100)
    bmc.server.channel.loseConnection()
    bmc.run()
    assert lost(attempt) == ["the shell ended"]


def test_a_connection_that_will_not_close(bmc: World) -> None:
    attempt = bmc.dial()
    wire, server = bmc.wires[-1]
    wire.loseConnection = lambda: None
    server.ssh_DISCONNECT = lambda packet: None
    bmc.server.channel.loseConnection()
    bmc.run()
    assert lost(attempt) == []
    bmc.net.turn(5)
    bmc.net.turn()
    assert lost(attempt) == ["the shell ended"]
    bmc.net.assert_quiet()


@pytest.mark.parametrize("how", ["channel", "connection"])
def test_the_end_before_the_reply_is_no_refusal(bmc: World, how: str) -> None:
    bmc.server.grants = lambda request: Deferred() if request == b"shell" else True
    attempt = bmc.dial()
    assert attempt.result is None
    if how == "channel":
        bmc.server.channel.loseConnection()
        bmc.run()
        assert attempt.error == "the shell ended"
    else:
        bmc.wires[-1][0].hang_up()
        assert attempt.error == "lost during the opening of the session: Connection was closed cleanly."
    assert not attempt.result.check(Refused)


def test_close_goes_in_good_order(bmc: World) -> None:
    bmc.server.window, bmc.server.reads = 10, False
    attempt = bmc.dial()
    assert attempt.line.write(b"x" * 100)
    attempt.line.close()
    attempt.line.close()
    assert attempt.line.write(b"x") is False
    assert lost(attempt) == []
    bmc.run()
    assert bmc.server.eof
    assert bmc.server.closed
    assert bmc.server.goodbye == 11
    assert lost(attempt) == ["Connection was closed cleanly."]
    bmc.net.assert_quiet()


def test_abort_goes_at_once(bmc: World) -> None:
    attempt = bmc.dial()
    attempt.line.abort()
    assert bmc.wires[-1][0].disconnected
    bmc.net.turn()
    assert len(lost(attempt)) == 1
    bmc.net.assert_quiet()


# -------------------------------------------------------------------------------------------------------- keepalive


def test_a_silent_server_is_asked_and_its_answer_counts(bmc: World) -> None:
    attempt = bmc.dial(keepalive=30)
    for number in range(1, 11):
        bmc.net.turn(30)
        bmc.run()
        assert bmc.server.globals == [b"keepalive@openssh.com"] * number
        assert attempt.owner.told == []


def test_output_is_a_sign_of_life(bmc: World) -> None:
    attempt = bmc.dial(keepalive=30)
    for _ in range(10):
        bmc.net.turn(29)
        bmc.server.says(b"x")
        bmc.run()
    assert bmc.server.globals == []
    assert len(attempt.owner.output) == 10


def test_a_server_that_answers_nothing_is_given_up(bmc: World) -> None:
    attempt = bmc.dial(keepalive=30)
    for _ in range(2):
        bmc.net.turn(30)
    assert lost(attempt) == []
    bmc.net.turn(30)
    bmc.net.turn()
    assert lost(attempt) == ["the server has not answered for 90 s"]
    bmc.net.assert_quiet()


@pytest.mark.parametrize("more", [{"keepalive": 0}, {"keepalive_request": False}])
def test_no_requests(bmc: World, more: dict[str, Any]) -> None:
    attempt = bmc.dial(**more)
    bmc.net.assert_quiet()
    bmc.net.turn(100_000)
    bmc.run()
    assert attempt.owner.told == []


# -------------------------------------------------------------------------------------------------- renewal of keys


def test_the_keys_are_renewed(bmc: World) -> None:
    attempt = bmc.dial()
    before = bmc.server.transport.currentEncryptions
    for number in range(3):
        bmc.server.transport.sendKexInit()
        bmc.server.says(b"%d" % number)
        bmc.run()
        assert attempt.line.write(b"k")
        bmc.run()
    for _ in range(40):
        assert attempt.line.write(b"k" * 10_000)
        bmc.run()
    assert bmc.server.transport.currentEncryptions is not before
    assert attempt.owner.output == b"012"
    assert bmc.server.typed == b"k" * 400_003
    assert [name for name in names(bmc) if name == b"shell"] == [b"shell"], "the login was not done again"


def test_a_renewal_that_does_not_end(bmc: World) -> None:
    attempt = bmc.dial()
    wire, server = bmc.wires[-1]
    server.sendKexInit()
    wire.says(server.transport.value())
    server.transport.clear()
    wire.sent()
    written = 0
    while attempt.line.write(b"x" * 10_000):
        written += 10_000
    assert QUEUE <= written <= QUEUE + 20_000


# ---------------------------------------------------------------------------------------------------- bad servers


@pytest.mark.parametrize(
    ("says", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 9000, "no SSH server: it says 'HTTP/1.1 400 Bad Request"),
        (b"\xff\xfd\x18\xff\xfd\x20", "no SSH server"),
        (b"SSH-1.5-Cisco\r\n", "bad version 1.5"),
        (b"SSH-2.0-x\r\n" + b"\xff" * 100, "bad packet length"),
        (b"SSH-2.0-x\r\n" + struct.pack(">LB", 12, 4) + b"\x14abcdef" + bytes(4), "makes no sense"),
        (b"SSH-2.0-x\r\n" + struct.pack(">LB", 12, 4) + b"\x15abcdef" + bytes(4), "makes no sense|NEWKEYS"),
        (b"SSH-2.0-x\r\n" + struct.pack(">LB", 12, 4) + b"\x06abcdef" + bytes(4), "makes no sense"),
    ],
)
def test_garbage(bmc: World, says: bytes, text: str) -> None:
    attempt = Dial(bmc.backend())
    wire = bmc.net.accept()
    for at in range(0, len(says), 7):
        if not wire.disconnecting:
            wire.says(says[at : at + 7])
    wire.says(b"more")
    assert re.search(text, attempt.error)
    assert attempt.owner.told == []
    assert wire.disconnected
    bmc.net.turn()
    bmc.net.assert_quiet()
    wire.socket.close()


def test_lines_before_the_version(bmc: World) -> None:
    attempt = Dial(bmc.backend())
    wire, _ = bmc.connect()
    wire.says(b"Authorised use only\r\n")
    wire.says(b"SSH is monitored\r\n" * 300)
    bmc.run()
    assert attempt.line


@given(junk=st.binary(min_size=1, max_size=200), at=st.integers(0, 60))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_garbage_ends_the_dial_and_nothing_else(tmp_path: Path, junk: bytes, at: int) -> None:
    with world(tmp_path) as bmc:
        attempt = Dial(bmc.backend())
        wire, server = bmc.connect()
        greeting = server.transport.value()
        wire.says(greeting[:at] + junk + greeting[at:])
        bmc.net.turn()
        wire.hang_up()
        bmc.net.turn()
        assert attempt.result is not None
        assert attempt.owner.told == []
        bmc.net.assert_quiet()


@pytest.mark.parametrize(
    ("attribute", "table"),
    [
        ("supportedKeyExchanges", "kex"),
        ("supportedPublicKeys", "hostkey"),
        ("supportedCiphers", "cipher"),
        ("supportedMACs", "mac"),
    ],
)
def test_nothing_in_common_is_named(bmc: World, attribute: str, table: str) -> None:
    bmc.server.offers = {attribute: [b"old\x1b-one", b"older-one"]}
    attempt = Dial(bmc.backend())
    wire, server = bmc.connect()
    wire.says(server.transport.value())
    assert attempt.result.check(Refused)
    assert f'in common (see "algorithms.{table}"): the server has old -one, older-one' in attempt.error


@pytest.mark.parametrize("bits", [512, 1 << 20])
def test_a_group_of_absurd_size(bmc: World, monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    monkeypatch.setattr(SSHClientTransport, "_startEphemeralDH", lambda self: pytest.fail("taken"))
    bmc.server.primes = {2048: [(2, (1 << bits) - 1)]}
    bmc.server.offers = {"_startEphemeralDH": lambda: None}
    attempt = bmc.dial(algorithms=AlgorithmSettings(kex=("diffie-hellman-group-exchange-sha256",)))
    assert attempt.error == "the server's packet makes no sense (ValueError)"


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize(
    "chosen",
    [
        {"kex": ("diffie-hellman-group14-sha1",)},
        {"kex": ("ecdh-sha2-nistp384",), "cipher": ("aes256-ctr",), "mac": ("hmac-sha2-512",)},
        {"cipher": ("3des-cbc",), "mac": ("hmac-md5",)},
        {"cipher": ("aes128-cbc",), "mac": ("hmac-sha1",)},
    ],
)
def test_algorithms_by_name(bmc: World, chosen: dict[str, Any]) -> None:
    attempt = bmc.dial(algorithms=AlgorithmSettings(**chosen))
    bmc.server.says(b"hello")
    bmc.run()
    assert attempt.owner.output == b"hello"
    for (names,) in zip(chosen.values(), strict=True):
        assert names[0].encode() in bmc.server.agreed


@pytest.mark.parametrize("kex", ["curve25519-sha256", "diffie-hellman-group-exchange-sha256"])
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_a_signature_of_another_kind_than_agreed(bmc: World, kex: str) -> None:
    class Sha1(Key):
        def sign(self, data: bytes, signatureType: bytes | None = None) -> bytes:
            return super().sign(data, b"ssh-rsa")

    bmc.server.primes = {2048: [getDHGeneratorAndPrime(b"diffie-hellman-group14-sha1")]}
    bmc.server.host_keys = [key("rsa")]
    chosen = AlgorithmSettings(kex=(kex,))
    assert bmc.dial(algorithms=chosen).line
    bmc.server.offers = {"_getHostKeys": lambda kind: (key("rsa").public(), Sha1(key("rsa")._keyObject))}
    assert bmc.dial(algorithms=chosen).error == "the server's packet makes no sense (ValueError)"


def test_a_server_that_sends_more_than_it_may(bmc: World) -> None:
    attempt = bmc.dial()
    bmc.server.channel.remoteMaxPacket = 1 << 17
    bmc.server.says(b"x" * 100_000)
    bmc.run()
    assert lost(attempt) == ["the server sent more than it may"]
    bmc.net.assert_quiet()


def test_packets_of_no_size(bmc: World) -> None:
    bmc.server.packet = 0
    attempt = bmc.dial()
    assert "makes no sense" in attempt.error


def test_nothing_is_not_output(bmc: World) -> None:
    attempt = bmc.dial()
    bmc.server.channel.conn.sendData(bmc.server.channel, b"")
    bmc.run()
    assert attempt.owner.told == []


def test_a_key_exchange_that_makes_no_sense(bmc: World) -> None:
    bmc.server.offers = {"_encodeECPublicKey": lambda public: b"short"}
    assert bmc.dial().error == "the server's part of the key exchange makes no sense"


@given(number=st.integers(1, 255), payload=st.binary(max_size=60))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_packet_after_the_login(tmp_path: Path, number: int, payload: bytes) -> None:
    with world(tmp_path) as bmc:
        attempt = bmc.dial()
        wire, server = bmc.wires[-1]
        server.sendPacket(number, payload)
        wire.says(server.transport.value())
        bmc.net.turn()
        attempt.line.write(b"x")
        attempt.line.send_break()
        attempt.line.close()
        bmc.net.turn(10)
        assert len(lost(attempt)) == 1
        assert attempt.owner.told[-1][0] == "lost"
        bmc.net.assert_quiet()


# ------------------------------------------------------------------------------------------------ dials that fail


def test_refused(bmc: World) -> None:
    attempt = Dial(bmc.backend())
    bmc.net.refuse(ConnectionRefusedError())
    bmc.net.turn(1)
    assert "refused" in attempt.error
    bmc.net.assert_quiet()


def test_no_time_limit_of_its_own(bmc: World) -> None:
    attempt = Dial(bmc.backend())
    bmc.net.accept().socket.close()
    bmc.net.turn(100_000)
    assert attempt.result is None


@pytest.mark.parametrize("phase", ["secret", "thread", "connecting", "key exchange", "login", "session"])
def test_cancelled_in_every_phase(bmc: World, phase: str) -> None:
    bmc.vault.silent = phase == "secret"
    bmc.pool.held = [] if phase == "thread" else None
    bmc.server.grants = lambda request: Deferred()
    attempt = Dial(bmc.backend())
    if phase == "key exchange":
        bmc.connect()
    elif phase == "login":
        bmc.server.methods = ["keyboard-interactive"]
        bmc.server.questions = [([(b"Password: ", False)], 1)] * 2
        _, server = bmc.connect()
        server.setService = lambda service: None
        bmc.run()
    elif phase == "session":
        bmc.run()
    assert attempt.result is None
    attempt.deferred.cancel()
    assert attempt.result.check(CancelledError)
    for wire, _ in bmc.wires:
        assert wire.disconnected
    for late in bmc.pool.held or []:
        late()
    bmc.net.turn()
    bmc.net.assert_quiet()
    assert attempt.owner.told == []
    assert len(bmc.net.calls) == (0 if phase in ("secret", "thread") else 1)


def test_hundreds_of_failures_leave_nothing_behind(bmc: World) -> None:
    backend = bmc.backend()
    bmc.server.passwords.clear()
    left: list[weakref.ref[Any]] = []
    gc.collect()
    for number in range(300):
        attempt = Dial(backend)
        match number % 4:
            case 0:
                bmc.net.refuse(ConnectionRefusedError())
            case 1:
                bmc.net.accept().hang_up()
            case 2:
                wire = bmc.net.accept()
                left.append(weakref.ref(wire._protocol))
                wire.says(b"SSH-2.0-x\r\n")
                attempt.deferred.cancel()
            case 3 if number < 40:
                bmc.wires.clear()
                bmc.net.calls[:] = bmc.net.calls[-1:]
                bmc.run()
                assert "tried: password" in attempt.error
            case _:
                wire = bmc.net.accept()
                wire.says(b"garbage\xff")
        bmc.net.turn(1)
        assert attempt.result is not None
        left.append(weakref.ref(attempt.owner))
        del bmc.net.calls[:], bmc.net.reactor.connectors[:], bmc.net.wires[:]
        bmc.wires.clear()
    bmc.server.transport = bmc.server.channel = None
    wire = attempt = None
    gc.collect()
    assert [one for one in left if one() is not None] == []
    bmc.net.assert_quiet()
