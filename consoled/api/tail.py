"""A read-only conversation: the stream from one offset on.

Made by `csm` for each `tail`, driven by the session on one side and by its attachment on the other; `conman` makes an
interactive one of it.  The sentences are framed as ConMan's are: CR LF, the tag, and `.` CR LF.
"""

from __future__ import annotations

from consoled.api.frames import Text, text_frame
from consoled.api.seat import Recorder, Seat
from consoled.api.session import Session
from consoled.api.vigil import Visit
from consoled.core.attachment import Client
from consoled.core.console import Console
from consoled.core.status import Status


class Tail(Seat):
    """A read-only session: the stream from one offset on, and not a word of the client's to the node."""

    interactive = False

    def __init__(
        self,
        console: Console,
        client: Client,
        record: Recorder,
        visit: Visit,
        *,
        at: int | None = None,
        follow: bool = True,
    ) -> None:
        """From the offset `at` (default: the head).  Without `follow` it ends where the stream ends at opening."""
        super().__init__(console, client, record, visit)
        self._at = at
        self._follow = follow

    # The session calls these.

    def opened(self, session: Session) -> None:
        until = None if self._follow else self._console.head
        self._sit_down(session, Text, at=self._at, until=until, interactive=self.interactive)
        self._greet()
        self._attachment.pump()

    def said(self, payload: bytes, is_binary: bool) -> None:
        if b"&." in payload:
            self._session.end(1000, "closed")

    # The attachment and the console call these.

    def missed(self, count: int) -> None:
        self._say(f"{count} bytes of the log are missing here")

    def notice(self, text: str) -> None:
        """A tail is a log: who comes and goes is not in it."""

    def changed(self, status: Status) -> None:
        """The stream itself has a line of it."""

    def finished(self) -> None:
        self._session.end(1000, "end of the log")

    # For both sorts of session.

    def _greet(self) -> None:
        """A tail begins with its first line."""

    def _say(self, text: str) -> None:
        self._session.send(self._sentence(text))

    def _sentence(self, text: str) -> bytes:
        return text_frame(f"\r\n{self._console.tag} {text}.\r\n")
