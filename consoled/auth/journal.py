"""journald's own protocol: one datagram for each record, a line for each field.

Used by `sinks`.  https://systemd.io/JOURNAL_NATIVE_PROTOCOL/ has the protocol; the form for values with line feeds in
them is not needed, for the audit has none.
"""

from __future__ import annotations

import re
import socket
from typing import Final

import msgspec

from consoled.auth.audit import Record

SOCKET: Final = "/run/systemd/journal/socket"

PATIENCE: Final = 5.0
"""Seconds for a journald that does not read."""

_WARNING, _INFO = "4", "6"
_AUTHPRIV = "10"


class JournalPage:
    """A socket towards journald; see `consoled.ledger.Page`."""

    def __init__(self, path: str) -> None:
        """Raises `OSError` if nobody listens there."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(PATIENCE)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise OSError(error.errno, f"{error.strerror} (is journald there?)", path) from None

    def write(self, line: bytes) -> None:
        """Send one datagram."""
        self._socket.send(line)

    def close(self) -> None:
        self._socket.close()


def datagram(record: Record) -> bytes:
    """`record` for journald: the line of JSON as the message, and `CONSOLED_REMOTE_ADDRESS=...` for each field."""
    fields = {
        "MESSAGE": msgspec.json.encode(record).decode(),
        "PRIORITY": _WARNING if record["action"] in ("refused", "refusals-omitted", "records-lost") else _INFO,
        "SYSLOG_FACILITY": _AUTHPRIV,
        "SYSLOG_IDENTIFIER": "consoled",
        **{f"CONSOLED_{_name(key)}": value for key, value in record.items()},
    }
    return "".join(f"{name}={value}\n" for name, value in fields.items()).encode()


def _name(key: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).upper()
