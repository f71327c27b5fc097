"""What the daemon knows of each source of consoles: for the API and the metrics, which may not look into `sources`.

`sources.belief` keeps it; `daemon` passes it on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

SORTS: Final = ("timeout", "unreachable", "refused", "status", "program", "secret", "answer", "defect")
"""Why there is no answer, in a word: the label of a metric."""


@dataclass(slots=True)
class Asked:
    """How often a source was asked, and what came of it; outlives a reload."""

    times: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """By sort of reason; one of `SORTS`."""
    good_at: float | None = None
    """When it gave its last good answer, in epoch seconds; None: never."""


@dataclass(frozen=True, slots=True)
class HeldBack:
    """An answer that lacks too many consoles, and waits for an operator's word."""

    since: float
    """When answers of this source began to be held back, in epoch seconds."""
    lost: tuple[str, ...]
    """The consoles that would go away, in order; those that have gone within the hour are among them."""
    of: int
    """How many there are, and were within the hour."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """One source, and how it is."""

    name: str
    kind: str
    consoles: int
    """How many it gives."""
    left_out: int
    """Entries of its last good answer that make none."""
    complaints: tuple[str, ...]
    """Why, of some of them."""
    why: str
    """What is wrong with its last answer; empty if nothing is."""
    failures: int
    """In a row, up to now."""
    held: HeldBack | None
    asked: Asked


SourceStates = Callable[[], Sequence[SourceState]]
