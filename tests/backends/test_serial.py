"""Kind `serial` without a port: what each setting does to it, and every transition of a line's life."""

import errno
import os
import struct
import termios

import msgspec
import pytest
import serial
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from consoled.backends import serial_port
from consoled.backends.serial_port import BREAK, SerialBackend, SerialLine, SerialPort, SerialSettings, explain, framing
from consoled.core.seams import HeldElsewhere
from tests.fakes import around

TIOCMBIS, TIOCMBIC = termios.TIOCMBIS, termios.TIOCMBIC
DTR, RTS = struct.pack("I", termios.TIOCM_DTR), struct.pack("I", termios.TIOCM_RTS)


def settings(**keys):
    return msgspec.convert({"kind": "serial", "name": "n1", "device": "/dev/ttyS9"} | keys, SerialSettings)


# ------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("device", ""),
        ("device", "a\0b"),
        ("speed", 0),
        ("speed", "fast"),
        ("bits", 9),
        ("parity", "maybe"),
        ("stop_bits", 3),
        ("stop_bits", True),
        ("stop_bits", 1.5),  # with 8 bits
        ("flow", "dtrdsr"),
        ("dtr", "up"),
        ("rts", True),
        ("hang_up", "yes"),
        ("sped", 9600),
    ],
)
def test_a_wrong_value_is_refused_and_its_key_named(key, value):
    with pytest.raises(msgspec.ValidationError, match=key):
        settings(**{key: value})


def test_flow_control_and_a_fixed_rts_contradict():
    with pytest.raises(msgspec.ValidationError, match=r"rts.*rtscts"):
        settings(flow="rtscts", rts="on")


def test_the_address_is_in_conmans_form():
    assert settings(device="/dev/serial/by-id/usb-x").backend(around(Clock())).address == '"/dev/serial/by-id/usb-x"'


# ------------------------------------------------------------------------------------------------------- a port


class ObedientPort:
    """Stands for the kernel under pyserial: a port that does as told, but drops the flags in `clears`."""

    def __init__(self, monkeypatch, clears=0, offers=None):
        self.cc = [b"\0"] * 32
        self.attributes = [termios.BRKINT | termios.IMAXBEL | termios.ICRNL, 1, termios.HUPCL | termios.CS8, 0, 13, 13]
        self.clears, self.offers, self.speed, self.modem, self.calls = clears, offers, 9600, [], []
        monkeypatch.setattr(termios, "tcgetattr", lambda _: [*self.attributes, list(self.cc)])
        monkeypatch.setattr(termios, "tcsetattr", self.set)
        monkeypatch.setattr(termios, "tcflush", lambda _, what: self.calls.append(what))
        monkeypatch.setattr(serial_port.fcntl, "ioctl", self.ioctl)

    def set(self, _, when, attributes):
        assert when == termios.TCSANOW, "anything else waits for the output to drain"
        *self.attributes, self.cc = attributes
        self.attributes[2] &= ~self.clears
        names = {
            getattr(termios, name): int(name[1:]) for name in dir(termios) if name[1:].isdigit() and name[0] == "B"
        }
        self.speed = self.offers or names.get(attributes[4], self.speed)

    def ioctl(self, _, request, argument=0, mutate=True):
        self.calls.append(request)
        if request in (TIOCMBIS, TIOCMBIC):
            self.modem.append((request, argument))
        elif request == serial.serialposix.TCSETS2:
            self.speed = self.offers or argument[10]
        elif request == serial_port.TCGETS2:
            words = struct.pack("=4I20x2I", *self.attributes[:4], self.speed, self.speed)
            if isinstance(argument, bytes):
                return words + bytes(20)
            argument[:11] = type(argument)("i", words)
        return 0

    @property
    def cflag(self):
        return self.attributes[2]


@pytest.fixture
def device():
    master, slave = os.openpty()
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


def opened(device, **keys):
    port = SerialPort(settings(device=device, **keys))
    port.close()


