"""Kind `serial`: a node on a serial port of this machine.

`SerialPort` is pyserial's port with what a console needs besides: locked, complete about its errors, and gentle to
the node when it is closed.  `SerialLine` stands between its `Terminal` and the link.  Dialled by the link.

What no program can prevent: Linux raises DTR and RTS while it opens a port that nobody had open.  `dtr` and `rts`
come right after.  A node that resets on them wants a cable without these wires, or the port held open.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any, Literal, Protocol

import msgspec
import serial
from serial.serialposix import CMSPAR, TCGETS2
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from consoled.backends.line import TransportLine
from consoled.backends.settings import ConsoleSettings, Surroundings
from consoled.backends.terminal import Terminal
from consoled.core.seams import Clock, HeldElsewhere, Line, LineOwner, Timer

BREAK = 0.25
"""Seconds that a break lasts."""
_DRAIN_CHECK = 0.05
"""Seconds between looks at whether the kernel has sent everything, before a break and while closing."""
_BREAK_PATIENCE = 1.0
"""Seconds that a break waits for what was typed before it: a node that holds us up may need the break."""
_AFTER_BREAK_SIZE = 65536
_SPEED_TOLERANCE = 0.03
"""How far a port's clock may be off before the two ends misread each other."""
_SIZES = {termios.CS5: 5, termios.CS6: 6, termios.CS7: 7, termios.CS8: 8}


class SerialSettings(ConsoleSettings, frozen=True, kw_only=True, tag="serial"):
    """A serial port.  Name the device by what does not change: `/dev/serial/by-id/...` or `/dev/serial/by-path/...`."""

    device: str
    """The path of the device."""
    speed: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] = 115200
    """Bits per second: any rate that the port can do, checked after it is set."""
    bits: Literal[5, 6, 7, 8] = 8
    """Data bits."""
    parity: Literal["none", "even", "odd", "mark", "space", "N", "E", "O", "M", "S"] = "none"
    """The parity bit; the letters are the words' initials."""
    stop_bits: float = 1
    """1, 2, or with 5 bits 1.5."""
    flow: Literal["none", "rtscts", "xonxoff"] = "none"
    """Flow control."""
    dtr: Literal["on", "off", "leave"] = "leave"
    """What to do with the line at open; `leave` is the kernel's way, which is to raise it."""
    rts: Literal["on", "off", "leave"] = "leave"
    """The same; with `flow = "rtscts"` only `leave`."""
    hang_up: bool = False
    """Drop DTR and RTS at close.  Many nodes take that for a reset or a logout."""

    def __post_init__(self) -> None:
        if not self.device or "\0" in self.device:
            raise ValueError(f"device: {self.device!r} is not a path")
        if self.stop_bits not in (1, 1.5, 2):
            raise ValueError(f"stop_bits: {self.stop_bits:g} is none of 1, 1.5 and 2")
        if self.stop_bits == 1.5 and self.bits != 5:
            raise ValueError(f"stop_bits: ports send 1.5 with bits = 5 only, and bits is {self.bits}")
        if self.flow == "rtscts" and self.rts != "leave":
            raise ValueError(f'rts: flow = "rtscts" moves this line, so it cannot be {self.rts!r}')

    def backend(self, around: Surroundings) -> SerialBackend:
        return SerialBackend(self, around.reactor)


