"""A read-only conversation: the stream from one offset on.

Made by `csm` for each `tail`, driven by the session on one side and by its attachment on the other; `conman` makes an
interactive one of it.  The sentences are framed as ConMan's are: CR LF, the tag, and `.` CR LF.
"""

from __future__ import annotations

from collections.abc import Callable

from consoled.api.frames import Text, text_frame
from consoled.api.session import Session
from consoled.api.vigil import Visit
from consoled.core.attachment import Attachment, Client
from consoled.core.console import Console
from consoled.core.status import Status

Recorder = Callable[[Attachment], Callable[[], None]]
"""Told of an attachment when it begins; what it returns is called when it is over."""


class Tail:
    """A read-only session: the stream from one offset on, and not a word of the client's to the node."""

    interactive = False
    subprotocol: str | None = None

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
        self._console = console
        self._client = client
        self._at = at
        self._follow = follow
        self._record = record
        self._visit = visit
        self._session: Session
        self._attachment: Attachment
        self.send: Callable[[bytes], None]
        """The session's own method: a frame goes straight to the wire."""

    # The session calls these.

    @property
    def is_recorded(self) -> bool:
        return self._console.input_record is not None

    def opened(self, session: Session) -> None:
        self._session = session
        self.send = session.send
        self._attachment = self._console.attach(
            self,
            Text,
            self._client,
            at=self._at,
            until=None if self._follow else self._console.head,
            interactive=self.interactive,
        )
        self._detached = self._record(self._attachment)
        self._visit.begin(self.ended)
        self._greet()
        self._attachment.pump()

    def said(self, payload: bytes, is_binary: bool) -> None:
        if b"&." in payload:
            self._session.end(1000, "closed")

    def paused(self) -> None:
        self._attachment.pause()

    def resumed(self) -> None:
        self._attachment.resume()

    def closed(self) -> None:
        self._visit.over()
        self._attachment.leave()
        self._detached()

    # The attachment and the console call these.

    def missed(self, count: int) -> None:
        self._say(f"{count} bytes of the log are missing here")

    def notice(self, text: str) -> None:
        """A tail is a log: who comes and goes is not in it."""

    def changed(self, status: Status) -> None:
        """The stream itself has a line of it."""

    def finished(self) -> None:
        self._session.end(1000, "end of the log")

    def ended(self, why: str, code: int) -> None:
        self._session.end(code, why)

    # For both sorts of session.

    def _greet(self) -> None:
        """A tail begins with its first line."""

    def _say(self, text: str) -> None:
        self.send(self._sentence(text))

    def _sentence(self, text: str) -> bytes:
        return text_frame(f"\r\n{self._console.tag} {text}.\r\n")
