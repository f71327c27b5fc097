"""A fleet: thousands of links, their turns and their chronicle on one simulated clock.

What is asked of them together: the living do not wait for the dead, nobody dials in a herd, the log stays readable, and
after the switch is back so is everybody.  Each part by itself is in `test_link`, `test_turns` and `test_chronicle`.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

import pytest
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.error import NoRouteError
from twisted.logger import capturedLogs, eventAsText

from consoled.backends import turns
from consoled.backends.chronicle import BEFORE_SUMMARY, Chronicle
from consoled.backends.link import JITTER, Link
from consoled.backends.settings import ConsoleSettings
from consoled.backends.turns import YOUNG, Turns
from consoled.core.seams import Line, LineOwner
from consoled.core.status import Off, Status, Up
from tests.fakes import FakeLine

DIALS = 128
"""`hub.max_dials`, as it is by default."""
EACH_HOST = 8
"""`hub.max_dials_each_host`, as it is by default."""
RATE = DIALS / YOUNG
"""The dials that may be begun in a second where nobody answers, or all at once."""
LINES = BEFORE_SUMMARY + 1
"""What the log may have in a window: twenty lines and a sum."""
SECONDS = pytest.mark.parametrize("dead", [1000, 2000, 5000])
"""For them a living BMC may wait a few seconds, however many are dead."""
FEW = 5.0
"""Seconds, beside the wait that a link has after any loss."""
LATENCY = 0.25
"""Seconds that a living BMC takes to let us in."""
PATIENCE = ConsoleSettings(name="any")
"""The defaults: the waits of 1 to 60 s, the limit of 15 s on an attempt."""


class Clock:
    """Time that passes at once, as `task.Clock`; that one sorts all its calls at each `callLater`."""

    def __init__(self) -> None:
        self._now = 0.0
        self._count = 0
        self._calls: list[tuple[float, int, DelayedCall]] = []

    def seconds(self) -> float:
        return self._now

    def callLater(self, delay: float, call: Callable[..., object], *args: Any, **kwargs: Any) -> DelayedCall:
        later = DelayedCall(self._now + delay, call, args, kwargs, lambda _: None, lambda _: None, self.seconds)
        self._count += 1
        heappush(self._calls, (later.time, self._count, later))
        return later

    def advance(self, seconds: float) -> None:
        end = self._now + seconds
        while self._calls and self._calls[0][0] <= end:
            self._now, _, later = heappop(self._calls)
            if not later.cancelled:
                later.called = 1
                later.func(*later.args, **later.kw)
        self._now = end

    def pending(self) -> int:
        return sum(not later.cancelled for _, _, later in self._calls)


class Bmc:
    """A way to one console of a network: it answers after `LATENCY`, not at all, or with an error.

    `connected` is its line while it has one.
    """

    def __init__(self, fleet: Fleet, host: str, alive: bool) -> None:
        self.host = host
        self.address = f"<{host}:22>"
        self.alive = alive
        self.connected: FakeLine | None = None
        self._fleet = fleet

    def dial(self, owner: LineOwner) -> Deferred[Line]:
        fleet, clock = self._fleet, self._fleet.clock
        fleet.began(self.host)
        dial: Deferred[Line] = Deferred()

        def answer() -> None:
            if dial.called:
                return
            if self.alive and not fleet.down:
                self.connected = FakeLine(owner)
                dial.callback(self.connected)
            elif fleet.says_no:
                dial.errback(NoRouteError(errno.EHOSTUNREACH, "No route to host"))

        clock.callLater(LATENCY, answer)
        return dial.addBoth(fleet.over, self.host)

    def loses(self) -> None:
        assert self.connected is not None
        line, self.connected = self.connected, None
        line.owner.lost("Connection timed out")


class Seat:
    """A `LinkOwner` that knows when its link came up last."""

    def __init__(self, fleet: Fleet, name: str, bmc: Bmc) -> None:
        self.bmc = bmc
        self.up_at = 0.0
        self._clock = fleet.clock
        self.link = Link(
            ConsoleSettings(name=name),
            bmc,
            self,
            fleet.clock,
            fleet.clock.seconds,
            fleet.random.random,
            fleet.turns,
            fleet.chronicle,
        )

    def received(self, data: bytes) -> None:
        raise AssertionError("nobody said anything")

    def changed(self, status: Status) -> None:
        if isinstance(status, Up):
            self.up_at = self._clock.seconds()

    @property
    def up(self) -> bool:
        return isinstance(self.link.status, Up)


class Fleet:
    """All of them, and what the network sees."""

    def __init__(self) -> None:
        self.clock: Any = Clock()
        self.random = Random(1)
        self.turns = Turns(self.clock, DIALS, EACH_HOST)
        self.chronicle = Chronicle(self.clock)
        self.seats: list[Seat] = []
        self.down = False
        """The switch: nobody can be reached."""
        self.says_no = False
        """Whether one learns soon that somebody cannot be reached, rather than hearing nothing."""
        self.begun: list[float] = []
        """When each dial began."""
        self.under_way = self.most_under_way = 0
        self.most_each: Counter[str] = Counter()
        """The most dials to one host at one time."""
        self._each: Counter[str] = Counter()

    def has(self, count: int, name: str, *, host: str = "", alive: bool = True) -> list[Seat]:
        """`count` more links, to a host each or all to one."""
        new = [Seat(self, f"{name}{number}", Bmc(self, host or f"{name}{number}", alive)) for number in range(count)]
        self.seats += new
        return new

    def open(self) -> None:
        for seat in self.seats:
            seat.link.open()

    def lose_all(self) -> None:
        for seat in self.seats:
            if seat.up:
                seat.bmc.loses()

    def until_up(self, seats: list[Seat], limit: float) -> None:
        """Let time pass until all of them are up; fail if they are not after `limit` seconds."""
        began = self.clock.seconds()
        while left := sum(not seat.up for seat in seats):
            assert self.clock.seconds() < began + limit, f"after {limit:g} s {left} of {len(seats)} are not up"
            self.clock.advance(0.25)

    def most_in(self, seconds: float, since: float = 0.0) -> int:
        """The most dials that began within any so many seconds."""
        most, first, times = 0, 0, [time for time in self.begun if time >= since]
        for last, time in enumerate(times):
            while times[first] <= time - seconds:
                first += 1
            most = max(most, last - first + 1)
        return most

    def close(self) -> None:
        """Hang up everywhere: nothing may be left of it."""
        for seat in self.seats:
            line = seat.bmc.connected
            seat.link.close()
            if line is not None:
                line.owner.lost("closed")
        assert {type(seat.link.status) for seat in self.seats} == {Off}
        assert not self.turns.waiting
        assert not self.turns.under_way
        assert not self.under_way
        self.clock.advance(1)
        self.chronicle.close()
        assert not self.clock.pending()

    # The BMCs call these.

    def began(self, host: str) -> None:
        self.begun.append(self.clock.seconds())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self._each[host] += 1
        self.most_each[host] = max(self.most_each[host], self._each[host])

    def over(self, result: Any, host: str) -> Any:
        self.under_way -= 1
        self._each[host] -= 1
        return result


def lines(logs: Any) -> list[str]:
    return [eventAsText(event, includeTimestamp=False, includeSystem=False) for event in logs]


# ------------------------------------------------------------------------------------------- the dead and the living


@SECONDS
def test_the_dead_do_not_keep_the_living_waiting_when_the_daemon_starts(dead: int) -> None:
    fleet = Fleet()
    fleet.has(dead, "dead", alive=False)
    live = fleet.has(50, "live")
    fleet.open()
    fleet.until_up(live, limit=FEW)
    assert fleet.most_in(0.9 * YOUNG) <= DIALS + len(live)
    fleet.close()


@SECONDS
def test_the_dead_do_not_keep_a_living_one_waiting_that_was_lost(dead: int) -> None:
    fleet = Fleet()
    fleet.has(dead, "dead", alive=False)
    live = fleet.has(2, "live")
    fleet.open()
    fleet.until_up(live, limit=FEW)
    for seat in live:
        fleet.clock.advance(31.7)  # earlier troubles are forgiven, and the dead are at another point of their rounds
        seat.bmc.loses()
        fleet.until_up([seat], limit=PATIENCE.retry_initial + 3 * YOUNG + LATENCY)
    fleet.close()


@SECONDS
def test_those_that_die_in_the_same_moment_do_not_keep_a_living_one_waiting(dead: int) -> None:
    """Nobody can know yet who of them lives."""
    fleet = Fleet()
    doomed, live = fleet.has(dead, "n"), fleet.has(10, "live")
    fleet.open()
    fleet.until_up(fleet.seats, limit=15)
    fleet.clock.advance(60)
    for seat in doomed:
        seat.bmc.alive = False
    fleet.lose_all()
    fleet.until_up(live, limit=PATIENCE.retry_initial + FEW)
    fleet.close()


def test_an_operators_now_for_all_the_dead_does_not_keep_a_living_one_waiting() -> None:
    fleet = Fleet()
    fleet.has(2000, "dead", alive=False)
    live = fleet.has(10, "live")
    fleet.open()
    fleet.until_up(live, limit=FEW)
    fleet.clock.advance(100)
    for seat in live:
        seat.bmc.loses()
    for seat in fleet.seats:
        seat.link.dial_now()
    fleet.until_up(live, limit=2 * YOUNG + LATENCY)
    fleet.close()


# ------------------------------------------------------------------------------------------- a switch starts again


@pytest.mark.parametrize("says_no", [False, True], ids=["silence", "no route to host"])
def test_after_a_switch_has_started_again_so_have_five_thousand_links(says_no: bool) -> None:
    fleet = Fleet()
    fleet.says_no = says_no
    everybody = fleet.has(5000, "n")
    fleet.open()
    fleet.until_up(everybody, limit=15)
    fleet.clock.advance(60)
    down_at = fleet.clock.seconds()
    fleet.down = True
    with capturedLogs() as logs:
        fleet.lose_all()
        fleet.clock.advance(120)
        assert not any(seat.up for seat in everybody)
        fleet.down = False
        fleet.until_up(everybody, limit=PATIENCE.retry_max + PATIENCE.connect_timeout + 15)
    # Nobody is dialled in a herd: what is asked at once is what may be young at once, however many wait.
    assert fleet.most_in(YOUNG, down_at) <= 2 * DIALS
    assert fleet.most_in(1.0, down_at) <= RATE + DIALS
    ups = Counter(int(seat.up_at) for seat in everybody)
    assert max(ups.values()) <= RATE + DIALS
    # The log has the beginning of each window, and a sum of it: never a line for each of them.
    assert len(logs) <= 15 * LINES
    assert sum("and more consoles" in line for line in lines(logs))
    fleet.close()


def test_chance_spreads_those_who_went_down_together() -> None:
    """With places for all at once, those that are away for long are dialled evenly over the share left to chance."""
    fleet = Fleet()
    fleet.turns = Turns(fleet.clock, 10_000, EACH_HOST)
    fleet.says_no = fleet.down = True
    everybody = fleet.has(1500, "n")
    fleet.open()
    fleet.clock.advance(400)
    waits = PATIENCE.retry_max * JITTER
    assert fleet.most_in(1.0, since=120) <= 2 * len(everybody) / waits
    assert fleet.most_in(1.0) <= len(everybody), "all are dialled together once, at the start"
    fleet.close()


# ------------------------------------------------------------------------------------------- a terminal server


def test_a_terminal_server_is_never_asked_for_all_its_ports_at_once() -> None:
    fleet = Fleet()
    ports = fleet.has(48, "port", host="ts1")
    fleet.has(1000, "dead", alive=False)
    fleet.open()
    fleet.until_up(ports, limit=5 + 48 / EACH_HOST * LATENCY)
    assert fleet.most_each["ts1"] == EACH_HOST
    fleet.clock.advance(60)
    for port in ports:
        port.bmc.loses()
    fleet.until_up(ports, limit=PATIENCE.retry_initial + 48 / EACH_HOST * LATENCY + 2 * YOUNG)
    assert fleet.most_each["ts1"] == EACH_HOST
    fleet.close()


def test_the_silent_ports_of_a_terminal_server_do_not_stand_before_its_good_ones() -> None:
    """A port that was lost waits for a place that comes free, not for all silent ports to have had theirs."""
    fleet = Fleet()
    fleet.has(120, "silent", host="ts1", alive=False)
    ports = fleet.has(8, "port", host="ts1")
    fleet.open()
    fleet.until_up(ports, limit=128 / EACH_HOST * PATIENCE.connect_timeout)
    fleet.clock.advance(600)
    for port in ports:
        port.bmc.loses()
        fleet.until_up([port], limit=PATIENCE.retry_initial + PATIENCE.connect_timeout + LATENCY + 1)
        fleet.clock.advance(60)
    assert fleet.most_each["ts1"] == EACH_HOST
    fleet.close()


# ------------------------------------------------------------------------------------------- what it costs


def test_leaving_the_queue_does_not_mean_to_search_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand that are taken out of the configuration must not stop the daemon for seconds."""
    compared = 0

    def equal(self: object, other: object) -> bool:
        nonlocal compared
        compared += 1
        return self is other

    monkeypatch.setattr(turns._Turn, "__eq__", equal)
    monkeypatch.setattr(turns._Turn, "__hash__", object.__hash__)
    fleet = Fleet()
    fleet.has(2000, "n", alive=False)
    fleet.has(2000, "port", host="ts1", alive=False)
    fleet.open()
    fleet.clock.advance(0)
    assert fleet.turns.waiting > 3500
    for seat in reversed(fleet.seats):
        seat.link.close()
    assert not fleet.turns.waiting
    assert compared < 10 * len(fleet.seats)
