"""The demo's simpler machines: one that chatters, one that floods, one that echoes, one that is silent.

`demo.DemoBackend` makes one of them in place of `demo_node.Node`.
"""

from __future__ import annotations

from math import inf
from random import Random
from zlib import crc32

from consoled.backends.demo_machine import STALL, TICK, Machine, Press, Script

FLOOD_LINE = 64
"""Bytes in a line of the flood, CR LF included."""

_NEWS = (
    "CPU{n}: Core temperature is above threshold, cpu clock is throttled (total events = {m})",
    "CPU{n}: Core temperature/speed normal",
    "EDAC MC0: 1 CE memory read error on CPU_SrcID#0_Ha#0_Chan#{n}_DIMM#0 (page:0x{m:x} offset:0x0 grain:32)",
    "hsn0: Link is down",
    "hsn0: Link is up at 200 Gbps, full duplex",
    "Lustre: scratch-OST00{n:02x}-osc: Connection restored to service scratch-OST00{n:02x}",
    "nfs: server nfs{n} not responding, still trying",
    "nfs: server nfs{n} OK",
    "perf: interrupt took too long ({m} > 2500), lowering kernel.perf_event_max_sample_rate",
    "slurmstepd[{m}]: task {n} completed",
)


class Chatter(Machine):
    """Says a line as a kernel would, every `interval` seconds, for ever."""

    def __init__(self, now: float, rate: float, random: Random, interval: float) -> None:
        self._random = random
        self._interval = interval
        super().__init__(now, rate)

    def main(self) -> Script:
        since = self.now
        while True:
            news = self._random.choice(_NEWS).format(
                n=self._random.randrange(16), m=self._random.randrange(3000, 60000)
            )
            yield f"[{self.now - since:12.6f}] {news}\n"
            yield self._interval


class Flood(Machine):
    """Says numbered lines (`flood_line`) at `rate` bytes per second; the numbers begin at 0 and go on."""

    def __init__(self, now: float, rate: float) -> None:
        self._lines_per_second = rate / FLOOD_LINE
        super().__init__(now, inf)

    def main(self) -> Script:
        # As a transport would: no piece longer than it reads at once, however fast.
        many = min(max(1, round(self._lines_per_second * TICK)), STALL // FLOOD_LINE)
        number = 0
        while True:
            yield b"".join(map(flood_line, range(number, number + many)))
            yield many / self._lines_per_second
            number += many


def flood_line(number: int) -> bytes:
    """Line `number` of a flood: 20 decimal digits, a space, their CRC-32 in 8 hex digits, a space, filler, CR LF.

    So every line can be checked by itself, and two of them tell how many lie between.  After a lost connection
    the numbers are higher, and a line may be cut where it was lost.
    """
    digits = b"%020d" % number
    return b"%b %08x ................................\r\n" % (digits, crc32(digits))


class Echo(Machine):
    """Says what it hears, all 256 values of a byte."""

    def __init__(self, now: float) -> None:
        super().__init__(now, inf)

    def main(self) -> Script:
        yield Press()

    def typed(self, now: float, data: bytes) -> bool:
        if len(self._wire) >= STALL:
            return False
        self._wire.put(now, data)
        return True


class Quiet(Machine):
    """Is there, and says nothing."""

    def __init__(self, now: float) -> None:
        super().__init__(now, inf)

    def main(self) -> Script:
        while True:
            yield Press()
