"""JSON Web Tokens: who is let in, for how long, and as whom; and what may be configured."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, eventAsText

from consoled.auth.credentials import BearerToken
from consoled.auth.jwks import AGAIN, FetchedKeys
from consoled.auth.jwt_settings import JwtSettings
from consoled.auth.jwt_tokens import JwtTokens, make_keys
from consoled.auth.key_files import KeyFiles
from consoled.auth.roles import ROLES
from consoled.core.access import CannotKnow, Unauthenticated, User
from consoled.units import units
from tests.auth.keycloak import ISSUER, Keycloak, private_key, public_pem, sign
from tests.fakes import EPOCH, result

CSM = 'preset = "csm"'
OIDC = """
issuers = ["https://sso.example.com/realms/ops"]
audience = "consoled"
[[grant]]
claim = "roles"
map = { typist = "operator", watcher = "viewer" }
"""


def settings(text: str = CSM) -> JwtSettings:
    return msgspec.toml.decode(text, type=JwtSettings, dec_hook=units("/"))


class Realm:
    """A checker and the provider behind it."""

    def __init__(self, text: str = CSM, keycloak: Keycloak | None = None) -> None:
        self.clock = Clock()
        self.keycloak = keycloak or Keycloak()
        said = settings(text)
        self.keys = FetchedKeys(self.keycloak.fetch, self.clock, refresh=300, stale=3600, issuer=said.issuers[0])
        self.checker = JwtTokens([(said, self.keys)], ROLES, self.now)
        self.checker.start()

    def now(self) -> float:
        return EPOCH + self.clock.seconds()

    def login(self, token: str | bytes, peer: str = "192.0.2.7") -> User:
        value = token if isinstance(token, bytes) else token.encode("utf-8", "surrogatepass")
        return result(self.checker.requestAvatarId(BearerToken(value, peer)))

    def why(self, token: str | bytes, peer: str = "192.0.2.7") -> str:
        """Why it is refused."""
        try:
            self.login(token, peer)
        except Unauthenticated as refusal:
            return refusal.why
        except UnauthorizedLogin as refusal:
            return str(refusal)
        raise AssertionError("it was let in")


@pytest.fixture
def realm() -> Iterator[Realm]:
    realm = Realm()
    yield realm
    realm.checker.stop()
    assert not realm.clock.getDelayedCalls()


# --------------------------------------------------------------------------------------------------------- who


def test_an_admin(realm: Realm) -> None:
    user = realm.login(realm.keycloak.token())
    assert user == User("ada", ("admin",), None, proof=f"jwt {ISSUER}", expires=EPOCH + 310)
    assert not user.must_name_tenant


def test_a_tenant_admin(realm: Realm) -> None:
    user = realm.login(realm.keycloak.token(realm.keycloak.tenant_admin("blue", "green")))
    assert (user.name, user.roles, user.tenants) == ("tina", ("operator",), frozenset({"blue", "green"}))
    assert user.must_name_tenant


def test_c_auth_6_a_good_token_without_a_role_is_somebody_who_may_do_nothing(realm: Realm) -> None:
    user = realm.login(realm.keycloak.token(realm.keycloak.claims(resource_access=None)))
    assert (user.name, user.roles, user.tenants) == ("ada", (), frozenset())


@pytest.mark.parametrize("issuer", settings().issuers)
def test_the_realm_has_several_names(realm: Realm, issuer: str) -> None:
    assert realm.login(realm.keycloak.token(realm.keycloak.claims(iss=issuer))).proof == f"jwt {issuer}"


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        *(("RSA", name) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        ("P-256", "ES256"),
        ("P-384", "ES384"),
        ("P-521", "ES512"),
        ("Ed25519", "EdDSA"),
        ("Ed448", "EdDSA"),
    ],
)
def test_every_algorithm_where_it_is_allowed(kind: str, algorithm: str) -> None:
    keycloak = Keycloak()
    keycloak.keys = {"k": (private_key(kind), algorithm)}
    token = keycloak.token(kid="k")
    assert Realm(f'{CSM}\nalgorithms = ["ES512", "{algorithm}"]', keycloak).login(token).name == "ada"
    other = "RS256" if algorithm != "RS256" else "RS384"
    assert (
        Realm(f'{CSM}\nalgorithms = ["{other}"]', keycloak).why(token) == f"the algorithm '{algorithm}' is not allowed"
    )


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+JWT", None])
def test_types_of_token(realm: Realm, kind: str | None) -> None:
    assert realm.login(realm.keycloak.token(typ=kind)).name == "ada"


@pytest.mark.parametrize("audience", ["shasta", ["shasta"], ["account", "shasta"], ["shasta", 7]])
def test_audiences(realm: Realm, audience: Any) -> None:
    assert realm.login(realm.keycloak.token(realm.keycloak.claims(aud=audience))).name == "ada"


def test_several_audiences() -> None:
    realm = Realm('preset = "csm"\naudience = ["consoled", "shasta"]')
    for audience in ("consoled", "shasta"):
        assert realm.login(realm.keycloak.token(realm.keycloak.claims(aud=audience))).name == "ada"
    assert "another audience" in realm.why(realm.keycloak.token(realm.keycloak.claims(aud="account")))


def test_a_token_without_a_kid(realm: Realm) -> None:
    assert realm.login(sign(realm.keycloak.claims(), private_key(), "RS256")).name == "ada"
    realm.keycloak.keys["rsa-2"] = (private_key("RSA", 1), "RS256")
    realm.clock.advance(300)
    assert "no key without a kid" in realm.why(sign(realm.keycloak.claims(), private_key(), "RS256"))


def test_a_service_account_and_a_nameless_one(realm: Realm) -> None:
    claims = realm.keycloak.claims(preferred_username="service-account-shasta")
    assert realm.login(realm.keycloak.token(claims)).name == "service-account-shasta"
    assert realm.login(realm.keycloak.token(realm.keycloak.claims(preferred_username=None))).name == claims["sub"]
    nobody = realm.keycloak.claims(preferred_username=None, sub=None)
    assert realm.why(realm.keycloak.token(nobody)) == "none of the claims preferred_username, sub is a name"


def test_another_provider_with_its_own_claims() -> None:
    realm = Realm(OIDC + 'tenants = { claim = "team" }')
    claims = {"iss": "https://sso.example.com/realms/ops", "aud": "consoled", "exp": EPOCH + 60.5, "sub": "bob"}
    token = realm.keycloak.token({**claims, "roles": ["watcher", "typist"], "team": "blue"})
    user = realm.login(token)
    assert (user.roles, user.tenants, user.expires) == (("viewer", "operator"), frozenset({"blue"}), EPOCH + 70.5)
    assert not user.must_name_tenant
    bad = realm.keycloak.token({**claims, "roles": {"typist": True}})
    assert realm.why(bad) == "the claim roles is neither a text nor a list of texts"


def test_several_providers_and_what_is_none_of_theirs() -> None:
    first, second = Keycloak(), Keycloak()
    second.rotate("rsa-1", which=1)
    clock = Clock()
    said = [settings(), settings(OIDC)]
    keys = [FetchedKeys(source.fetch, clock, refresh=300, stale=3600, issuer="x") for source in (first, second)]
    checker = JwtTokens(list(zip(said, keys, strict=True)), ROLES, lambda: EPOCH)
    checker.start()

    def who(keycloak: Keycloak, issuer: str, audience: str) -> User:
        claims = keycloak.claims(iss=issuer, aud=audience, roles="watcher")
        return result(checker.requestAvatarId(BearerToken(keycloak.token(claims).encode())))

    assert who(first, ISSUER, "shasta").roles == ("admin",)
    assert who(second, said[1].issuers[0], "consoled").roles == ("viewer",)
    for keycloak, issuer, audience in (
        (second, ISSUER, "shasta"),
        (first, said[1].issuers[0], "consoled"),
        (first, ISSUER, "consoled"),
        (first, "https://elsewhere.example.com", "shasta"),
    ):
        with pytest.raises((Unauthenticated, UnauthorizedLogin)):
            who(keycloak, issuer, audience)
    assert checker.trouble is None
    first.down = "refused"
    with capturedLogs():
        clock.advance(300)
    assert checker.trouble == "the keys of x cannot be had: refused"
    checker.stop()


@pytest.mark.parametrize("token", ["x", "canary-ada-4711", "a.b", "a.b.c.d.e", "", "..", "e30.e30.", "é"])
def test_another_sort_of_token_is_for_another_checker(realm: Realm, token: str) -> None:
    realm.keycloak.asked = 0
    with pytest.raises(UnauthorizedLogin):
        realm.login(token)
    assert realm.keycloak.asked == 0


# -------------------------------------------------------------------------------------------------------- when


@pytest.mark.parametrize(
    ("claims", "seconds"),
    [({}, 309.9), ({"exp": EPOCH - 9}, 0), ({"nbf": EPOCH + 10, "iat": EPOCH + 10}, 0), ({"iat": None}, 0)],
)
def test_in_time(realm: Realm, claims: dict[str, Any], seconds: float) -> None:
    token = realm.keycloak.token(realm.keycloak.claims(**claims))
    realm.clock.advance(seconds)
    assert realm.login(token).name == "ada"


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": EPOCH - 10}, "the token expired 10 s ago"),
        ({"exp": None}, "the token has no exp"),
        ({"nbf": EPOCH + 11}, r"the token begins \(nbf\) in 11 s"),
        ({"iat": EPOCH + 11}, r"the token begins \(iat\) in 11 s"),
        *(({"exp": value}, "exp is no date") for value in (True, "9999999999", [], {}, -1, 1e15, 10**18)),
        *(({"nbf": value}, "nbf is no date") for value in (False, "0", [1])),
    ],
)
def test_c_auth_3_out_of_time(realm: Realm, claims: dict[str, Any], why: str) -> None:
    assert re.search(why, realm.why(realm.keycloak.token(realm.keycloak.claims(**claims))))


def test_a_session_may_be_asked_about(realm: Realm) -> None:
    user = realm.login(realm.keycloak.token())
    assert user.again is not None
    assert user.again() == user
    realm.clock.advance(309)
    assert user.again() == user
    realm.clock.advance(1)
    with pytest.raises(Unauthenticated) as caught:
        user.again()
    assert caught.value.why == "the token expired 10 s ago"


def test_a_key_that_is_withdrawn_ends_the_sessions_of_its_tokens(realm: Realm) -> None:
    claims = realm.keycloak.claims(exp=EPOCH + 100_000)
    user = realm.login(realm.keycloak.token(claims))
    assert user.again is not None
    realm.keycloak.down = "connection refused"
    with capturedLogs():
        for _ in range(100):
            realm.clock.advance(60)
            assert user.again() == user, "an outage withdraws nothing"
    realm.keycloak.down = None
    realm.keycloak.rotate("rsa-2")
    realm.clock.advance(AGAIN)
    with pytest.raises(Unauthenticated) as caught:
        user.again()
    assert caught.value.why == "the key that signed the token has been withdrawn"
    assert "no key 'rsa-1'" in realm.why(sign(claims, private_key(), "RS256", kid="rsa-1"))


def test_no_keys_and_nobody_to_ask(realm: Realm) -> None:
    lonely = Keycloak()
    lonely.down = "connection refused"
    with capturedLogs():
        away = Realm(keycloak=lonely)
        with pytest.raises(CannotKnow):
            away.login(lonely.token())


# ----------------------------------------------------------------------------------------------- a gateway's word

GATEWAY = CSM + '\ntrusted_gateway = ["10.32.0.0/12"]'
FORGED = sign(Keycloak().claims(), private_key("RSA", 5), "RS256", kid="nobody's")


def test_a_gateways_word_counts_from_its_own_address_only() -> None:
    realm = Realm(GATEWAY)
    user = realm.login(FORGED, "10.32.0.7")
    assert (user.name, user.roles, user.proof) == ("ada", ("admin",), f"gateway {ISSUER}")
    for peer in ("", "192.0.2.7", "127.0.0.1", "10.48.0.1", "10.32.0.7, 192.0.2.7"):
        assert "no key" in realm.why(FORGED, peer)
    assert realm.login(realm.keycloak.token(), "192.0.2.7").proof == f"jwt {ISSUER}"


def test_without_the_option_nobodys_word_counts(realm: Realm) -> None:
    for peer in ("", "127.0.0.1", "10.32.0.7", "::1"):
        assert "no key" in realm.why(FORGED, peer)


@pytest.mark.parametrize(
    ("claims", "header", "why"),
    [
        ({"exp": EPOCH - 10}, {}, "expired"),
        ({"exp": None}, {}, "no exp"),
        ({"nbf": EPOCH + 60}, {}, "begins"),
        ({"aud": "account"}, {}, "another audience"),
        ({"iss": "https://elsewhere.example.com"}, {}, "not one of ours"),
        ({}, {"alg": "none"}, "the algorithm 'none' is not allowed"),
        ({}, {"crit": ["x"]}, "no JSON Web Token"),
    ],
)
def test_a_gateways_word_is_for_the_signature_only(claims: dict[str, Any], header: dict[str, Any], why: str) -> None:
    realm = Realm(GATEWAY)
    token = sign(realm.keycloak.claims(**claims), private_key("RSA", 5), "RS256", **header)
    assert why in realm.why(token, "10.32.0.7")


def test_a_gateways_session_ends_with_its_token() -> None:
    realm = Realm(GATEWAY)
    user = realm.login(FORGED, "10.32.0.7")
    assert user.again is not None
    assert user.again() == user
    realm.clock.advance(310)
    with pytest.raises(Unauthenticated):
        user.again()


def test_what_is_dangerous_is_said_at_every_start() -> None:
    for text, word in ((GATEWAY, "10.32.0.0/12"), (CSM + "\nunsafe_plaintext = true", "unsafe_plaintext")):
        with capturedLogs() as events:
            Realm(text)
            Realm(CSM)
        warnings = [eventAsText(event) for event in events if event["log_level"].name == "warn"]
        assert [word in warning for warning in warnings if "is not used" not in warning] == [True]


# ------------------------------------------------------------------------------------------------- configuration


def test_the_preset() -> None:
    csm = settings()
    assert csm.audience == ("shasta",)
    assert csm.algorithms == ("RS256",)
    assert csm.jwks_url == f"{ISSUER}/protocol/openid-connect/certs"
    assert csm.leeway == 10
    assert csm.trusted_gateway == ()


def test_what_is_said_counts_before_the_preset() -> None:
    own = settings(CSM + '\nissuers = ["https://api.cmn.example.com/keycloak/realms/shasta"]\naudience = "other"')
    assert own.issuers == ("https://api.cmn.example.com/keycloak/realms/shasta",)
    assert own.audience == ("other",)
    found = settings(CSM + '\ndiscovery_url = "https://sso.example.com/x"')
    assert (found.jwks_url, found.discovery) == ("", "https://sso.example.com/x")
    assert settings(CSM + '\nkey_files = ["realm.pem"]').key_files == ("/realm.pem",)
    granted = settings(CSM + '\n[[grant]]\nclaim = "iss"\nmap = { "x" = "viewer" }')
    assert [str(one.claim) for one in granted.grant] == ["iss"]


def test_discovery_is_at_the_first_issuer() -> None:
    assert settings(OIDC).discovery == "https://sso.example.com/realms/ops/.well-known/openid-configuration"
    slash = settings(OIDC.replace("/ops", "/ops/"))
    assert slash.discovery == "https://sso.example.com/realms/ops/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "issuers: it is needed"),
        (OIDC.replace('audience = "consoled"', ""), "audience: it is needed"),
        (OIDC.replace('"consoled"', '""'), "audience: it is needed"),
        (OIDC.replace('"consoled"', "[]"), "audience: it is needed"),
        (OIDC.partition("[[grant]]")[0], "grant: it is needed"),
        (CSM + "\nalgorithms = []", "algorithms: it is needed"),
        *(
            (CSM + f'\nalgorithms = ["RS256", "{name}"]', f"algorithms: '{name}' is none of ES256,")
            for name in ("none", "None", "HS256", "HS512", "RS1", "rs256", "ES256K")
        ),
        (CSM + '\npreset = "other"', "."),
        (CSM + '\nleeway = "61s"', "leeway: it is from 0 to 60 seconds"),
        (CSM + '\nstale = "25h"', "stale: it is from 60 to 86400"),
        (CSM + '\nrefresh = "1s"', "refresh: it is from 10"),
        (CSM + '\nrefresh = "2h"', "stale: it cannot be less"),
        (CSM + "\nname = []", "name: it is needed"),
        (CSM + '\njwks_url = "http://keycloak:8080/certs"', "jwks_url: .*https"),
        (CSM + '\ndiscovery_url = "keycloak"', "discovery_url: .*https|not a URL"),
        (CSM + '\ndiscovery_url = "https://a/"\njwks_url = "https://b/"', "jwks_url and discovery_url: only one"),
        (OIDC.replace("https:", "http:"), "issuers: .*https"),
        (CSM + '\nca = "a.pem"\nfingerprint = "00"', "ca and fingerprint: only one"),
        (CSM + '\ntrusted_gateway = ["0.0.0.0/0"]', "trusted_gateway: 0.0.0.0/0 is not a cluster"),
        (CSM + '\ntrusted_gateway = ["gateway"]', "trusted_gateway: .*gateway"),
        (CSM + "\nverify = false", "`verify`"),
        (CSM + '\nsecret = "x"', "`secret`"),
    ],
)
def test_a_mistake_is_named(text: str, said: str) -> None:
    with pytest.raises((msgspec.ValidationError, msgspec.DecodeError), match=said):
        settings(text)


def test_a_role_and_an_issuer_that_cannot_be() -> None:
    keys = make_keys(settings(), Clock())
    with pytest.raises(ValueError, match=r"auth\.jwt\[0\]\.grant\[0\]\.map: 'operator' is not a role \(viewer\)"):
        JwtTokens([(settings(OIDC), keys)], {"viewer"}, lambda: 0.0)
    with pytest.raises(ValueError, match=rf"auth\.jwt\[1\]\.issuers: '{settings().issuers[0]}' is there already"):
        JwtTokens([(settings(), keys)] * 2, ROLES, lambda: 0.0)


def test_where_the_keys_are(tmp_path: Path) -> None:
    path = tmp_path / "realm.pem"
    path.write_bytes(public_pem(private_key()))
    assert isinstance(make_keys(settings(CSM + f'\nkey_files = ["{path}"]'), Clock()), KeyFiles)
    assert isinstance(make_keys(settings(OIDC), Clock()), FetchedKeys)
    with pytest.raises(OSError, match="absent"):
        make_keys(settings(CSM + '\nca = "absent"'), Clock())
    with pytest.raises(ValueError, match="no certificate"):
        make_keys(settings(CSM + f'\nca = "{path}"'), Clock())
    with pytest.raises(ValueError, match="not a SHA-256"):
        make_keys(settings(CSM + '\nfingerprint = "00:11"'), Clock())


def test_keys_out_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "realm.json"
    keycloak = Keycloak()
    path.write_text(json.dumps(keycloak.jwks()))
    said = settings(CSM + f'\nkey_files = ["{path}"]')
    clock = Clock()
    checker = JwtTokens([(said, make_keys(said, clock))], ROLES, lambda: EPOCH)
    checker.start()
    user = result(checker.requestAvatarId(BearerToken(keycloak.token().encode())))
    assert (user.name, user.again()) == ("ada", user)
    keycloak.rotate("rsa-2")
    path.write_text(json.dumps(keycloak.jwks()))
    clock.advance(1)
    with pytest.raises(Unauthenticated, match="Authentication"):
        user.again()
    checker.stop()
