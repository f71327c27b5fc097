"""Telnet as a pair of functions over bytes: the wire's on one side, the console's on the other.

It stands between the transport and the line (`telnet`), and does no input or output itself: `decode` what came,
send what `answers` gives, `encode` what is typed.  It follows RFC 854 (commands, CR), 855 (options), 856 (BINARY),
857 (ECHO), 858 (SUPPRESS-GO-AHEAD) and 1143 (the Q method); what the peer does against them is survived.

We ask for BINARY both ways and for the peer's SUPPRESS-GO-AHEAD.  The peer's ECHO is welcome and not asked for: the
node echoes, and a terminal server that took DO ECHO at its word would do so twice.  All else is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection

from consoled.backends.telnet_options import State, heard, wanted

IAC, DONT, DO, WONT, WILL, SB, AYT, BRK, NOP, SE = 255, 254, 253, 252, 251, 250, 246, 243, 241, 240
FIRST_COMMAND = 236
"""EOF of RFC 1184: no byte below it is a command."""
BINARY, ECHO, SGA = 0, 1, 3

ANSWERS_PER_OPTION = 16
ANSWERS = 128
"""How many answers a peer gets within `WINDOW` seconds, about one option and about all.  No honest one comes near."""
WINDOW = 60.0
LONGEST_SUBNEGOTIATION = 1024
"""Bytes, the option's own included.  What goes on longer has lost its end, and is output again."""

_IAC = bytes([IAC])
_RUN = re.compile(rb"\xff+")


