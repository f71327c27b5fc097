"""The consoles of a role: ClusterShell's notation, checked against ClusterShell."""

from __future__ import annotations

import pytest
from ClusterShell.NodeSet import NodeSet
from hypothesis import given
from hypothesis import strategies as st

from consoled.auth.consoles import EVERYWHERE, Consoles

GROUPS = {"mountain": frozenset({"m1", "m2"}), "n1": frozenset({"x9"}), "empty": frozenset[str]()}
OWNED = {"blue": frozenset({"x1", "x2"}), "green": frozenset({"m2"})}
NAMES = ["m1", "m2", "x1", "x2", "x3", "x9", "y1"]


def names(text: str) -> str:
    consoles = Consoles.parse(text, GROUPS)
    return " ".join(name for name in NAMES if consoles.has(name, OWNED))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x1", "x1"),
        ("x[1-3]", "x1 x2 x3"),
        ("x[1,3],y1", "x1 x3 y1"),
        ("@*", "m1 m2 x1 x2 x3 x9 y1"),
        ("@mountain", "m1 m2"),
        ("@empty", ""),
        ("@n1", "x9"),
        ("@tenant:blue", "x1 x2"),
        ("@tenant:violet", ""),
        ("@*!x[1-3]", "m1 m2 x9 y1"),
        ("@*!@mountain!@tenant:blue", "x3 x9 y1"),
        ("@mountain&@tenant:green", "m2"),
        ("@mountain ^ @tenant:green", "m1"),
        (" x1 , x2 ", "x1 x2"),
        # From left to right: what is excluded can be added again.
        ("@*!x[1-3],x2", "m1 m2 x2 x9 y1"),
        ("x2,@*!x[1-3]", "m1 m2 x9 y1"),
        ("x[1-3]!x[2,3]", "x1"),
    ],
)
def test_what_it_means(text: str, found: str) -> None:
    assert names(text) == found


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("@hill", "there is no group 'hill'"),
        ("@", "there is no group ''"),
        ("@tenant:violet", "there is no tenant 'violet'"),
        ("@other:blue", "there is no group 'other:blue'"),
        ("", "something is missing"),
        ("x1,", "something is missing"),
        ("!x1", "something is missing"),
        ("x1,,x2", "something is missing"),
        ("x[1-", "is not a node set"),
        ("x1 x2", "is not a node set"),
        ("*", "is not a node set"),
        ("x[1-100000000]", "more than"),
    ],
)
def test_a_mistake_is_named(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Consoles.parse(text, GROUPS, ["blue"])


@pytest.mark.parametrize("name", ["", "Blue", "a/b", "x"])
def test_what_could_be_no_tenant_is_a_mistake_whoever_knows_them(name: str) -> None:
    # Excluded from everything, it would be everything.
    with pytest.raises(ValueError, match="there is no tenant"):
        Consoles.parse(f"@*!@tenant:{name}", GROUPS)


def test_it_knows_which_tenants_it_names() -> None:
    assert Consoles.parse("x1,@tenant:blue!@tenant:green,@mountain", GROUPS).tenants == {"blue", "green"}
    assert EVERYWHERE.tenants == frozenset()
    assert EVERYWHERE.has("anything", {})


sets = st.sampled_from(["x1", "x[1-3]", "x[2,9]", "m[1-2]", "y1,x3"])


@given(sets, st.lists(st.tuples(st.sampled_from(",!&^"), sets), max_size=5))
def test_operators_are_clustershells(first: str, more: list[tuple[str, str]]) -> None:
    text = first + "".join(operator + one for operator, one in more)
    theirs = set(NodeSet(text))
    assert names(text).split() == [name for name in NAMES if name in theirs]