@pytest.mark.parametrize("bits", [5, 6, 7, 8])
@pytest.mark.parametrize("parity", ["none", "even", "odd", "mark", "space", "N", "E", "O", "M", "S"])
@pytest.mark.parametrize("stop_bits", [1, 1.5, 2])
def test_every_framing_reaches_the_port(monkeypatch, device, bits, parity, stop_bits):
    if stop_bits == 1.5 and bits != 5:
        return
    kernel = ObedientPort(monkeypatch)
    port = SerialPort(settings(device=device, bits=bits, parity=parity, stop_bits=stop_bits))
    assert kernel.cflag & termios.CSIZE == getattr(termios, f"CS{bits}")
    assert bool(kernel.cflag & termios.PARENB) == (parity[0] not in "nN")
    assert bool(kernel.cflag & termios.PARODD) == (parity[0] in "oOmM")
    assert bool(kernel.cflag & serial.serialposix.CMSPAR) == (parity[0] in "mMsS")
    assert bool(kernel.cflag & termios.CSTOPB) == (stop_bits != 1)
    assert framing(kernel.cflag) == f"{bits}{parity[0].upper()}{1 if stop_bits == 1 else 2}"
    port.close()


@pytest.mark.parametrize("speed", [50, 9600, 115200, 921600, 4000000, 12345, 250000])
def test_every_speed_reaches_the_port(monkeypatch, device, speed):
    kernel = ObedientPort(monkeypatch)
    port = SerialPort(settings(device=device, speed=speed))
    assert kernel.speed == speed
    port.close()


@pytest.mark.parametrize(
    ("flow", "hard", "soft"), [("none", False, False), ("rtscts", True, False), ("xonxoff", False, True)]
)
def test_every_flow_control_reaches_the_port(monkeypatch, device, flow, hard, soft):
    kernel = ObedientPort(monkeypatch)
    port = SerialPort(settings(device=device, flow=flow))
    assert bool(kernel.cflag & termios.CRTSCTS) == hard
    both = termios.IXON | termios.IXOFF
    assert kernel.attributes[0] & both == (both if soft else 0)
    port.close()


@pytest.mark.parametrize("line", ["dtr", "rts"])
@pytest.mark.parametrize(("state", "request_"), [("on", TIOCMBIS), ("off", TIOCMBIC), ("leave", None)])
def test_dtr_and_rts_are_set_or_left_alone(monkeypatch, device, line, state, request_):
    kernel = ObedientPort(monkeypatch)
    opened(device, **{line: state})
    wire = {"dtr": DTR, "rts": RTS}[line]
    assert kernel.modem == ([(request_, wire)] if request_ else [])


def test_a_port_is_transparent_and_a_read_of_nothing_is_no_hangup(monkeypatch, device):
    kernel = ObedientPort(monkeypatch)
    port = SerialPort(settings(device=device))
    changes = termios.BRKINT | termios.IMAXBEL | termios.ICRNL | termios.INLCR | termios.IGNCR | termios.ISTRIP
    assert kernel.attributes[0] & (changes | termios.IXON | termios.PARMRK) == 0
    assert kernel.attributes[0] & termios.IGNBRK
    assert kernel.attributes[1] & termios.OPOST == 0
    assert kernel.attributes[3] & (termios.ICANON | termios.ECHO | termios.ISIG | termios.IEXTEN) == 0
    assert (kernel.cc[termios.VMIN], kernel.cc[termios.VTIME]) == (1, 0)
    port.close()


@pytest.mark.parametrize("hang_up", [False, True])
def test_closing_resets_the_node_only_if_asked(monkeypatch, device, hang_up):
    kernel = ObedientPort(monkeypatch)
    before = list(kernel.attributes)
    port = SerialPort(settings(device=device, hang_up=hang_up))
    assert bool(kernel.cflag & termios.HUPCL) == hang_up
    port.close()
    assert bool(kernel.cflag & termios.HUPCL) == hang_up
    before[2] = kernel.cflag
    assert kernel.attributes == before, "the rest is as it was found"
    assert (
        kernel.calls.index(termios.TIOCEXCL)
        < kernel.calls.index(termios.TCOFLUSH)
        < kernel.calls.index(termios.TIOCNXCL)
    )
    port.close()  # harmless