class TelnetCodec:
    """One connection's telnet: any bytes at all may be decoded, in any pieces."""

    def __init__(
        self,
        seconds: Callable[[], float],
        binary: bool = True,
        subnegotiated: Callable[[int, bytes], None] = lambda option, data: None,
        offers: Collection[int] = (),
    ) -> None:
        """`seconds` is the clock's; `subnegotiated` is told of subnegotiations of options that are on; `offers` are
        options that we offer besides.
        """
        self.muted = False
        """Whether the peer was ever left without an answer, for asking too much."""
        self._seconds = seconds
        self._subnegotiated = subnegotiated
        transparent = {BINARY} if binary else set()
        self._ours = _Side(WILL, WONT, {SGA, *offers} | transparent)
        self._theirs = _Side(DO, DONT, {ECHO, SGA} | transparent)
        self._answers = bytearray()
        asked = [(self._ours, BINARY), (self._theirs, BINARY), (self._theirs, SGA)]
        for side, option in [*asked, *((self._ours, option) for option in offers)]:
            if option in side.agreeable:
                side.states[option], _ = wanted(State.NO, True)
                self._answers += bytes([IAC, side.on, option])
        self._spent: Counter[int] = Counter()
        self._window_began = seconds()
        self._rest = b""
        """A command's beginning, at most two bytes."""
        self._sub: bytearray | None = None
        self._after_cr = False

    # ------------------------------------------------------------------------------------------- options

    @property
    def settled(self) -> bool:
        """Whether the peer has answered everything that we asked."""
        pending = (State.WANT_YES, State.WANT_NO, State.WANT_YES_OPPOSITE, State.WANT_NO_OPPOSITE)
        return not any(state in pending for side in (self._ours, self._theirs) for state in side.states.values())

    def offer_taken(self, option: int) -> bool:
        """Whether the peer has agreed to an option of ours."""
        return self._ours.is_on(option)

    def answers(self) -> bytes:
        """What is to be sent now, before anything else: our questions at first, then answers.  Gives it once."""
        answers, self._answers = bytes(self._answers), bytearray()
        return answers

    def _negotiate(self, verb: int, option: int) -> None:
        side = self._theirs if verb in (WILL, WONT) else self._ours
        state = side.states.get(option, State.NO)
        state, say = heard(state, verb in (WILL, DO), option in side.agreeable)
        if say is not None:
            if self._may_answer(option):
                self._answers += bytes([IAC, side.on if say else side.off, option])
            else:
                state = State.NO  # what is off needs no consent
        side.states[option] = state
        if option == BINARY:
            self._after_cr = False

    def _may_answer(self, option: int) -> bool:
        now = self._seconds()
        if now - self._window_began >= WINDOW:
            self._window_began = now
            self._spent.clear()
        if self._spent[option] >= ANSWERS_PER_OPTION or self._spent.total() >= ANSWERS:
            self.muted = True
            return False
        self._spent[option] += 1
        return True

    # ------------------------------------------------------------------------------------------- towards the node

    def encode(self, data: bytes) -> bytes:
        """The wire's form of keystrokes.

        Without BINARY a CR that no LF follows within `data` goes out as CR NUL (RFC 854, page 11), at once: Enter
        must not wait for the next key.
        """
        if not self._ours.is_on(BINARY):
            data = data.replace(b"\r", b"\r\0").replace(b"\r\0\n", b"\r\n")
        return data.replace(_IAC, _IAC + _IAC)

    # ------------------------------------------------------------------------------------------- from the node

    def decode(self, data: bytes) -> bytes:
        """The console output in what came; its commands are obeyed, and `answers` may have something now."""
        data = self._rest + data
        self._rest = b""
        if self._sub is None and _IAC not in data:
            return self._text(data)
        out: list[bytes] = []
        at = 0
        while at < len(data):
            if self._sub is not None:
                at = self._collect(self._sub, data, at)
                continue
            iac = data.find(_IAC, at)
            if iac < 0:
                out.append(self._text(data[at:]))
                break
            out.append(self._text(data[at:iac]))
            at = self._command(data, iac, out)
        return b"".join(out)

    def _text(self, data: bytes) -> bytes:
        if self._theirs.is_on(BINARY) or not data:
            return data
        if self._after_cr and data.startswith(b"\0"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\0", b"\r")

    def _command(self, data: bytes, iac: int, out: list[bytes]) -> int:
        """Obey the command at `iac`; gives where to go on."""
        code = data[iac + 1] if iac + 1 < len(data) else None
        if code is None or (code in (WILL, WONT, DO, DONT) and iac + 2 == len(data)):
            self._rest = data[iac:]
            return len(data)
        if code in (WILL, WONT, DO, DONT):
            self._negotiate(code, data[iac + 2])
            return iac + 3
        if code == SB:
            self._sub = bytearray()
            return iac + 2
        if code == IAC:
            run = _RUN.match(data, iac)
            assert run is not None
            pairs = len(run[0]) // 2
            out.append(self._text(_IAC * pairs))
            return iac + 2 * pairs
        if code < FIRST_COMMAND:
            # No command: a 255 that the peer forgot to double.
            out.append(self._text(data[iac : iac + 2]))
        return iac + 2

    def _collect(self, sub: bytearray, data: bytes, at: int) -> int:
        """Take what belongs to the subnegotiation under way; gives where to go on."""
        iac = data.find(_IAC, at)
        stop = len(data) if iac < 0 else iac
        room = LONGEST_SUBNEGOTIATION - len(sub)
        if stop - at > room:
            self._sub = None
            return at + room
        sub += data[at:stop]
        if iac < 0:
            return stop
        if iac + 1 == len(data):
            self._rest = data[iac:]
            return len(data)
        code = data[iac + 1]
        if code == IAC or code < FIRST_COMMAND:
            literal = _IAC if code == IAC else data[iac : iac + 2]
            if len(sub) + len(literal) <= LONGEST_SUBNEGOTIATION:
                sub += literal
                return iac + 2
        self._sub = None
        if code != SE:
            return iac  # its end was forgotten: this is a command of its own, or output
        if sub and (self._ours.is_on(sub[0]) or self._theirs.is_on(sub[0])):
            self._subnegotiated(sub[0], bytes(sub[1:]))
        return iac + 2


def subnegotiation(option: int, data: bytes) -> bytes:
    """The wire's form of what we have to say about an option that is on."""
    return bytes([IAC, SB, option]) + data.replace(_IAC, _IAC + _IAC) + bytes([IAC, SE])


class _Side:
    """One end's options: how to speak of them, which may be on, and how they are."""

    __slots__ = ("agreeable", "off", "on", "states")

    def __init__(self, on: int, off: int, agreeable: Collection[int]) -> None:
        self.on = on
        self.off = off
        self.agreeable = agreeable
        self.states: dict[int, State] = {}

    def is_on(self, option: int) -> bool:
        return self.states.get(option) is State.YES
