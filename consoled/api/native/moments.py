"""Moments, as a query says them: RFC 3339 with its zone, or seconds since the epoch.

The types of the queries (`shapes`) show `PATTERN` to clients; the rooms that take `from` and `to` read with `moment`.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from consoled.api.answers import HttpRefusal

# A `+` that nobody has escaped is a space by the time it is here; so is what RFC 3339 allows in the place of the T.
_DATE: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
_ZONE: Final = r"([Zz]|[+ -][0-9]{2}:[0-9]{2})"
_EPOCH: Final = r"[0-9]{1,11}(\.[0-9]{1,9})?"
PATTERN: Final = f"^({_EPOCH}|{_DATE}{_ZONE})$"
ENDLESS: Final = 1e12
"""Later than any moment."""


def moment(name: str, text: str) -> float:
    """The parameter `name` in seconds since the epoch.  Raises `HttpRefusal`."""
    try:
        if not re.fullmatch(PATTERN, text):  # which a line feed at the end is no part of
            raise ValueError
        if "-" not in text:
            return float(text)
        date, clock = text[:10], text[11:].upper().replace(" ", "+")
        return datetime.fromisoformat(f"{date}T{clock}").timestamp()
    except (ValueError, OverflowError):
        message = f"{name}: there is no such time; write it as 2026-01-31T23:59:59Z, or as seconds since 1970"
        raise HttpRefusal(400, message) from None