def test_a_port_that_keeps_another_framing_is_an_error(monkeypatch, device):
    ObedientPort(monkeypatch, clears=serial.serialposix.CMSPAR)
    with pytest.raises(ValueError, match=r"cannot do 8M1 .*stays at 8O1"):
        opened(device, parity="mark")


@pytest.mark.parametrize("speed", [460800, 12345])
def test_a_port_that_keeps_another_speed_is_an_error(monkeypatch, device, speed):
    ObedientPort(monkeypatch, offers=9600)
    with pytest.raises(ValueError, match=f"cannot do speed {speed}: it offers 9600"):
        opened(device, speed=speed)


def test_a_clock_that_is_near_enough_will_do(monkeypatch, device):
    ObedientPort(monkeypatch, offers=113636)  # a 25 MHz clock's nearest to 115200
    opened(device)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (OSError(errno.EBUSY, "busy"), HeldElsewhere, "/dev/x is in use by another program"),
        (serial.SerialException(errno.EWOULDBLOCK, "lock"), HeldElsewhere, "/dev/x is in use by another program"),
        (termios.error(errno.ENOTTY, "no tty"), ConnectionError, "/dev/x is not a serial port"),
        (termios.error(errno.EIO, "io"), ConnectionError, "/dev/x: Input/output error"),
        (OSError(errno.ENOENT, "none"), ConnectionError, "/dev/x: No such file or directory"),
        (OSError(errno.EACCES, "no"), ConnectionError, "/dev/x: permission denied"),
        (ValueError("cannot do speed 3"), ConnectionError, "/dev/x: cannot do speed 3"),
    ],
)
def test_every_failure_is_explained(error, kind, text):
    explained = explain("/dev/x", error)
    assert type(explained) is kind
    assert str(explained).startswith(text)


def test_a_failed_dial_has_the_explained_failure():
    def missing(_):
        raise serial.SerialException(errno.ENOENT, "could not open port")

    backend = SerialBackend(settings(), Clock(), missing)
    failures = []
    backend.dial(Owner()).addErrback(failures.append)
    assert str(failures[0].value) == "/dev/ttyS9: No such file or directory"


# ------------------------------------------------------------------------------------------------------- a line


class Owner:
    def __init__(self):
        self.data, self.why = b"", []

    def received(self, data):
        self.data += data

    def lost(self, why):
        self.why.append(why)


class FakePort:
    def __init__(self):
        self.log, self.out_waiting, self.gone = [], 0, False

    @property
    def break_condition(self):
        return self.log[-1] if self.log else False

    @break_condition.setter
    def break_condition(self, on):
        if self.gone:
            raise OSError(errno.EIO, "gone")
        self.log.append(on)


class FakeTerminal:
    def __init__(self, line):
        self.written, self.waiting, self.aborted = b"", 0, 0
        line.makeConnection(self)

    def registerProducer(self, producer, streaming):
        self.producer = producer

    def write(self, data):
        self.written += data

    def abortConnection(self):
        self.aborted += 1


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def port():
    return FakePort()


@pytest.fixture
def line(clock, port):
    line = SerialLine(Owner(), "/dev/x", port, clock)
    FakeTerminal(line)
    return line


def test_a_break_blocks_nobody_and_what_is_typed_meanwhile_goes_out_after_it(clock, port, line):
    assert line.send_break()
    assert port.log == [True]
    assert line.write(b"h")
    assert line.transport.written == b""
    clock.advance(BREAK)
    assert port.log == [True, False]
    assert line.transport.written == b"h"
    assert line.write(b"i")
    assert line.transport.written == b"hi"
    assert line.send_break()
    assert port.log == [True, False, True]


