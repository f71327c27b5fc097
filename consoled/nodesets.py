"""Node sets, `x3000c0s[1-32]b0n0,x3001c0s[0-7]b0n[0-1]`, made into plain sets of names.

ClusterShell reads them.  It expands while it parses, and takes minutes and gigabytes for `x[1-100000000]`, so
the size is worked out from the text first.  Node groups (`@rack1`) are refused: ClusterShell would run commands
to look them up.  Called when a configuration is read, and for requests with a smaller limit.
"""

import re
from math import prod
from typing import Final

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException

LIMIT: Final = 1_000_000
"""How many names a set may have, before its exclusions are taken out."""

_SPACED = re.compile(r"\s*([,!&^])\s*")
_OPERATOR = re.compile(r"[,!&^](?![^\[]*\])")
_SPAN = r"[0-9]{1,9}(?:-[0-9]{1,9}(?:/[0-9]{1,9})?)?"
_BRACKET = rf"\[({_SPAN}(?:,{_SPAN})*)\]"
_PATTERN = re.compile(rf"(?:[A-Za-z0-9._:-]|{_BRACKET})+")
_BRACKETS = re.compile(_BRACKET)
_NAME = re.compile(r"[A-Za-z0-9._:-]+")


def expand(text: str, limit: int = LIMIT) -> frozenset[str]:
    """The names in a node set; none for an empty text.  Raises `ValueError` that quotes the part it stumbled over."""
    text = _SPACED.sub(r"\1", text.strip())
    if not text:
        return frozenset()
    if size(text) > limit:
        raise ValueError(f"{_short(text)} has more than {limit} names")
    if _NAME.fullmatch(text):  # as most are; ClusterShell takes its time for each
        return frozenset((text,))
    try:
        return frozenset(NodeSet(text, resolver=RESOLVER_NOGROUP))
    except NodeSetException as error:
        raise ValueError(f"{_short(text)} is not a node set: {error}") from None


def size(text: str) -> int:
    """How many names a node set has at most, without making them.  Raises `ValueError` as `expand` does."""
    return sum(map(_size, _OPERATOR.split(_SPACED.sub(r"\1", text.strip()))))


def _size(pattern: str) -> int:
    """How many names one pattern stands for, at most."""
    if not _PATTERN.fullmatch(pattern):
        raise ValueError(
            f'{_short(pattern)} is not a node set: write "node7", "x3000c0s[1-4]b0n0" or several with commas'
        )
    return prod(sum(map(_span, inside.split(","))) for inside in _BRACKETS.findall(pattern))


def _span(span: str) -> int:
    first, _, rest = span.partition("-")
    last, _, step = rest.partition("/")
    return max(0, (int(last or first) - int(first)) // max(1, int(step or 1))) + 1


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