class Port(Protocol):
    """What a line needs of an open port, as pyserial names it."""

    break_condition: bool

    @property
    def out_waiting(self) -> int: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class SerialPort(serial.Serial):  # type: ignore[misc]
    """An open, locked, configured port.

    Raises `OSError`, `termios.error` or `ValueError`; `explain` makes one sort of them.
    """

    fd: Any
    """pyserial's name for the descriptor; None unless open."""

    def __init__(self, settings: SerialSettings) -> None:
        self._settings = settings
        self._found: list[Any] = []
        super().__init__(
            baudrate=settings.speed,
            bytesize=settings.bits,
            parity=settings.parity[0].upper(),
            stopbits=settings.stop_bits,
            xonxoff=settings.flow == "xonxoff",
            rtscts=settings.flow == "rtscts",
            dsrdtr=settings.dtr == "leave",  # no more than this: pyserial has no DSR/DTR flow control on POSIX
            exclusive=True,
            timeout=0,
            inter_byte_timeout=0,  # VMIN 1: with pyserial's VMIN 0, "nothing to read" looks like a hangup
        )
        self.dtr = settings.dtr == "on"
        self.rts = settings.rts == "on"
        self.port = settings.device
        self.open()

    def open(self) -> None:
        super().open()
        # They interrupt reads and writes that block, in threads.  Here they are four descriptors for nothing.
        for pipe in ("pipe_abort_read_r", "pipe_abort_read_w", "pipe_abort_write_r", "pipe_abort_write_w"):
            os.close(getattr(self, pipe))
            setattr(self, pipe, None)

    def close(self) -> None:
        if not self.is_open:
            return
        # Each of these fails when the device is gone, and none of them matters then.
        with suppress(OSError, termios.error):
            self.break_condition = False
            termios.tcflush(self.fd, termios.TCOFLUSH)  # else close() waits for a stuck peer, up to 30 s
            self._found[2] = _with_hupcl(self._found[2], self._settings.hang_up)
            termios.tcsetattr(self.fd, termios.TCSANOW, self._found)
            fcntl.ioctl(self.fd, termios.TIOCNXCL)
        os.close(self.fd)
        self.fd = None
        super().close()

    # pyserial calls these.

    def _reconfigure_port(self, force_update: bool = False) -> None:
        self._found = termios.tcgetattr(self.fd)
        super()._reconfigure_port(force_update)
        wanted = termios.tcgetattr(self.fd)
        # A break from the node is no output; a full buffer is no reason to send it a bell.
        wanted[0] = wanted[0] & ~(termios.BRKINT | termios.IMAXBEL) | termios.IGNBRK
        wanted[2] = _with_hupcl(wanted[2], self._settings.hang_up)
        termios.tcsetattr(self.fd, termios.TCSANOW, wanted)
        self._verify()
        fcntl.ioctl(self.fd, termios.TIOCEXCL)

    def _update_rts_state(self) -> None:
        if self._settings.rts != "leave":
            super()._update_rts_state()

    # Ours.

    def _verify(self) -> None:
        """The kernel keeps what a port cannot do to itself; say so rather than show an operator garbage."""
        settings = self._settings
        wanted = f"{settings.bits}{settings.parity[0].upper()}{1 if settings.stop_bits == 1 else 2}"
        got = framing(termios.tcgetattr(self.fd)[2])
        if got != wanted:
            raise ValueError(f"cannot do {wanted} (bits, parity, stop_bits): it stays at {got}")
        try:
            *_, speed = struct.unpack_from("=4I20x2I", fcntl.ioctl(self.fd, TCGETS2, bytes(64)))
        except OSError:
            return  # a machine whose termios2 is elsewhere
        if abs(speed - settings.speed) > settings.speed * _SPEED_TOLERANCE:
            raise ValueError(f"cannot do speed {settings.speed}: it offers {speed}")


def framing(cflag: int) -> str:
    """The character format in a port's control flags, as in `8N1`.  1.5 stop bits are set, and shown, as 2."""
    parity = "N"
    if cflag & termios.PARENB:
        parity = "EOSM"[bool(cflag & termios.PARODD) + 2 * bool(cflag & CMSPAR)]
    return f"{_SIZES[cflag & termios.CSIZE]}{parity}{2 if cflag & termios.CSTOPB else 1}"


def _with_hupcl(cflag: int, hang_up: bool) -> int:
    return cflag | termios.HUPCL if hang_up else cflag & ~termios.HUPCL


