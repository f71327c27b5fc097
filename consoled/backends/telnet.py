"""The kind `telnet`: a terminal server, a hypervisor or a telnetd that speaks telnet.

A connection is usable once the peer has answered what we asked of it, or has had a second to do so: there are
servers which speak no telnet at all.  What the node says meanwhile is kept.  Made by `tap` from `TelnetSettings`,
dialled by the link.
"""

from __future__ import annotations

from typing import Any, Literal

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from consoled.backends.address import Address
from consoled.backends.rfc2217 import COM_PORT, ComPort, ComPortSettings
from consoled.backends.settings import ConsoleSettings, Surroundings
from consoled.backends.stream import StreamLine
from consoled.backends.tcp import endpoint
from consoled.backends.tcp_socket import prepare
from consoled.backends.telnet_codec import AYT, BRK, IAC, NOP, TelnetCodec, subnegotiation
from consoled.core.seams import Backend, Clock, Line, LineOwner, Timer

SETTLE = 1.0
"""Seconds that a peer has to answer our questions."""
SETTLE_PORT = 3.0
"""The same where its serial port is to be set, too."""
STORM = 512
"""Commands in one read beyond which it is worked off in slices: each takes its time, and other consoles wait."""
SLICE = 1024
"""Bytes."""
MOST_EARLY = 65536
"""Bytes of output after which nobody waits for answers."""
PATIENCE = 2
"""AYTs without any sign of life, one each `keepalive`, before the peer is given up."""

_log = Logger()


class TelnetSettings(ConsoleSettings, tag="telnet", frozen=True, kw_only=True):
    """A console behind telnet."""

    address: str
    """`"host:port"`; the name is resolved at each dial, both address families are tried."""
    binary: bool = True
    """Ask for BINARY (RFC 856), hence for all 256 bytes.

    Without it Enter is CR NUL, and some servers (ser2net) give the node the NUL, too.  With it a login host's telnetd
    no longer puts CR before LF.
    """
    serial: ComPortSettings | None = None
    """How the server's serial port is to be (RFC 2217)."""
    keepalive_command: Literal["nop", "ayt"] = "nop"
    """What is sent after `keepalive` of silence.

    `nop` asks for no answer: it keeps idle timers on the way from ending the connection, and the kernel notices
    when nobody acknowledges it.  `ayt` (Are You There) also notices a server whose kernel lives and whose program
    hangs.  But its answer is visible, a line such as `[Yes]`: that looks like the node's output, goes into
    the transcript and to the clients, and on a serial port server may reach the node.  Any byte counts as an answer.
    """

    def __post_init__(self) -> None:
        Address.parse(self.address)

    def backend(self, around: Surroundings) -> Backend:
        return TelnetBackend(self, around.reactor)


