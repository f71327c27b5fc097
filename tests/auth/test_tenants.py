"""Tenants: the header, the table, and what they leave within reach (contract, 1.5)."""

import re
from collections.abc import Coroutine
from math import inf
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail

from consoled.auth.tenants import Holding, Reach, TenantTable, named, reach
from consoled.core.access import CannotKnow, Forbidden

TABLE = TenantTable({"blue": "x[1-4]", "green": "x[5-8]", "empty-one": ""})
CONTRACT = re.compile(r"^[a-z0-9][a-z0-9\-\.]{1,251}[a-z0-9]$")

proper = st.from_regex(CONTRACT, fullmatch=True).filter(CONTRACT.fullmatch)


def run(coroutine: Coroutine[Deferred[Any], Any, Any]) -> Any:
    results: list[Any] = []
    failures: list[Any] = []
    Deferred.fromCoroutine(coroutine).addCallbacks(results.append, failures.append)
    for failure in failures:
        failure.raiseException()
    [result] = results
    return result


def nodes(text: str) -> frozenset[str]:
    return frozenset(text.split())


def within(found: Reach) -> frozenset[str]:
    """Those of the table's nodes, and one of nobody's, that are within reach."""
    return frozenset(name for name in nodes("x1 x2 x3 x4 x5 x6 x7 x8 x9") if found.has(name))


# ------------------------------------------------------------------------------------------------- the header


@pytest.mark.parametrize("headers", [[], [b""], [b"  "], [b"\t"]])
def test_C_TENANT_7_absent_and_empty_name_no_tenant(headers: list[bytes]) -> None:
    assert named(headers) is None


@given(proper)
def test_C_TENANT_6_a_proper_name_is_taken(name: str) -> None:
    assert named([name.encode()]) == name


@given(st.binary(min_size=1, max_size=300))
@example(b"blue\n")
@example(b"ab")
@example(b"a" * 254)
@example(b"Blue")
@example(b"blue,green")
@example(b"blu\xe9")
@example(b"../blue")
@example(b"blue%2f")
def test_C_TENANT_6_anything_else_is_refused(value: bytes) -> None:
    name = value.strip(b" \t").decode("latin-1")
    if CONTRACT.fullmatch(name):
        assert named([value]) == name
    elif name:
        with pytest.raises(Forbidden):
            named([value])


@pytest.mark.parametrize("headers", [[b"blue", b"green"], [b"blue", b"blue"], [b"blue", b""], [b"", b""]])
def test_several_headers_are_refused(headers: list[bytes]) -> None:
    with pytest.raises(Forbidden):
        named(headers)


# -------------------------------------------------------------------------------------------------- the table


def test_a_bad_node_set_names_its_key() -> None:
    with pytest.raises(ValueError, match=r"^tenants\.green: 'x\[5-' is not a node set"):
        TenantTable({"blue": "x1", "green": "x[5-"})


@pytest.mark.parametrize("name", ["Blue", "b", "blue\n", "blue ", "-blue", ""])
def test_a_name_that_no_header_can_say_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match=r"^tenants\.'"):
        TenantTable({name: "x1"})


# -------------------------------------------------------------------------------------------------- the reach


def test_unbound_and_no_header_reaches_everything() -> None:
    assert run(reach(None, None, TABLE)).within is None


def test_C_TENANT_2_an_unbound_user_is_narrowed_to_the_tenant_it_names() -> None:
    assert run(reach(None, "blue", TABLE)) == Reach({"blue"}, {"blue": nodes("x1 x2 x3 x4")}, inf)


def test_C_TENANT_8_a_bound_user_is_bound_without_the_header() -> None:
    assert within(run(reach(frozenset({"blue"}), None, TABLE))) == nodes("x1 x2 x3 x4")


def test_several_tenants_are_a_union_and_the_header_picks_one() -> None:
    both = frozenset({"blue", "green"})
    assert within(run(reach(both, None, TABLE))) == nodes("x1 x2 x3 x4 x5 x6 x7 x8")
    assert within(run(reach(both, "green", TABLE))) == nodes("x5 x6 x7 x8")


def test_C_TENANT_8_the_header_never_widens() -> None:
    with pytest.raises(Forbidden):
        run(reach(frozenset({"blue"}), "green", TABLE))


def test_C_TENANT_3_an_unknown_tenant_is_refused() -> None:
    for bound in (None, frozenset({"violet"})):
        with pytest.raises(Forbidden):
            run(reach(bound, "violet", TABLE))


def test_an_unknown_tenant_looks_like_a_foreign_one() -> None:
    texts = set()
    for choice in ("green", "violet"):
        with pytest.raises(Forbidden) as caught:
            run(reach(frozenset({"blue"}), choice, TABLE))
        texts.add(str(caught.value))
    assert len(texts) == 1


@pytest.mark.parametrize("bound", [frozenset(), frozenset({"violet"}), frozenset({"empty-one"})])
def test_bound_to_nothing_reaches_nothing(bound: frozenset[str]) -> None:
    assert not within(run(reach(bound, None, TABLE)))


def test_a_bound_tenant_that_is_unknown_takes_nothing_from_the_others() -> None:
    assert within(run(reach(frozenset({"blue", "violet"}), None, TABLE))) == nodes("x1 x2 x3 x4")


@pytest.mark.parametrize(("bound", "choice"), [(frozenset({"blue"}), None), (None, "blue")])
def test_C_TENANT_4_a_service_that_cannot_be_asked_is_no_yes(bound: frozenset[str] | None, choice: str | None) -> None:
    class Down:
        def nodes(self, tenant: str) -> Deferred[Holding]:
            return fail(CannotKnow("refused"))

    with pytest.raises(CannotKnow):
        run(reach(bound, choice, Down()))


@given(
    st.none() | st.frozensets(st.sampled_from(["blue", "green", "violet"])),
    st.none() | st.sampled_from(["blue", "green", "violet"]),
)
def test_naming_a_tenant_only_ever_narrows(bound: frozenset[str] | None, choice: str | None) -> None:
    without = within(run(reach(bound, None, TABLE)))
    try:
        assert within(run(reach(bound, choice, TABLE))) <= without
    except Forbidden:
        return
