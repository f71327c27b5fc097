"""Reloads, one after the other, for everybody who asks.

SIGHUP, `POST /v1/reload` and the sources of consoles ask.  What a reload does, and whether it can, is `daemon`'s, which
makes one `Reloads`; here is who waits for which, and what systemd, the log and the audit are told of it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from consoled.core.access import Audit, User
from consoled.core.changes import Changes
from consoled.core.faults import NotOpen, NotReloaded
from consoled.systemd import Notifier


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants of a reload."""

    by: User | None = None
    """None: the operator, by a signal, or a source."""
    confirm: tuple[str, ...] = ()
    """The sources of which what is held back is to be believed."""
    anew: bool = True
    """Whether the file is to be read and the sources asked, and not just what one has said of itself to count."""
    answer: Deferred[Changes] = field(default_factory=Deferred)


TakeUp = Callable[[Wish], Coroutine[Any, Any, Changes]]
"""Does it.  Raises `NotReloaded` when nothing was changed."""

_log = Logger()


class Reloads:
    """Those who ask while one is under way, or before the start is over, and want the same, share the next."""

    def __init__(self, take_up: TakeUp, audit: Audit) -> None:
        self._take_up = take_up
        self._audit = audit
        self._notifier: Notifier | None = None
        """Who is told; None before the start is over."""
        self._is_stopping = False
        self._waiting: list[Wish] = []
        self._under_way: Deferred[None] | None = None

    def begin(self, notifier: Notifier) -> None:
        """The start is over."""
        self._notifier = notifier
        self._next()

    def stop(self) -> None:
        """Refuse whoever waits, and give up what is under way."""
        self._is_stopping = True
        waiting, self._waiting = self._waiting, []
        for wish in waiting:
            wish.answer.errback(NotOpen())
        if self._under_way is not None:
            self._under_way.cancel()

    def ask(self, by: User | None = None, confirm: tuple[str, ...] = ()) -> Deferred[Changes]:
        """Read everything again, and take up what is different; see `core.changes.Reload`."""
        return self._wait(Wish(by, confirm))

    def hang_up(self) -> None:
        """SIGHUP.  What comes of it is in the log."""
        self.ask().addErrback(lambda _: None)

    def sources_changed(self) -> None:
        """A source says other than before.  What comes of it is in the log."""
        self._wait(Wish(anew=False)).addErrback(lambda _: None)

    # ------------------------------------------------------------------------------------------- our own

    def _wait(self, wish: Wish) -> Deferred[Changes]:
        if self._is_stopping:
            return fail(NotOpen())
        self._waiting.append(wish)
        self._next()
        return wish.answer

    def _next(self) -> None:
        if self._waiting and self._under_way is None and self._notifier is not None:
            self._under_way = Deferred.fromCoroutine(self._run(self._notifier))
            self._under_way.addBoth(self._over)

    def _over(self, _: object) -> None:
        self._under_way = None
        self._next()

    async def _run(self, notifier: Notifier) -> None:
        confirm = self._waiting[0].confirm  # one that is refused is not to cost the others their reload
        served = [wish for wish in self._waiting if wish.confirm == confirm]
        self._waiting = [wish for wish in self._waiting if wish.confirm != confirm]
        by = next((wish.by for wish in served if wish.by), None)
        confirmed = ",".join(confirm)
        notifier.reloading()
        try:
            changes = await self._take_up(Wish(by, confirm, any(wish.anew for wish in served)))
        except Exception as error:
            refusal: Exception = NotOpen() if self._is_stopping else error
            if isinstance(error, NotReloaded):
                _log.error("not reloaded, and nothing has changed: {why}", why=error)
                self._audit.noted("reload", by, failed=str(error), confirm=confirmed)
            elif error is refusal:
                _log.failure("a reload was not completed")
            for wish in served:
                wish.answer.errback(refusal)
        else:
            (_log.warn if changes.restart or changes.held_back else _log.info)("reloaded: {changes}", changes=changes)
            added, changed, removed = len(changes.added), len(changes.changed), len(changes.removed)
            self._audit.noted("reload", by, added=added, changed=changed, removed=removed, confirm=confirmed)
            for wish in served:
                wish.answer.callback(changes)
        if not self._is_stopping:
            notifier.ready()
