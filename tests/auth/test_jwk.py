"""Which key is good for what: JWK sets and PEM, good, bad and hostile."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from consoled.auth.jwk import ALGORITHMS, LARGEST_SET, KeySet, read_jwks, read_keys
from tests.auth.keycloak import Keycloak, b64, jwk, private_key, public_pem
from tests.auth.test_claims import JSON

RSA_FAMILY = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


def keys(*entries: Any) -> KeySet:
    return read_jwks(json.dumps({"keys": entries}).encode())


def bare(private: Any, algorithm: str, **more: Any) -> dict[str, Any]:
    return jwk(private, None, algorithm, **more)


def test_no_symmetric_algorithm_is_known() -> None:
    assert not [name for name in ALGORITHMS if name.lower() == "none" or name.startswith("HS")]


def test_keycloaks_keys() -> None:
    found = read_jwks(json.dumps(Keycloak().jwks()).encode())
    [key] = found
    assert (key.kid, key.algorithms) == ("rsa-1", {"RS256"})
    assert found.skipped == ("keys[1]: it is not for signatures",)
    assert found.find("rsa-1", "RS256") is key
    assert found.find(None, "RS256") is key
    assert found.find("rsa-1", "RS512") is None
    assert found.find("enc-1", "RS256") is None


@pytest.mark.parametrize(
    ("kind", "algorithm", "allowed"),
    [
        ("RSA", "RS256", RSA_FAMILY),
        ("P-256", "ES256", {"ES256"}),
        ("P-384", "ES384", {"ES384"}),
        ("P-521", "ES512", {"ES512"}),
        ("Ed25519", "EdDSA", {"EdDSA"}),
        ("Ed448", "EdDSA", {"EdDSA"}),
    ],
)
def test_a_key_without_alg_is_good_for_those_of_its_type(kind: str, algorithm: str, allowed: set[str]) -> None:
    [key] = keys(bare(private_key(kind), algorithm))
    assert key.algorithms == allowed
    [pem] = read_keys(public_pem(private_key(kind)))
    assert (pem.algorithms, pem.thumbprint, pem.kid) == (allowed, key.thumbprint, None)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"use": "enc"}, "not for signatures"),
        ({"use": None}, "not for signatures"),
        ({"key_ops": ["sign"]}, "not for checking"),
        ({"key_ops": "verify"}, "not for checking"),
        ({"kid": 7}, "kid is no text"),
        ({"kty": "oct"}, "kty is none of"),
        ({"kty": "oct", "k": "c2VjcmV0"}, "kty is none of"),
        ({"kty": ["RSA"]}, "kty is none of"),
        ({"kty": "EC"}, "cannot be read"),
        ({"d": "AQAB"}, "private parts"),
        ({"p": "AQAB"}, "private parts"),
        ({"k": "AQAB"}, "private parts"),
        ({"alg": "HS256"}, "alg is not one of its type's"),
        ({"alg": "none"}, "alg is not one of its type's"),
        ({"alg": "ES256"}, "alg is not one of its type's"),
        ({"alg": "RSA-OAEP"}, "alg is not one of its type's"),
        ({"n": "AQAB"}, "cannot be read"),
        ({"n": b64(b"\xff" * 2000)}, "2048 to 8192 bits"),
        ({"e": b64(b"\x01" * 100)}, "exponent"),
        ({"e": "Ag"}, "cannot be read"),
        ({"n": ""}, "cannot be read"),
        ({"n": "!!"}, "cannot be read"),
        ({"n": 5}, "cannot be read"),
        ({"n": None}, "cannot be read"),
        ({"n": ["AQAB"]}, "cannot be read"),
    ],
)
def test_a_key_that_is_of_no_use_is_skipped(change: dict[str, Any], why: str) -> None:
    entry = {**jwk(private_key(), "bad", "RS256"), **change}
    found = keys(entry, jwk(private_key("P-256"), "good", "ES256"))
    assert [key.kid for key in found] == ["good"]
    assert len(found.skipped) == 1
    assert why in found.skipped[0]
    with pytest.raises(ValueError, match=f"no usable key.*{why.split()[-1]}"):
        keys(entry)


def test_a_small_key_and_a_curve_that_nobody_uses() -> None:
    small, koblitz = private_key("RSA-1024"), private_key("secp256k1")
    with pytest.raises(ValueError, match="2048 to 8192 bits"):
        keys(jwk(small, "a", "RS256"))
    with pytest.raises(ValueError, match="no type or curve"):
        keys(jwk(koblitz, "a", "ES256K"))
    for private in (small, koblitz):
        with pytest.raises(ValueError, match=r"could be read|2048 to 8192 bits|no type or curve"):
            read_keys(public_pem(private))


def test_a_point_that_is_not_on_its_curve() -> None:
    entry = jwk(private_key("P-256"), "a", "ES256")
    with pytest.raises(ValueError, match="cannot be read"):
        keys({**entry, "y": entry["x"]})
    with pytest.raises(ValueError, match="cannot be read"):
        keys({**entry, "crv": "P-384"})


def test_two_different_keys_of_one_name_are_both_in_doubt() -> None:
    first, second = jwk(private_key(), "k", "RS256"), jwk(private_key("RSA", 1), "k", "RS256")
    assert keys(first, second).find("k", "RS256") is None
    assert keys(first, first).find("k", "RS256") is not None, "one key, listed twice"
    both = keys(first, jwk(private_key("P-256"), "k", "ES256"))
    assert both.find("k", "RS256").algorithms == {"RS256"}
    assert both.find("k", "ES256").algorithms == {"ES256"}


def test_without_a_kid_there_must_be_just_one() -> None:
    first, second = jwk(private_key(), "a", "RS256"), jwk(private_key("RSA", 1), "b", "RS256")
    assert keys(first).find(None, "RS256").kid == "a"
    assert keys(first, second).find(None, "RS256") is None
    assert keys(first, jwk(private_key("P-256"), "c", "ES256")).find(None, "RS256").kid == "a"


def test_a_key_without_a_name_answers_to_any_that_is_not_anothers() -> None:
    found = keys(jwk(private_key(), "a", "RS256"), bare(private_key("RSA", 1), "RS256"))
    assert found.find("a", "RS256").kid == "a"
    assert found.find("b", "RS256").kid is None
    assert found.find(None, "RS256") is None


def test_a_flood_of_keys_is_cut() -> None:
    found = keys(*({**jwk(private_key("P-256"), f"k{at}", "ES256")} for at in range(LARGEST_SET + 10)))
    assert len(found) == LARGEST_SET


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [null, 1, "a", []]}',
        b"<html>",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"keys":' * 100_000,
        b'{"keys":[{"kty":"RSA","n":' + b"[" * 100_000,
    ],
)
def test_what_is_no_set_of_keys(text: bytes) -> None:
    with pytest.raises(ValueError, match="it "):
        read_jwks(text)


@given(st.dictionaries(st.sampled_from(["kty", "kid", "use", "alg", "n", "e", "crv", "x", "y", "key_ops"]), JSON))
def test_no_shape_of_a_key_is_an_accident(change: dict[str, Any]) -> None:
    for private, algorithm in (
        (private_key(), "RS256"),
        (private_key("P-256"), "ES256"),
        (private_key("Ed25519"), "EdDSA"),
    ):
        try:
            keys({**jwk(private, "a", algorithm), **change})
        except ValueError as error:
            assert "no usable key" in str(error)


# -------------------------------------------------------------------------------------------------------- files


def certificate(private: Any) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shasta")])
    day = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, private.public_key(), 7, day, day.replace(year=2036))
    return builder.sign(private, SHA256()).public_bytes(Encoding.PEM)


def test_pem_of_several_sorts() -> None:
    rsa, ec = private_key(), private_key("P-256")
    both = read_keys(b"# the realm's\n" + public_pem(rsa) + b"\n" + public_pem(ec))
    assert [sorted(key.algorithms)[0] for key in both] == ["PS256", "ES256"]
    [of_certificate] = read_keys(certificate(rsa))
    assert of_certificate.thumbprint == next(iter(both)).thumbprint
    [of_jwks] = read_keys(json.dumps(Keycloak().jwks()).encode())
    assert of_jwks.kid == "rsa-1"


def test_a_private_key_is_not_taken() -> None:
    pem = private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match="only the public one is wanted"):
        read_keys(pem)


@pytest.mark.parametrize(
    "text",
    [
        b"-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN PUBLIC KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        b"-----BEGIN SOMETHING-----\n",
    ],
)
def test_pem_that_cannot_be_read(text: bytes) -> None:
    with pytest.raises(ValueError, match="could be read"):
        read_keys(text)
