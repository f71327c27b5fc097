"""The keeper: asks the sources, and decides which answer is believed.

What a source said last that was any good stays in force while it fails, and over a restart.  An answer in which too
many consoles are missing is held back until an operator confirms it, so that an outage of the source does not hang up
the data centre.  `daemon` makes a keeper for each configuration, out of the one before, asks it before the
configuration is taken up, and starts it then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from consoled.consoles import Making, Offer
from consoled.core.seams import Clock
from consoled.inventory import Table
from consoled.sources.csm import Csm
from consoled.sources.listing import Around, Posted, Printed, Site, Source, Unusable
from consoled.sources.memory import Memory
from consoled.sources.settings import AnySource, CommandSource, CsmSource, HttpSource

SUDDEN: Final = 3600.0
"""Seconds within which what goes away counts together, so that an outage in small steps is one, too."""
RETRY: Final = 10.0
"""Seconds after a failure until a source is asked again; doubled with each further one."""
RETRY_MOST: Final = 300.0
SAID: Final = 20
"""Entries that are left out which the log names one by one."""

_NOTHING: Final = Offer({})
_log = Logger()


def make(settings: AnySource, around: Around) -> Source:
    """Raises `OSError` or `ValueError` if it cannot be asked so."""
    match settings:
        case CommandSource():
            return Printed(settings, around)
        case HttpSource():
            return Posted(settings, Site(settings, around), around)
        case CsmSource():
            return Csm(settings, Site(settings, around), around)


@dataclass(frozen=True, slots=True)
class _Held:
    """A later answer than the last good one, which waits to be confirmed."""

    entries: Sequence[Table] = field(repr=False)
    offer: Offer
    why: str


@dataclass(slots=True, eq=False)
class _Known:
    """One source, and what is known of it."""

    settings: AnySource
    source: Source
    memory: Memory
    entries: Sequence[Table] | None = field(default=None, repr=False)
    """The last good answer; None: there was none."""
    offer: Offer = _NOTHING
    """What that comes to."""
    held: _Held | None = None
    gone: Mapping[str, float] = field(default_factory=dict)
    """Consoles that are not in the last good answer, and when they went."""
    failures: int = 0
    """In a row."""
    why: str = ""
    """What is wrong with its last answer; empty if nothing is."""
    is_kept: bool = True
    """Whether the last good answer is on disk."""
    unkept: str = ""
    """Why it is not."""
    is_asked: bool = False
    """Whether it was asked in this configuration."""
    asking: Deferred[bool] | None = None
    timer: Any = None

    @property
    def kind(self) -> str:
        return str(self.settings.__struct_config__.tag)

    def be_still(self) -> None:
        """It is not asked when its time comes."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()

    def say(self, why: str) -> None:
        """`why` its last answer is not believed; empty if it is.  Logged when it changes."""
        name, self.why, before = self.settings.name, why, self.why
        if why and why != before:
            _log.warn("source {name}: {why}", name=name, why=why)
        elif before and not why:
            _log.info("source {name} has a good answer again: {n} consoles", name=name, n=len(self.offer.consoles))


