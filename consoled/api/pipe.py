"""A byte pipe: the conversation of CloudAPI's console, binary messages both ways and not a word of our own.

Made by `cloudapi` for each client, driven by the session on one side and by its attachment on the other.  Its states
are the original's (RFD 189; drawn in `docs/api-cloudapi.md`): it waits for the console's link, is connected while that
is up, and ends with it; what goes wrong is said in the close frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from consoled.api.frames import Raw
from consoled.api.seat import Recorder, Seat
from consoled.api.session import Session
from consoled.api.vigil import Visit
from consoled.core.attachment import Client
from consoled.core.console import Console
from consoled.core.faults import Fault, NodeNotReading
from consoled.core.seams import Clock, Timer
from consoled.core.status import Closing, Off, Status, Up, Waiting

CONNECT: Final = 12.0
"""Seconds to wait for the link: as long as one attempt at a found machine may take."""
NOT_TAKING: Final = 60.0
"""Seconds for which the console may refuse input; its client is not heard meanwhile."""
RETRY: Final = 0.05
"""Seconds between two offers of that input."""
EARLY: Final = 65536
"""Bytes that are kept for a console that is still being connected to; of a client with more, no more is read."""
PIECE: Final = 16384
"""Bytes that a console is given at once, of which it takes all or none."""
LONGEST: Final = 123
"""Bytes of a close frame's reason (RFC 6455, section 5.5.1)."""

TOO_SLOW: Final = "Timeout while connecting to console server"
NOT_READING: Final = "The console takes no input"


def trouble(message: str) -> str:
    """The original's error object as a close frame's reason: short enough by way of its message, never of its form."""
    while True:
        error = {"code": "InternalServerError", "message": message}
        reason = msgspec.json.encode({"type": "error", "error": error})
        if len(reason) <= LONGEST:
            return reason.decode()
        message = message[:-1]


class Pipe(Seat):
    """One client at one machine's console."""

    def __init__(
        self,
        console: Console,
        client: Client,
        record: Recorder,
        visit: Visit,
        clock: Clock,
        *,
        why_not: Callable[[], str],
        failed: Callable[[str], None] = lambda message: None,
        subprotocol: str | None = None,
        interactive: bool = True,
        at: int | None = None,
    ) -> None:
        """`why_not` tells why the link could not be had; `failed` is told how the session failed, if it does.

        `at` is where a replay begins (default: the head).
        """
        super().__init__(console, client, record, visit)
        self.subprotocol = subprotocol
        self._clock = clock
        self._why_not = why_not
        self._failed = failed
        self._interactive = interactive
        self._at = at
        self._state: Literal["connecting", "connected", "ending"] = "connecting"
        self._waiting = bytearray()
        """Input that the console has not taken yet."""
        self._refused_since: float | None = None
        """When it first took none of that."""
        self._timer: Timer | None = None
        """What is waited for: the link, or the next offer of input."""

    # The session calls these.

    def opened(self, session: Session) -> None:
        self._sit_down(session, Raw, at=self._at, interactive=self._interactive)
        if self._interactive:
            self._console.keyboard.arrived(self._attachment)
        self._attachment.pump()
        if self._console.down is None:
            self._state = "connected"
        else:
            self._timer = self._clock.callLater(CONNECT, self._fail, TOO_SLOW)

    def said(self, payload: bytes, is_binary: bool) -> None:
        self._visit.heard()
        if not (is_binary and self._interactive) or self._state == "ending":
            return
        if self._state == "connected" and not self._waiting:
            payload = payload[self._type(payload) :]
        if payload:
            self._waiting += payload
            self._offer()

    def closed(self) -> None:
        self._state = "ending"
        self._waiting.clear()
        self._stop_timer()
        super().closed()

    # The attachment and the console call these.

    def changed(self, status: Status) -> None:
        """The link's state is now `status`; what the node said before that has been sent."""
        match status:
            case Up() if self._state == "connecting":
                self._stop_timer()
                self._state = "connected"
                self._offer()
            case Waiting() if self._state == "connecting":
                self._fail(self._why_not())
            case Waiting() | Off() | Closing() if self._state == "connected":
                self._state = "ending"
                self._waiting.clear()
                self._stop_timer()
                self._session.hold(False)
                self._attachment.read_to(self._console.head)

    def missed(self, count: int) -> None:
        """A byte stream has no place to say it; the audit's count of bytes shows it."""

    def notice(self, text: str) -> None:
        """Nobody else is heard on a pipe."""

    def finished(self) -> None:
        self._session.end(1000, "Remote connection closed")

    # Towards the node.

    def _offer(self) -> None:
        """Give the console what it has not taken yet; while it takes none, the client is not heard."""
        if self._state == "connected":
            taken = self._type(bytes(self._waiting))
            del self._waiting[:taken]
            if taken or not self._waiting:
                self._refused_since = None
            if self._waiting:
                self._offer_again()
                return
        self._session.hold(len(self._waiting) >= EARLY)

    def _type(self, data: bytes) -> int:
        """Returns how many bytes of `data` need not be offered again."""
        for at in range(0, len(data), PIECE):
            try:
                self._attachment.write(data[at : at + PIECE])
            except NodeNotReading:
                return at
            except Fault:
                break  # somebody else holds the keyboard, or the link has just gone, and `changed` follows
        return len(data)

    def _offer_again(self) -> None:
        now = self._clock.seconds()
        if self._refused_since is None:
            self._refused_since = now
        if now - self._refused_since >= NOT_TAKING:
            self._fail(NOT_READING)
            return
        self._session.hold(True)
        self._stop_timer()
        self._timer = self._clock.callLater(RETRY, self._offer)

    def _fail(self, message: str) -> None:
        self._stop_timer()
        self._failed(message)
        self._session.end(1011, trouble(message))

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
