"""The guestbook: each session's beginning, acts and end, as the audit log and the metrics have them.

Every face of consoles keeps one.  What it makes for a session goes to the conversation, which has it told when the
client is attached, and when it is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from consoled.api.meters import Meters
from consoled.api.proxies import Visitor
from consoled.api.seat import Recorder
from consoled.core.access import Audit, User, Verb
from consoled.core.attachment import Attachment, Client


class Guestbook:
    """What one face writes down."""

    def __init__(self, face: str, audit: Audit, now: Callable[[], float], meters: Meters) -> None:
        """`now` is the wall clock."""
        self._face = face
        self._audit = audit
        self._now = now
        self._departed = meters.departed
        self._sessions = meters.sessions.labels(face)
        self._seconds = meters.session_seconds.labels(face)

    def client(self, user: User, request: Any) -> Client:
        """`user`, who has sent `request`, as others at the console see them."""
        visitor: Visitor = request.visitor
        return Client(user.name, visitor.host, self._face)

    def entry(self, user: User, verb: Verb) -> Recorder:
        """The entry of a session that `user` begins with `verb`."""

        def attached(attachment: Attachment) -> Callable[[], None]:
            name = attachment.console.name

            def detached() -> None:
                seconds = self._now() - attachment.since
                self._departed.add(attachment)
                self._audit.detached(user, verb, name, seconds, attachment.bytes_out, attachment.bytes_in)
                self._sessions.dec()
                self._seconds.observe(seconds)

            attachment.record = partial(self._audit.noted, user=user, console=name)
            self._audit.attached(user, verb, name)
            self._sessions.inc()
            return detached

        return attached
