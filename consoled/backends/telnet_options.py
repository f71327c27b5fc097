"""The Q method: one telnet option on one side of a connection, negotiated without loops (RFC 1143, section 7).

Two tables, called by `telnet_codec`: what to do when the peer says something about an option, and when we want
something.  They are the same for the peer's side (it says WILL and WONT, we DO and DONT) and for ours (it says DO
and DONT, we WILL and WONT): "on" stands for the first of each pair, "off" for the second.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """RFC 1143's state and queue bit in one: `..._OPPOSITE` is a question under way whose answer we will reverse."""

    NO = "no"
    YES = "yes"
    WANT_NO = "want no"
    WANT_NO_OPPOSITE = "want no, then yes"
    WANT_YES = "want yes"
    WANT_YES_OPPOSITE = "want yes, then no"


NO, YES = State.NO, State.YES
WANT_NO, WANT_NO_OPPOSITE = State.WANT_NO, State.WANT_NO_OPPOSITE
WANT_YES, WANT_YES_OPPOSITE = State.WANT_YES, State.WANT_YES_OPPOSITE

Step = tuple[State, bool | None]
"""The next state, and what to say: on, off or nothing."""

_HEARD: dict[tuple[State, bool], Step] = {
    (NO, False): (NO, None),
    (YES, True): (YES, None),
    (YES, False): (NO, False),
    (WANT_NO, True): (NO, None),  # the peer's error: an "off" answered with "on"
    (WANT_NO, False): (NO, None),
    (WANT_NO_OPPOSITE, True): (YES, None),  # the same error, to our liking
    (WANT_NO_OPPOSITE, False): (WANT_YES, True),
    (WANT_YES, True): (YES, None),
    (WANT_YES, False): (NO, None),
    (WANT_YES_OPPOSITE, True): (WANT_NO, False),
    (WANT_YES_OPPOSITE, False): (NO, None),
}
_WANTED: dict[tuple[State, bool], Step] = {
    (NO, True): (WANT_YES, True),
    (YES, False): (WANT_NO, False),
    (WANT_NO, True): (WANT_NO_OPPOSITE, None),
    (WANT_NO_OPPOSITE, False): (WANT_NO, None),
    (WANT_YES, False): (WANT_YES_OPPOSITE, None),
    (WANT_YES_OPPOSITE, True): (WANT_YES, None),
}


def heard(state: State, on: bool, agreeable: bool) -> Step:
    """The peer said on or off; `agreeable` is whether it may be on when the peer begins."""
    if state is NO and on:
        return (YES, True) if agreeable else (NO, False)
    return _HEARD[state, on]


def wanted(state: State, on: bool) -> Step:
    """We want it on or off."""
    return _WANTED.get((state, on), (state, None))
