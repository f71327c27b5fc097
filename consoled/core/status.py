"""How a link is: the states of `docs/life.md`, as values.

A link makes them, `Console.changed` receives them, and every face shows them.  Times are seconds since the
epoch (the wall clock, for people); the timers behind them run on the reactor's clock.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Off:
    """Nobody asked for a connection: switched off, closed, or on demand without a client."""


@dataclass(frozen=True, slots=True)
class Parked(Off):
    """Off, because an operator, `by`, wants it so until further notice."""

    since: float
    by: str


@dataclass(frozen=True, slots=True)
class Dialing:
    """A connection is being made and negotiated, or stands in the queue for its turn."""

    since: float


@dataclass(frozen=True, slots=True)
class Up:
    """Connected and negotiated: bytes flow."""

    since: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """The last attempt failed or the connection was lost; the next attempt comes at `until`."""

    until: float
    why: str
    since: float | None = None
    """When the connection was lost or, if there was none, first tried; the attempts since then do not count."""


@dataclass(frozen=True, slots=True)
class Held(Waiting):
    """Waiting, because somebody else has the console: another session of the BMC, another program on the port."""


@dataclass(frozen=True, slots=True)
class Closing:
    """Asked to hang up, and the transport has not gone yet."""

    since: float


Status = Off | Dialing | Up | Waiting | Closing


def word(status: Status) -> str:
    """The state's name as every API shows it: `off`, `parked`, `dialing`, `up`, `waiting`, `held`, `closing`."""
    return type(status).__name__.lower()
