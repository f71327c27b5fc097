"""The keeper: asks the sources of one configuration when it is time, and remembers their good answers.

What a source said last that was any good stays in force while it fails, and over a restart.  An answer in which too
many consoles are missing is held back until an operator confirms it, so that an outage of the source does not hang up
the data centre: `belief` decides that.  `daemon` makes a keeper for each configuration, out of the one before, asks it
before the configuration is taken up, and starts it then; one that is never started leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from consoled.consoles import ConfigError, Making
from consoled.core.seams import Clock
from consoled.core.sources import SourceState
from consoled.inventory import Table
from consoled.sources.belief import Belief
from consoled.sources.csm import Csm
from consoled.sources.listing import Around, Posted, Printed, Site, Source, Unusable
from consoled.sources.memory import Memory
from consoled.sources.offers import Offer, offer
from consoled.sources.settings import AnySource, CommandSource, CsmSource, HttpSource

RETRY: Final = 10.0
"""Seconds after a failure until a source is asked again; doubled with each further one."""
RETRY_MOST: Final = 300.0

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


@dataclass(slots=True, eq=False)
class _Known:
    """One source, what is believed of it, and when it is asked."""

    source: Source
    memory: Memory
    belief: Belief
    is_kept: bool = True
    """Whether the last good answer is on disk."""
    unkept: str = ""
    """Why it is not."""
    is_asked: bool = False
    """Whether it was asked in this configuration."""
    is_flag_seen: bool = False
    """Whether the operator's flag has counted, and is to be taken away."""
    asking: Deferred[bool] | None = None
    timer: Any = None

    @property
    def settings(self) -> AnySource:
        return self.belief.settings

    def be_still(self) -> None:
        """It is not asked when its time comes."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()


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
            memory = Memory(directory, settings.name)
            belief = Belief(settings, str(memory.flag))
            try:
                known = _Known(make(settings, around), memory, belief)
            except (OSError, ValueError) as error:
                raise ValueError(f"source[{index}]: {error}") from None
            self._known[settings.name] = known
            was = before._known.get(settings.name) if before is not None else None
            if was is not None:
                belief.asked = was.belief.asked
            if before is not None and was is not None and was.belief.kind == belief.kind and was.belief.entries:
                known.is_kept, known.unkept = was.is_kept, was.unkept
                try:
                    as_before = was.settings == settings and before._making == making
                    belief.follow(was.belief, making, as_before, self._clock.seconds())
                except ConfigError as error:
                    raise ValueError(f"source[{index}].{error}") from None
            else:
                self._recall(known)

    def _recall(self, known: _Known) -> None:
        try:
            answer = known.memory.read(known.belief.kind)
            made = offer(self._making, known.settings, answer.entries) if answer else None
        except (OSError, ValueError, ConfigError) as error:
            name = known.settings.name
            _log.error("source {name}: its last good answer cannot be read: {why}", name=name, why=error)
            return
        if answer is not None and made is not None:
            known.belief.recall(answer.entries, made, answer.at)

    # ------------------------------------------------------------------------------------------- what is known

    @property
    def offers(self) -> dict[str, Offer]:
        """What each source offers, by its name."""
        return {name: known.belief.offer for name, known in self._known.items()}

    @property
    def states(self) -> list[SourceState]:
        """How each of them is."""
        return [known.belief.state for known in self._known.values()]

    @property
    def trouble(self) -> str | None:
        """What is wrong with the sources, for people; None if nothing is."""
        said = []
        for name, known in self._known.items():
            state = known.belief.state
            left_out = f"{state.left_out} of its entries are left out" if state.left_out else ""
            said += [f"source {name}: {part}" for part in (state.why, known.unkept, left_out) if part]
        return "; ".join(said) or None

    def confirm(self, name: str) -> None:
        """Believe what is held back of the source `name`.  Raises `ValueError` if nothing is."""
        known = self._known.get(name)
        if known is None:
            raise ValueError(f"there is no source {name!r}")
        known.belief.confirm(self._now())
        known.is_kept = False

    # ------------------------------------------------------------------------------------------- its life

    def start(self, changed: Callable[[], None]) -> None:
        """Ask each source when its time has come, and those that were not asked yet now.

        `changed` is called when there are other offers than before.
        """
        self._changed = changed
        for known in self._known.values():
            if known.is_flag_seen:
                known.memory.take_flag()
            if not known.is_asked:
                self._ask_now(known)
                continue
            self._ask_later(known)
            if not known.is_kept:
                Deferred.fromCoroutine(self._keep(known))

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
        if failures := known.belief.failures:
            waits.append(min(RETRY * 2 ** min(failures - 1, 10), RETRY_MOST))
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
            known.belief.fail("it cannot be asked; see the log", "defect")
        return False

    def _asked(self, is_other: bool, known: _Known) -> bool:
        known.asking, known.is_asked = None, True
        self._ask_later(known)
        return is_other

    # ------------------------------------------------------------------------------------------- one answer

    async def _ask(self, known: _Known) -> bool:
        belief, limit = known.belief, known.settings.limit
        before = belief.offer.consoles
        if self._is_flagged(known):
            try:
                self.confirm(known.settings.name)
            except ValueError as error:
                _log.warn("{flag}: {why}", flag=str(known.memory.flag), why=error)
        belief.asked.times += 1
        try:
            entries = await Deferred.fromCoroutine(known.source.ask()).addTimeout(limit, self._clock)
            await self._answered(known, entries)
        except Unusable as error:
            belief.fail(str(error), error.sort, error.more)
        except TimeoutError:
            belief.fail(f"there was no answer within {limit:g} s", "timeout")
        if not known.is_kept and self._changed is not None:
            await self._keep(known)
        return belief.offer.consoles != before

    def _is_flagged(self, known: _Known) -> bool:
        """Whether the operator has made the flag; it counts once, and is gone when we are in force."""
        if known.is_flag_seen or not known.memory.is_flagged:
            return False
        if self._changed is None:
            known.is_flag_seen = True
            return True
        return known.memory.take_flag()

    async def _answered(self, known: _Known, entries: Sequence[Table]) -> None:
        """Believe it, or hold it back.  Raises `Unusable`."""
        belief = known.belief
        if not entries:
            raise Unusable("the answer is empty")
        if belief.knows(entries, self._now()):
            return
        try:
            made: Offer = await self._in_thread(offer, self._making, known.settings, entries)
        except ConfigError as error:
            raise Unusable(str(error)) from None
        if not made.consoles:
            raise Unusable(f"none of its {len(entries)} entries makes a console", more=f" ({made.complaints[0]})")
        if belief.judge(entries, made, self._clock.seconds(), self._now()):
            known.is_kept = False
        else:
            self._is_flagged(known)  # made before there was something to confirm

    async def _keep(self, known: _Known) -> None:
        belief = known.belief
        assert belief.entries is not None
        try:
            await self._in_thread(known.memory.write, belief.kind, self._now(), belief.entries)
            known.is_kept, known.unkept = True, ""
        except OSError as error:
            known.unkept = f"its answer cannot be kept for a restart: {error}"
            _log.error("source {name}: {why}", name=known.settings.name, why=known.unkept)
