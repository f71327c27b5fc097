"""The consoles that a role is for: `@mountain,x3000c0s[1-4]b0n0!@tenant:blue`.

ClusterShell's notation for node sets, with its operators (`,` or, `!` but not, `&` and, `^` either), which it reads
from left to right, and its names for groups: `@NAME` are the consoles of a `[[group]]`, `@tenant:NAME` the nodes
of a tenant, `@*` all of them.  Made by `roles` when the configuration is read; the gate asks it for one console at a
time, with what the tenants own at that moment.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from consoled.auth.tenants import TENANT
from consoled.nodesets import expand

# An operator, unless it stands between brackets.
_OPERATOR: Final = re.compile(r"\s*([,!&^])(?![^\[]*\])\s*")
_TENANT: Final = "@tenant:"

Owned = Mapping[str, frozenset[str]]
"""The nodes of each tenant; one that nobody has heard of is not there."""


@dataclass(frozen=True, slots=True)
class _Tenant:
    """Whatever nodes it owns when asked."""

    name: str


_Term = frozenset[str] | _Tenant | None
"""What stands between two operators; None: all consoles."""


@dataclass(frozen=True, slots=True)
class Consoles:
    """A set of consoles that is not spelled out: it may name all of them, and tenants."""

    _first: _Term
    _rest: tuple[tuple[str, _Term], ...] = ()

    @classmethod
    def parse(cls, text: str, groups: Mapping[str, frozenset[str]], tenants: Collection[str] | None = None) -> Consoles:
        """From its notation.  Raises `ValueError` that quotes the part it stumbled over.

        `groups` has the consoles of each group; `tenants` those that can be named, None for any.
        """
        first, *rest = _OPERATOR.split(text.strip())
        terms = [_term(one, groups, tenants) for one in (first, *rest[1::2])]
        return cls(terms[0], tuple(zip(rest[::2], terms[1:], strict=True)))

    @property
    def tenants(self) -> frozenset[str]:
        """The tenants that it names."""
        terms = (self._first, *(term for _, term in self._rest))
        return frozenset(term.name for term in terms if isinstance(term, _Tenant))

    def has(self, console: str, owned: Owned) -> bool:
        """Whether `console` is one of them.  `owned` answers for each of `tenants`."""
        found = _among(console, self._first, owned)
        for operator, term in self._rest:
            match operator:
                case ",":
                    found = found or _among(console, term, owned)
                case "!":
                    found = found and not _among(console, term, owned)
                case "&":
                    found = found and _among(console, term, owned)
                case _:
                    found = found != _among(console, term, owned)
        return found


EVERYWHERE: Final = Consoles(None)


def _term(text: str, groups: Mapping[str, frozenset[str]], tenants: Collection[str] | None) -> _Term:
    if text == "@*":
        return None
    if text.startswith(_TENANT):
        name = text.removeprefix(_TENANT)
        if not re.match(TENANT, name) or (tenants is not None and name not in tenants):
            raise ValueError(f"there is no tenant {name!r}")
        return _Tenant(name)
    if text.startswith("@"):
        if text[1:] not in groups:
            raise ValueError(f"there is no group {text[1:]!r}")
        return groups[text[1:]]
    if not text:
        raise ValueError("something is missing beside an operator")
    return expand(text)


def _among(console: str, term: _Term, owned: Owned) -> bool:
    if term is None:
        return True
    return console in (owned.get(term.name, ()) if isinstance(term, _Tenant) else term)
