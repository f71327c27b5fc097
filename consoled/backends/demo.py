"""Kind `demo`: nodes simulated inside the daemon, so that it can be tried without a server.

It stands where the wire would: a machine (`demo_node`, `demo_sources`) says its bytes to a `DemoLine`, which hands
them to the link.  `tap` asks the settings for the backend, the link dials it.

As a real node does, the machine goes on while nobody is connected (and what it says then is lost).  It needs no
timer for that: it lives through the time that has passed when it is dialled again.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from math import inf, isfinite
from random import Random
from typing import Annotated, Literal

from msgspec import Meta
from twisted.internet.defer import Deferred

from consoled.backends.demo_machine import Machine
from consoled.backends.demo_node import Node
from consoled.backends.demo_sources import FLOOD_LINE, Chatter, Echo, Flood, Quiet
from consoled.backends.settings import ConsoleSettings, Surroundings
from consoled.core.seams import Clock, HeldElsewhere, Line, LineOwner, Timer
from consoled.units import Duration, Size

BITS_PER_BYTE = 10
"""On a serial line: a start bit, eight of data, a stop bit."""
SHORTEST_INTERVAL = 0.001


def _occupied() -> Exception:
    return HeldElsewhere("SOL payload is active on another session")


_FAILURES: tuple[Callable[[], Exception] | None, ...] = (
    lambda: ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
    lambda: TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
    lambda: OSError(errno.EHOSTUNREACH, "No route to host"),
    _occupied,
    None,  # no answer at all
)
"""How a dial of a flaky console ends."""
_LOSSES = ("Connection reset by peer", "SOL session closed by the BMC", "no answer to keepalive")
"""How a connection of a flaky console ends."""


class DemoSettings(ConsoleSettings, frozen=True, kw_only=True, tag="demo"):
    """`kind = "demo"`."""

    role: Literal["node", "flaky", "chatter", "flood", "echo", "quiet"] = "node"
    """A node that boots and can be logged into; one whose BMC comes and goes; one that says a line now and then;
    numbered lines as fast as `rate` (`demo_sources.flood_line`); what is typed; nothing."""
    seed: int | None = None
    """Equal seeds make equal machines; the console's name if absent."""
    speed: Annotated[int, Meta(ge=300, le=1_000_000_000)] = 115_200
    """node, flaky, chatter: bits per second of its serial line, ten for a byte."""
    interval: Duration = Duration(1)
    """chatter: the time between two lines; a millisecond or more."""
    rate: Size = Size(64 * 1024)
    """flood: bytes per second."""
    failures: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """flaky: the share of dials that fail."""
    mean_uptime: Duration = Duration(60)
    """flaky: how long a connection lasts on average."""

    def backend(self, around: Surroundings) -> DemoBackend:
        """Raises `ValueError` for values that no machine can keep up with."""
        if self.interval < SHORTEST_INTERVAL:
            raise ValueError(f"interval: {self.interval:g} s is too short: {SHORTEST_INTERVAL:g} s or more")
        if self.rate < FLOOD_LINE:
            raise ValueError(f"rate: {self.rate} bytes is too slow: {FLOOD_LINE} (one line) or more")
        if not self.mean_uptime:
            raise ValueError("mean_uptime: must be more than zero")
        return DemoBackend(self, around.reactor)


class DemoBackend:
    """The way to one simulated machine, which is switched on when it is first reached."""

    host = ""

    def __init__(self, settings: DemoSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        seed = settings.name if settings.seed is None else settings.seed
        # Two, so that how often a console was dialled does not change what its machine does.
        self._machine_random = Random(f"{seed} machine")  # noqa: S311 - a simulation
        self._line_random = Random(f"{seed} line")  # noqa: S311
        self._machine: Machine | None = None
        self._line: DemoLine | None = None

    @property
    def address(self) -> str:
        return f"<demo:{self._settings.role}>"

    def dial(self, owner: LineOwner) -> Deferred[Line]:
        """Reach the machine after a moment; one session at a time, as with a real BMC."""
        random = self._line_random
        moment = random.uniform(0.02, 0.3)
        failure, lasts = None, inf
        if self._settings.role == "flaky":
            lasts = random.expovariate(1 / self._settings.mean_uptime)
            if random.random() < self._settings.failures:
                make = random.choice(_FAILURES)
                if make is None:
                    return Deferred()
                failure = make()
                if isinstance(failure, TimeoutError):
                    moment += 5
        answer: Deferred[Line] = Deferred(lambda _: timer.cancel())
        timer = self._clock.callLater(moment, self._answer, answer, owner, failure, lasts)
        return answer

    def _answer(self, answer: Deferred[Line], owner: LineOwner, failure: Exception | None, lasts: float) -> None:
        if self._line is not None:
            failure = _occupied()
        if failure is not None:
            answer.errback(failure)
            return
        now = self._clock.seconds()
        if self._machine is None:
            self._machine = self._make_machine(now)
        else:
            self._machine.live(now)
        self._line = line = DemoLine(self._clock, self._machine, owner, self._hung_up)
        answer.callback(line)
        line.begin(lasts, self._line_random.choice(_LOSSES))

    def _hung_up(self) -> None:
        self._line = None

    def _make_machine(self, now: float) -> Machine:
        settings, random = self._settings, self._machine_random
        rate = settings.speed / BITS_PER_BYTE
        match settings.role:
            case "chatter":
                return Chatter(now, rate, random, settings.interval)
            case "flood":
                return Flood(now, settings.rate)
            case "echo":
                return Echo(now)
            case "quiet":
                return Quiet(now)
            case _:
                return Node(now, rate, settings.name, random)


class DemoLine:
    """One connection to a machine.  It has a timer only while the machine has something to say."""

    note = ""

    def __init__(self, clock: Clock, machine: Machine, owner: LineOwner, hung_up: Callable[[], None]) -> None:
        self._clock = clock
        self._machine = machine
        self._owner = owner
        self._hung_up = hung_up
        self._look: Timer | None = None
        self._end: Timer | None = None
        self._open = True

    def begin(self, lasts: float, why: str) -> None:
        """Carry bytes from now on, and break for the reason `why` after `lasts` seconds (infinity for never)."""
        if isfinite(lasts):
            self._end = self._clock.callLater(lasts, self._finish, why)
        self._look_at(self._clock.seconds())

    def write(self, data: bytes) -> bool:
        if not self._open or not self._machine.typed(self._clock.seconds(), data):
            return False
        self._look_at(self._clock.seconds())
        return True

    def send_break(self) -> bool:
        if self._open:
            self._machine.broke(self._clock.seconds())
            self._look_at(self._clock.seconds())
        return self._open

    def close(self) -> None:
        if self._open:
            self._stop()
            # Never from within the call: a real transport does not either.
            self._clock.callLater(0, self._finish, "Connection was closed cleanly")

    abort = close

    def _carry(self) -> None:
        self._look = None
        data = self._machine.live(self._clock.seconds())
        self._look_at(self._machine.wakes())
        if data:
            self._owner.received(data)

    def _look_at(self, when: float) -> None:
        """Look at the machine at `when` and no more before."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        if isfinite(when):
            self._look = self._clock.callLater(max(0.0, when - self._clock.seconds()), self._carry)

    def _stop(self) -> None:
        self._open = False
        self._look_at(inf)
        if self._end is not None and self._end.active():
            self._end.cancel()

    def _finish(self, why: str) -> None:
        self._stop()
        self._hung_up()
        self._owner.lost(why)
