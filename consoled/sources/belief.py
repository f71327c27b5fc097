"""What is believed of one source: its last good answer, what went away lately, and an answer that is held back.

`keeper` asks the source and tells the belief what came of it; nothing in here waits, or touches a disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from twisted.logger import Logger

from consoled.consoles import Making
from consoled.core.sources import Asked, HeldBack, SourceState
from consoled.inventory import Table
from consoled.sources.offers import Offer, offer
from consoled.sources.settings import AnySource

SUDDEN: Final = 3600.0
"""Seconds within which what goes away counts together, so that an outage in small steps is one, too."""
SAID: Final = 20
"""Entries that are left out which the log names one by one."""

_NOTHING: Final = Offer({})
_log = Logger()


@dataclass(frozen=True, slots=True)
class _Held:
    """A later answer than the last good one, which waits to be confirmed."""

    entries: Sequence[Table] = field(repr=False)
    offer: Offer
    shown: HeldBack


class Belief:
    """What is believed of one source."""

    def __init__(self, settings: AnySource, flag: str) -> None:
        """`flag` is the file that an operator makes to confirm what is held back."""
        self.settings = settings
        self.asked = Asked()
        self.entries: Sequence[Table] | None = None
        """The last good answer; None: there was none."""
        self.offer = _NOTHING
        """What that comes to."""
        self.failures = 0
        """In a row."""
        self._flag = flag
        self._held: _Held | None = None
        self._gone: Mapping[str, float] = {}
        """Consoles that are not in the last good answer, and when they went, by the clock that does not go back."""
        self._why = ""

    @property
    def kind(self) -> str:
        return str(self.settings.__struct_config__.tag)

    @property
    def state(self) -> SourceState:
        return SourceState(
            name=self.settings.name,
            kind=self.kind,
            consoles=len(self.offer.consoles),
            left_out=self.offer.left_out,
            complaints=self.offer.complaints[:SAID],
            why=self._why,
            failures=self.failures,
            held=self._held.shown if self._held is not None else None,
            asked=self.asked,
        )

    # ------------------------------------------------------------------------------------------- from before

    def follow(self, before: Belief, making: Making, as_before: bool, now: float) -> None:
        """Go on from `before`, that of the last configuration; `as_before`: what was made then is made so now.

        `now` is by the clock that does not go back.  Raises `ValueError` if too few consoles could be made of it now.
        """
        self.entries, self.offer, self._held = before.entries, before.offer, before._held
        self._gone, self._why, self.failures = before._gone, before._why, before.failures
        if as_before or before.entries is None:
            return
        self.offer = offer(making, self.settings, before.entries)
        if lost := self._lost_too_many(before.offer, self.offer, self._lately(now)):
            said = next(iter(self.offer.complaints), "")
            why = f" ({said})" if said else ""
            raise ValueError(
                f"source {self.settings.name}: {_few(lost)} would be gone{why}; its max_shrink = 1 allows that"
            )
        if before._held is not None:
            held = before._held.entries
            self._held = _Held(held, offer(making, self.settings, held), before._held.shown)

    def recall(self, entries: Sequence[Table], offer: Offer, at: float) -> None:
        """Begin with what was good `at` that time, before a restart."""
        self.entries, self.offer, self.asked.good_at = entries, offer, at
        self._tell_complaints(_NOTHING)

    # ------------------------------------------------------------------------------------------- answers

    def knows(self, entries: Sequence[Table], at: float) -> bool:
        """Whether this answer, given `at` that time, is the same as before, and nothing is to be decided."""
        if entries == self.entries:
            self._held, self.failures, self.asked.good_at = None, 0, at
            self._say("")
            return True
        if self._held is not None and entries == self._held.entries:
            self.failures = 0
            self._say_held(self._held.shown)
            return True
        return False

    def judge(self, entries: Sequence[Table], offer: Offer, now: float, at: float) -> bool:
        """Whether to believe another answer; if not, it is held back.

        `now` is by the clock that does not go back, `at` by that on the wall.
        """
        lately = self._lately(now)
        self.failures = 0
        if self.entries is not None and (lost := self._lost_too_many(self.offer, offer, lately)):
            since = at if self._held is None else self._held.shown.since
            shown = HeldBack(since, tuple(sorted(lost)), len(lost | self.offer.consoles.keys()))
            self._held = _Held(entries, offer, shown)
            self._say_held(shown)
            return False
        gone = {name: lately.get(name, now) for name in (self.offer.consoles.keys() | lately) - offer.consoles.keys()}
        self._believe(entries, offer, gone, at)
        return True

    def fail(self, why: str, sort: str, more: str = "") -> None:
        """It has failed; `why` is for people, and `more` for the log alone."""
        self.failures += 1
        self.asked.failures[sort] += 1
        self._say(f"{why}; {self._standing}", more)

    def confirm(self, at: float) -> None:
        """Believe what is held back.  Raises `ValueError` if nothing is."""
        if self._held is None:
            raise ValueError(f"nothing is held back of source {self.settings.name}")
        _log.info("source {name}: what was held back is confirmed", name=self.settings.name)
        self._believe(self._held.entries, self._held.offer, {}, at)

    # ------------------------------------------------------------------------------------------- our own

    def _lately(self, now: float) -> dict[str, float]:
        """What is still counted of what has gone."""
        return {name: when for name, when in self._gone.items() if now - when < SUDDEN}

    def _lost_too_many(self, old: Offer, new: Offer, lately: Mapping[str, float]) -> set[str]:
        """The consoles that have gone away `lately`, together with those that would now, if that are too many."""
        all_lately = old.consoles.keys() | lately
        lost = all_lately - new.consoles.keys()
        return lost if len(lost) > self.settings.max_shrink * len(all_lately) else set()

    def _believe(self, entries: Sequence[Table], offer: Offer, gone: Mapping[str, float], at: float) -> None:
        before, self.entries, self.offer, self._gone = self.offer, entries, offer, gone
        self._held, self.asked.good_at = None, at
        self._say("")
        self._tell_complaints(before)

    @property
    def _standing(self) -> str:
        if self.entries is None:
            return "there is no answer of before"
        return f"its last good answer stays in force, with {len(self.offer.consoles)} consoles"

    def _say_held(self, shown: HeldBack) -> None:
        how = f"`touch {self._flag}` and reload, or POST /v1/reload?confirm={self.settings.name}"
        self._say(
            f"{len(shown.lost)} of {shown.of} consoles are missing from its answer: it is held back",
            f" ({_some(shown.lost)}).  If they are really gone, {how}",
        )

    def _say(self, why: str, more: str = "") -> None:
        """`why` its last answer is not believed; empty if it is.  Logged when it changes, with `more`.

        What many may read (`health`) has no names of consoles: they may be of several tenants.
        """
        name, self._why, before = self.settings.name, why, self._why
        if why and why != before:
            _log.warn("source {name}: {why}{more}", name=name, why=why, more=more)
        elif before and not why:
            _log.info("source {name} has a good answer again: {n} consoles", name=name, n=len(self.offer.consoles))

    def _tell_complaints(self, before: Offer) -> None:
        name, known = self.settings.name, set(before.complaints)
        new = [one for one in self.offer.complaints if one not in known][:SAID]
        for complaint in new:
            _log.error("source {name}: left out: {complaint}", name=name, complaint=complaint)
        if new and (more := self.offer.left_out - len(new)) > 0:
            _log.error("source {name}: left out: {count} more", name=name, count=more)


def _few(names: set[str]) -> str:
    return f"{len(names)} consoles ({_some(sorted(names))})"


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
