"""A feed: the clients of one flavour that stand at a console's head.

`Stream` gives every new piece to each of its feeds; the feed's one encoding makes one frame of it, and that same frame
goes to every member.  A client that falls behind leaves the feed and reads at its own pace
(`attachment`); at the head it joins again.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from consoled.core.seams import Clock, Encoding, Outlet, Timer

DANGLING = 0.5
"""Seconds after which an unfinished character is given up."""

_log = Logger()


class Feed:
    """Clients in step, and the encoding that they share."""

    def __init__(self, encoding: Encoding, clock: Clock) -> None:
        self.encoding = encoding
        self.members: dict[Outlet, Callable[[bytes], None]] = {}
        """Who is in step, and how each is sent a frame."""
        self._ways: tuple[Callable[[bytes], None], ...] | None = None
        """The latter alone; None when somebody came or went since it was made."""
        self._clock = clock
        self._dangling: Timer | None = None

    def published(self, data: bytes, own: bool, at: int) -> None:
        """The stream went on by `data`, from the offset `at`: send it to everybody here."""
        if own and not self.encoding.own_lines:
            return
        self._forget_dangling()
        self._send(self.encoding.encode(data, at))
        self._watch_dangling()

    def join(self, outlet: Outlet) -> None:
        """`outlet` has had everything up to the head, and from here on gets what the others get."""
        self.members[outlet] = outlet.send
        self._ways = None
        if self._dangling is None:
            self._watch_dangling()

    def leave(self, outlet: Outlet) -> None:
        """`outlet` goes on at its own pace, or not at all.  Harmless for one who is not here."""
        self.members.pop(outlet, None)
        self._ways = None
        if not self.members:
            self._forget_dangling()

    def give_up(self) -> None:
        """Wait no longer for the rest of an unfinished character."""
        self._forget_dangling()
        self._send(self.encoding.flush())

    def _send(self, frame: bytes | None) -> None:
        if frame is None:
            return
        # The fast path: one call for each client, and from there into the kernel (`straight`).  The list is fixed,
        # because a send can pause its client, which then leaves.
        ways = self._ways
        if ways is None:
            ways = self._ways = tuple(self.members.values())
        for send in ways:
            try:
                send(frame)
            except Exception:
                _log.failure("a client in step failed")
                self._end(send)

    def _end(self, failed: Callable[[bytes], None]) -> None:
        for outlet in [outlet for outlet, send in self.members.items() if send is failed]:
            self.leave(outlet)
            outlet.ended("Internal error", 1011)

    def _watch_dangling(self) -> None:
        if self.encoding.dangling and self.members:
            self._dangling = self._clock.callLater(DANGLING, self.give_up)

    def _forget_dangling(self) -> None:
        if self._dangling is not None and self._dangling.active():
            self._dangling.cancel()
        self._dangling = None