class TelnetBackend:
    """Dials a telnet server."""

    def __init__(self, settings: TelnetSettings, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self._at = Address.parse(settings.address)
        self.address = f"<{self._at}>"
        self.host = self._at.host

    def dial(self, owner: LineOwner) -> Deferred[Line]:
        line = TelnetLine(owner, self._settings, self._reactor)
        return line.dial(endpoint(self._reactor, self._at))


class TelnetLine(StreamLine):
    """One connection to a telnet server."""

    def __init__(self, owner: LineOwner, settings: TelnetSettings, clock: Clock) -> None:
        super().__init__(owner)
        self._settings = settings
        self._clock = clock
        self._port: ComPort | None = None
        if settings.serial is not None:
            self._port = ComPort(settings.serial, clock, self._subnegotiate, self._let_go)
        offers = () if self._port is None else (COM_PORT,)
        self._codec = TelnetCodec(clock.seconds, settings.binary, self._subnegotiated, offers)
        self._muted = False
        self._heard_at = 0.0
        self._unanswered = 0
        self._rest = b""
        """What is left of a storm of commands."""
        self._next_slice: Timer | None = None
        self._timer: Timer | None = None
        """The end of the patience with the negotiation, then the next look at the silence."""

    @property
    def note(self) -> str:
        """How the server's serial port is otherwise than configured, for people; empty if it is not."""
        return self._port.note if self._port is not None else ""

    # Twisted and `StreamLine` call these.

    def connectionMade(self) -> None:
        prepare(self.transport.socket, self._settings.keepalive)
        super().connectionMade()

    def opened(self) -> None:
        self.stage = "the telnet negotiation"
        self.transport.write(self._codec.answers())
        self._timer = self._clock.callLater(SETTLE if self._port is None else SETTLE_PORT, self.usable)

    def usable(self) -> None:
        self._heard_at = self._clock.seconds()
        self._set_timer(self._settings.keepalive)
        if self.note:
            _log.warn("console {name}: {note}", name=self._settings.name, note=self.note)
        super().usable()

    def dataReceived(self, data: bytes) -> None:
        self.was_read(len(data))
        if self._rest or data.count(b"\xff") > STORM:
            self._rest += data
            if self._next_slice is None:
                self._take_slice()
        else:
            self._take(data)

    def _take_slice(self) -> None:
        """Work off a little of a storm, and the rest in later turns; meanwhile nothing more is read."""
        self._next_slice = None
        data, self._rest = self._rest[:SLICE], self._rest[SLICE:]
        self._take(data)
        if self.transport is None:
            return
        if self._rest:
            self.transport.pauseProducing()
            self._next_slice = self._clock.callLater(0, self._take_slice)
        else:
            self.transport.resumeProducing()

    def _take(self, data: bytes) -> None:
        self._heard_at = self._clock.seconds()
        self._unanswered = 0
        output = self._codec.decode(data)
        if answers := self._codec.answers():
            self.transport.write(answers)
        if self._codec.muted and not self._muted:
            self._muted = True
            _log.warn("console {name}: telnet options go round in circles: answering few", name=self._settings.name)
        if output:
            self.deliver(output)
        if self._port is not None and not self._port.begun and self._codec.offer_taken(COM_PORT):
            self._port.begin()
        if not self.up and (self._settled or len(self._early) > MOST_EARLY):
            self.usable()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._next_slice is not None:
            self._next_slice.cancel()
            self._next_slice = None
        rest, self._rest = self._rest, b""
        if rest:
            self._take(rest)
        self._set_timer(0)
        if self._port is not None:
            self._port.end()
        super().connectionLost(reason)

    # The link calls these.

    def write(self, data: bytes) -> bool:
        if self._port is not None and self._port.holding:
            return self.transport is not None and self._port.hold(data)
        return super().write(self._codec.encode(data))

    def send_break(self) -> bool:
        if self._port is not None and self._port.begun and not self._full:
            self._port.send_break()
            return True
        return super().write(bytes([IAC, BRK]))

    # The codec and the port call these.

    @property
    def _settled(self) -> bool:
        port_settled = self._port is None or not self._port.begun or self._port.settled
        return self._codec.settled and port_settled

    def _let_go(self, held: bytes) -> None:
        self.transport.write(self._codec.encode(held))

    def _subnegotiated(self, option: int, data: bytes) -> None:
        if self._port is not None and option == COM_PORT:
            self._port.heard(data)

    def _subnegotiate(self, data: bytes) -> None:
        self.transport.write(subnegotiation(COM_PORT, data))

    # The silence.

    def _listen(self) -> None:
        keepalive = self._settings.keepalive
        silent = self._clock.seconds() - self._heard_at
        if silent < keepalive:
            self._set_timer(keepalive - silent)
            return
        ayt = self._settings.keepalive_command == "ayt"
        if ayt and self._unanswered == PATIENCE:
            self.drop(ConnectionError(f"no answer to AYT within {PATIENCE * keepalive:g} s"))
            return
        self._unanswered += 1
        super().write(bytes([IAC, AYT if ayt else NOP]))
        self._set_timer(keepalive)

    def _set_timer(self, delay: float) -> None:
        """Look at the silence after `delay` seconds; 0: never."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._clock.callLater(delay, self._listen) if delay else None
