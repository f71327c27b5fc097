"""Which of CloudAPI's versions a client will take: a semver range, of which one version either is part or not.

Called by the `cloudapi` face with the `Accept-Version` header.  Of npm's `semver` language: `~9||~8`, `^9.0`, `9.x`,
`*`, `>=8 <10`, `8 - 10`; pre-release tags are not part of it, as no version of CloudAPI has one.
"""

from __future__ import annotations

import re
from typing import Final

Version = tuple[int, int, int]

_PART: Final = r"(?:[xX*]|\d{1,9})"
_VERSION: Final = rf"v?{_PART}(?:\.{_PART}(?:\.{_PART})?)?"
_HYPHEN: Final = re.compile(rf"({_VERSION})\s+-\s+({_VERSION})", re.ASCII)
_COMPARATOR: Final = re.compile(rf"(>=|<=|>|<|=|\^|~>?)?\s*({_VERSION})\s*", re.ASCII)
_EVERYTHING: Final = (0, 0, 0), None
LONGEST: Final = 256


def satisfies(version: Version, text: str) -> bool:
    """Whether `version` is in the range `text`; a range that cannot be parsed has no version in it."""
    if len(text) > LONGEST:
        return False
    try:
        parts = [_in_all(version, part.strip()) for part in text.split("||")]
    except ValueError:
        return False
    return any(parts)


def _in_all(version: Version, text: str) -> bool:
    if hyphen := _HYPHEN.fullmatch(text):
        (low, _), (_, above) = _span(hyphen[1]), _span(hyphen[2])
        return low <= version and (above is None or version < above)
    at, good = 0, True
    while at < len(text):
        found = _COMPARATOR.match(text, at)
        if found is None:
            raise ValueError("no version range")
        good = good and _compares(version, found[1] or "", found[2])
        at = found.end()
    return good


def _compares(version: Version, operator: str, text: str) -> bool:
    low, above = _span(text)
    match operator:
        case ">=":
            return version >= low
        case "<":
            return version < low
        case ">":
            return above is not None and version >= above
        case "<=":
            return above is None or version < above
        case "^":
            above = None if above is None else _caret(low, text)
        case "~" | "~>":
            major, minor, *_ = (*_numbers(text), None, None)
            above = None if major is None else (major + 1, 0, 0) if minor is None else (major, minor + 1, 0)
    return low <= version and (above is None or version < above)


def _caret(low: Version, text: str) -> Version:
    """Up to the next change of the leftmost number that is not 0."""
    numbers = _numbers(text)
    for at, number in enumerate(numbers):
        if number or at == len(numbers) - 1:
            return _next(numbers[: at + 1])
    return low


def _span(text: str) -> tuple[Version, Version | None]:
    """The first version that `text` stands for, and the first above them; None: there is none above."""
    numbers = _numbers(text)
    if not numbers:
        return _EVERYTHING
    low = (*numbers, 0, 0, 0)
    return (low[0], low[1], low[2]), _next(numbers)


def _next(numbers: list[int]) -> Version:
    above = (*numbers[:-1], numbers[-1] + 1, 0, 0, 0)
    return above[0], above[1], above[2]


def _numbers(text: str) -> list[int]:
    """The numbers before the first that is left open."""
    numbers: list[int] = []
    for part in text.lstrip("v").split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return numbers
