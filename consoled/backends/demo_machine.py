"""A machine at the far end of a serial line, simulated: its clock, its line and its terminal discipline.

Stands where a node's UART would: `demo.DemoLine` tells it what was typed and asks it what it said.  It is a pure
state machine, told the time with each call; it starts no timer and touches no transport.  What the machine *does*
is a generator, its script (`demo_node`, `demo_sources`), that yields one `Step` after another.

Nobody needs to watch it: asked after an hour, it lives through the hour's events first.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from math import ceil, inf
from typing import Any

TICK = 0.05
"""Seconds between two looks at a busy line: what it carries in that time comes as one piece."""
FIFO = 512
"""Bytes that may wait for the line before the machine waits for it."""
STALL = 64 * 1024
"""Bytes said while nobody looked; a machine that would say more skips the rest of that time."""
TYPED_AHEAD = 4096
"""Bytes typed and not read yet; more is lost, as on a real UART."""
LINE_LENGTH = 1024
"""Bytes that fit into one line of input."""

_KEYS = re.compile(rb"[^\x00-\x1f\x7f]+|.", re.DOTALL)
"""A run of text or one control character."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Read a line.  The script gets it as bytes without its end, or `Interrupted` (^C), or `EOFError` (^D)."""

    echo: bool = True


@dataclass(frozen=True, slots=True)
class Press:
    """Wait for one key.  The script gets it as one byte, or nothing at all after `within` seconds."""

    within: float = inf


@dataclass(frozen=True, slots=True)
class Instead:
    """Go on with another script and drop this one."""

    script: Script


Step = str | bytes | float | Ask | Press | Instead
"""What a script may yield: text to say (LF becomes CR LF), bytes to say, seconds to wait, or one of the above."""
Script = Generator[Step, Any, None]


class Interrupted(Exception):
    """^C was typed."""


