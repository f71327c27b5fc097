"""The link: one console's connection through all its lives, whatever its kind (`docs/life.md`).

It stands between a kind's `Backend` and the `Console`: it dials when its turn comes, hands output on, and after
every failure or loss waits and dials again, for ever.  `tap` makes one for each console.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.error import ConnectionRefusedError as TwistedRefused
from twisted.internet.error import TimeoutError as TwistedTimeout
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from consoled.backends.chronicle import Chronicle
from consoled.backends.settings import ConsoleSettings
from consoled.backends.turns import Turns
from consoled.core.faults import LinkDown, NoBreak, NodeNotReading
from consoled.core.seams import Backend, Clock, HeldElsewhere, Line, LinkOwner, Refused, Timer
from consoled.core.secret import SecretUnavailable
from consoled.core.status import Closing, Dialing, Held, Off, Parked, Status, Up, Waiting
from consoled.core.tally import Tally

FORGIVEN_AFTER = 30.0
"""Seconds that a connection must last before its earlier failures are forgotten: some BMCs accept and hang up."""
HANG_UP = 5.0
"""Seconds for a line to close in good order before it is aborted."""
JITTER = 0.25
"""The share of a wait that is left to chance, so that a rack that went down together is not dialled together."""

_SORTS = {
    "held": (HeldElsewhere,),
    "refused": (Refused,),
    "secret": (SecretUnavailable,),
    "timeout": (TimeoutError, TwistedTimeout),
    "name": (DNSLookupError,),
    "connection-refused": (ConnectionRefusedError, TwistedRefused),
    "network": (ConnectError, OSError),
}
"""The sorts of reasons why a dial fails; the first that fits counts."""

_log = Logger()


class Link:
    """A link is always trying, and always says how it is."""

    def __init__(
        self,
        settings: ConsoleSettings,
        backend: Backend,
        owner: LinkOwner,
        clock: Clock,
        now: Callable[[], float],
        random: Callable[[], float],
        turns: Turns,
        chronicle: Chronicle,
        tally: Tally | None = None,
        parked: Parked | None = None,
        remember: Callable[[str, Parked | None], None] = lambda name, parked: None,
    ) -> None:
        """`now` tells the wall clock, `random` gives numbers in [0, 1).

        It begins as `parked` says, and tells `remember` its name and what that becomes.
        """
        self._settings = settings
        self._backend = backend
        self._owner = owner
        self._clock = clock
        self._now = now
        self._random = random
        self._turns = turns
        self._chronicle = chronicle
        self._tally = tally or Tally()
        self.status: Status = parked or Off()
        self._wanted = False
        self._parked = parked
        """Whether an operator wants it off, whoever else wants it."""
        self._remember = remember
        self._attempt: _Attempt | None = None
        """The attempt that counts: it is being dialled, or its line is the one below."""
        self._line: Line | None = None
        self._dialing: Deferred[Any] | None = None
        self._timer: Timer | None = None
        """The one thing that this state waits for: the next attempt, the end of the silence, or of the patience."""
        self._failures = 0
        self._again = False
        """Whether the last attempt failed, or brought a connection that did not last: then others go first."""
        self._flaps = 0
        """How many connections in a row did not last."""
        self._steady: Timer | None = None
        """After some that did not last: the moment when this one has."""
        self._down_since: float | None = None
        """By the wall clock, while it is wanted and not up."""
        self._up_at = 0.0
        self._heard_at = 0.0
        self._reported: float | None = None
        """When the silence began that was reported last."""
        self._why = ""
        """Why we dropped the line ourselves."""
        self._gone: list[Deferred[None]] = []

    @property
    def address(self) -> str:
        return self._backend.address

    @property
    def _kind(self) -> str:
        return str(self._settings.__struct_config__.tag)

    # ------------------------------------------------------------------------------------------ the console calls these

    @property
    def note(self) -> str:
        return "" if self._line is None else self._line.note

    def open(self) -> None:
        self._wanted = True
        if isinstance(self.status, Off) and self._parked is None:
            self._dial()

    def close(self) -> Deferred[None]:
        self._wanted = False
        return self._hang_up()

    def park(self, by: str) -> None:
        if self._parked is None:
            self._parked = Parked(self._now(), by)
            self._remember(self._settings.name, self._parked)
            self._hang_up()

    def release(self) -> None:
        if self._parked is None:
            return
        self._parked = None
        self._remember(self._settings.name, None)
        if isinstance(self.status, Off):
            if self._wanted:
                self._dial()
            else:
                self._change(Off())

    def _hang_up(self) -> Deferred[None]:
        if self._line is not None:
            gone: Deferred[None] = Deferred()
            self._gone.append(gone)
            if not isinstance(self.status, Closing):
                line = self._line
                self._change(Closing(self._now()))
                self._set_timer(HANG_UP, line.abort)
                line.close()
            return gone
        self._stop_timer()
        self._attempt = None
        dialing, self._dialing = self._dialing, None
        if dialing is not None:
            dialing.cancel()
        self._stay_off()
        return succeed(None)

    def renew(self, settings: ConsoleSettings, backend: Backend | None = None) -> None:
        """Go on by other settings; with a `backend`, hang up and dial anew by that."""
        self._settings = settings
        if backend is not None:
            was_wanted = self._wanted
            self.close()
            self._backend = backend
            self._failures = self._flaps = 0
            self._again = False
            if was_wanted:
                self.open()
        elif isinstance(self.status, Up):
            self._stop_timer()
            if settings.quiet_timeout:
                self._set_timer(settings.quiet_timeout, self._listen)
        elif isinstance(self.status, Waiting) and self.status.until - self._now() > settings.retry_max:
            self._dial()

    def dial_now(self) -> None:
        if isinstance(self.status, Waiting):
            self._dial()

    def write(self, data: bytes) -> None:
        if self._line is None or not isinstance(self.status, Up):
            raise LinkDown(self._settings.name)
        if not self._line.write(data):
            raise NodeNotReading(self._settings.name)

    def send_break(self) -> None:
        if self._line is None or not isinstance(self.status, Up):
            raise LinkDown(self._settings.name)
        if not self._line.send_break():
            raise NoBreak(self._settings.name)

    # ------------------------------------------------------------------------------------------- an attempt calls these

    def received(self, data: bytes) -> bool:
        self._heard_at = self._clock.seconds()
        return self._owner.received(data)

    def lost(self, why: str) -> None:
        self._attempt = self._line = None
        why, self._why = self._why or why, ""
        # What we have hung up on was good for as long as it was wanted.
        self._again = self._clock.seconds() - self._up_at < FORGIVEN_AFTER and not isinstance(self.status, Closing)
        self._flaps = self._flaps + 1 if self._again else 0
        if not self._again:
            self._failures = 0
        if not self._wanted or self._parked is not None:
            self._stop_timer()
            self._stay_off()
        elif isinstance(self.status, Closing):
            self._dial()  # wanted again meanwhile
        else:
            self._tally.losses[self._kind] += 1
            self._wait(_line_of(why) or "connection lost")
        gone, self._gone = self._gone, []
        for deferred in gone:
            deferred.callback(None)

    # ------------------------------------------------------------------------------------------- one life

    def _stay_off(self) -> None:
        self._down_since = None
        off = self._parked or Off()
        if self.status != off:
            self._change(off)

    def _dial(self) -> None:
        self._stop_timer()
        self._attempt = attempt = _Attempt(self)
        now = self._now()
        self._down_since = self._down_since or now
        self._change(Dialing(now))
        self._dialing = dialing = self._turns.run(self._backend.host, self._again, lambda: self._call(attempt))
        dialing.addCallbacks(self._connected, self._failed, callbackArgs=(attempt,), errbackArgs=(attempt,))
        dialing.addErrback(lambda bug: _log.failure("console {name}", bug, name=self._settings.name))

    def _call(self, attempt: _Attempt) -> Deferred[Line]:
        self._tally.attempts[self._kind] += 1
        # In a later turn of the reactor: a thousand dials that fail at once would be as many frames on the stack.
        dial: Deferred[Any] = deferLater(self._clock, 0, self._backend.dial, attempt)
        return dial.addTimeout(self._settings.connect_timeout, self._clock, _too_slow)

    def _connected(self, line: Line, attempt: _Attempt) -> None:
        if attempt is not self._attempt:
            line.abort()  # it did not heed that it was cancelled
            return
        self._dialing = None
        self._line = line
        self._down_since = None
        self._up_at = self._heard_at = self._clock.seconds()
        if self._settings.quiet_timeout:
            self._set_timer(self._settings.quiet_timeout, self._listen)
        self._change(Up(self._now()))

    def _failed(self, failure: Failure, attempt: _Attempt) -> None:
        if attempt is not self._attempt:
            return
        self._dialing = None
        self._again = True
        self._tally.failures[self._kind, _sort(failure)] += 1
        if not failure.check(ConnectError, OSError, Refused, SecretUnavailable):
            _log.debug("console {name}: {trace}", name=self._settings.name, trace=failure.getTraceback())
        if failure.check(HeldElsewhere):
            self._wait(_reason(failure), Held, patient=True)
        else:
            self._wait(_reason(failure), patient=bool(failure.check(Refused)))

    def _wait(self, why: str, state: type[Waiting] = Waiting, patient: bool = False) -> None:
        patience = self._settings
        delay = patience.retry_initial * 2.0 ** min(self._failures, 64)
        delay = patience.retry_max if patient else min(delay, patience.retry_max)
        self._failures += 1
        delay *= 1 - JITTER * self._random()
        self._set_timer(delay, self._dial)
        now = self._now()
        self._down_since = self._down_since or now
        self._change(state(now + delay, why, self._down_since))

    def _listen(self) -> None:
        """The time for silence may be over."""
        limit = self._settings.quiet_timeout
        silent = self._clock.seconds() - self._heard_at
        if silent < limit:
            self._set_timer(limit - silent, self._listen)
            return
        if self._reported != self._heard_at:
            self._reported = self._heard_at
            name = self._settings.name
            _log.warn("console {name}: connected, but silent for {seconds:.0f} s", name=name, seconds=silent)
        if self._settings.quiet_action == "reconnect" and self._line is not None:
            self._why = f"silent for {silent:.0f} s"
            self._line.abort()
        else:
            self._set_timer(limit, self._listen)

    # ------------------------------------------------------------------------------------------- saying how it is

    def _change(self, status: Status) -> None:
        before, self.status = self.status, status
        if self._steady is not None and self._steady.active():
            self._steady.cancel()
        name, address = self._settings.name, self.address
        match status:
            case Up() if self._flaps:
                self._steady = self._clock.callLater(FORGIVEN_AFTER, self._say_connected)
            case Up():
                self._say_connected()
            # A BMC that is away fails every minute, another accepts and hangs up: say so at 1, 2, 4, 8, ... times.
            case Waiting(why=why) if isinstance(before, Up):
                if _is_milestone(self._flaps):
                    times = f" ({self._flaps} connections in a row did not last)" if self._flaps > 1 else ""
                    self._chronicle.happened(name, "lost", f"lost {address}: {why}{times}")
            case Waiting(why=why) if _is_milestone(self._failures):
                line = f"cannot connect to {address}, attempt {self._failures}: {why}"
                self._chronicle.happened(name, "cannot be connected to", line)
        self._owner.changed(status)

    def _say_connected(self) -> None:
        self._chronicle.happened(self._settings.name, "connected", f"connected to {self.address}", bad=False)

    def _set_timer(self, delay: float, call: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self._clock.callLater(delay, call)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


class _Attempt:
    """The `LineOwner` of one dial and of its line: it passes on what they say while the link still holds to them."""

    __slots__ = ("_link",)

    def __init__(self, link: Link) -> None:
        self._link = link

    def received(self, data: bytes) -> bool:
        return self._link._attempt is self and self._link.received(data)

    def lost(self, why: str) -> None:
        if self._link._attempt is self:
            self._link.lost(why)


def _too_slow(result: Line | Failure, limit: float) -> Line | Failure:
    """Name the failure of a dial that was cancelled for its slowness, whatever the backend calls it."""
    if isinstance(result, Failure):
        return Failure(TimeoutError(f"no usable connection within {limit:g} s"))
    return result


def _sort(failure: Failure) -> str:
    """The sort of reason, for the metrics: one of a few words."""
    for word, kinds in _SORTS.items():
        if failure.check(*kinds):
            return word
    return "other"


def _is_milestone(count: int) -> bool:
    """Whether it is 0 or a power of two."""
    return count & (count - 1) == 0


def _reason(failure: Failure) -> str:
    """What went wrong, in a line for operators."""
    error = failure.value
    text = failure.getErrorMessage()
    if isinstance(error, OSError) and error.strerror:
        text = str(error.strerror)
    elif isinstance(error, ConnectError) and isinstance(error.osError, int):
        text = os.strerror(error.osError)  # Twisted's own text has the same twice
    return _line_of(text) or type(error).__name__


def _line_of(text: str) -> str:
    """One line of it, and nothing that a terminal would obey: some of it may come from the far side."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split()).rstrip(".")
