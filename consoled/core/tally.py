"""The tally: how often links were dialled, and what came of it.

`backends.link` counts, once for each attempt; the metrics show the sums.  A label's values come from the code.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

REASONS: Final = ("held", "refused", "secret", "timeout", "name", "connection-refused", "network", "other")
"""The sorts of reasons why a dial fails."""


class Tally:
    """What all links of the daemon have done together, by the kind of console."""

    def __init__(self) -> None:
        self.attempts: Counter[str] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()
        """By kind and by one of `REASONS`."""
        self.losses: Counter[str] = Counter()
        """Of connections that were up, and that we did not hang up on."""
