"""What a reload has changed, as whoever asked for it is told: the log, the audit and `POST /v1/reload`."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.internet.defer import Deferred

from consoled.core.access import User


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """Consoles by their names, settings by their keys."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    """Consoles whose settings are others than before; one that was switched off or on is among them."""
    removed: tuple[str, ...] = ()
    reconnected: tuple[str, ...] = ()
    """Those of the changed whose connection is made anew."""
    settings: tuple[str, ...] = ()
    """The tables, other than the consoles', that are others than before."""
    restart: tuple[str, ...] = ()
    """The keys that are others than before and take a restart: what they said before is in force."""
    held_back: tuple[str, ...] = ()
    """The sources that have lost too many consoles: what they said before is in force until that is confirmed."""

    def __str__(self) -> str:
        counts = [_few(what, getattr(self, what)) for what in ("added", "changed", "removed", "reconnected")]
        said = ", ".join(count for count in counts if count) or "no console has changed"
        for what, how in (
            ("settings", "taken up"),
            ("restart", "NOT taken up before a restart"),
            ("held_back", "HELD BACK, too many consoles are missing"),
        ):
            if keys := getattr(self, what):
                said += f"; {how}: {', '.join(keys)}"
        return said


Reload = Callable[[User | None, tuple[str, ...]], Deferred[Changes]]
"""Read the configuration again and take it up, as a user or, if None, an operator's signal wants; and believe what is
held back of the sources of these names.

Fails with `NotReloaded` if it cannot be used or there is nothing to confirm, or `NotOpen`.  Not to be cancelled.
"""


def _few(what: str, names: tuple[str, ...]) -> str:
    """`2 added (a, b)`; of many the first few."""
    if not names:
        return ""
    return f"{len(names)} {what} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
