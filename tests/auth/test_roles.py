"""The roles that a site makes itself."""

from __future__ import annotations

from math import inf
from typing import Any, get_args

import msgspec
import pytest

from consoled.auth.consoles import EVERYWHERE
from consoled.auth.roles import ROLES, Role, RoleSettings, make_roles
from consoled.core.access import Limits, Verb
from consoled.units import units

GROUPS = {"mountain": frozenset({"m1"})}


def roles(*tables: Any, tenants: Any = ("blue",)) -> dict[str, Role]:
    settings = msgspec.convert(list(tables), list[RoleSettings], dec_hook=units("/etc"))
    return make_roles(settings, GROUPS, tenants)


def test_without_any_there_are_three() -> None:
    assert roles() == ROLES
    assert set(ROLES) == {"viewer", "operator", "admin"}
    assert ROLES["admin"] == Role(frozenset(get_args(Verb)), EVERYWHERE, Limits(inf, inf))


def test_a_role_of_ones_own() -> None:
    own = roles(
        {
            "name": "night-shift",
            "verbs": ["list", "tail"],
            "consoles": "@mountain!m2",
            "max_session": "8h",
            "idle_timeout": "10m",
        }
    )["night-shift"]
    assert own.verbs == {"list", "tail"}
    assert own.consoles.has("m1", {})
    assert not own.consoles.has("m2", {})
    assert own.limits == Limits(28800, 600)


def test_what_is_not_said_is_everywhere_and_for_ever() -> None:
    assert roles({"name": "watch", "verbs": ["tail"]})["watch"] == Role(
        frozenset({"tail"}), EVERYWHERE, Limits(inf, inf)
    )


def test_a_role_of_the_same_name_takes_the_others_place() -> None:
    assert roles({"name": "operator", "verbs": ["tail"]})["operator"].verbs == {"tail"}


@pytest.mark.parametrize(
    ("tables", "complaint"),
    [
        ([{"name": "a", "verbs": ["fly"]}], r"'fly' - at `\$\[0\]\.verbs\[0\]`"),
        ([{"name": "a"}], "verbs"),
        ([{"name": "a b", "verbs": []}], r"\$\[0\]\.name"),
        ([{"name": "a", "verbs": [], "console": "x1"}], "console"),
        ([{"name": "a", "verbs": [], "max_session": "long"}], "not a duration"),
        ([{"name": "a", "verbs": []}, {"name": "a", "verbs": []}], r"^role\[1\]\.name: 'a' is there already"),
        ([{"name": "a", "verbs": [], "consoles": "@hill"}], r"^role\[0\]\.consoles: there is no group 'hill'"),
        ([{"name": "a", "verbs": [], "consoles": "@tenant:red"}], r"^role\[0\]\.consoles: there is no tenant 'red'"),
    ],
)
def test_a_mistake_is_named(tables: list[Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        roles(*tables)


def test_a_service_may_know_any_tenant() -> None:
    assert roles({"name": "a", "verbs": [], "consoles": "@tenant:red"}, tenants=None)["a"].consoles.tenants == {"red"}