@pytest.mark.parametrize("where", ["here", "in the kernel"])
def test_a_break_lets_what_was_typed_before_it_out_first(clock, port, line, where):
    where = line.transport if where == "here" else port
    name = "waiting" if where is line.transport else "out_waiting"
    setattr(where, name, 3)
    assert line.send_break()
    assert line.write(b"h")
    clock.advance(0.5)
    assert port.log == [] and line.transport.written == b""
    setattr(where, name, 0)
    clock.advance(0.1)
    assert port.log == [True]
    clock.advance(BREAK)
    assert port.log == [True, False]
    assert line.transport.written == b"h"


def test_a_node_that_holds_us_up_gets_its_break_all_the_same(clock, port, line):
    port.out_waiting = 3
    line.send_break()
    clock.pump([0.1] * 12)
    assert port.log == [True]


def test_a_second_break_during_the_first_is_the_same(clock, port, line):
    assert line.send_break()
    assert line.send_break()
    clock.advance(BREAK)
    assert port.log == [True, False]
    assert not clock.getDelayedCalls()


def test_what_waits_for_the_end_of_a_break_is_bounded(line):
    line.send_break()
    taken = 0
    while line.write(b"x" * 4096):
        taken += 4096
        assert taken < 128 * 1024, "no bound"


def test_a_port_that_cannot_break_says_so_and_goes_on(port, line):
    port.gone = True
    assert not line.send_break()
    assert line.write(b"x")
    assert line.transport.written == b"x"


def test_close_during_a_break_waits_for_what_was_typed(clock, line):
    line.send_break()
    line.write(b"h")
    line.close()
    assert not line.transport.aborted
    clock.advance(BREAK)
    clock.advance(BREAK)
    assert (line.transport.written, line.transport.aborted) == (b"h", 1)


def test_unplugged_in_the_middle_of_a_break(clock, port, line):
    line.send_break()
    port.gone = True
    line.connectionLost(Failure(OSError(errno.EIO, "Input/output error")))
    assert line.owner.why == ["/dev/x is gone (Input/output error)"]
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        (ConnectionDone(), "/dev/x hung up (unplugged?)"),
        (ConnectionAborted(), "closed"),
        (OSError(errno.ENODEV, "No such device"), "/dev/x is gone (No such device)"),
    ],
)
def test_every_loss_has_its_reason(line, reason, why):
    line.connectionLost(Failure(reason))
    assert line.owner.why == [why]


def test_nothing_is_taken_while_the_queue_is_full(line):
    assert line.write(b"a")
    line.transport.producer.pauseProducing()
    assert not line.write(b"b")
    line.transport.producer.resumeProducing()
    assert line.write(b"c")
    assert line.transport.written == b"ac"


def test_close_lets_the_queued_keystrokes_out_and_takes_no_more(clock, port, line):
    line.transport.waiting = 10
    line.close()
    assert not line.write(b"x")
    clock.advance(1)
    line.transport.waiting, port.out_waiting = 0, 3
    clock.advance(1)
    assert not line.transport.aborted
    port.out_waiting = 0
    clock.advance(1)
    assert line.transport.aborted == 1
    line.connectionLost(Failure(ConnectionAborted()))
    assert not clock.getDelayedCalls()


def test_abort_does_not_wait_for_the_queue(clock, line):
    line.transport.waiting = 10
    line.close()
    line.abort()
    line.connectionLost(Failure(ConnectionAborted()))
    assert line.owner.why == ["closed"]
    assert not clock.getDelayedCalls()


def test_closing_an_unplugged_port_ends_at_once(line):
    class Gone(FakePort):
        @property
        def out_waiting(self):
            raise OSError(errno.EIO, "gone")

        @out_waiting.setter
        def out_waiting(self, _): ...

    line._port = Gone()
    line.close()
    assert line.transport.aborted == 1