def explain(device: str, error: Exception) -> Exception:
    """`error`, met while opening `device`, as a `ConnectionError` or `Refused` with a text for operators."""
    code = error.args[0] if isinstance(error, termios.error) else getattr(error, "errno", None)
    if code in (errno.EBUSY, errno.EWOULDBLOCK):
        return HeldElsewhere(f"{device} is in use by another program")
    if code in (errno.ENOTTY, errno.EISDIR):
        return ConnectionError(f"{device} is not a serial port")
    if code == errno.EACCES:
        return ConnectionError(f"{device}: permission denied (is the daemon's user in the device's group?)")
    return ConnectionError(f"{device}: {os.strerror(code) if code else error}")


class SerialBackend:
    """How to reach the node behind one port."""

    host = ""

    def __init__(
        self, settings: SerialSettings, reactor: Any, open_port: Callable[[SerialSettings], Port] = SerialPort
    ) -> None:
        self.address = f'"{settings.device}"'
        self._settings = settings
        self._reactor = reactor
        self._open_port = open_port

    def dial(self, owner: LineOwner) -> Deferred[Line]:
        device = self._settings.device
        try:
            port = self._open_port(self._settings)
        except (OSError, termios.error, ValueError) as error:
            return fail(explain(device, error))
        line = SerialLine(owner, device, port, self._reactor)
        Terminal(self._reactor, port.fileno(), port.close).attach(line)
        return succeed(line)


class SerialLine(TransportLine):
    """An open port with a node behind it."""

    transport: Terminal

    def __init__(self, owner: LineOwner, device: str, port: Port, clock: Clock) -> None:
        super().__init__(owner)
        self._device = device
        self._port = port
        self._clock = clock
        self._breaking = False
        self._after_break = bytearray()
        self._break: Timer | None = None
        self._closing: Timer | None = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        for timer in (self._break, self._closing):
            if timer is not None and timer.active():
                timer.cancel()
        self.let_go()
        if isinstance(reason.value, ConnectionAborted):
            why = "closed"
        elif isinstance(reason.value, OSError) and reason.value.errno:
            why = f"{self._device} is gone ({reason.value.strerror})"
        else:
            why = f"{self._device} hung up (unplugged?)"
        self.owner.lost(why)

    def write(self, data: bytes) -> bool:
        if self._closing is not None:
            return False
        if not self._breaking:
            return super().write(data)
        if len(self._after_break) > _AFTER_BREAK_SIZE:
            return False
        self._after_break += data
        return True

    def send_break(self) -> bool:
        """A break of `BREAK` seconds between what was typed before it and what is typed after: SysRq needs that."""
        if not self._breaking:
            self._breaking = True
            self._begin_break(deadline=self._clock.seconds() + _BREAK_PATIENCE)
        return self._breaking

    def _begin_break(self, deadline: float) -> None:
        try:
            if self._clock.seconds() < deadline and self._unsent():
                self._break = self._clock.callLater(_DRAIN_CHECK, self._begin_break, deadline)
                return
            self._port.break_condition = True
        except OSError:
            self._end_break()
        else:
            self._break = self._clock.callLater(BREAK, self._end_break)

    def _end_break(self) -> None:
        with suppress(OSError):  # unplugged: the read side tells
            self._port.break_condition = False
        self._breaking = False
        if self._after_break:
            self.transport.write(bytes(self._after_break))
            self._after_break.clear()

    def _unsent(self) -> bool:
        """Whether anything waits here or in the kernel.  Raises `OSError` when the device is gone."""
        return bool(self.transport.waiting or self._port.out_waiting)

    def close(self) -> None:
        """Let the queued keystrokes out, then close.  A peer that holds the line stops that until `abort`."""
        self._closing = None
        with suppress(OSError):
            if self._breaking or self._unsent():
                self._closing = self._clock.callLater(_DRAIN_CHECK, self.close)
                return
        self.abort()
