"""Whose client certificates are good for what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from twisted.cred.error import UnauthorizedLogin

from consoled.auth.certificates import CertificateRule, Certificates
from consoled.auth.credentials import Certificate
from consoled.auth.roles import ROLES
from consoled.core.access import Unauthenticated, User

KEY = generate_private_key(SECP256R1())
END = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
OIDS = {
    "cn": NameOID.COMMON_NAME,
    "o": NameOID.ORGANIZATION_NAME,
    "ou": NameOID.ORGANIZATIONAL_UNIT_NAME,
}


def certificate(*subject: tuple[str, str], dns: Any = (), email: Any = (), uri: Any = ()) -> bytes:
    """What TLS would have verified."""
    name = x509.Name([x509.NameAttribute(OIDS[field], value) for field, value in subject])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(7)
        .not_valid_before(END - timedelta(days=90))
        .not_valid_after(END)
    )
    names: list[x509.GeneralName] = [
        *map(x509.DNSName, dns),
        *map(x509.RFC822Name, email),
        *map(x509.UniformResourceIdentifier, uri),
    ]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def rule(**keys: Any) -> CertificateRule:
    return msgspec.convert({"roles": ["operator"], **keys}, CertificateRule)


def login(der: bytes, *rules: CertificateRule, **more: Any) -> User:
    return Certificates(rules, ROLES, **more).requestAvatarId(Certificate(der))


ADA = certificate(("o", "Ops"), ("ou", "Night"), ("ou", "Day"), ("cn", "ada"), dns=["Ada.Lab.example"])
ROBOT = certificate(uri=["spiffe://lab/ns/logs/sa/collector"], email=["robot@lab.example"])


def test_a_rule_says_who_it_is_and_what_it_may() -> None:
    user = login(ADA, rule(cn="ada", o="Ops", roles=["viewer", "operator"], tenants=["blue"]))
    assert (user.name, user.roles, user.tenants) == ("ada", ("viewer", "operator"), frozenset({"blue"}))
    assert user.proof == "certificate"
    assert user.expires == END.timestamp()


@pytest.mark.parametrize(
    ("der", "keys", "name"),
    [
        (ADA, {"o": "Ops"}, "ada"),
        (ADA, {"ou": "Day"}, "ada"),
        (ADA, {"cn": "a?a"}, "ada"),
        (ADA, {"cn": "*"}, "ada"),
        (ADA, {"dns": "ada.LAB.example", "user": "host/{dns}"}, "host/Ada.Lab.example"),
        (ADA, {"cn": "ada", "user": "root"}, "root"),
        (ROBOT, {"uri": "spiffe://lab/ns/*/sa/collector", "user": "{uri}"}, "spiffe://lab/ns/logs/sa/collector"),
        (ROBOT, {"email": "*@lab.example", "user": "{email}"}, "robot@lab.example"),
        (ADA, {"cn": "ADA"}, None),
        (ADA, {"cn": "ad"}, None),
        (ADA, {"cn": "da"}, None),
        (ADA, {"cn": "ada", "o": "ops"}, None),
        (ADA, {"email": "*"}, None),
        (ADA, {"o": "Ops", "user": "{ou}"}, None),
        (ROBOT, {"uri": "*"}, None),
        (ROBOT, {"dns": "*"}, None),
    ],
)
def test_what_fits(der: bytes, keys: dict[str, Any], name: str | None) -> None:
    if name is None:
        with pytest.raises(UnauthorizedLogin):
            login(der, rule(**keys))
    else:
        assert login(der, rule(**keys)).name == name


def test_the_first_rule_that_fits_counts() -> None:
    rules = rule(cn="bob", roles=["admin"]), rule(o="Ops", roles=["viewer"]), rule(cn="ada", roles=["admin"])
    assert login(ADA, *rules).roles == ("viewer",)


@pytest.mark.parametrize("name", ["ada\x1b[2J", "ada\nroot", "a b", "\u202eada", "\u0430da", "x!", "ada\\"])
def test_a_name_that_others_should_not_see_is_none(name: str) -> None:
    with pytest.raises(UnauthorizedLogin):
        login(certificate(("cn", name)), rule(cn="*"))


def test_two_names_are_none() -> None:
    with pytest.raises(UnauthorizedLogin, match="2 values of cn"):
        login(certificate(("cn", "ada"), ("cn", "root")), rule(cn="ada"))


def test_a_pattern_sees_no_name_inside_another() -> None:
    with pytest.raises(UnauthorizedLogin):
        login(certificate(("cn", "eve"), ("o", "x,CN=ada")), rule(cn="ada"))


@pytest.mark.parametrize("der", [b"", b"0", ADA[:-10], b"\x30\x82" * 50])
def test_what_is_no_certificate(der: bytes) -> None:
    with pytest.raises(UnauthorizedLogin):
        login(der, rule(cn="*"))


def test_a_revoked_one_lets_nobody_in_and_nobody_stay() -> None:
    revoked: list[int] = []
    user = login(ADA, rule(cn="ada"), is_revoked=lambda one: one.serial_number in revoked)
    assert user.again is not None
    assert user.again() == user
    revoked.append(7)
    with pytest.raises(Unauthenticated):
        user.again()
    with pytest.raises(Unauthenticated):
        login(ADA, rule(cn="ada"), is_revoked=lambda one: one.serial_number in revoked)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({}, "at least one of cn, o, ou, dns, email, uri"),
        ({"cn": ""}, "length >= 1"),
        ({"cn": "a", "roles": []}, "length >= 1"),
        ({"cn": "a", "user": "{name}"}, "{name} is no field"),
        ({"cn": "a", "role": "admin"}, "unknown field `role`"),
        ({"cn": "a", "tenants": ["B"]}, "tenants"),
    ],
)
def test_rules_that_are_none(keys: dict[str, Any], text: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        rule(**keys)
    assert text in str(caught.value)


def test_a_role_that_nobody_knows_is_named() -> None:
    with pytest.raises(ValueError, match=r"auth\.certificate\[1\]\.roles: 'boss' is not a role"):
        Certificates([rule(cn="a"), rule(cn="b", roles=["boss"])], ROLES)
