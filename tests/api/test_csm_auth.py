"""Tokens of CSM's Keycloak at the door of CSM's routes (contract 1.4, 1.5): the whole way, with real keys."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import LogEvent

from consoled.auth.gate import Gate
from consoled.auth.jwks import LIMIT, RETRY, FetchedKeys
from consoled.auth.jwt_tokens import JwtTokens
from consoled.auth.roles import ROLES
from consoled.auth.tenants import TenantTable
from tests.api.test_csm_routes import both_verbs, is_json_refusal
from tests.api.wire import Answer, Client
from tests.api.world import BARE, TENANTS, World
from tests.auth.keycloak import ISSUER, Keycloak, b64, compact, private_key, public_pem, sign
from tests.auth.test_jwt_tokens import settings
from tests.fakes import EPOCH


class Csm:
    """A world that believes a Keycloak, and the tokens file after it."""

    def __init__(self, world: World) -> None:
        self.keycloak = Keycloak()
        self.keys = FetchedKeys(self.keycloak.fetch, world.clock, refresh=300, stale=3600, issuer=ISSUER)
        self.checker = JwtTokens([(settings(), self.keys)], ROLES, world.now)
        checkers = [world.tokens, self.checker]
        self.world = world.begin(gate=Gate(checkers, ROLES, TenantTable(TENANTS), world.audit, world.now))
        self.shown: list[str] = []

    def knock(self, token: str | None, path: str = "interact/x1", tenant: str | None = None, **more: Any) -> Client:
        headers = [] if token is None else [("Authorization", f"Bearer {token}")]
        if token:
            self.shown.append(token)
        if tenant is not None:
            headers.append(("Cray-Tenant-Name", tenant))
        return self.world.knock(f"{BARE}/{path}", None, headers, **more)

    def status(self, token: str | None, path: str = "interact/x1", tenant: str | None = None) -> int:
        client = self.knock(token, path, tenant)
        if client.response.status_code == 101:
            return 101
        assert is_json_refusal(client.refusal, client.response.status_code)
        return client.response.status_code

    def raw(self, token: str | None, path: str) -> bytes:
        """The whole answer on the wire, without its date."""
        client = self.world.client()
        client.request(f"{BARE}/{path}", [("Authorization", f"Bearer {token}")] if token is not None else [])
        lines = bytes(client.socket.sent).split(b"\r\n")
        return b"\r\n".join(line for line in lines if not line.startswith(b"Date:"))


@pytest.fixture
def csm(empty: World, log: list[LogEvent]) -> Iterator[Csm]:
    """At the end no part of any token that was shown is in the audit or the log."""
    csm = Csm(empty)
    csm.checker.start()
    yield csm
    csm.checker.stop()
    written = f"{csm.world.records}{log}"
    for token in csm.shown:
        assert not [part for part in token.split(".") if len(part) > 20 and part in written]
    assert "manage-account" not in written


def expired() -> str:
    keycloak = Keycloak()
    return keycloak.token(keycloak.claims(exp=EPOCH - 60))


def by_public_key(name: str) -> str:
    """HS256 with the public key for its secret, or no signature at all."""
    header, payload, _ = compact({"alg": name, "typ": "JWT", "kid": "rsa-1"}, Keycloak().claims(), b"x").split(".")
    digest = hmac.new(public_pem(private_key()), f"{header}.{payload}".encode(), hashlib.sha256).digest()
    return f"{header}.{payload}.{'' if name == 'none' else b64(digest)}"


STRANGER = private_key("RSA", 5)
BAD = {
    "none": None,
    "garbage": "garbage",
    "wrong key": sign(Keycloak().claims(), STRANGER, "RS256", kid="rsa-1"),
    "unknown key": sign(Keycloak().claims(), STRANGER, "RS256", kid="rsa-7"),
    "expired": expired(),
    "issuer": Keycloak().token(Keycloak().claims(iss="https://evil.example.com/realms/shasta")),
    "audience": Keycloak().token(Keycloak().claims(aud=["account"])),
    "alg none": by_public_key("none"),
    "HS256": by_public_key("HS256"),
    "too long": "x" * 9000,
}


def take_out(log: list[LogEvent]) -> None:
    """What is said of a Keycloak that cannot be asked: once."""
    [event] = [event for event in log if "cannot be had" in event.get("trouble", "")]
    log.remove(event)


def stranger(answer: Answer) -> bool:
    return is_json_refusal(answer, 401) and answer.headers["www-authenticate"].startswith("Bearer")


@both_verbs
def test_an_admin_is_let_in_everywhere(csm: Csm, verb: str) -> None:
    for node in ("x1", "x2"):
        assert csm.status(csm.keycloak.token(), f"{verb}/{node}") == 101
    accepted = csm.world.audited("accepted")[-1]
    assert accepted["proof"] == f"jwt {ISSUER}"


@both_verbs
def test_c_auth_1_no_token(csm: Csm, verb: str) -> None:
    assert stranger(csm.knock(None, f"{verb}/x1").refusal)


@both_verbs
@pytest.mark.parametrize("token", ["garbage", "wrong key", "unknown key"])
def test_c_auth_2_garbage_or_another_key(csm: Csm, verb: str, token: str) -> None:
    assert stranger(csm.knock(BAD[token], f"{verb}/x1").refusal)


@both_verbs
def test_c_auth_3_expired(csm: Csm, verb: str) -> None:
    assert stranger(csm.knock(BAD["expired"], f"{verb}/x1").refusal)
    assert csm.world.audited("refused")[-1]["why"] == "the token expired 60 s ago"


@both_verbs
@pytest.mark.parametrize("token", ["issuer", "audience"])
def test_c_auth_4_another_issuer_or_audience(csm: Csm, verb: str, token: str) -> None:
    assert stranger(csm.knock(BAD[token], f"{verb}/x1").refusal)


@both_verbs
@pytest.mark.parametrize("token", ["alg none", "HS256"])
def test_c_auth_5_no_signature_or_a_symmetric_one(csm: Csm, verb: str, token: str) -> None:
    assert stranger(csm.knock(BAD[token], f"{verb}/x1").refusal)
    assert "is not allowed" in csm.world.audited("refused")[-1]["why"]


@both_verbs
@pytest.mark.parametrize("roles", [["user"], ["monitor-ro", "wlm", "system-pxe"], [], ["Admin"], ["admin "]])
def test_c_auth_6_a_good_token_without_a_role_for_consoles(csm: Csm, verb: str, roles: list[str]) -> None:
    token = csm.keycloak.token(csm.keycloak.claims(resource_access={"shasta": {"roles": roles}}))
    for node in ("x1", "x9"):
        assert is_json_refusal(csm.knock(token, f"{verb}/{node}").refusal, 403)


@both_verbs
@pytest.mark.parametrize("token", BAD)
def test_c_auth_7_strangers_learn_nothing_of_nodes(csm: Csm, verb: str, token: str) -> None:
    answers = {csm.raw(BAD[token], f"{verb}/{node}") for node in ("x1", "x2", "x3", "x9", "%C3%A9", "a" * 500)}
    assert len(answers) == 1
    assert answers == {csm.raw(None, "interact/x1")}, "nor of what was wrong with their token"
    assert answers.pop().startswith(b"HTTP/1.1 401 ")


def test_c_auth_7_nor_do_they_while_nobody_can_be_asked(csm: Csm, log: list[LogEvent]) -> None:
    csm.keycloak.hanging = []
    csm.world.clock.advance(60)
    answers = set()
    for node in ("x1", "x3", "x9"):
        client = csm.knock(BAD["unknown key"], f"interact/{node}")
        csm.world.clock.advance(LIMIT)
        assert is_json_refusal(client.refusal, 503)
        answers.add(client.refusal.body)
    assert len(answers) == 1
    take_out(log)


# ----------------------------------------------------------------------------------------------------- tenants


@both_verbs
def test_c_tenant_1_a_tenants_admin_is_let_in_to_its_nodes(csm: Csm, verb: str) -> None:
    token = csm.keycloak.token(csm.keycloak.tenant_admin("blue"))
    assert csm.status(token, f"{verb}/x1", "blue") == 101
    assert csm.world.audited("accepted")[-1]["account"] == "tina"


@both_verbs
@pytest.mark.parametrize("user", ["ada", "tina"])
def test_c_tenant_2_and_to_no_others_even_an_admin_that_names_a_tenant(csm: Csm, verb: str, user: str) -> None:
    claims = csm.keycloak.claims() if user == "ada" else csm.keycloak.tenant_admin("blue", "green")
    assert csm.status(csm.keycloak.token(claims), f"{verb}/x2", "blue") == 403


@both_verbs
@pytest.mark.parametrize("user", ["ada", "tina"])
def test_c_tenant_3_unknown(csm: Csm, verb: str, user: str) -> None:
    claims = csm.keycloak.claims() if user == "ada" else csm.keycloak.tenant_admin("nobody")
    assert csm.status(csm.keycloak.token(claims), f"{verb}/x1", "nobody") == 403


@both_verbs
@pytest.mark.parametrize("tenant", [None, "", " "])
def test_c_tenant_8_a_tenants_admin_must_say_for_whom(csm: Csm, verb: str, tenant: str | None) -> None:
    token = csm.keycloak.token(csm.keycloak.tenant_admin("blue"))
    for node in ("x1", "x2", "x9"):
        assert csm.status(token, f"{verb}/{node}", tenant) == 403
    assert "tenant" in csm.world.audited("refused")[-1]["why"]


@both_verbs
@pytest.mark.parametrize("tenant", ["green", "blue2", "blu", "BLUE", "blue-tenant-admin", "*", "blue,green"])
def test_c_tenant_8_and_only_for_those_in_its_groups(csm: Csm, verb: str, tenant: str) -> None:
    token = csm.keycloak.token(csm.keycloak.tenant_admin("blue"))
    assert csm.status(token, f"{verb}/x2", tenant) == 403
    assert csm.status(token, f"{verb}/x1", tenant) == 403


@both_verbs
def test_c_tenant_8_a_group_of_the_tenants_bare_name_is_not_enough(csm: Csm, verb: str) -> None:
    """CSM's own policy lets it pass (contract, part 4, 4)."""
    for groups in (["blue"], ["blue-admin"], ["-tenant-admin"], [], None, ["x-blue-tenant-admin"]):
        token = csm.keycloak.token(csm.keycloak.tenant_admin("blue", groups=groups))
        assert csm.status(token, f"{verb}/x1", "blue") == 403


