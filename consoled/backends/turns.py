"""Turns: who may dial when, so that a fleet is not dialled in one moment and the dead do not stand before the living.

Every link asks for a turn before each attempt.  An address where nobody answers takes its whole time limit: so an
attempt blocks the queue only while it is *young*, and with 128 places five thousand dead BMCs delay a live one by four
seconds, even if nobody knows yet who is dead.  Links whose last attempt failed stand behind those that are new or have
just lost a good connection.  Consoles that share a host (the ports of a terminal server) share that host's few places.

How many are under way in all has no bound of its own: a link has one attempt or one line, and descriptors for either
are in the budget.  Nor is one needed where everybody answers at once: the reactor looks at its timers once a round, so
that it begins no more than the young in a round, and a round is as long as those take that are being let in.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, maybeDeferred

from consoled.core.seams import Clock

YOUNG = 0.1
"""Seconds after which an attempt no longer blocks the queue."""

_Result = TypeVar("_Result")
_Queue = OrderedDict["_Turn", None]
"""First in, first out; and whoever gives up leaves it without being looked for."""


class _Turn:
    """One link's place in the queue, then its attempt."""

    __slots__ = ("again", "come", "host")

    def __init__(self, host: str, again: bool, come: Deferred[None]) -> None:
        self.host = host
        self.again = again
        self.come = come


class Turns:
    """One queue for all links of the daemon."""

    def __init__(self, clock: Clock, young: int, each_host: int) -> None:
        """At most `young` attempts younger than `YOUNG` at once, `each_host` of any age to one host."""
        self._clock = clock
        self._young = self._free = young
        """How many more may be young."""
        self.under_way = 0
        """How many attempts are being made."""
        self._each_host = each_host
        self._at: Counter[str] = Counter()
        self._new: _Queue = OrderedDict()
        self._again: _Queue = OrderedDict()
        self._parked: dict[tuple[str, bool], _Queue] = {}
        """Those whose host has no place, by host and whether their last attempt failed."""

    def renew(self, young: int, each_host: int) -> None:
        """Other limits; who is under way goes on."""
        self._free += young - self._young
        self._young, self._each_host = young, each_host
        for host in {host for host, _ in self._parked}:
            self._call_from(host)
        self._call_next()

    @property
    def waiting(self) -> int:
        """How many links stand in the queue."""
        return len(self._new) + len(self._again) + sum(map(len, self._parked.values()))

    def run(self, host: str, again: bool, attempt: Callable[[], Deferred[_Result]]) -> Deferred[_Result]:
        """Call `attempt` when its turn comes; fires as it does.

        `host` is whose places it takes, empty for nobody's; `again` says that the last attempt failed.  Cancelling
        leaves the queue, or cancels the attempt.
        """
        turn: _Turn
        come: Deferred[None] = Deferred(lambda _: self._left(turn))
        turn = _Turn(host, again, come)
        (self._again if again else self._new)[turn] = None
        result = come.addCallback(lambda _: self._begin(turn, attempt))
        self._call_next()
        return result

    def _begin(self, turn: _Turn, attempt: Callable[[], Deferred[_Result]]) -> Deferred[_Result]:
        self.under_way += 1
        growing_up = self._clock.callLater(YOUNG, self._grown)

        def over(result: object) -> object:
            self.under_way -= 1
            if growing_up.active():
                growing_up.cancel()
                self._free += 1
            self._vacate(turn.host)
            self._call_next()
            return result

        return maybeDeferred(attempt).addBoth(over)

    def _grown(self) -> None:
        self._free += 1
        self._call_next()

    def _call_next(self) -> None:
        while self._free > 0:
            turn = self._pick()
            if turn is None:
                return
            self._free -= 1
            if turn.host:
                self._at[turn.host] += 1
            turn.come.callback(None)

    def _pick(self) -> _Turn | None:
        """The first in the queue whose host has a place; those before it are put aside until theirs has."""
        while self._new or self._again:
            turn, _ = (self._new or self._again).popitem(last=False)
            if not turn.host or self._at[turn.host] < self._each_host:
                return turn
            self._parked.setdefault((turn.host, turn.again), OrderedDict())[turn] = None
        return None

    def _vacate(self, host: str) -> None:
        if not host:
            return
        self._at[host] -= 1
        if not self._at[host]:
            del self._at[host]
        self._call_from(host)

    def _call_from(self, host: str) -> None:
        """Put the first who waits for a place at `host` back at the head of the queue."""
        for queue, again in (self._new, False), (self._again, True):
            if parked := self._parked.get((host, again)):
                turn, _ = parked.popitem(last=False)
                queue[turn] = None
                queue.move_to_end(turn, last=False)
                if not parked:
                    del self._parked[host, again]
                return

    def _left(self, turn: _Turn) -> None:
        queue = self._again if turn.again else self._new
        if turn in queue:
            del queue[turn]
            self._call_from(turn.host)  # its host may have had a place for it
        else:
            parked = self._parked[turn.host, turn.again]
            del parked[turn]
            if not parked:
                del self._parked[turn.host, turn.again]
