"""The kind `unix`: a Unix stream socket, such as QEMU's or a zone's, with TLS if asked for.

With `zone_handshake` the socket is the `console_sock` of an illumos zoneadmd, which wants to be greeted first: we
send `IDENT C 0` and LF (locale and flags), it answers one line that begins with `OK`, and from then on the bytes
are the console's, also those that came in the same segment.  Made by `tap` from `UnixSettings`, dialled by the link.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError
from twisted.python.failure import Failure

from consoled.backends.settings import ConsoleSettings, Surroundings
from consoled.backends.stream import StreamLine
from consoled.backends.tls import TlsSettings
from consoled.core.seams import Backend, Line, LineOwner, Refused
from consoled.units import FilePath

LONGEST_PATH = 107
"""Bytes of a socket's path: `sun_path` of unix(7), without its NUL."""
LONGEST_ANSWER = 1024
"""Bytes of the answer to the zone handshake, LF included."""


class UnixSettings(ConsoleSettings, tag="unix", frozen=True, kw_only=True):
    """A console on a Unix stream socket."""

    path: FilePath
    """The socket; at most 107 bytes."""
    zone_handshake: bool = False
    """Greet zoneadmd before anything else."""
    tls: TlsSettings | None = None
    """If present, even empty: speak TLS.  It needs to say whose certificate is good: there is no host to go by."""

    def __post_init__(self) -> None:
        if not 0 < len(os.fsencode(self.path)) <= LONGEST_PATH:
            raise ValueError(f"path: {self.path!r} is no socket's path: it must have 1 to {LONGEST_PATH} bytes")
        if self.tls is not None and self.tls.needs_name:
            raise ValueError('"tls" on a Unix socket needs a "server_name" or a "fingerprint"')

    def backend(self, around: Surroundings) -> Backend:
        return UnixBackend(self, around.reactor)


class UnixBackend:
    """Dials a Unix stream socket."""

    host = ""

    def __init__(self, settings: UnixSettings, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self.address = f'"{settings.path}"'

    def dial(self, owner: LineOwner) -> Deferred[Line]:
        line = UnixLine(owner, self._settings)
        at = UNIXClientEndpoint(self._reactor, self._settings.path, timeout=None)
        return line.dial(at).addErrback(_plainly)


class UnixLine(StreamLine):
    """One connection to a Unix stream socket."""

    def __init__(self, owner: LineOwner, settings: UnixSettings) -> None:
        super().__init__(owner, settings.tls)
        self._zone = settings.zone_handshake
        self._answer = b""

    def opened(self) -> None:
        if self._zone:
            self.stage = "the zone handshake"
            self.transport.write(b"IDENT C 0\n")
        else:
            self.usable()

    def dataReceived(self, data: bytes) -> None:
        if self.up or not self._zone:
            super().dataReceived(data)
            return
        self._answer += data
        answer, lf, output = self._answer.partition(b"\n")
        if len(answer) + len(lf) > LONGEST_ANSWER or (not lf and len(answer) == LONGEST_ANSWER):
            self.drop(ConnectionError(f"zone handshake: no line within {LONGEST_ANSWER} bytes: {_quoted(answer)}"))
        elif lf and not answer.startswith(b"OK"):
            self.drop(Refused(f"zone handshake refused: {_quoted(answer)}"))
        elif lf:
            self._answer = b""
            self.deliver(output)
            self.usable()


def _plainly(failure: Failure) -> Failure:
    """Of a listener whose backlog is full (EAGAIN, at once) Twisted makes a riddle."""
    if isinstance(failure.value, ConnectError) and isinstance(failure.value.args[0], Failure):
        raise ConnectionError("the socket's listener has no room for one more caller")
    return failure


def _quoted(data: bytes) -> str:
    """The beginning of what a peer said, harmless in a log and on a terminal."""
    return ascii(data[:80].decode("latin-1"))
