"""Kind `serial` on real ptys: a pty's slave is the device, its master the node."""

import fcntl
import os
import struct
import termios
from pathlib import Path

import msgspec
import pytest
import pytest_twisted
from serial.serialposix import TCGETS2
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol

from consoled.backends.serial_port import SerialSettings
from consoled.backends.terminal import Terminal
from consoled.core.seams import Refused
from tests.fakes import around

pytestmark = pytest.mark.real
LIMIT = 20.0


class Watcher:
    """Fires Deferreds when what it sees satisfies them."""

    def __init__(self):
        self.waits = []

    def until(self, condition):
        waiting = Deferred().addTimeout(LIMIT, reactor)
        self.waits.append((condition, waiting))
        self.changed()
        return waiting

    def changed(self):
        for entry in [entry for entry in self.waits if entry[0]()]:
            self.waits.remove(entry)
            entry[1].callback(None)


class Owner(Watcher):
    def __init__(self):
        super().__init__()
        self.data, self.lost_with, self.dialled = bytearray(), [], False

    def received(self, data):
        assert self.dialled and data and not self.lost_with
        self.data += data
        self.changed()

    def lost(self, why):
        assert self.dialled
        self.lost_with.append(why)
        self.changed()


class Node(Watcher, Protocol):
    """The far end of the cable.  It has a plug: `device` exists while it is in."""

    def __init__(self, directory):
        super().__init__()
        self.data = bytearray()
        self.device = directory / "ttyUSB0"
        self.plug()

    def plug(self):
        self.master, self.slave = os.openpty()
        os.set_blocking(self.master, False)
        self.device.symlink_to(os.ttyname(self.slave))
        self.pulled = Deferred()
        Terminal(reactor, self.master, lambda: os.close(self.master)).attach(self)

    def unplug(self):
        self.device.unlink()
        self.transport.abortConnection()
        return self.pulled

    def dataReceived(self, data):
        self.data += data
        self.changed()

    def connectionLost(self, reason):
        os.close(self.slave)
        self.pulled.callback(None)


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path)
    yield node
    if not node.pulled.called:
        pytest_twisted.blockon(node.unplug())


def backend(device, **keys):
    table = {"kind": "serial", "name": "n1", "device": str(device)} | keys
    return msgspec.convert(table, SerialSettings).backend(around(reactor))


async def dialled(device, owner=None, **keys):
    owner = owner or Owner()
    line = await backend(device, **keys).dial(owner)
    owner.dialled = True
    return owner, line


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest_twisted.ensureDeferred
async def test_all_256_byte_values_pass_both_ways(node):
    everything = bytes(range(256)) * 64
    owner, line = await dialled(node.device)
    assert line.write(everything)
    node.transport.write(everything)
    await node.until(lambda: len(node.data) >= len(everything))
    await owner.until(lambda: len(owner.data) >= len(everything))
    assert bytes(node.data) == everything
    assert bytes(owner.data) == everything
    line.close()
    await owner.until(lambda: owner.lost_with)
    assert owner.lost_with == ["closed"]


@pytest_twisted.ensureDeferred
async def test_unplugged_and_back(node):
    owner, line = await dialled(node.device)
    await node.unplug()
    await owner.until(lambda: owner.lost_with)
    (why,) = owner.lost_with
    assert str(node.device) in why
    assert not line.write(b"into the void")
    with pytest.raises(ConnectionError, match="No such file or directory"):
        await dialled(node.device)
    node.plug()
    owner, line = await dialled(node.device)
    node.transport.write(b"back")
    await owner.until(lambda: owner.data == b"back")
    line.abort()
    await owner.until(lambda: owner.lost_with)


@pytest_twisted.ensureDeferred
async def test_a_second_opener_is_refused_until_the_first_is_gone(node):
    owner, line = await dialled(node.device)
    with pytest.raises(Refused, match="in use"):
        await dialled(node.device)
    node.transport.write(b"undisturbed")
    await owner.until(lambda: owner.data == b"undisturbed")
    line.abort()
    await owner.until(lambda: owner.lost_with)
    owner, line = await dialled(node.device)
    line.abort()
    await owner.until(lambda: owner.lost_with)


@pytest_twisted.ensureDeferred
async def test_what_is_no_serial_port_is_called_that(tmp_path, node):
    file = tmp_path / "file"
    file.write_bytes(b"")
    for path, text in (
        ("/dev/null", "is not a serial port"),
        (str(file), "is not a serial port"),
        (str(tmp_path), "is not a serial port"),
        (str(tmp_path / "missing"), "No such file or directory"),
        (str(file / "below"), "Not a directory"),
    ):
        with pytest.raises(ConnectionError, match=text):
            await dialled(path)
    with pytest.raises(ConnectionError, match="cannot do 7E1"):  # a pty cannot
        await dialled(node.device, bits=7, parity="even")


@pytest_twisted.ensureDeferred
async def test_a_thousand_failed_dials_cost_no_descriptor_and_a_good_one_costs_one(tmp_path, node):
    before = descriptors()
    owner, line = await dialled(node.device)
    assert descriptors() == before + 1
    for _ in range(250):
        for device, keys in (
            (node.device, {}),
            ("/dev/null", {}),
            (str(tmp_path / "missing"), {}),
            (node.device, {"parity": "odd"}),
        ):
            with pytest.raises((ConnectionError, Refused)):
                await dialled(device, **keys)
    assert descriptors() == before + 1
    line.abort()
    await owner.until(lambda: owner.lost_with)
    assert descriptors() == before


@pytest_twisted.ensureDeferred
async def test_a_node_that_does_not_read_fills_a_bounded_queue_and_holds_up_close_only_until_abort(node):
    owner, line = await dialled(node.device)
    node.transport.stopReading()
    taken = 0
    while line.write(b"x" * 4096):
        taken += 4096
        assert taken < 128 * 1024, "no bound"
    line.close()
    assert not owner.lost_with
    line.abort()
    await owner.until(lambda: owner.lost_with)
    assert owner.lost_with == ["closed"]
    node.transport.startReading()


@pytest_twisted.ensureDeferred
async def test_a_full_queue_takes_input_again_when_the_node_reads(node):
    owner, line = await dialled(node.device)
    node.transport.stopReading()
    while line.write(b"x" * 4096):
        pass
    node.transport.startReading()
    await node.until(lambda: line.write(b"end"))
    line.close()
    await owner.until(lambda: owner.lost_with)
    await node.until(lambda: node.data.endswith(b"end"))


@pytest_twisted.ensureDeferred
async def test_custom_speed_and_the_port_is_left_as_it_was_found(node):
    before = termios.tcgetattr(node.slave)
    owner, line = await dialled(node.device, speed=12345)
    *_, speed = struct.unpack_from("=4I20x2I", fcntl.ioctl(node.slave, TCGETS2, bytes(64)))
    assert speed == 12345
    assert not termios.tcgetattr(node.slave)[2] & termios.HUPCL
    line.close()
    await owner.until(lambda: owner.lost_with)
    after = termios.tcgetattr(node.slave)
    assert after[:2] + after[3:] == before[:2] + before[3:]


@pytest_twisted.ensureDeferred
async def test_a_break_on_a_pty_is_no_byte(node):
    owner, line = await dialled(node.device)
    assert line.write(b"before ")
    assert line.send_break()
    assert line.write(b"after")
    await node.until(lambda: node.data.endswith(b"after"))
    assert node.data == b"before after"
    line.abort()
    await owner.until(lambda: owner.lost_with)
