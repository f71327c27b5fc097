"""The audit in journald: a record becomes a datagram, with a field for each of its own.

Used by `sinks`; `consoled.journal` has the protocol.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from consoled import journal
from consoled.auth.audit import Record
from consoled.journal import Journal

PATIENCE: Final = 5.0
"""Seconds for a journald that does not read."""

_WARNING, _INFO = "4", "6"
_AUTHPRIV = "10"


class JournalPage(Journal):
    """A socket towards journald; see `consoled.ledger.Page`."""

    def __init__(self, path: str) -> None:
        """Raises `OSError` if nobody listens there."""
        super().__init__(path, PATIENCE)

    def write(self, line: bytes) -> None:
        """Send one datagram."""
        self.send(line)


def datagram(record: Record) -> bytes:
    """`record` for journald: the line of JSON as the message, and `CONSOLED_REMOTE_ADDRESS=...` for each field."""
    fields = {
        "MESSAGE": msgspec.json.encode(record).decode(),
        "PRIORITY": _WARNING if record["action"] in ("refused", "refusals-omitted", "records-lost") else _INFO,
        "SYSLOG_FACILITY": _AUTHPRIV,
        "SYSLOG_IDENTIFIER": "consoled",
        **{f"CONSOLED_{_name(key)}": str(value) for key, value in record.items()},
    }
    return journal.datagram(fields)


def _name(key: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).upper()
