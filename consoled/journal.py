"""journald's own protocol: one datagram for each record, a field in each line of it.

Used by the audit (`auth.journal`) and by the daemon's log (`logbook`).  https://systemd.io/JOURNAL_NATIVE_PROTOCOL/ has
the protocol: a value with line feeds in it is preceded by its length, and what is too long for a datagram goes into a
sealed memory file, of which the datagram has the descriptor.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from array import array
from collections.abc import Mapping
from typing import Final

SOCKET: Final = "/run/systemd/journal/socket"

_ROOM: Final = 8 << 20
"""Bytes that may wait in the socket for journald; as many as sd_journal_send(3) asks for."""
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def datagram(fields: Mapping[str, str]) -> bytes:
    """`fields` for journald.  Names are of A to Z, 0 to 9 and `_`, not at the beginning; values may be anything."""
    parts = []
    for name, text in fields.items():
        value = text.encode("utf-8", "backslashreplace")
        if b"\n" in value:
            parts.append(b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(value)), value))
        else:
            parts.append(b"%s=%s\n" % (name.encode(), value))
    return b"".join(parts)


class Journal:
    """A socket towards journald."""

    def __init__(self, path: str, patience: float) -> None:
        """`patience` is how many seconds `send` waits for a journald that does not read.

        Raises `OSError` if nobody listens at `path`.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(patience)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise OSError(error.errno, f"{error.strerror} (is journald there?)", path) from None

    def send(self, record: bytes) -> None:
        """Hand over one datagram.  Raises `OSError`: journald has nothing of it."""
        try:
            self._socket.send(record)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_file(record)

    def close(self) -> None:
        self._socket.close()

    def _send_file(self, record: bytes) -> None:
        file = os.memfd_create("journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            rest = memoryview(record)
            while rest:
                rest = rest[os.write(file, rest) :]
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
            self._socket.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [file]))])
        finally:
            os.close(file)
