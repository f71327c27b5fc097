"""The roles: which verbs each one has.

The table of `docs/operations.md`, as data.  Read by the gate for every decision and by `tokens` to refuse a role
that nobody knows.
"""

from collections.abc import Mapping
from typing import Final, get_args

from consoled.core.access import Verb

_WATCH: Final[frozenset[Verb]] = frozenset({"list", "tail"})
_TYPE: Final[frozenset[Verb]] = _WATCH | {"interact", "take", "break"}

ROLES: Final[Mapping[str, frozenset[Verb]]] = {
    "viewer": _WATCH,
    "operator": _TYPE,
    "admin": frozenset(get_args(Verb)),
}
