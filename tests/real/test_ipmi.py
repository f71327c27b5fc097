"""The kind `ipmi` against OpenIPMI's `ipmi_sim`, a BMC whose serial port is a TCP connection to this test.

The simulator answers three of FreeIPMI's questions wrongly, or with a crash; three workaround flags keep them from
being asked.  It has no cipher suite 17, so every session here is one that fell back to 3.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks, succeed
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher

from consoled.backends.ipmi import IpmiSettings
from consoled.backends.settings import Surroundings
from consoled.core.seams import Refused
from consoled.core.secret import Secret
from consoled.units import Duration
from tests.real import Spawned, free_port, need
from tests.real.test_ser2net import Collected, Owner

pytestmark = pytest.mark.real

EVERYTHING = bytes(range(256)) * 4
PASSWORD = "c4nary-password"
WORKAROUNDS = {"ipmiconsole": ("opensesspriv", "solchannelsupport", "solpayloadsize"), "ipmitool": ()}
PACKAGES = {"ipmiconsole": "freeipmi-tools", "ipmitool": "ipmitool"}
BREAK = b"\xff\xf3"
"""What the simulator makes of a break (telnet's)."""
ALIVE = 21.0
"""Seconds after which ipmiconsole gives up at the earliest."""

LAN = """\
name "bmc"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 {port}
    priv_limit admin
    allowed_auths_user md5
    allowed_auths_operator md5
    allowed_auths_admin md5
    guid a123456789abcdefa123456789abcdef
  endlan
  sol "{serial}" 115200
  user 1 true "" "test" user 10 md5
  user 2 true "op" "{password}" admin 10 md5
"""
MC = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nmc_enable 0x20\n"


class Node(Protocol):
    """The machine behind the serial port."""

    def __init__(self) -> None:
        self.input = Collected()
        self.connected_once: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.connected_once.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.input.add(data)

    def says(self, data: bytes) -> None:
        self.transport.write(data)


class Simulator:
    """An `ipmi_sim`, whose serial port is `serial`, in the words of its option `sol`."""

    def __init__(self, directory: Path, serial: str) -> None:
        self.port = free_port(kind=socket.SOCK_DGRAM)  # none above what ipmiconsole can be told
        self._output = directory / "output"
        (directory / "state").mkdir()
        (directory / "lan.conf").write_text(LAN.format(port=self.port, serial=serial, password=PASSWORD))
        (directory / "mc.emu").write_text(MC)
        files = [f"-{letter}{directory / name}" for letter, name in (("c", "lan.conf"), ("f", "mc.emu"))]
        self._argv = [need("ipmi_sim", "openipmi"), *files, f"-s{directory / 'state'}", "-n"]

    def start(self) -> Spawned:
        return Spawned(self._argv, self._output)


class Bmc:
    """A simulator with its node."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        factory = Factory.forProtocol(self._node)
        factory.noisy = False
        self._listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.process: Spawned | None = None
        self._simulator = Simulator(directory, f"tcp:127.0.0.1:{self._listening.getHost().port}")
        self.port = self._simulator.port

    def _node(self) -> Node:
        self.node = self._made.pop() if self._made else Node()
        return self.node

    @inlineCallbacks
    def start(self) -> Any:
        """Fires when it has taken hold of its serial port; it answers to IPMI by then."""
        self._made = [Node()]
        [node] = self._made
        self.process = self._simulator.start()
        yield node.connected_once.addTimeout(10, reactor)

    def backend(self, program: str, password: str = PASSWORD, **more: Any) -> Any:
        need(program, PACKAGES[program])
        settings = IpmiSettings(
            name="x1",
            address=f"127.0.0.1:{self.port}",
            user=more.pop("user", "op"),
            password=Secret(literal=password),
            program=program,
            workarounds=WORKAROUNDS[program],
            **more,
        )
        return settings.backend(Surroundings(reactor, Literal(), self._directory))

    @inlineCallbacks
    def dial(self, program: str, **more: Any) -> Any:
        owner = Owner()
        line = yield self.backend(program, **more).dial(owner).addTimeout(15, reactor)
        return owner, line

    @inlineCallbacks
    def end(self) -> Any:
        if self.process is not None:
            self.process.end()
        yield self._listening.stopListening()


class Literal:
    """`Secrets` for literals."""

    def fetch(self, secret: Secret, fresh: bool = False) -> Deferred[str]:
        return succeed(secret.literal)


@pytest.fixture
def bmc(tmp_path: Path) -> Iterator[Bmc]:
    bmc = Bmc(tmp_path)
    try:
        pytest_twisted.blockon(bmc.start())
        yield bmc
    finally:
        pytest_twisted.blockon(bmc.end())


both = pytest.mark.parametrize("program", ["ipmiconsole", "ipmitool"])


def children() -> list[Path]:
    """Ours, as /proc shows them."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [Path("/proc") / pid for pid in listed]


@inlineCallbacks
def check_both_ways(bmc: Bmc, owner: Owner, line: Any) -> Any:
    assert line.write(EVERYTHING)
    assert (yield bmc.node.input.take(len(EVERYTHING))) == EVERYTHING
    bmc.node.says(EVERYTHING)
    assert (yield owner.output.take(len(EVERYTHING))) == EVERYTHING


@both
@pytest_twisted.inlineCallbacks
def test_all_bytes_both_ways_and_nothing_else(bmc: Bmc, program: str) -> Any:
    owner, line = yield bmc.dial(program)
    yield check_both_ways(bmc, owner, line)
    for typed in (b"&", b"~", b"\r~.", b"&.", b"\n~?", b"&?", b"x&B\r~B"):
        line.write(typed)
        assert (yield bmc.node.input.take(len(typed))) == typed
    assert owner.output.data == b""
    line.close()
    assert (yield owner.gone) == "closed"


@both
@pytest_twisted.inlineCallbacks
def test_a_break(bmc: Bmc, program: str) -> Any:
    owner, line = yield bmc.dial(program)
    line.write(b"\r")
    assert (yield bmc.node.input.take(1)) == b"\r"
    assert line.send_break() is True
    line.write(b"h")
    assert (yield bmc.node.input.take(3)) == BREAK + b"h"
    bmc.node.says(b"SysRq")
    assert (yield owner.output.take(5)) == b"SysRq"
    line.close()
    yield owner.gone


@both
@pytest_twisted.inlineCallbacks
def test_a_break_does_not_overtake_what_was_typed(bmc: Bmc, program: str) -> Any:
    owner, line = yield bmc.dial(program)
    for _ in range(5):
        line.write(b"sync\r")
        assert line.send_break() is True
        line.write(b"h\r")
        assert (yield bmc.node.input.take(9)) == b"sync\r" + BREAK + b"h\r"
    line.close()
    yield owner.gone


@both
@pytest_twisted.inlineCallbacks
def test_a_closed_session_is_free_for_the_next(bmc: Bmc, program: str) -> Any:
    for _ in range(2):
        owner, line = yield bmc.dial(program)
        line.close()
        assert (yield owner.gone) == "closed"


@both
@pytest_twisted.inlineCallbacks
def test_a_session_is_given_back_even_when_the_daemon_dies(bmc: Bmc, program: str) -> Any:
    """What the kernel does then to the program is done here: its terminal goes, and nobody signals or reaps it."""
    owner, line = yield bmc.dial(program)
    line._process.transport.loseConnection()
    yield owner.gone
    _, line = yield bmc.dial(program)
    line.abort()


@both
@pytest_twisted.inlineCallbacks
def test_held_by_another_session(bmc: Bmc, program: str) -> Any:
    owner, line = yield bmc.dial(program)
    with pytest.raises(Refused, match="held by another session"):
        yield bmc.dial(program)
    yield check_both_ways(bmc, owner, line)
    thief, stolen = yield bmc.dial(program, steal=True)
    yield check_both_ways(bmc, thief, stolen)
    stolen.abort()
    line.abort()
    yield thief.gone
    yield owner.gone


@both
@pytest.mark.parametrize(
    ("wrong", "words"), [({"password": "wrong"}, "does not accept the password"), ({"user": "nobody"}, "user name")]
)
@pytest_twisted.inlineCallbacks
def test_who_may_not(bmc: Bmc, program: str, wrong: dict[str, str], words: str) -> Any:
    with pytest.raises(Refused, match=words):
        yield bmc.dial(program, **wrong)


@both
@pytest_twisted.inlineCallbacks
def test_no_cipher_suite_but_those_named(bmc: Bmc, program: str) -> Any:
    with pytest.raises(ConnectionError, match=r"cipher suites tried: 17"):
        yield bmc.dial(program, cipher_suites=(17,))


@both
@pytest_twisted.inlineCallbacks
def test_nobody_there(bmc: Bmc, program: str) -> Any:
    bmc.process.kill()
    owner = Owner()
    dialing = bmc.backend(program).dial(owner)
    before = len(children())
    yield deferLater(reactor, 0.2)
    dialing.cancel()
    with pytest.raises(CancelledError):
        yield dialing
    deadline = time.monotonic() + 10
    while len(children()) >= before > 0:
        assert time.monotonic() < deadline
        yield deferLater(reactor, 0.05)


@both
@pytest_twisted.inlineCallbacks
def test_the_bmc_dies_and_comes_back(bmc: Bmc, program: str) -> Any:
    owner, line = yield bmc.dial(program, keepalive=Duration(ALIVE / 3))
    bmc.process.kill()
    if program == "ipmitool":
        line.write(b"x")  # in silence it takes forty seconds
    owner.gone.addTimeout(ALIVE + 15, reactor)
    why = yield owner.gone
    assert why in ("session timeout", "Error sending SOL data: FAIL")
    assert owner.output.data == b""
    assert line.write(b"x") is False
    yield bmc.start()
    owner, line = yield bmc.dial(program)
    yield check_both_ways(bmc, owner, line)
    line.close()
    yield owner.gone


@both
@pytest_twisted.inlineCallbacks
def test_no_secret_shows(bmc: Bmc, program: str) -> Any:
    seen: list[str] = []
    observe = lambda event: seen.append(str(event))  # noqa: E731
    globalLogPublisher.addObserver(observe)
    try:
        owner, line = yield bmc.dial(program)
        for child in children():
            for file in ("cmdline", "environ", "comm"):
                with suppress(FileNotFoundError, ProcessLookupError):  # one of another test that ends
                    seen.append((child / file).read_bytes().decode(errors="replace"))
        assert any(program in text for text in seen)
        line.close()
        seen.append((yield owner.gone))
        with pytest.raises(Refused) as caught:
            yield bmc.dial(program, password=PASSWORD + "x")
        seen += [str(caught.value), repr(caught.value)]
    finally:
        globalLogPublisher.removeObserver(observe)
    assert not [text for text in seen if PASSWORD in text]
    assert PASSWORD.encode() not in owner.output.data
