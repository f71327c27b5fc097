"""A seat: what every conversation with a client at a console has in common, whatever is said there.

It joins a session to an attachment, and the visit to both: `tail`, `conman`, `pipe` and the native stream extend it.  A
frame goes from the attachment to the session through `send`, and meets nothing here.
"""

from __future__ import annotations

from collections.abc import Callable

from consoled.api.session import Session
from consoled.api.vigil import Visit
from consoled.core.attachment import Attachment, Client
from consoled.core.console import Console
from consoled.core.seams import Flavour
from consoled.core.status import Status

Recorder = Callable[[Attachment], Callable[[], None]]
"""Told of an attachment when it begins; what it returns is called when it is over."""


class Seat:
    """One client's side of a conversation; what extends it is also the attachment's outlet."""

    subprotocol: str | None = None

    def __init__(self, console: Console, client: Client, record: Recorder, visit: Visit) -> None:
        self._console = console
        self._client = client
        self._record = record
        self._visit = visit
        self._session: Session
        self._attachment: Attachment
        self.send: Callable[[bytes], None]
        """The session's `pour`: a frame of the stream goes straight to the wire."""

    def _sit_down(
        self, session: Session, flavour: Flavour, *, at: int | None, until: int | None = None, interactive: bool
    ) -> None:
        """Attach the client of `session`; nothing is sent before the attachment is told to pump."""
        self._session = session
        self.send = session.pour
        self._attachment = self._console.attach(
            self, flavour, self._client, at=at, until=until, interactive=interactive
        )
        self._detached = self._record(self._attachment)
        self._visit.begin(self.ended)

    # The session calls these.

    @property
    def is_recorded(self) -> bool:
        return self._console.input_record is not None

    def paused(self) -> None:
        self._attachment.pause()

    def resumed(self) -> None:
        self._attachment.resume()

    def closed(self) -> None:
        self._visit.over()
        self._attachment.leave()
        self._detached()

    # The attachment and the console call these.  What a conversation has no place for, it need not hear.

    def missed(self, count: int) -> None:
        """See `core.seams.Outlet`."""

    def notice(self, text: str) -> None:
        """See `core.seams.Outlet`."""

    def changed(self, status: Status) -> None:
        """See `core.seams.Outlet`."""

    def finished(self) -> None:
        """See `core.seams.Outlet`."""

    def ended(self, why: str, code: int) -> None:
        self._session.end(code, why)
