# mypy: disallow-untyped-calls=False
# (Much of conch has no annotations.)

"""SSH's connection layer (RFC 4254): one session channel with a shell, a command or a subsystem in it.

It stands above the login and below `SshLine`: the node's output comes out of the channel's packets, keystrokes go
into them as far as the server's window lets them.  Everything that the server might ask of a client is declined.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.conch.error import ConchError
from twisted.conch.ssh.channel import SSHChannel
from twisted.conch.ssh.common import NS
from twisted.conch.ssh.connection import SSHConnection
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from consoled.backends.ssh_login import QUIET, said
from consoled.core.seams import Refused

WINDOW = 2 << 20
"""Bytes that the server may send before it hears that they came: conch's 128 KiB cost most of the speed."""
PACKET = 64 << 10
QUEUE = 64 << 10
"""Bytes of keystrokes that may wait for the server's window."""
BREAK_LENGTH = 500
"""Milliseconds (RFC 4335, section 3)."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to run at the far end."""

    kind: str
    """`shell`, `exec` or `subsystem`."""
    what: str
    """The command or the subsystem's name."""
    terminal: str
    """The type of terminal, as in TERM; empty: none is asked for."""
    rows: int
    columns: int

    def __str__(self) -> str:
        return {"shell": "the shell", "exec": f"command {self.what!r}"}.get(self.kind, f"subsystem {self.what!r}")


class Ends(Protocol):
    """Who is told how the session fares: the line."""

    stage: str

    def started(self) -> None:
        """It runs."""

    def node_said(self, data: bytes) -> None: ...

    def finished(self) -> None:
        """There will be no more output."""

    def closed(self, why: str) -> None:
        """The channel is gone."""

    def drop(self, error: Exception) -> None: ...

    def no_break(self) -> None:
        """The server refused a break."""


class Connection(SSHConnection):
    """The connection layer with our one channel."""

    _log = QUIET

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def serviceStarted(self) -> None:
        super().serviceStarted()
        self._session.line.stage = "the opening of the session"
        self.openChannel(self._session)

    def sendClose(self, channel: Any) -> None:
        if channel.closing:
            super().sendClose(channel)
        else:  # conch would close our side, and wait for a server that cannot count to do the same
            self._session.line.drop(ConnectionError("the server sent more than it may"))

    def probe(self) -> None:
        """Ask something that has to be answered, whatever the answer is."""
        answer: Deferred[Any] = self.sendGlobalRequest(b"keepalive@openssh.com", b"", wantReply=1)
        answer.addErrback(lambda _: None)


class Session(SSHChannel):
    """The channel.  As long as it is open, `conn` is its connection."""

    name = b"session"
    conn: Any

    def __init__(self, request: Request, line: Ends) -> None:
        super().__init__(localWindow=WINDOW, localMaxPacket=PACKET)
        self.line = line
        self._request = request
        self._open = False
        self._epitaph = f"{request} ended"

    # The line calls these.

    def take(self, keystrokes: bytes) -> bool:
        """Send; False, and nothing is sent, if the server takes nothing now or the rest could not be queued."""
        room = self.remoteWindowLeft
        if not self._open or self.buf or not room or len(keystrokes) - room > QUEUE:
            return False
        self.write(keystrokes)
        return True

    def send_break(self) -> bool:
        """RFC 4335.  The line hears of it if the server refuses."""
        if not self._open:
            return False
        self._ask(b"break", struct.pack(">L", BREAK_LENGTH), lambda: self.line.no_break())
        return True

    def hang_up(self) -> None:
        """Close our side of the channel; `closed` follows when the server does the same."""
        if self._open:
            self.buf = b""  # conch would wait for the window
            self.conn.sendEOF(self)
            self.loseConnection()

    # conch calls these.

    def channelOpen(self, specificData: bytes) -> None:
        if not self.remoteMaxPacket:
            raise ValueError("packets of no size")
        self._open = True
        request, line = self._request, self.line
        if request.terminal:
            size = struct.pack(">4L", request.columns, request.rows, 0, 0)
            self._ask(
                b"pty-req",
                NS(request.terminal) + size + NS(b"\0"),
                lambda: line.drop(Refused("the server gives no terminal: try pty = false")),
            )
        answer = self._ask(
            request.kind.encode(),
            NS(request.what) if request.what else b"",
            lambda: line.drop(Refused(f"the server refuses {request}")),
        )
        answer.addCallback(lambda granted: line.started() if granted else None)

    def openFailed(self, reason: Any) -> None:
        if isinstance(reason, ConchError):
            text = reason.value if isinstance(reason.value, bytes) else b""
            self.line.drop(Refused(f"the server opens no session: {said(text) or 'no reason given'}"))

    def dataReceived(self, data: bytes) -> None:
        self.line.node_said(data)

    def extReceived(self, dataType: int, data: bytes) -> None:
        self.line.node_said(data)  # what goes wrong at the far end belongs into the transcript, too

    def requestReceived(self, requestType: bytes, data: bytes) -> bool:
        """How it ended (RFC 4254, section 6.10)."""
        if requestType == b"exit-status" and len(data) >= 4:
            self._epitaph = f"{self._request} ended with status {struct.unpack('>L', data[:4])[0]}"
            return True
        if requestType == b"exit-signal" and len(data) >= 4:
            self._epitaph = f"{self._request} was ended by signal {said(data[4 : 4 + int.from_bytes(data[:4], 'big')])}"
            return True
        return False

    def eofReceived(self) -> None:
        self.line.finished()

    def closeReceived(self) -> None:
        self.buf = b""
        self.loseConnection()

    def closed(self) -> None:
        self._open = False
        self.line.closed(self._epitaph)

    # Ours.

    def _ask(self, request: bytes, data: bytes, refused: Any) -> Deferred[bool]:
        """Make a channel request; fires with whether it was granted."""

        def failed(failure: Failure) -> bool:
            if self._open and not self.remoteClosed:  # else `closed` tells the story
                refused()
            return False

        answer: Deferred[Any] = self.conn.sendRequest(self, request, data, wantReply=1)
        return answer.addCallbacks(lambda _: True, failed)