class Keeper:
    """The sources of one configuration."""

    def __init__(
        self,
        sources: Iterable[AnySource],
        making: Making,
        directory: Path,
        around: Around,
        now: Callable[[], float],
        before: Keeper | None = None,
        make: Callable[[AnySource, Around], Source] = make,
    ) -> None:
        """`directory` is for the last good answers, `now` the wall clock; `before` is for the configuration before.

        May take seconds: call it in a thread.  Raises `ValueError` if a source cannot be asked as its settings say, or
        if, by this configuration, too few consoles could be made of what `before` has.
        """
        self._making = making
        self._clock: Clock = around.reactor
        self._in_thread = around.in_thread
        self._now = now
        self._changed: Callable[[], None] | None = None
        self._known: dict[str, _Known] = {}
        for index, settings in enumerate(sources):
            try:
                known = _Known(settings, make(settings, around), Memory(directory, settings.name))
            except (OSError, ValueError) as error:
                raise ValueError(f"source[{index}]: {error}") from None
            self._known[settings.name] = known
            was = before._known.get(settings.name) if before is not None else None
            if before is not None and was is not None and was.kind == known.kind and was.entries is not None:
                self._take_over(known, was, was.settings == settings and before._making == making)
            else:
                self._recall(known)

    def _take_over(self, known: _Known, was: _Known, as_before: bool) -> None:
        known.entries, known.gone, known.held, known.failures = was.entries, was.gone, was.held, was.failures
        known.why, known.is_kept, known.unkept = was.why, was.is_kept, was.unkept
        known.offer = was.offer
        if as_before:
            return
        assert was.entries is not None
        known.offer = self._making.offer(known.settings, was.entries)
        if lost := self._lost_too_many(known, was.offer, known.offer):
            name, said = known.settings.name, next(iter(known.offer.complaints), "")
            why = f" ({said})" if said else ""
            raise ValueError(f"source {name}: {_few(lost)} would be gone{why}; its max_shrink = 1 allows that")
        if was.held is not None:
            offer = self._making.offer(known.settings, was.held.entries)
            known.held = _Held(was.held.entries, offer, was.held.why)

    def _recall(self, known: _Known) -> None:
        name = known.settings.name
        try:
            answer = known.memory.read(known.kind)
        except (OSError, ValueError) as error:
            _log.error("source {name}: its last good answer cannot be read: {why}", name=name, why=error)
            return
        if answer is not None:
            known.entries, known.offer = answer.entries, self._making.offer(known.settings, answer.entries)
            self._tell_complaints(known, _NOTHING)

    # ------------------------------------------------------------------------------------------- what is known

    @property
    def offers(self) -> dict[str, Offer]:
        """What each source offers, by its name."""
        return {name: known.offer for name, known in self._known.items()}

    @property
    def trouble(self) -> str | None:
        """What is wrong with the sources, for people; None if nothing is."""
        said = []
        for name, known in self._known.items():
            left_out = len(known.offer.complaints)
            parts = (known.why, known.unkept, f"{left_out} of its entries are left out" if left_out else "")
            said += [f"source {name}: {part}" for part in parts if part]
        return "; ".join(said) or None

    def confirm(self, name: str) -> None:
        """Believe what is held back of the source `name`.  Raises `ValueError` if nothing is."""
        known = self._known.get(name)
        if known is None:
            raise ValueError(f"there is no source {name!r}")
        if known.held is None:
            raise ValueError(f"nothing is held back of source {name}")
        _log.info("source {name}: what was held back is confirmed", name=name)
        self._believe(known, known.held.entries, known.held.offer, gone={})

    # ------------------------------------------------------------------------------------------- its life

    def start(self, changed: Callable[[], None]) -> None:
        """Ask each source when its time has come, and those that were not asked yet now.

        `changed` is called when there are other offers than before.
        """
        self._changed = changed
        for known in self._known.values():
            if known.is_asked:
                self._ask_later(known)
            else:
                self._ask_now(known)

    def stop(self) -> None:
        """Ask no more."""
        self._changed = None
        for known in self._known.values():
            known.be_still()
            if known.asking is not None:
                known.asking.cancel()

    async def ask(self) -> None:
        """Ask all, each for no longer than its limit.  Does not fail."""
        await gatherResults([self._begin(known) for known in self._known.values()])

    def _ask_now(self, known: _Known) -> None:
        def tell(is_other: bool) -> None:
            if is_other and self._changed is not None:
                self._changed()

        self._begin(known).addCallback(tell)

    def _ask_later(self, known: _Known) -> None:
        waits = [known.settings.interval] if known.settings.interval else []
        if known.failures:
            waits.append(min(RETRY * 2 ** min(known.failures - 1, 10), RETRY_MOST))
        if waits and self._changed is not None:
            known.timer = self._clock.callLater(min(waits), self._ask_now, known)

    def _begin(self, known: _Known) -> Deferred[bool]:
        """Ask it.  Fires with whether there is another offer then."""
        known.be_still()
        known.asking = Deferred.fromCoroutine(self._ask(known))
        known.asking.addErrback(self._interrupted, known)
        return known.asking.addCallback(self._asked, known)

    @staticmethod
    def _interrupted(failure: Failure, known: _Known) -> bool:
        if not failure.check(CancelledError):
            _log.failure("source {name} cannot be asked", failure, name=known.settings.name)
            known.why = "it cannot be asked; see the log"
            known.failures += 1
        return False

    def _asked(self, is_other: bool, known: _Known) -> bool:
        known.asking, known.is_asked = None, True
        self._ask_later(known)
        return is_other

    # ------------------------------------------------------------------------------------------- one answer

    async def _ask(self, known: _Known) -> bool:
        before, limit = known.offer.consoles, known.settings.limit
        self._look_for_flag(known)
        try:
            entries = await Deferred.fromCoroutine(known.source.ask()).addTimeout(limit, self._clock)
            await self._answered(known, entries)
            known.failures = 0
        except (Unusable, TimeoutError) as error:
            known.failures += 1
            why = str(error) if isinstance(error, Unusable) else f"there was no answer within {limit:g} s"
            known.say(f"{why}; {_standing(known)}")
        if not known.is_kept:
            await self._keep(known)
        return known.offer.consoles != before

    def _look_for_flag(self, known: _Known) -> None:
        if known.memory.take_flag():
            try:
                self.confirm(known.settings.name)
            except ValueError as error:
                _log.warn("{flag}: {why}", flag=str(known.memory.flag), why=error)

    async def _answered(self, known: _Known, entries: Sequence[Table]) -> None:
        """Believe it, or hold it back.  Raises `Unusable`."""
        if not entries:
            raise Unusable("the answer is empty")
        if entries == known.entries:
            known.held = None
            known.say("")
            return
        if known.held is not None and entries == known.held.entries:
            known.say(known.held.why)
            return
        offer = await self._in_thread(self._making.offer, known.settings, entries)
        if not offer.consoles:
            raise Unusable(f"none of its {len(entries)} entries makes a console: {offer.complaints[0]}")
        if known.entries is not None and (lost := self._lost_too_many(known, known.offer, offer)):
            self._hold_back(known, entries, offer, lost)
            return
        now = self._clock.seconds()
        gone = {name: known.gone.get(name, now) for name in self._lost(known, known.offer, offer)}
        self._believe(known, entries, offer, gone)

    def _lost(self, known: _Known, old: Offer, new: Offer) -> set[str]:
        """The consoles that have gone away lately, together with those that would now."""
        now = self._clock.seconds()
        lately = {name for name, when in known.gone.items() if now - when < SUDDEN}
        return (old.consoles.keys() | lately) - new.consoles.keys()

    def _lost_too_many(self, known: _Known, old: Offer, new: Offer) -> set[str]:
        lost = self._lost(known, old, new)
        all_lately = len(lost | old.consoles.keys())
        return lost if len(lost) > known.settings.max_shrink * all_lately else set()

    def _hold_back(self, known: _Known, entries: Sequence[Table], offer: Offer, lost: set[str]) -> None:
        known.memory.take_flag()  # made before there was something to confirm
        all_lately = len(lost | known.offer.consoles.keys())
        why = (
            f"{_few(lost)} of {all_lately} are missing from its answer: it is held back.  If they are really gone, "
            f"`touch {known.memory.flag}` and reload"
        )
        known.held = _Held(entries, offer, why)
        known.say(why)

    def _believe(self, known: _Known, entries: Sequence[Table], offer: Offer, gone: Mapping[str, float]) -> None:
        before, known.entries, known.offer, known.gone = known.offer, entries, offer, gone
        known.held, known.is_kept = None, False
        known.say("")
        self._tell_complaints(known, before)

    @staticmethod
    def _tell_complaints(known: _Known, before: Offer) -> None:
        name, new = known.settings.name, [one for one in known.offer.complaints if one not in before.complaints]
        for complaint in new[:SAID]:
            _log.error("source {name}: left out: {complaint}", name=name, complaint=complaint)
        if len(new) > SAID:
            _log.error("source {name}: left out: {count} more", name=name, count=len(new) - SAID)

    async def _keep(self, known: _Known) -> None:
        try:
            await self._in_thread(known.memory.write, known.kind, self._now(), known.entries)
            known.is_kept, known.unkept = True, ""
        except OSError as error:
            known.unkept = f"its answer cannot be kept for a restart: {error}"
            _log.error("source {name}: {why}", name=known.settings.name, why=known.unkept)


def _standing(known: _Known) -> str:
    if known.entries is None:
        return "there is no answer of before"
    return f"its last good answer stays in force, with {len(known.offer.consoles)} consoles"


def _few(names: set[str]) -> str:
    some = ", ".join(sorted(names)[:3])
    return f"{len(names)} consoles ({some}{', ...' if len(names) > 3 else ''})"
