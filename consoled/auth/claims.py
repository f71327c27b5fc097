r"""What a token's claims are worth here: a name, roles, tenants.

Pure: `jwt_tokens` has checked the token and asks what its claims amount to.  The configuration says it in `grant`s, an
ordered list: each looks at one claim and makes roles of its values.  The first that gives any role decides everything;
the others are not looked at.  So a claim can never add to what another one has given: who is an admin of everything
by one claim and of a tenant by another is what the first of the two grants says, and not a mixture.

A claim is named by its path: `resource_access.shasta.roles` is the member `roles` of the member `shasta` of the claim
`resource_access`.  A dot that is part of a name is written `\.`, a backslash `\\`: `https://example\.com/roles`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from consoled.auth.tenants import TENANT

LONGEST_NAME: Final = 128
"""Characters of a user's name."""

_PART: Final = re.compile(r"((?:[^.\\]|\\[.\\])+)(\.(?=.)|\Z)", re.DOTALL)
_TENANT: Final = re.compile(TENANT)


class ClaimError(Exception):
    """A claim is not of the shape that the configuration expects.  The text names the claim and has no value of it."""


class ClaimPath(str):
    """Where a claim is."""

    names: tuple[str, ...]

    @classmethod
    def parse(cls, value: object) -> ClaimPath:
        """From a text.  Raises `ValueError`."""
        text = value if isinstance(value, str) else ""
        names, at = [], 0
        while part := _PART.match(text, at):
            names.append(re.sub(r"\\(.)", r"\1", part[1], flags=re.DOTALL))
            at = part.end()
        if not names or at != len(text):
            raise ValueError(rf"{value!r} is not the path of a claim: write names with dots between, and \. for a dot")
        path = cls(text)
        path.names = tuple(names)
        return path

    def of(self, claims: Mapping[str, Any]) -> Any:
        """The claim's value; None if there is none.  Raises `ClaimError` if the way there is blocked."""
        value: Any = claims
        for name in self.names:
            if value is None:
                return None
            if not isinstance(value, dict):
                raise ClaimError(f"the claim {self} is not there: what should hold {name!r} is no object")
            value = value.get(name)
        return value

    def texts(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        """The claim's value or values as texts.  Raises `ClaimError` if they are neither texts, numbers nor truths."""
        value = self.of(claims)
        values = value if isinstance(value, list) else [] if value is None else [value]
        return tuple(self._text(one) for one in values)

    def _text(self, value: Any) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str | int):
            return str(value)
        raise ClaimError(f"the claim {self} is neither a text nor a list of texts")


class TenantClaim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`tenants` of a grant: which tenants a token is bound to."""

    claim: ClaimPath
    """The claim that names them; a list of texts, or one."""
    prefix: str = ""
    """What a value must begin with to be a tenant's; it is taken away."""
    suffix: str = ""
    """What it must end with."""
    map: dict[str, str] = {}
    """What is left, and the tenant that it stands for; if it is given, nothing else is a tenant."""

    def __post_init__(self) -> None:
        for tenant in self.map.values():
            if not _TENANT.match(tenant):
                raise ValueError(f"map: {tenant!r} could be no tenant's name")

    def of(self, claims: Mapping[str, Any]) -> frozenset[str]:
        """The tenants; none of them if the claim is not there.  Raises `ClaimError`."""
        found = (self._tenant(text) for text in self.claim.texts(claims))
        return frozenset(tenant for tenant in found if tenant is not None and _TENANT.match(tenant))

    def _tenant(self, text: str) -> str | None:
        # A value without the suffix is not a tenant that happens to have the shorter name.
        whole = text.startswith(self.prefix) and text.endswith(self.suffix)
        if not whole or len(text) < len(self.prefix) + len(self.suffix):
            return None
        rest = text[len(self.prefix) : len(text) - len(self.suffix)]
        return self.map.get(rest) if self.map else rest


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[auth.jwt.grant]]`: what the values of one claim are worth."""

    claim: ClaimPath
    """The path of a claim: names with dots between, a dot in a name is written `\\.`."""
    map: dict[str, str]
    """A value, and the role that it gives."""
    words: bool = False
    """A text is a list of words, as `scope` is (RFC 8693, section 4.2)."""
    tenants: TenantClaim | None = None
    """The tenants that these roles are for.  Without it they are for all nodes."""
    must_name_tenant: bool = False
    """Each request must name one of the tenants."""

    def __post_init__(self) -> None:
        if not self.map:
            raise ValueError("map: it gives no role")
        if self.must_name_tenant and self.tenants is None:
            raise ValueError('must_name_tenant: it needs "tenants"')

    def roles(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        """The roles that it gives, each once.  Raises `ClaimError`."""
        values = self.claim.texts(claims)
        if self.words:
            values = tuple(word for value in values for word in value.split(" "))
        return tuple(dict.fromkeys(self.map[value] for value in values if value in self.map))


@dataclass(frozen=True, slots=True)
class Rights:
    """What somebody's claims amount to."""

    roles: tuple[str, ...]
    tenants: frozenset[str] | None
    must_name_tenant: bool = False


NONE: Final = Rights((), frozenset())


def rights(grants: Sequence[Grant], claims: Mapping[str, Any]) -> Rights:
    """What the first grant that gives any role gives.  Raises `ClaimError`."""
    for grant in grants:
        if roles := grant.roles(claims):
            tenants = None if grant.tenants is None else grant.tenants.of(claims)
            return Rights(roles, tenants, grant.must_name_tenant)
    return NONE


def name(paths: Sequence[ClaimPath], claims: Mapping[str, Any]) -> str:
    """The first of these claims that is fit to be somebody's name.  Raises `ClaimError` if none is.

    A name is shown to others and on their screens, so it prints, in one line, and cannot be taken for an end of
    `<ConMan> ... joined by <NAME@host>`.
    """
    for path in paths:
        value = path.of(claims)
        if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME or value != value.strip():
            continue
        if value.isprintable() and not set(value) & set("<>\\"):
            return value
    raise ClaimError(f"none of the claims {', '.join(paths)} is a name")
