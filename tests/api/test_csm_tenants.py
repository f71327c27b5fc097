"""`Cray-Tenant-Name`: what it narrows, and what it never widens (contract 1.5)."""

from __future__ import annotations

import pytest
from twisted.cred.checkers import AllowAnonymousAccess
from twisted.internet.defer import Deferred, succeed

from consoled.auth.audit import Audit
from consoled.auth.gate import Gate
from consoled.auth.roles import ROLES
from tests.api.test_csm_refusals import refused
from tests.api.test_csm_routes import both_verbs, is_json_refusal
from tests.api.wire import Client
from tests.api.world import BARE, World

NOT_YOURS = "User does not have permission to access {}"
NOT_FOR = "User does not have permission to act for this tenant"


def try_it(world: World, user: str, verb: str, node: str, *tenants: str, header: str = "Cray-Tenant-Name") -> Client:
    return world.knock(f"{BARE}/{verb}/{node}", user, [(header, tenant) for tenant in tenants])


def let_in(client: Client) -> bool:
    return client.response.status_code == 101


@both_verbs
@pytest.mark.parametrize(
    ("user", "node", "tenant"), [("ada", "x1", "blue"), ("bob", "x1", "blue"), ("ada", "x2", "green")]
)
def test_c_tenant_1_listed(world: World, verb: str, user: str, node: str, tenant: str) -> None:
    assert let_in(try_it(world, user, verb, node, tenant))


@both_verbs
@pytest.mark.parametrize(
    ("user", "node", "tenant"), [("ada", "x2", "blue"), ("bob", "x2", "blue"), ("oscar", "x1", "green")]
)
def test_c_tenant_2_not_listed(world: World, verb: str, user: str, node: str, tenant: str) -> None:
    assert refused(try_it(world, user, verb, node, tenant).refusal, 403, NOT_YOURS.format(node))
    assert world.audited("refused")[-1]["why"] == "the node is not the tenant's"


@both_verbs
@pytest.mark.parametrize("user", ["ada", "oscar", "bob"])
def test_c_tenant_3_unknown(world: World, verb: str, user: str) -> None:
    assert refused(try_it(world, user, verb, "x1", "nobody").refusal, 403, NOT_FOR)


class Asked:
    """A tenant service that would admit anybody."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def nodes(self, tenant: str) -> Deferred[frozenset[str]]:
        self.names.append(tenant)
        return succeed(frozenset(["x1"]))


@pytest.mark.parametrize(
    "tenant",
    [
        "Blue",
        "b",
        "-blue",
        "blue-",
        "bl ue",
        "blue/../green",
        "..",
        "%62lue",
        "blue,green",
        "bl\tue",
        "é",
        "a" * 254,
        "blue\udcff",
    ],
)
def test_c_tenant_6_a_name_that_could_be_nobodys_is_not_even_asked_about(empty: World, tenant: str) -> None:
    asked = Asked()
    gate = Gate([AllowAnonymousAccess()], ROLES, asked, Audit(empty.records.append, empty.now))
    world = empty.begin(gate=gate)
    answer = world.ask(f"{BARE}/interact/x1", [("Cray-Tenant-Name", tenant)])
    assert refused(answer, 403, NOT_FOR)
    assert asked.names == []
    assert let_in(try_it(world, "ada", "interact", "x1", "bl.u-e9"))
    assert asked.names == ["bl.u-e9"]


@both_verbs
@pytest.mark.parametrize("tenant", ["", " ", "\t"])
def test_c_tenant_7_an_empty_header_is_none(world: World, verb: str, tenant: str) -> None:
    assert let_in(try_it(world, "oscar", verb, "x1", tenant))
    assert let_in(try_it(world, "oscar", verb, "x2", tenant))
    assert not let_in(try_it(world, "bob", verb, "x2", tenant))


@both_verbs
def test_c_tenant_8_a_bound_token_is_bound_without_the_header(world: World, verb: str) -> None:
    assert let_in(try_it(world, "bob", verb, "x1"))
    assert refused(try_it(world, "bob", verb, "x2").refusal, 403, NOT_YOURS.format("x2"))


@both_verbs
def test_c_tenant_8_a_bound_token_names_only_its_own_tenants(world: World, verb: str) -> None:
    assert refused(try_it(world, "bob", verb, "x2", "green").refusal, 403, NOT_FOR)
    assert refused(try_it(world, "bob", verb, "x1", "green").refusal, 403, NOT_FOR)


def test_c_tenant_8_bound_to_several(world: World) -> None:
    assert let_in(try_it(world, "both", "tail", "x1"))
    assert let_in(try_it(world, "both", "tail", "x2"))
    assert let_in(try_it(world, "both", "tail", "x2", "green"))
    assert not let_in(try_it(world, "both", "tail", "x1", "green"))


def test_c_tenant_8_bound_to_a_tenant_that_is_no_more(world: World) -> None:
    assert refused(try_it(world, "lost", "tail", "x1").refusal, 403, NOT_YOURS.format("x1"))
    assert refused(try_it(world, "lost", "tail", "x1", "gone").refusal, 403, NOT_FOR)


@pytest.mark.parametrize("header", ["cray-tenant-name", "CRAY-TENANT-NAME", "cRAY-tENANT-nAME"])
def test_c_tenant_9_the_headers_name_is_case_insensitive(world: World, header: str) -> None:
    assert let_in(try_it(world, "ada", "tail", "x1", "blue", header=header))
    assert not let_in(try_it(world, "ada", "tail", "x2", "blue", header=header))


@pytest.mark.parametrize("tenants", [("blue", "green"), ("green", "blue"), ("", "blue"), ("blue", "blue")])
def test_several_tenant_headers_are_refused(world: World, tenants: tuple[str, str]) -> None:
    answer = world.ask(f"{BARE}/tail/x1", [("Cray-Tenant-Name", tenant) for tenant in tenants], user="ada")
    assert refused(answer, 403, NOT_FOR)


# ---------------------------------------------------------------------------------------------- hide_forbidden


def raw(world: World, user: str, verb: str, node: str) -> bytes:
    """The whole answer on the wire, without its date."""
    client = world.client()
    client.request(f"{BARE}/{verb}/{node}", [("Authorization", f"Bearer canary-{user}-4711")])
    lines = bytes(client.socket.sent).split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.startswith(b"Date:"))


@both_verbs
@pytest.mark.parametrize("node", ["x1", "x3"])
def test_hide_forbidden_answers_as_for_an_unknown_node_byte_for_byte(empty: World, verb: str, node: str) -> None:
    world = empty.begin(settings={"hide_forbidden": True})
    unknown = raw(world, "gina", verb, "x9")
    assert raw(world, "gina", verb, node).replace(node.encode(), b"x9") == unknown
    assert b'{"message":"x9 is not a valid node."}' in unknown
    assert b" 404 " in unknown


def test_hide_forbidden_hides_nothing_from_the_audit(empty: World) -> None:
    world = empty.begin(settings={"hide_forbidden": True})
    world.knock(f"{BARE}/tail/x1", "gina")
    assert world.audited("refused")[-1]["why"] == "the node is not the tenant's"


def test_hide_forbidden_does_not_hide_what_is_ones_own(empty: World) -> None:
    world = empty.begin(settings={"hide_forbidden": True})
    assert let_in(world.knock(f"{BARE}/tail/x1", "bob"))
    assert refused(world.knock(f"{BARE}/tail/x3", "bob").refusal, 404, "Node x3 is not currently being monitored")
    assert is_json_refusal(world.knock(f"{BARE}/interact/x1", "vera").refusal, 403)
