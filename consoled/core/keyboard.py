"""Who may type at a console: shared by default, held by one on request.

Interactive clients join at the shared keyboard.  One of them may take it for itself: the others become watchers
and are told by whom.  When it is released they are told that too, and may join again; nobody is ever promoted
without having asked.

One for each console; the session's escapes call `take`, `join` and `watch`.
"""

from __future__ import annotations

from collections.abc import Callable

from consoled.core.attachment import Attachment
from consoled.core.faults import KeyboardHeld, ReadOnly


class Keyboard:
    """The right to type at one console.  `tell(text, but=...)` notifies the interactive clients."""

    def __init__(self, name: str, attachments: dict[Attachment, None], stamp: Callable[[], str]) -> None:
        self.holder: Attachment | None = None
        """Who holds it alone, or None while it is shared."""
        self._name = name
        self._attachments = attachments
        self._stamp = stamp

    def arrived(self, newcomer: Attachment) -> None:
        """An interactive client has attached: it types unless somebody holds the keyboard."""
        others = [one for one in self._interactive() if one is not newcomer]
        newcomer.typing = self.holder is None
        for other in others:
            other.outlet.notice(f"Console [{self._name}] joined by <{newcomer.client}> at {self._stamp()}")
            newcomer.outlet.notice(f"Console [{self._name}] joined with <{other.client}>")
        if self.holder is not None:
            newcomer.outlet.notice(f"Console [{self._name}] is held by <{self.holder.client}>; you may only watch")

    def departed(self, leaver: Attachment) -> None:
        """An interactive client is gone."""
        leaver.typing = False
        self._tell(f"Console [{self._name}] departed by <{leaver.client}> at {self._stamp()}", leaver)
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
            self._tell(f"Console [{self._name}] joined by <{joiner.client}> at {self._stamp()}", joiner)

    def watch(self, watcher: Attachment) -> None:
        """Only watch from now on."""
        watcher.typing = False
        self._release(watcher)

    def _release(self, holder: Attachment) -> None:
        if self.holder is holder:
            self.holder = None
            holder.record("released")
            self._tell(f"Console [{self._name}] released by <{holder.client}> at {self._stamp()}", holder)

    def _tell(self, text: str, but: Attachment) -> None:
        for one in self._interactive():
            if one is not but:
                one.outlet.notice(text)

    def _interactive(self) -> list[Attachment]:
        return [one for one in self._attachments if one.interactive]

    @staticmethod
    def _demand_interactive(attachment: Attachment) -> None:
        if not attachment.interactive:
            raise ReadOnly