@both_verbs
def test_c_tenant_8_groups_without_the_role_are_not_enough(csm: Csm, verb: str) -> None:
    claims = csm.keycloak.tenant_admin("blue", realm_access={"roles": ["offline_access"]})
    assert csm.status(csm.keycloak.token(claims), f"{verb}/x1", "blue") == 403


@both_verbs
def test_an_admin_who_is_a_tenants_admin_too_need_not_name_it(csm: Csm, verb: str) -> None:
    claims = csm.keycloak.tenant_admin("blue", resource_access={"shasta": {"roles": ["admin"]}})
    assert csm.status(csm.keycloak.token(claims), f"{verb}/x2") == 101
    assert csm.status(csm.keycloak.token(claims), f"{verb}/x2", "green") == 101


# ----------------------------------------------------------------------------------------------------- the rest


def test_the_tokens_file_is_good_beside_it(csm: Csm) -> None:
    assert csm.status("canary-oscar-4711") == 101
    assert csm.world.audited("accepted")[-1]["proof"] == "tokens"


def test_keycloak_is_down_from_the_start(empty: World, log: list[LogEvent]) -> None:
    csm = Csm(empty)
    csm.keycloak.hanging = []
    csm.checker.start()
    token = csm.keycloak.token()
    client = csm.knock(token)
    assert client.response is None, "it waits"
    empty.clock.advance(LIMIT)
    assert is_json_refusal(client.refusal, 503)
    assert 1 <= int(client.refusal.headers["retry-after"]) <= RETRY
    assert csm.status("canary-oscar-4711") == 101, "who needs no Keycloak is let in"
    csm.keycloak.hanging = None
    empty.clock.advance(RETRY)
    assert csm.status(token) == 101
    csm.checker.stop()
    take_out(log)


def test_a_client_that_leaves_while_it_waits_takes_nobody_with_it(csm: Csm) -> None:
    csm.world.clock.advance(60)
    csm.keycloak.rotate("rsa-2")
    csm.keycloak.hanging = waiting = []
    token = csm.keycloak.token(kid="rsa-2")
    first, second = csm.knock(token), csm.knock(token)
    first.socket.hang_up()
    assert len(waiting) == 1
    csm.keycloak.answer().chainDeferred(waiting[0])
    assert second.is_open
