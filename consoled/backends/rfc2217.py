"""The far end's serial port, set and worked through telnet: the client's side of RFC 2217 (COM-PORT-OPTION).

It stands beside a `TelnetLine`: what the server says of the option comes to `heard`, what is typed while the port is
`holding` comes to `hold`, and both ways out are given by the line.  The clock is for breaks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec

from consoled.core.seams import Clock, Timer

COM_PORT = 44
"""The option's number."""
BREAK = 0.25
"""Seconds that a break lasts."""
MOST_HELD = 65536
"""Bytes of typing that wait for a break's end, or for the server to take more."""

_SIGNATURE, _SPEED, _BITS, _PARITY, _STOP_BITS, _CONTROL = range(6)
_SUSPEND, _RESUME = 8, 9
_FROM_SERVER = 100
"""What the server adds to a command's number."""

_CODES: dict[int, dict[int, tuple[str, str]]] = {
    _BITS: {bits: ("bits", str(bits)) for bits in (5, 6, 7, 8)},
    _PARITY: {code: ("parity", name) for code, name in enumerate(("none", "odd", "even", "mark", "space"), start=1)},
    _STOP_BITS: {1: ("stop_bits", "1"), 2: ("stop_bits", "2"), 3: ("stop_bits", "1.5")},
    _CONTROL: {
        1: ("flow", "none"),
        2: ("flow", "xonxoff"),
        3: ("flow", "rtscts"),
        5: ("break", "on"),
        6: ("break", "off"),
        8: ("dtr", "on"),
        9: ("dtr", "off"),
        11: ("rts", "on"),
        12: ("rts", "off"),
    },
}
"""Command, code: what it sets, and to what."""
_ENCODED = {what: bytes([command, code]) for command, codes in _CODES.items() for code, what in codes.items()}

OnOff = Literal["on", "off", "leave"]


class ComPortSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the server's port is to be; what is not given stays as it is there."""

    speed: Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)] | None = None
    """Bits per second."""
    bits: Literal[5, 6, 7, 8] | None = None
    """Data bits."""
    parity: Literal["none", "even", "odd", "mark", "space"] | None = None
    """The parity bit."""
    stop_bits: float | None = None
    """1, 1.5 or 2."""
    flow: Literal["none", "rtscts", "xonxoff"] | None = None
    """Flow control."""
    dtr: OnOff = "leave"
    """What to do with the line when the port is set."""
    rts: OnOff = "leave"
    """The same; flow control by it is the server's then."""

    def __post_init__(self) -> None:
        if self.stop_bits not in (None, 1, 1.5, 2):
            raise ValueError(f"stop_bits: {self.stop_bits:g} is none of 1, 1.5 and 2")
        if self.flow == "rtscts" and self.rts != "leave":
            raise ValueError(f'rts: flow = "rtscts" moves this line, so it cannot be {self.rts!r}')

    def wanted(self) -> dict[str, str]:
        """What is to be set, in the words of `_CODES`."""
        stop_bits = None if self.stop_bits is None else f"{self.stop_bits:g}"
        given = {
            name: str(value) for name, value in msgspec.structs.asdict(self).items() if value not in (None, "leave")
        }
        return given if stop_bits is None else given | {"stop_bits": stop_bits}


class ComPort:
    """One connection's port."""

    def __init__(
        self,
        settings: ComPortSettings,
        clock: Clock,
        subnegotiate: Callable[[bytes], None],
        let_go: Callable[[bytes], None],
    ) -> None:
        """`subnegotiate` sends what belongs to the option, `let_go` what was typed and held back."""
        self.begun = False
        """Whether the server has agreed to the option."""
        self._wanted = settings.wanted()
        self._actual: dict[str, str] = {}
        self._clock = clock
        self._subnegotiate = subnegotiate
        self._let_go = let_go
        self._suspended = False
        self._break: Timer | None = None
        self._held = bytearray()

    @property
    def settled(self) -> bool:
        """Whether the server has answered everything that we asked."""
        return self._wanted.keys() <= self._actual.keys()

    @property
    def note(self) -> str:
        """How the port is otherwise than it should be, for people; empty if it is not."""
        if not self.begun:
            return "the server does not do RFC 2217: its port's settings are unknown"
        notes = [
            f"{what} is {self._actual[what]} instead of {wanted}"
            for what, wanted in self._wanted.items()
            if self._actual.get(what, wanted) != wanted
        ]
        if unanswered := ", ".join(sorted(self._wanted.keys() - self._actual.keys())):
            notes.append(f"no answer about {unanswered}")
        return "; ".join(notes)

    # The line calls these.

    def begin(self) -> None:
        """The server agrees to the option: ask for everything."""
        self.begun = True
        for what, value in self._wanted.items():
            self._subnegotiate(_encoded(what, value))

    def end(self) -> None:
        """The connection is gone."""
        if self._break is not None:
            self._break.cancel()
            self._break = None
        self._held.clear()

    def heard(self, data: bytes) -> None:
        """The server said `data` (the option's number taken off).  What makes no sense is passed over."""
        if not data:
            return
        command, value = data[0] - _FROM_SERVER, data[1:]
        if command == _SIGNATURE and not value:
            self._subnegotiate(bytes([_SIGNATURE]) + b"consoled")
        elif command == _SPEED and len(value) == 4:
            self._actual["speed"] = str(int.from_bytes(value, "big"))
        elif command in _CODES and len(value) == 1 and (found := _CODES[command].get(value[0])):
            self._actual[found[0]] = found[1]
        elif command in (_SUSPEND, _RESUME):
            self._suspended = command == _SUSPEND
            self._resume()

    @property
    def holding(self) -> bool:
        """Whether nothing may be typed now: the server asked for that, or a break is going on."""
        return self._suspended or self._break is not None

    def hold(self, data: bytes) -> bool:
        """Keep `data` until it may be typed.  False if that is too much: then nothing was taken."""
        if len(self._held) + len(data) > MOST_HELD:
            return False
        self._held += data
        return True

    def send_break(self) -> None:
        """A break, and what is typed meanwhile after it: SysRq needs that."""
        if self._break is None:
            self._subnegotiate(_encoded("break", "on"))
            self._break = self._clock.callLater(BREAK, self._end_break)

    def _end_break(self) -> None:
        self._break = None
        self._subnegotiate(_encoded("break", "off"))
        self._resume()

    def _resume(self) -> None:
        if self._held and not self.holding:
            held, self._held = bytes(self._held), bytearray()
            self._let_go(held)


def _encoded(what: str, value: str) -> bytes:
    if what == "speed":
        return bytes([_SPEED]) + int(value).to_bytes(4, "big")
    return _ENCODED[what, value]
