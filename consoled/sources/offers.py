"""What one answer of a source comes to: consoles, and complaints about the entries that make none.

`keeper` and `belief` have it made, of an answer or, at a reload, of the one that is in force; an entry that is wrong is
left out and said, so that it does not cost the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from consoled.consoles import AnyConsole, ConfigError, Making
from consoled.inventory import Table
from consoled.nodesets import size
from consoled.printable import printable
from consoled.sources.abroad import check_entry, check_made
from consoled.sources.settings import SourceSettings

COMPLAINTS: Final = 100
"""Of the entries of an answer that are left out, so many are told why."""

Named = dict[str, tuple[AnyConsole, str]]
"""Consoles by their names, each with its group."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What one answer of a source comes to."""

    consoles: Mapping[str, tuple[AnyConsole, str]]
    """By their names, each with its group."""
    complaints: tuple[str, ...] = ()
    """Of the entries that are left out the first `COMPLAINTS`, and why."""
    left_out: int = 0
    """How many there are."""


def offer(making: Making, source: SourceSettings, entries: Sequence[Table]) -> Offer:
    """What `source` offers with these `entries`.  Takes a tenth of a millisecond for each: call it in a thread.

    Raises `ConfigError` if they are for more consoles than it may have.
    """
    most = source.max_consoles
    if (wanted := len(entries)) > most or (wanted := sum(map(_size, entries))) > most:
        raise ConfigError(f"max_consoles: {wanted} consoles are more than {most}")
    made: Named = {}
    complaints, left_out = [], 0
    for index, entry in enumerate(entries):
        where = f"entry {index}"
        if isinstance(name := entry.get("name"), str):
            where += f" ({printable(name)})"
        try:
            made |= _offered(making, source, entry, where, made)
        except ConfigError as error:
            left_out += 1
            if left_out <= COMPLAINTS:
                complaints.append(printable(str(error)))
    return Offer(made, tuple(complaints), left_out)


def _offered(making: Making, source: SourceSettings, entry: Table, where: str, made: Mapping[str, Any]) -> Named:
    try:
        table = source.table(entry)
    except ValueError as error:
        raise ConfigError(f"{where}.{error}") from None
    if not source.is_trusted:
        group = table["group"]
        check_entry(where, entry, making.inherited.get(group, {}) if isinstance(group, str) else {})
    found: Named = {}
    for settings, group in making.consoles([(where, table)]):
        if not source.is_trusted:
            check_made(where, settings)
        if settings.name in made:
            raise ConfigError(f"{where}.name: {settings.name} is there already")
        found[settings.name] = settings, group
    return found


def _size(entry: Table) -> int:
    """How many consoles an entry is for; one that makes no sense is for one, which will be left out."""
    try:
        return max(1, size(entry["name"]))
    except (KeyError, AttributeError, ValueError):
        return 1