class Wire:
    """The line from the machine: what is put on it comes out at `rate` bytes per second, in order."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._queue = bytearray()
        self._clear_at = 0.0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, now: float, data: bytes) -> None:
        self._queue += data
        self._clear_at = max(self._clear_at, now) + len(data) / self._rate

    def take(self, until: float) -> bytes:
        """What has come out by `until`."""
        late = self._clear_at - until
        count = len(self._queue) - ceil(late * self._rate) if late > 0 else len(self._queue)
        data = bytes(self._queue[: max(0, count)])
        del self._queue[: len(data)]
        return data

    def clear(self, now: float) -> None:
        self._queue.clear()
        self._clear_at = now

    @property
    def room_at(self) -> float:
        """When at most `FIFO` bytes wait."""
        return self._clear_at - FIFO / self._rate


class Machine:
    """One machine.  A kind of machine says in `main` what it does from power-on; what it ends with is silence."""

    def __init__(self, now: float, rate: float) -> None:
        """Switch it on at `now`; its line carries `rate` bytes per second."""
        self.now = now
        """The moment that this machine lives in: never later than the time it was told."""
        self._wire = Wire(rate)
        self._after_cr = False
        self.become(self.main())

    def main(self) -> Script:
        raise NotImplementedError

    def become(self, script: Script) -> None:
        """Drop what it does and do `script`, from its `now` on."""
        self._script = script
        self._due = self.now
        """When the script goes on by itself."""
        self._reading: Ask | Press | None = None
        self._typed = bytearray()
        self._line = bytearray()
        self.tty = False
        """Whether there is a terminal discipline, which keeps what is typed ahead and knows ^C."""

    # ------------------------------------------------------------------------------------------- the line calls these

    def live(self, now: float) -> bytes:
        """Live until `now` and give what the line carried, up to the end of the tick that begins now."""
        self._catch_up(now)
        return self._wire.take(self.now + TICK)

    def wakes(self) -> float:
        """When there will be something to see, if nothing is typed before; infinity for never."""
        return min(self._next(), self.now + TICK) if self._wire else self._next()

    def typed(self, now: float, data: bytes) -> bool:
        """Take keystrokes; CR, LF and CR LF all end a line.  False if there was no room for any of them."""
        self._catch_up(now)
        begin = 1 if self._after_cr and data.startswith(b"\n") else 0
        if data:
            self._after_cr = data.endswith(b"\r")
        for key in _KEYS.findall(data[begin:].replace(b"\r\n", b"\n").replace(b"\r", b"\n")):
            if self.tty and key == b"\x03" and self._reading is None:
                self._typed.clear()
                # As a terminal does, but for a handful of bytes: nobody wants the rest of a flood.
                if len(self._wire) > FIFO:
                    self._wire.clear(self.now)
                self._interrupt()
            elif self.tty or self._reading is not None:
                self._typed += key[: TYPED_AHEAD - len(self._typed)]
            self._catch_up(now)
        return True

    def broke(self, now: float) -> None:
        """Take a break.  Most machines know nothing to do with it."""
        self._catch_up(now)

    # ------------------------------------------------------------------------------------------- its life

    def blurt(self, text: str) -> None:
        """Say `text` in the midst of whatever the script does, as a kernel would."""
        self._wire.put(self.now, _cooked(text))

    def _next(self) -> float:
        if self._reading is not None and self._typed:
            return max(self.now, self._wire.room_at)
        return max(self.now, self._due)

    def _catch_up(self, now: float) -> None:
        now = max(now, self.now)  # a clock can be set back
        while len(self._wire) < STALL and (at := self._next()) <= now:
            self.now = at
            if self._reading is not None and self._typed:
                self._read()
            else:
                self._resume()
        self.now = now

    def _resume(self, value: bytes | None = None, error: Exception | None = None) -> None:
        """Let the script go on, and do its next step."""
        # A press that timed out gives no key.
        if value is None and self._reading is not None:
            value = b""
        self._reading, self._due = None, inf
        try:
            step = self._script.send(value) if error is None else self._script.throw(error)
        except StopIteration:
            return
        match step:
            case str() | bytes():
                self._wire.put(self.now, step if isinstance(step, bytes) else _cooked(step))
                self._due = self._wire.room_at
            case Ask():
                self._reading = step
                self._line.clear()
            case Press():
                self._reading = step
                self._due = self.now + step.within
            case Instead():
                self.become(step.script)
            case _:
                self._due = self.now + step

    def _interrupt(self) -> None:
        self._echo(b"^C\r\n")
        self._resume(error=Interrupted())

    # ------------------------------------------------------------------------------------------- its terminal

    def _read(self) -> None:
        """Take the next key for the script that waits for it."""
        if isinstance(self._reading, Press):
            key = bytes(self._typed[:1])
            del self._typed[:1]
            self._resume(key)
            return
        found = _KEYS.match(self._typed)
        assert found is not None
        key = bytes(found[0])
        del self._typed[: len(key)]
        match key:
            case b"\n":
                self._echo(b"\r\n")
                self._resume(bytes(self._line))
            case b"\x03":
                self._interrupt()
            case b"\x04":
                if not self._line:
                    self._resume(error=EOFError())
            case b"\x7f" | b"\b":
                self._show(_erased(self._line, 1))
            case b"\x15":
                self._show(_erased(self._line, LINE_LENGTH))
            case b"\0":
                pass  # CR NUL is how telnet spells CR
            case _:
                key = key[: LINE_LENGTH - len(self._line)]
                self._line += key
                self._show(b"^" + bytes([key[0] + 64]) if key and key < b" " else key)

    def _show(self, data: bytes) -> None:
        """Echo what was typed, unless it is secret."""
        if isinstance(self._reading, Ask) and self._reading.echo:
            self._echo(data)

    def _echo(self, data: bytes) -> None:
        self._wire.put(self.now, data)


def _cooked(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def _erased(line: bytearray, characters: int) -> bytes:
    """Take characters of UTF-8 off the end of `line`; what to show for it."""
    columns = 0
    while line and characters:
        last = line.pop()
        if last & 0xC0 != 0x80:
            columns += 2 if last < 0x20 else 1
            characters -= 1
    return b"\b \b" * columns
