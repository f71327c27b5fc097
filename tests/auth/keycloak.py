"""An identity provider in the test: real keys, and tokens and documents in the shapes of Keycloak's."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms
from twisted.internet.defer import Deferred, fail, succeed

from consoled.auth.jwk import KeySet, read_jwks
from consoled.fetch import Unreachable
from tests.fakes import EPOCH

ISSUER = "https://api-gw-service-nmn.local/keycloak/realms/shasta"
JWKS_PATH = "/protocol/openid-connect/certs"

_MAKERS: dict[str, Callable[[], Any]] = {
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "RSA-1024": lambda: rsa.generate_private_key(65537, 1024),
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
}
_FOR = {"RSA": "RS256", "P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA", "Ed448": "EdDSA"}


@cache
def private_key(kind: str = "RSA", which: int = 0) -> Any:
    """A key of some kind, the same one for the same `which` (an RSA key takes a while to make)."""
    return _MAKERS[kind]()


def public_pem(private: Any) -> bytes:
    return bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def jwk(private: Any, kid: str | None, algorithm: str, **more: Any) -> dict[str, Any]:
    """A public key as Keycloak lists it."""
    public = get_default_algorithms()[algorithm].to_jwk(private.public_key(), as_dict=True)
    public.pop("key_ops", None)
    return {"kid": kid, "alg": algorithm, "use": "sig", **public, **more} if kid else {**public, **more}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(header: Any, claims: Any, signature: bytes = b"") -> str:
    """A token put together by hand."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    return ".".join([*(b64(part) for part in parts), b64(signature)])


class Keycloak:
    """The realm `shasta`: its keys by `kid`, and whether it can be asked."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[Any, str]] = {"rsa-1": (private_key(), "RS256")}
        self.more: list[dict[str, Any]] = [
            jwk(private_key("RSA", 9), "enc-1", "RS256", use="enc", alg="RSA-OAEP"),
        ]
        """Further entries of the list of keys."""
        self.asked = 0
        self.down: str | None = None
        """Why it cannot be asked."""
        self.hanging: list[Deferred[KeySet]] | None = None
        """Questions without an answer, where it does not answer at once."""

    def rotate(self, kid: str, kind: str = "RSA", which: int = 1) -> None:
        """One key instead of the others."""
        self.keys = {kid: (private_key(kind, which), _FOR[kind])}

    def claims(self, **more: Any) -> dict[str, Any]:
        """Those of an access token for `ada`, an admin.  What is None is left out."""
        claims = {
            "exp": int(EPOCH) + 300,
            "iat": int(EPOCH) - 1,
            "jti": "4f8c2f0b-6a4e-4d52-9f6c-1d1b6f8f3c11",
            "iss": ISSUER,
            "aud": ["shasta", "account"],
            "sub": "9d1c2a53-6b7e-4a6e-8d8a-8f0f3a2f9e10",
            "typ": "Bearer",
            "azp": "shasta",
            "session_state": "1a3f0f2e-9f53-4f6e-8a37-8b6f0f7c5d21",
            "realm_access": {"roles": ["offline_access", "uma_authorization"]},
            "resource_access": {"shasta": {"roles": ["admin"]}, "account": {"roles": ["manage-account"]}},
            "scope": "profile email",
            "groups": [],
            "preferred_username": "ada",
            "name": "Ada Canary",
            **more,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def tenant_admin(self, *tenants: str, **more: Any) -> dict[str, Any]:
        """Those of somebody who administers tenants."""
        return self.claims(
            **{
                "preferred_username": "tina",
                "realm_access": {"roles": ["tenant-admin", "offline_access"]},
                "resource_access": {"account": {"roles": ["manage-account"]}},
                "groups": [f"{tenant}-tenant-admin" for tenant in tenants],
                **more,
            }
        )

    def token(self, claims: dict[str, Any] | None = None, kid: str = "rsa-1", **header: Any) -> str:
        """A signed token.  A header that is None is left out."""
        private, algorithm = self.keys[kid]
        return sign(self.claims() if claims is None else claims, private, algorithm, kid=kid, **header)

    def jwks(self) -> dict[str, Any]:
        return {"keys": [*(jwk(private, kid, alg) for kid, (private, alg) in self.keys.items()), *self.more]}

    def fetch(self) -> Deferred[KeySet]:
        """What `FetchedKeys` asks."""
        self.asked += 1
        if self.hanging is not None:
            self.hanging.append(Deferred())
            return self.hanging[-1]
        return self.answer()

    def answer(self) -> Deferred[KeySet]:
        """What it says now."""
        if self.down is not None:
            return fail(Unreachable(self.down))
        try:
            return succeed(read_jwks(json.dumps(self.jwks()).encode()))
        except ValueError as error:
            return fail(Unreachable(str(error)))


def sign(claims: Any, private: Any, algorithm: str, **header: Any) -> str:
    """A token by this key.  `typ` is JWT unless it is given; a header that is None is left out."""
    head = {"alg": algorithm, "typ": "JWT", **header}
    head = {name: value for name, value in head.items() if value is not None}
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    signed = f"{b64(json.dumps(head).encode())}.{b64(payload)}"
    signature = get_default_algorithms()[algorithm].sign(signed.encode(), private)
    return f"{signed}.{b64(signature)}"
