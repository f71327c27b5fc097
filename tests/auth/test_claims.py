"""What claims are worth: paths, grants, tenants, names."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoled.auth.claims import NONE, ClaimError, ClaimPath, Grant, Rights, TenantClaim, name, rights
from consoled.auth.jwt_settings import PRESETS
from consoled.units import units
from tests.auth.keycloak import Keycloak

CSM = PRESETS["csm"]["grant"]
KEYCLOAK = Keycloak()


def path(text: str) -> ClaimPath:
    return ClaimPath.parse(text)


# ------------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("sub", ["sub"]),
        ("resource_access.shasta.roles", ["resource_access", "shasta", "roles"]),
        (r"https://example\.com/roles", ["https://example.com/roles"]),
        (r"resource_access.my\.client.roles", ["resource_access", "my.client", "roles"]),
        (r"a\\.b", ["a\\", "b"]),
        (r"a\\\.b", ["a\\.b"]),
        ("a b.ä", ["a b", "ä"]),
        ("a\n.b", ["a\n", "b"]),
    ],
)
def test_a_path(text: str, names: list[str]) -> None:
    assert path(text).names == tuple(names)
    assert path(text) == text


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "\\", "a\\", r"a\b", None, 1, ["a"]])
def test_what_is_no_path(text: Any) -> None:
    with pytest.raises(ValueError, match="is not the path of a claim"):
        ClaimPath.parse(text)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_any_names_can_be_written(names: list[str]) -> None:
    text = ".".join(one.replace("\\", "\\\\").replace(".", "\\.") for one in names)
    assert path(text).names == tuple(names)
    claims: Any = "here"
    for one in reversed(names):
        claims = {one: claims}
    assert path(text).of(claims) == "here"


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("a", ("a",)),
        ("", ("",)),
        (["a", "b"], ("a", "b")),
        ([], ()),
        (True, ("true",)),
        (False, ("false",)),
        (7, ("7",)),
        ([1, "b"], ("1", "b")),
        (None, ()),
    ],
)
def test_the_values_of_a_claim(value: Any, texts: tuple[str, ...]) -> None:
    assert path("a.b").texts({"a": {"b": value}}) == texts


@pytest.mark.parametrize("claims", [{}, {"a": None}, {"a": {}}, {"a": {"b": None}}, {"b": "x"}])
def test_a_claim_that_is_not_there(claims: Any) -> None:
    assert path("a.b").texts(claims) == ()


@pytest.mark.parametrize("value", [{}, {"admin": 1}, [["admin"]], [None], 1.5, [{"a": 1}]])
def test_a_claim_of_another_shape_is_an_error(value: Any) -> None:
    with pytest.raises(ClaimError, match="the claim a is neither"):
        path("a").texts({"a": value})


@pytest.mark.parametrize("value", ["canary", ["canary"], 1, True])
def test_a_blocked_way_is_an_error_that_shows_no_value(value: Any) -> None:
    with pytest.raises(ClaimError) as caught:
        path("a.b").texts({"a": value})
    assert "canary" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------ grants


def grant(text: str) -> Grant:
    return msgspec.toml.decode(text, type=Grant, dec_hook=units("/"))


ROLES = grant('claim = "roles"\nmap = { boss = "admin", help = "operator", "look at" = "viewer" }')


@pytest.mark.parametrize(
    ("value", "roles"),
    [
        ("boss", ("admin",)),
        (["x", "help", "look at", "help"], ("operator", "viewer")),
        (["Boss", "boss ", "boss\0", "bos", ""], ()),
        ("boss help", ()),
        (None, ()),
    ],
)
def test_roles_by_value(value: Any, roles: tuple[str, ...]) -> None:
    assert rights([ROLES], {"roles": value}) == (Rights(roles, None) if roles else NONE)


def test_words_of_a_text() -> None:
    scope = grant('claim = "scope"\nwords = true\nmap = { "consoled:watch" = "viewer", "consoled:type" = "operator" }')
    assert rights([scope], {"scope": "openid consoled:type  consoled:watch"}).roles == ("operator", "viewer")
    assert rights([scope], {"scope": "openid consoled:types"}) == NONE


def test_the_first_grant_that_gives_a_role_decides_everything() -> None:
    bound = grant('claim = "other"\nmap = { t = "operator" }\ntenants = { claim = "groups" }')
    claims = {"roles": "look at", "other": "t", "groups": ["blue"]}
    assert rights([ROLES, bound], claims) == Rights(("viewer",), None)
    assert rights([bound, ROLES], claims) == Rights(("operator",), frozenset({"blue"}))
    assert rights([], claims) == NONE


def test_nobody_has_no_roles_and_no_tenants() -> None:
    assert Rights((), frozenset()) == NONE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('claim = "a"', "map"),
        ('claim = "a"\nmap = {}', "map: it gives no role"),
        ('claim = "a."\nmap = { a = "b" }', "not the path"),
        ('claim = "a"\nmap = { a = 1 }', "str"),
        ('claim = "a"\nmap = { a = "b" }\nmust_name_tenant = true', "must_name_tenant: it needs"),
        ('claim = "a"\nmap = { a = "b" }\nrole = "x"', "`role`"),
        ('claim = "a"\nmap = { a = "b" }\ntenants = { claim = "c", map = { x = "Blue" } }', "could be no tenant"),
    ],
)
def test_a_mistake_is_named(text: str, said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        grant(text)


# ----------------------------------------------------------------------------------------------------- tenants


def tenants(value: Any, **more: Any) -> frozenset[str]:
    return TenantClaim(claim=path("groups"), **more).of({"groups": value})


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (["blue-tenant-admin", "green-tenant-admin"], {"blue", "green"}),
        ("blue-tenant-admin", {"blue"}),
        (["blue", "blue-tenant-admins", "x-blue-tenant-admin2"], set()),
        (["-tenant-admin", "b-tenant-admin", "Blue-tenant-admin", "a b-tenant-admin", "../x-tenant-admin"], set()),
        (["blue-tenant-admin-tenant-admin"], {"blue-tenant-admin"}),
        (["blue-tenant-admin\n", "blue\n-tenant-admin"], set()),
        (["a" * 300 + "-tenant-admin"], set()),
        ([], set()),
        (None, set()),
    ],
)
def test_c_tenant_8_the_suffix_is_required(value: Any, found: set[str]) -> None:
    assert tenants(value, suffix="-tenant-admin") == found


def test_prefix_suffix_and_map() -> None:
    assert tenants(["/t/blue/x", "/t/x", "/t//x", "blue"], prefix="/t/", suffix="/x") == {"blue"}
    assert tenants(["/a-b", "a-b"], prefix="/", map={"a-b": "blue"}) == {"blue"}
    assert tenants(["aXa"], prefix="aX", suffix="Xa") == set(), "they may not overlap"


@given(st.lists(st.text("ab-.\n", max_size=6)), st.text("ab-", max_size=3), st.text("ab-", max_size=3))
def test_what_is_added_by_prefix_and_suffix_is_what_is_taken_away(values: list[str], before: str, after: str) -> None:
    plain = tenants(values)
    assert tenants([before + value + after for value in values], prefix=before, suffix=after) == plain


# --------------------------------------------------------------------------------------------------------- CSM


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        (KEYCLOAK.claims(), Rights(("admin",), None)),
        (KEYCLOAK.tenant_admin("blue"), Rights(("operator",), frozenset({"blue"}), must_name_tenant=True)),
        (KEYCLOAK.tenant_admin(), Rights(("operator",), frozenset(), must_name_tenant=True)),
        (KEYCLOAK.tenant_admin("blue", groups=["blue"]), Rights(("operator",), frozenset(), must_name_tenant=True)),
        (KEYCLOAK.tenant_admin("blue", resource_access={"shasta": {"roles": ["admin"]}}), Rights(("admin",), None)),
        (KEYCLOAK.claims(resource_access={"shasta": {"roles": ["user", "monitor-ro", "wlm"]}}), NONE),
        (KEYCLOAK.claims(resource_access={"other": {"roles": ["admin"]}}), NONE),
        (KEYCLOAK.claims(resource_access=None), NONE),
        (KEYCLOAK.claims(resource_access=None, realm_access={"roles": ["admin"]}), NONE),
        (KEYCLOAK.claims(resource_access={"shasta": {"roles": ["tenant-admin"]}}), NONE),
    ],
)
def test_what_csms_gateway_decides(claims: dict[str, Any], expected: Rights) -> None:
    assert rights(CSM, claims) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON, JSON)
def test_no_shape_of_a_claim_is_an_accident(resource: Any, realm: Any, groups: Any) -> None:
    claims = {"resource_access": resource, "realm_access": realm, "groups": groups}
    try:
        found = rights(CSM, claims)
    except ClaimError:
        return
    assert found.roles in ((), ("admin",), ("operator",))
    assert found.tenants is None or found.roles != ("admin",)


# ------------------------------------------------------------------------------------------------------- names

NAMES = [path("preferred_username"), path("sub")]


@pytest.mark.parametrize(
    "text", ["ada", "ada@example.com", "service-account-shasta", "CN=Ada,OU=Ops", "auth0|ada", "Ada Lovelace", "Žofie"]
)
def test_a_name(text: str) -> None:
    assert name(NAMES, {"preferred_username": text, "sub": "s"}) == text


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "ada ",
        "a" * 129,
        "a\x1b[2J",
        "a\n",
        "a\u202eb",
        "\ud800",
        "x> y <z",
        "a\\b",
        7,
        True,
        ["ada"],
        {},
    ],
)
def test_what_is_not_fit_for_a_name_is_passed_over(value: Any) -> None:
    assert name(NAMES, {"preferred_username": value, "sub": "9d1c"}) == "9d1c"
    with pytest.raises(ClaimError, match="none of the claims preferred_username, sub is a name"):
        name(NAMES, {"preferred_username": value, "sub": value})
