"""`Cray-Tenant-Name`: what it narrows, and what it never widens (contract 1.5)."""

from __future__ import annotations

import pytest
from twisted.cred.checkers import AllowAnonymousAccess
from twisted.internet.defer import Deferred, succeed
from twisted.logger import LogEvent

from consoled.auth.audit import Audit
from consoled.auth.gate import Gate
from consoled.auth.roles import ROLES
from consoled.auth.tapms import TapmsSettings, TenantService
from consoled.auth.tenants import Holding
from consoled.core.secret import Secret
from consoled.fetch import Unreachable
from tests.api.conftest import failures
from tests.api.test_csm_refusals import refused
from tests.api.test_csm_routes import both_verbs, is_json_refusal
from tests.api.wire import Client
from tests.api.world import BARE, TENANTS, World
from tests.auth.tapms import Tapms, tenant

PASSED_OVER = 61
"""Seconds after which nothing is believed that a tenant service has said."""

NOT_YOURS = "User does not have permission to access {}"
NOT_FOR = "User does not have permission to act for this tenant"


def try_it(world: World, user: str, verb: str, node: str, *tenants: str, header: str = "Cray-Tenant-Name") -> Client:
    return world.knock(f"{BARE}/{verb}/{node}", user, [(header, tenant) for tenant in tenants])


def let_in(client: Client) -> bool:
    return client.response.status_code == 101


def served(empty: World, tapms: Tapms) -> World:
    """A world whose tenants are known to a tenant service only."""
    settings = TapmsSettings(url="http://cray-tapms", unsafe_plaintext=True)
    service = TenantService(settings, tapms, Secrets(), empty.clock)
    return empty.begin(gate=Gate([empty.tokens], ROLES, service, empty.audit, empty.now))


class Secrets:
    """The service wants no token."""

    def fetch(self, secret: Secret, fresh: bool = False) -> Deferred[str]:
        raise AssertionError(secret)


@pytest.fixture
def tapms() -> Tapms:
    return Tapms(**TENANTS)


@pytest.fixture(params=["table", "service"])
def world(request: pytest.FixtureRequest, empty: World, tapms: Tapms) -> World:
    return empty.begin() if request.param == "table" else served(empty, tapms)


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


TROUBLES = {
    "error": (500, b'{"message": "etcd is down"}'),
    "not JSON": (200, b"<html>please log in</html>"),
    "not a tenant": (200, b'"Tenant not found."'),
    "unrouted": (404, b'{"message": "Page not found"}'),
}


@both_verbs
@pytest.mark.parametrize("user", ["ada", "bob"])
@pytest.mark.parametrize("trouble", [*TROUBLES, "dropped"])
def test_c_tenant_4_a_service_that_cannot_be_asked(
    empty: World, tapms: Tapms, log: list[LogEvent], verb: str, user: str, trouble: str
) -> None:
    world = served(empty, tapms)
    tapms.answer = TROUBLES.get(trouble)
    tapms.error = Unreachable("dropped") if tapms.answer is None else None
    refusal = try_it(world, user, verb, "x1", "blue").refusal
    assert refused(refusal, 503, "Permission cannot be checked at present; try again later")
    assert int(refusal.headers["retry-after"]) > 0
    assert "the tenant service cannot be asked" in world.audited("refused")[-1]["why"]
    assert let_in(try_it(world, "oscar", verb, "x1")), "who is of no tenant needs no tenant service"
    assert len(failures(log)) == 1
    log.clear()


@both_verbs
def test_c_tenant_4_what_was_said_less_than_a_minute_ago_is_believed(
    empty: World, tapms: Tapms, log: list[LogEvent], verb: str
) -> None:
    world = served(empty, tapms)
    assert let_in(try_it(world, "bob", verb, "x1"))
    tapms.error = Unreachable("dropped")
    world.clock.advance(59)
    assert let_in(try_it(world, "bob", verb, "x1"))
    assert refused(try_it(world, "bob", verb, "x2").refusal, 403, NOT_YOURS.format("x2"))
    assert try_it(world, "gina", verb, "x2").refusal.status == 503
    world.clock.advance(PASSED_OVER - 59)
    assert try_it(world, "bob", verb, "x1").refusal.status == 503
    log.clear()


@both_verbs
def test_c_tenant_5_a_service_that_hangs(empty: World, tapms: Tapms, log: list[LogEvent], verb: str) -> None:
    world = served(empty, tapms)
    tapms.waiting = []
    client = try_it(world, "bob", verb, "x1")
    world.clock.advance(2.9)
    client.receive()
    assert client.response is None
    world.clock.advance(0.1)
    assert is_json_refusal(client.refusal, 503)
    assert int(client.refusal.headers["retry-after"]) > 0
    log.clear()


def test_c_tenant_4_open_sessions_end_when_nothing_is_known_any_more(
    empty: World, tapms: Tapms, log: list[LogEvent]
) -> None:
    world = served(empty, tapms)
    bob, oscar = try_it(world, "bob", "interact", "x1"), try_it(world, "oscar", "interact", "x1")
    tapms.error = Unreachable("dropped")
    for _ in range(59):
        world.clock.advance(1)
        assert bob.is_open
    world.clock.advance(1)
    bob.receive()
    assert (bob.close_code, bob.close_reason) == (1013, "Permission cannot be checked at present; try again later")
    assert oscar.is_open
    log.clear()


def test_c_tenant_2_open_sessions_end_when_the_tenant_loses_the_node(empty: World, tapms: Tapms) -> None:
    world = served(empty, tapms)
    bob = try_it(world, "bob", "interact", "x1")
    others = [try_it(world, user, "interact", "x1") for user in ("oscar", "ada")]
    tapms.tenants["blue"] = tenant("blue", "x3")
    world.clock.advance(10)
    bob.receive()
    assert (bob.close_code, bob.close_reason) == (4403, NOT_YOURS.format("x1"))
    assert all(other.is_open for other in others)
    assert len(tapms.asked) == 2


class Asked:
    """A tenant service that would admit anybody."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def nodes(self, tenant: str) -> Deferred[Holding]:
        self.names.append(tenant)
        return succeed(Holding(frozenset(["x1"])))


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
    gate = Gate([AllowAnonymousAccess()], ROLES, asked, Audit(empty.records.append, empty.now), empty.now)
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
