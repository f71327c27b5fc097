"""Forged and confused tokens (RFC 8725): each is refused, quietly, and nothing of it is repeated."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.cred.error import UnauthorizedLogin
from twisted.logger import LogEvent, capturedLogs

from consoled.auth.credentials import LONGEST, bearer
from consoled.core.access import Unauthenticated
from tests.auth.keycloak import ISSUER, Keycloak, b64, compact, jwk, private_key, public_pem, sign
from tests.auth.test_claims import JSON
from tests.auth.test_jwt_tokens import CSM, Realm
from tests.fakes import EPOCH

KEYCLOAK = Keycloak()
GOOD = KEYCLOAK.token()
HEADER, PAYLOAD, SIGNATURE = GOOD.split(".")
ANYTHING = '\nalgorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]'


@pytest.fixture
def realm() -> Iterator[Realm]:
    """One that takes every algorithm that may be configured at all."""
    realm = Realm(CSM + ANYTHING)
    assert realm.login(GOOD).name == "ada"
    with capturedLogs() as events:
        yield realm
    assert not quarrels(events)
    assert realm.login(GOOD).name == "ada", "the next good client is served"


def quarrels(events: list[LogEvent]) -> list[LogEvent]:
    return [event for event in events if "log_failure" in event or event["log_level"].name in ("error", "critical")]


def header(**more: Any) -> dict[str, Any]:
    head = {"alg": "RS256", "typ": "JWT", "kid": "rsa-1", **more}
    return {name: value for name, value in head.items() if value is not None}


# ------------------------------------------------------------------------------------------- the algorithm's word


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "none ", "", "\0none", "non\u0435"])
@pytest.mark.parametrize("signature", [b"", b"x", base64.urlsafe_b64decode(SIGNATURE + "==")])
def test_c_auth_5_no_signature_by_any_name(realm: Realm, name: str, signature: bytes) -> None:
    for kid in ("rsa-1", None):
        assert "is not allowed" in realm.why(compact(header(alg=name, kid=kid), KEYCLOAK.claims(), signature))


@pytest.mark.parametrize("name", [None, 1, True, [], ["RS256"], {"RS256": 1}])
def test_an_algorithm_that_is_no_text(realm: Realm, name: Any) -> None:
    assert "is not allowed" in realm.why(compact({**header(), "alg": name}, KEYCLOAK.claims(), b"x"))


def secrets() -> list[bytes]:
    """All that a forger may hope we take for the secret of an HMAC."""
    pem, entry = public_pem(private_key()), jwk(private_key(), "rsa-1", "RS256")
    as_json = json.dumps(entry).encode()
    return [pem, pem.strip(), pem + b"\n", entry["n"].encode(), as_json, b"", b"rsa-1"]


@pytest.mark.parametrize("secret", secrets(), ids=range(len(secrets())))
@pytest.mark.parametrize("name", ["HS256", "HS384", "HS512", "hs256", "RS256", "ES256", "EdDSA"])
def test_c_auth_5_the_public_key_as_a_secret(realm: Realm, name: str, secret: bytes) -> None:
    signed = f"{b64(json.dumps(header(alg=name)).encode())}.{PAYLOAD}"
    digest = {"384": hashlib.sha384, "512": hashlib.sha512}.get(name[2:], hashlib.sha256)
    realm.why(f"{signed}.{b64(hmac.new(secret, signed.encode(), digest).digest())}")


@pytest.mark.parametrize(
    ("kind", "algorithm"), [("RSA", "PS256"), ("RSA", "RS512"), ("P-256", "ES256"), ("Ed25519", "EdDSA")]
)
def test_a_key_checks_only_what_it_is_for(realm: Realm, kind: str, algorithm: str) -> None:
    """The right private key even, but by an algorithm that the key set does not name for it; or a key of our own."""
    token = sign(KEYCLOAK.claims(), private_key(kind, 0), algorithm, kid="rsa-1")
    assert "no key 'rsa-1' for" in realm.why(token)


def test_a_signature_that_one_algorithm_made_under_the_name_of_another(realm: Realm) -> None:
    made = sign(KEYCLOAK.claims(), private_key(), "PS256", kid="rsa-1").split(".")
    assert "signature" in realm.why(f"{HEADER}.{PAYLOAD}.{made[2]}")


# ------------------------------------------------------------------------------------------------- whose key


def test_c_auth_2_another_key(realm: Realm) -> None:
    stranger = private_key("RSA", 5)
    assert "signature is not by the key 'rsa-1'" in realm.why(sign(KEYCLOAK.claims(), stranger, "RS256", kid="rsa-1"))
    assert "no key 'rsa-2'" in realm.why(sign(KEYCLOAK.claims(), stranger, "RS256", kid="rsa-2"))
    assert "signature is not by the key of none" in realm.why(sign(KEYCLOAK.claims(), stranger, "RS256"))


@pytest.mark.parametrize(
    "kid",
    [
        "",
        "RSA-1",
        "rsa-1 ",
        "rsa-1\0",
        "\uff52sa-1",
        "\u202ersa-1",
        "\ud800",
        "../../dev/null",
        "' OR 1=1 --",
        "\x1b[2J",
        "k" * 256,
    ],
)
def test_a_kid_of_ones_own_making(realm: Realm, kid: str) -> None:
    why = realm.why(sign(KEYCLOAK.claims(), private_key("RSA", 5), "RS256", kid=kid))
    assert why.isascii() and why.isprintable()
    assert len(why) < 256
    assert "no key" in why


@pytest.mark.parametrize("kid", ["k" * 257, 1, ["rsa-1"], {}, True])
def test_a_kid_that_is_none(realm: Realm, kid: Any) -> None:
    realm.why(compact(header(kid=kid), KEYCLOAK.claims(), b"x"))


def test_a_key_that_the_token_brings_along(realm: Realm) -> None:
    own = private_key("RSA", 5)
    asked = realm.keycloak.asked
    bait = {
        "jwk": jwk(own, "own", "RS256"),
        "jku": "https://evil.example.com/certs",
        "x5u": "https://evil.example.com/",
    }
    for more in (bait, {"x5c": [b64(public_pem(own))]}):
        assert "signature" in realm.why(sign(KEYCLOAK.claims(), own, "RS256", kid="rsa-1", **more))
        assert "no key" in realm.why(sign(KEYCLOAK.claims(), own, "RS256", kid="own", **more))
        assert realm.login(KEYCLOAK.token(**more)).name == "ada", "they are not even read"
    assert realm.keycloak.asked == asked


def test_the_realms_key_for_encryption_signs_nothing(realm: Realm) -> None:
    token = sign(KEYCLOAK.claims(), private_key("RSA", 9), "RS256", kid="enc-1")
    assert "no key 'enc-1'" in realm.why(token)


def test_two_keys_of_one_kid() -> None:
    keycloak = Keycloak()
    keycloak.more.append(jwk(private_key("RSA", 5), "rsa-1", "RS256"))
    realm = Realm(CSM, keycloak)
    for which in (0, 5):
        token = sign(KEYCLOAK.claims(), private_key("RSA", which), "RS256", kid="rsa-1")
        assert "no key 'rsa-1' for RS256, or more than one" in realm.why(token)
    realm.checker.stop()


# ------------------------------------------------------------------------------------------------- its content


def test_the_signature_stripped_cut_or_lengthened(realm: Realm) -> None:
    for signature in ("", SIGNATURE[:-2], SIGNATURE[:-4], SIGNATURE + "AAAA", SIGNATURE[::-1], b64(b"\0" * 256)):
        realm.why(f"{HEADER}.{PAYLOAD}.{signature}")
    for token in (f"{HEADER}.{PAYLOAD}", f"{PAYLOAD}.{SIGNATURE}", f"{GOOD}.", f".{GOOD}", f"{GOOD}.{SIGNATURE}"):
        realm.why(token)


def test_another_payload_under_a_good_signature(realm: Realm) -> None:
    other = KEYCLOAK.token(KEYCLOAK.tenant_admin("blue")).split(".")
    assert "signature" in realm.why(f"{HEADER}.{PAYLOAD}.{other[2]}")
    assert "signature" in realm.why(f"{HEADER}.{other[1]}.{SIGNATURE}")
    assert "signature" in realm.why(f"{b64(json.dumps(header(x=1)).encode())}.{PAYLOAD}.{SIGNATURE}")


def test_base64_that_is_not_canonical(realm: Realm) -> None:
    """The last character has bits that do not count: another text of the same signature is another token."""
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = SIGNATURE[:-1] + last[last.index(SIGNATURE[-1]) ^ 1]
    assert base64.urlsafe_b64decode(twin + "==") == base64.urlsafe_b64decode(SIGNATURE + "==")
    assert "no JSON Web Token" in realm.why(f"{HEADER}.{PAYLOAD}.{twin}")
    assert "no JSON Web Token" in realm.why(f"{HEADER}.{PAYLOAD}.{SIGNATURE.replace('_', '/').replace('-', '+')}!")


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example.com/realms/shasta"},
        {"iss": ISSUER + "/"},
        {"iss": ISSUER.upper()},
        {"iss": ISSUER.replace("nmn", "nmn.evil.example")},
        {"iss": [ISSUER]},
        {"iss": {"a": ISSUER}},
        {"iss": 1},
        {"iss": None},
        {"iss": ""},
    ],
)
def test_c_auth_4_another_issuer(realm: Realm, claims: dict[str, Any]) -> None:
    assert "the issuer " in realm.why(KEYCLOAK.token(KEYCLOAK.claims(**claims)))


@pytest.mark.parametrize(
    "audience",
    ["account", "Shasta", "shasta ", "shasta2", "", None, [], ["account"], [["shasta"]], {"shasta": 1}, 7, True],
)
def test_c_auth_4_another_audience(realm: Realm, audience: Any) -> None:
    assert realm.why(KEYCLOAK.token(KEYCLOAK.claims(aud=audience))) == "the token is for another audience"


@pytest.mark.parametrize("seconds", [-11, -3600, -(EPOCH - 1)])
def test_c_auth_3_expired(realm: Realm, seconds: float) -> None:
    assert "expired" in realm.why(KEYCLOAK.token(KEYCLOAK.claims(exp=EPOCH + seconds)))


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_token_of_the_future(realm: Realm, claim: str) -> None:
    assert "begins" in realm.why(KEYCLOAK.token(KEYCLOAK.claims(**{claim: EPOCH + 3600})))


@pytest.mark.parametrize("use", ["ID", "Refresh", "Offline", "Logout", "DPoP", "", 7, ["Bearer"]])
def test_a_token_for_another_use(realm: Realm, use: Any) -> None:
    assert realm.why(KEYCLOAK.token(KEYCLOAK.claims(typ=use))) == "the token is not an access token"


@pytest.mark.parametrize(
    "kind", ["logout+jwt", "dpop+jwt", "secevent+jwt", "JWE", "", "jwt\0", 7, [], "application/json"]
)
def test_a_token_of_another_type(realm: Realm, kind: Any) -> None:
    assert "type" in realm.why(KEYCLOAK.token(typ=kind))


def test_a_token_that_needs_a_proof_of_possession(realm: Realm) -> None:
    for bound in ({"x5t#S256": "x"}, {"jkt": "x"}, {}, "x"):
        assert "cnf" in realm.why(KEYCLOAK.token(KEYCLOAK.claims(cnf=bound)))


@pytest.mark.parametrize(
    "more",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": True},
        {"crit": ["b64"], "b64": False},
        {"crit": []},
        {"crit": "exp"},
        {"b64": False},
        {"b64": True},
        {"crit": {}},
    ],
)
def test_an_extension_that_must_be_understood(realm: Realm, more: dict[str, Any]) -> None:
    why = realm.why(KEYCLOAK.token(**more))
    assert "extension" in why or "no JSON Web Token" in why


def test_an_encrypted_token(realm: Realm) -> None:
    realm.why(compact({"alg": "dir", "enc": "A256GCM", "zip": "DEF"}, b"", b"") + ".AAAA.AAAA")
    realm.why(compact(header(zip="DEF"), b"\x78\x9c\x03\x00", b"x"))


# ------------------------------------------------------------------------------------------------- sheer weight


def test_a_token_that_is_too_long(realm: Realm) -> None:
    head = b"Bearer "
    assert bearer([head + b"x" * (LONGEST - len(head))]) is not None
    with pytest.raises(Unauthenticated):
        bearer([head + b"x" * (LONGEST - len(head) + 1)])


@pytest.mark.parametrize(
    "bomb", [b"[" * 5000, b'{"a":' * 1200, b"9" * 5000, b'{"exp":' + b"1" * 4900 + b"}", b"1e999999"]
)
def test_json_bombs(realm: Realm, bomb: bytes) -> None:
    for token in (compact(bomb, KEYCLOAK.claims(), b"x"), compact(header(), bomb, b"x")):
        assert realm.why(token) == "no JSON Web Token"
    assert realm.why(sign(bomb, private_key(), "RS256", kid="rsa-1")) == "no JSON Web Token"


@pytest.mark.parametrize("payload", [b"null", b"[]", b'"x"', b"1", b"", b"\xff", b"{", b'{"iss":"\\ud800"}', b"{}" * 2])
def test_claims_that_are_none(realm: Realm, payload: bytes) -> None:
    assert realm.why(sign(payload, private_key(), "RS256", kid="rsa-1")) == "no JSON Web Token"


@pytest.mark.parametrize("head", [b"null", b"[]", b'"x"', b"", b"\xff\xfe", b"{", "{}".encode("utf-16")])
def test_headers_that_are_none(realm: Realm, head: bytes) -> None:
    realm.why(compact(head, KEYCLOAK.claims(), b"x"))


def test_strangers_do_not_make_us_ask(realm: Realm) -> None:
    """Only a token that could be good, with a `kid` that nobody knows, asks the provider; and that once in a while."""
    realm.clock.advance(60)
    asked = realm.keycloak.asked
    for token in ("x", compact(header(alg="none"), KEYCLOAK.claims()), compact(header(kid="?"), {"iss": "x"}, b"x")):
        realm.why(token)
    assert realm.keycloak.asked == asked
    for at in range(50):
        realm.why(compact(header(kid=f"k{at}"), KEYCLOAK.claims(), b"x"))
    assert realm.keycloak.asked == asked + 1


# ---------------------------------------------------------------------------------------- whatever else there is


def refused(realm: Realm, token: str | bytes) -> None:
    """It is refused, in words that have nothing of it."""
    with capturedLogs() as events:
        why = realm.why(token)
    assert not quarrels(events)
    assert len(why) < 300
    assert "Canary" not in why and "manage-account" not in why
    assert PAYLOAD not in why and SIGNATURE not in why


REALM = Realm(CSM + ANYTHING)


@given(st.data())
def test_one_changed_byte_is_enough(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOOD) - 1))
    other = data.draw(st.sampled_from([byte for byte in b"ABCxyz019-_.=+/ \0\xff{" if byte != ord(GOOD[at])]))
    token = GOOD.encode()
    refused(REALM, token[:at] + bytes([other]) + token[at + 1 :])


@given(st.data())
def test_a_piece_cut_out_doubled_or_moved_is_enough(data: st.DataObject) -> None:
    start, end, to = (data.draw(st.integers(0, len(GOOD))) for _ in range(3))
    piece = GOOD[start:end]
    for token in (GOOD[:start] + GOOD[end:], GOOD[:to] + piece + GOOD[to:]):
        if token != GOOD:
            refused(REALM, token)


@given(JSON, JSON, st.binary(max_size=64))
def test_whatever_is_in_it(head: Any, claims: Any, signature: bytes) -> None:
    refused(REALM, compact(head, claims, signature))


@given(st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk", "jku", "zip", "x5c"]), JSON), JSON)
@example({"kid": "\ud800"}, None)
def test_whatever_is_in_its_header(more: dict[str, Any], extra: Any) -> None:
    signed = sign(KEYCLOAK.claims(), private_key("RSA", 5), "RS256", kid="rsa-1")
    refused(REALM, ".".join([b64(json.dumps({**header(), **more, "x": extra}).encode()), *signed.split(".")[1:]]))


CLAIMS = ["iss", "aud", "exp", "nbf", "iat", "typ", "cnf", "realm_access", "resource_access", "groups"]


@given(st.dictionaries(st.sampled_from([*CLAIMS, "sub", "preferred_username"]), JSON, min_size=1))
def test_what_is_signed_and_odd_is_refused_or_a_user_and_never_an_accident(more: dict[str, Any]) -> None:
    claims = {**KEYCLOAK.claims(), **more}
    with capturedLogs() as events:
        try:
            user = REALM.login(KEYCLOAK.token(claims))
        except (Unauthenticated, UnauthorizedLogin):
            user = None
    assert not quarrels(events)
    if user is not None:
        assert user.name.isprintable() and 0 < len(user.name) <= 128
        assert user.roles in ((), ("admin",))
        assert user.expires is not None and user.expires > REALM.now()


@given(st.binary(max_size=200))
def test_noise(token: bytes) -> None:
    refused(REALM, token)
