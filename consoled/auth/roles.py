"""The roles: which verbs each one has, on which consoles, and for how long at a time.

`viewer`, `operator` and `admin` are the table of `docs/operations.md` as data; a site's own come from `[[role]]`.  Read
by the gate for every decision, and by the checkers to refuse a role that nobody knows.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Annotated, Final, get_args

import msgspec

from consoled.auth.consoles import EVERYWHERE, Consoles
from consoled.core.access import Limits, Verb
from consoled.units import Duration

NAME: Final = r"^[\w.@:+-]{1,64}\Z"


_UNLIMITED: Final = Limits()


@dataclass(frozen=True, slots=True)
class Role:
    """Some verbs on some consoles."""

    verbs: frozenset[Verb]
    consoles: Consoles = EVERYWHERE
    limits: Limits = _UNLIMITED


_WATCH: Final[frozenset[Verb]] = frozenset({"list", "tail"})
_TYPE: Final[frozenset[Verb]] = _WATCH | {"interact", "take", "break", "reset"}

ROLES: Final[Mapping[str, Role]] = {
    "viewer": Role(_WATCH),
    "operator": Role(_TYPE),
    "admin": Role(frozenset(get_args(Verb))),
}
"""The roles that are there without being configured."""


class RoleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[role]]`."""

    name: Annotated[str, msgspec.Meta(pattern=NAME)]
    """What tokens, claims and certificates call it; `viewer`, `operator` or `admin` takes that one's place."""
    verbs: tuple[Verb, ...]
    """What it may do."""
    consoles: str = "@*"
    """Where: see `consoles`."""
    max_session: Duration = Duration(0)
    """After so long a session is closed; 0: never."""
    idle_timeout: Duration = Duration(0)
    """After so long without a message from its client an interactive session is closed; 0: never."""


def make_roles(
    settings: Iterable[RoleSettings], groups: Mapping[str, frozenset[str]], tenants: Collection[str] | None
) -> dict[str, Role]:
    """All roles, the site's own in the place of those of the same name.

    `groups` has the consoles of each group; `tenants` those that can be named, None if a service knows them.
    Raises `ValueError` that names the key.
    """
    own: dict[str, Role] = {}
    for at, role in enumerate(settings):
        if role.name in own:
            raise ValueError(f"role[{at}].name: {role.name!r} is there already")
        try:
            consoles = Consoles.parse(role.consoles, groups, tenants)
        except ValueError as error:
            raise ValueError(f"role[{at}].consoles: {error}") from None
        limits = Limits(role.max_session or inf, role.idle_timeout or inf)
        own[role.name] = Role(frozenset(role.verbs), consoles, limits)
    return {**ROLES, **own}
