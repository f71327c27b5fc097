"""Who may type at a console: shared by default, held by one on request.

Interactive clients join at the shared keyboard.  One of them may take it for itself: the others become watchers
and are told by whom.  When it is released they are told that too, and may join again; nobody is ever promoted
without having asked.

Who comes and goes is told to all others, which for a crowd would be a line from each to each: a thousand at once would
make a million.  So the first few in a second are told one by one, and the rest together when it is over.

One for each console; the session's escapes call `take`, `join` and `watch`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from time import gmtime, strftime

from consoled.core.attachment import Attachment
from consoled.core.faults import KeyboardHeld, ReadOnly
from consoled.core.seams import Clock

FEW = 10
"""Comings and goings in one second that are told one by one, and clients that a newcomer is told of so."""
NAMED = 3
"""Clients of a crowd that are named."""
SECOND = 1.0


class Keyboard:
    """The right to type at one console."""

    def __init__(self, name: str, attachments: dict[Attachment, None], clock: Clock, now: Callable[[], float]) -> None:
        """`now` tells the time of day, in epoch seconds."""
        self.holder: Attachment | None = None
        """Who holds it alone, or None while it is shared."""
        self._name = name
        self._attachments = attachments
        self._clock = clock
        self._now = now
        self._since = -inf
        """When the second began, and how much of it was told."""
        self._told = 0
        self._crowd: dict[Attachment, str] | None = None
        """Who came ("joined") or went ("departed") since then and is told of at its end; None: nobody."""

    def arrived(self, newcomer: Attachment) -> None:
        """An interactive client has attached: it types unless somebody holds the keyboard."""
        others = [one for one in self._interactive() if one is not newcomer]
        newcomer.typing = self.holder is None
        self._announce("joined", newcomer)
        for some in [[other] for other in others] if len(others) <= FEW else [others]:
            newcomer.outlet.notice(f"Console [{self._name}] joined with {_names(some)}")
        if self.holder is not None:
            newcomer.outlet.notice(f"Console [{self._name}] is held by <{self.holder.client}>; you may only watch")

    def departed(self, leaver: Attachment) -> None:
        """An interactive client is gone."""
        leaver.typing = False
        self._announce("departed", leaver)
        self._release(leaver)

    def take(self, taker: Attachment) -> None:
        """Hold the keyboard alone, whoever had it.  Raises `ReadOnly` for a client that did not come to type."""
        self._demand_interactive(taker)
        if self.holder is taker:
            return
        losers = [one for one in self._interactive() if one is not taker and one.typing]
        self.holder = taker
        taker.typing = True
        for loser in losers:
            loser.typing = False
            taker.outlet.notice(f"Console [{self._name}] stolen from <{loser.client}>")
            loser.record("lost", taker=str(taker.client))
        self._tell(f"Console [{self._name}] stolen by <{taker.client}> at {self._stamp()}; you may only watch", taker)
        taker.record("took", losers=", ".join(str(loser.client) for loser in losers))
        if not losers:
            taker.outlet.notice(f"Console [{self._name}] is yours alone")

    def join(self, joiner: Attachment) -> None:
        """Type together with the others; from the holder, let the others join again.

        Raises `KeyboardHeld` while somebody else holds it, `ReadOnly` for a client that did not come to type.
        """
        self._demand_interactive(joiner)
        if self.holder is not None and self.holder is not joiner:
            raise KeyboardHeld(str(self.holder.client))
        was_typing = joiner.typing
        joiner.typing = True
        self._release(joiner)
        if not was_typing:
            self._announce("joined", joiner)

    def watch(self, watcher: Attachment) -> None:
        """Only watch from now on."""
        watcher.typing = False
        self._release(watcher)

    def _release(self, holder: Attachment) -> None:
        if self.holder is holder:
            self.holder = None
            holder.record("released")
            self._tell(f"Console [{self._name}] released by <{holder.client}> at {self._stamp()}", holder)

    def _announce(self, how: str, who: Attachment) -> None:
        """Tell the others that `who` has "joined" or "departed"; in a crowd, later."""
        if self._crowd is None:
            now = self._clock.seconds()
            if not 0 <= now - self._since < SECOND:
                self._since, self._told = now, 0
            if self._told < FEW:
                self._told += 1
                self._tell_of(how, [who])
                return
            self._crowd = {}
            self._clock.callLater(self._since + SECOND - now, self._tell_of_crowd)
        self._crowd[who] = how

    def _tell_of_crowd(self) -> None:
        crowd, self._crowd = self._crowd or {}, None
        for how in ("departed", "joined"):
            if some := [one for one, did in crowd.items() if did == how]:
                self._tell_of(how, some)

    def _tell_of(self, how: str, some: Sequence[Attachment]) -> None:
        # All of a crowd hear of it too: each knows only those who were there before.
        but = some[0] if len(some) == 1 else None
        self._tell(f"Console [{self._name}] {how} by {_names(some)} at {self._stamp()}", but)

    def _tell(self, text: str, but: Attachment | None) -> None:
        for one in self._interactive():
            if one is not but:
                one.outlet.notice(text)

    def _stamp(self) -> str:
        return strftime("%m-%d %H:%M", gmtime(self._now()))

    def _interactive(self) -> list[Attachment]:
        return [one for one in self._attachments if one.interactive]

    @staticmethod
    def _demand_interactive(attachment: Attachment) -> None:
        if not attachment.interactive:
            raise ReadOnly


def _names(some: Sequence[Attachment]) -> str:
    """The first few, and how many besides."""
    names = ", ".join(f"<{one.client}>" for one in some[:NAMED])
    return names + f" and {len(some) - NAMED} others" * (len(some) > NAMED)
