"""The vigil: an open session ends when the right to it ends.

A request is decided on once, before its upgrade; a session lasts for days.  So a face makes a `Visit` of the scope that
it was given, its conversation says when that begins, is heard and is over, and the vigil has the scope decided again
from time to time: at the latest after `RECHECK`, and exactly when it holds no longer (a token expires, what is known
of a tenant grows old).  No byte of the console passes through here.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import inf

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from consoled.core.access import CannotKnow, Forbidden, Limits, Scope, Unauthenticated, Verb
from consoled.core.seams import Clock, Timer

RECHECK = 30.0
"""Seconds after which every session is asked about anew, less a random share of up to a quarter."""
LEAST = 1.0
"""Seconds between two questions about one session, however short a decision holds."""
PATIENCE = 5.0
"""Seconds for an answer; then it is not known any more, hence no."""
EACH_TURN = 100
"""Sessions that are looked at in one turn of the reactor: after a restart they are all due together."""

TRY_AGAIN_LATER = 1013
UNAUTHENTICATED = 4401
FORBIDDEN = 4403
TIME_IS_UP = 4408
"""Close codes: IANA's, and of the private range (RFC 6455 section 7.4.2) those that look like their HTTP status."""

_log = Logger()


class Vigil:
    """Looks after all visits, with one timer."""

    def __init__(self, clock: Clock, random: Callable[[], float]) -> None:
        """`random` gives numbers from 0 to below 1."""
        self._clock = clock
        self._random = random
        self._due: list[tuple[float, int, Visit]] = []
        """A heap; visits that are over stay in it until their time."""
        self._serial = count()
        self._timer: Timer | None = None
        self._under_way = 0
        self.season = 0
        """What was asked in another one counts no longer."""

    def visit(self, scope: Scope, verb: Verb, console: str) -> Visit:
        """A visit by leave of `scope`, which has just been decided and admits `verb` at `console`."""
        return Visit(self, scope, verb, console)

    def ask_everybody(self) -> None:
        """What was decided before counts no longer: have it decided anew for all visits, as soon as may be."""
        self.season += 1
        now = self.now()
        self._due = [(now, next(self._serial), visit) for _, _, visit in self._due]
        if self._due:
            self._set_timer()

    # The visits call these.

    def now(self) -> float:
        """The time in seconds, on the clock of the timers."""
        return self._clock.seconds()

    def interval(self) -> float:
        """Seconds until a visit is to be asked about anew."""
        return RECHECK * (1 - self._random() / 4)

    def began(self) -> None:
        """A visit has begun."""
        self._under_way += 1

    def over(self) -> None:
        """A visit is over."""
        self._under_way -= 1
        if not self._under_way:
            self._due.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def wait(self, visit: Visit, until: float) -> None:
        """Have a look at `visit` at the time `until`."""
        heappush(self._due, (until, next(self._serial), visit))
        self._set_timer()

    def ask(self, scope: Scope) -> Deferred[Scope]:
        """`scope` decided anew, or no answer in time."""
        return scope.again().addTimeout(PATIENCE, self._clock, _too_late)

    def _set_timer(self) -> None:
        at = self._due[0][0]
        if self._timer is None:
            self._timer = self._clock.callLater(max(0.0, at - self.now()), self._look)
        elif at < self._timer.getTime():
            self._timer.reset(max(0.0, at - self.now()))

    def _look(self) -> None:
        self._timer = None
        now = self.now()
        due: list[Visit] = []
        while self._due and self._due[0][0] <= now and len(due) < EACH_TURN:
            due.append(heappop(self._due)[2])
        for visit in due:
            visit.look()
        if self._due and self._timer is None:
            self._set_timer()


class Visit:
    """The leave of one session to be where it is."""

    def __init__(self, vigil: Vigil, scope: Scope, verb: Verb, console: str) -> None:
        self._vigil = vigil
        self._verb = verb
        self._console = console
        self._end: Callable[[str, int], None] | None = None
        """How it is ended; None before it begins and when it is over."""
        self._began = self._heard = vigil.now()
        self._asking: Deferred[None] | None = None
        self._season = vigil.season
        self._scope: Scope
        self._limits: Limits
        self._ask_at: float
        self._take(scope)

    def require(self, verb: Verb) -> None:
        """Raise `Forbidden` if this session may not do `verb` as well."""
        self._scope.require(verb, self._console)

    # The conversation calls these.

    def begin(self, end: Callable[[str, int], None]) -> None:
        """The session is open.  `end(why, code)` closes it, and has `over` called."""
        self._end = end
        self._began = self._heard = self._vigil.now()
        self._vigil.began()
        self._wait()

    def heard(self) -> None:
        """The client has sent a message."""
        self._heard = self._vigil.now()

    def over(self) -> None:
        """The session is closed, by whomever.  Idempotent."""
        if self._end is None:
            return
        self._end = None
        if self._asking is not None:
            self._asking.cancel()
        self._vigil.over()

    # The vigil calls this.

    def look(self) -> None:
        """See whether it is time for anything."""
        if self._end is None:
            return
        now = self._vigil.now()
        if now >= self._session_end:
            self._close(f"The session has lasted for {self._limits.session:g} s", TIME_IS_UP)
        elif now >= self._idle_end:
            self._close(f"Nothing was typed for {self._limits.idle:g} s", TIME_IS_UP)
        elif now >= self._ask_at or self._is_outdated:
            self._season = self._vigil.season
            self._asking = self._vigil.ask(self._scope).addCallbacks(self._renewed).addErrback(self._refused)
        else:
            self._wait()

    @property
    def _session_end(self) -> float:
        return self._began + self._limits.session

    @property
    def _idle_end(self) -> float:
        # Who only watches has nothing to say.
        return self._heard + (self._limits.idle if self._verb == "interact" else inf)

    def _take(self, scope: Scope) -> None:
        self._scope = scope
        self._limits = scope.limits(self._verb, self._console)
        self._ask_at = self._vigil.now() + max(LEAST, min(scope.holds, self._vigil.interval()))

    @property
    def _is_outdated(self) -> bool:
        """Whether it was decided by what counts no longer."""
        return self._season != self._vigil.season

    def _wait(self) -> None:
        until = min(self._ask_at, self._session_end, self._idle_end)
        self._vigil.wait(self, self._vigil.now() if self._is_outdated else until)

    def _renewed(self, scope: Scope) -> None:
        scope.require(self._verb, self._console)
        self._asking = None
        self._take(scope)
        self._wait()

    def _refused(self, failure: Failure) -> None:
        self._asking = None
        if self._end is None:
            return  # it was over first
        match error := failure.value:
            case Unauthenticated():
                self._close("Your authentication has ended", UNAUTHENTICATED)
            case Forbidden():
                self._close(str(error), FORBIDDEN)
            case CannotKnow():
                self._close(str(error), TRY_AGAIN_LATER)
            case _:
                _log.failure("a session's permission cannot be checked", failure)
                self._close("Internal error", TRY_AGAIN_LATER)

    def _close(self, why: str, code: int) -> None:
        """Close the session, which is not over."""
        assert self._end is not None
        try:
            self._end(why, code)
        except Exception:
            _log.failure("a session cannot be closed")
        if self._end is not None:
            # It is not over, so it must not be forgotten either.
            self._vigil.wait(self, self._vigil.now() + LEAST)


def _too_late(result: Scope | Failure, limit: float) -> Scope | Failure:
    if isinstance(result, Failure):
        raise CannotKnow(f"no answer within {limit:g} s")
    return result
