"""Public keys that tokens are signed with, out of a JWK set (RFC 7517) or PEM, and which key is good for what.

Pure: `jwks` gets the bytes, `jwt_tokens` uses the keys.  Only asymmetric algorithms are known in here, and each key is
bound to those that its own type, curve, `alg` and `use` allow, so that a token cannot choose how a key is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, cast

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from jwt.algorithms import Algorithm, get_default_algorithms
from jwt.exceptions import PyJWTError

_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
ALGORITHMS: Final = _RSA | frozenset(_CURVES.values()) | {"EdDSA"}
"""What a signature may be (RFC 7518, section 3.1; RFC 8037).  `none` and the HMACs are not among them."""

LARGEST_SET: Final = 64
"""Keys in one set; what is beyond is not even looked at."""
_RSA_BITS: Final = range(2048, 8192 + 1)  # a larger one would make each check slow
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_IMPLEMENTED: Final[dict[str, Algorithm]] = get_default_algorithms()
_OF_TYPE: Final = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}


@dataclass(frozen=True, slots=True)
class Key:
    """One public key."""

    kid: str | None
    """What tokens call it; None: nothing in particular."""
    algorithms: frozenset[str]
    """The signatures that it may check."""
    thumbprint: bytes
    """The SHA-256 of the key itself."""
    public: Any = field(repr=False, compare=False)

    def signed(self, algorithm: str, data: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's, by `algorithm`, over `data`."""
        return algorithm in self.algorithms and _IMPLEMENTED[algorithm].verify(data, self.public, signature)


class KeySet:
    """The keys of one issuer at one time."""

    def __init__(self, keys: Sequence[Key], skipped: Sequence[str] = ()) -> None:
        self._keys = tuple(keys)
        self.skipped = tuple(skipped)
        """Why the others in the set are not used, a line each."""

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """The one key that a token with this `kid` (None: without) may be signed with; None if there is not just one.

        A key without a name of its own (out of a PEM file) answers to any.
        """
        fitting = [key for key in self._keys if algorithm in key.algorithms]
        if kid is not None:
            fitting = [key for key in fitting if key.kid == kid] or [key for key in fitting if key.kid is None]
        different = {key.thumbprint: key for key in fitting}
        return fitting[0] if len(different) == 1 else None

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def read_jwks(text: bytes) -> KeySet:
    """The usable keys of a JWK set; the others are skipped.  Raises `ValueError` if it is none, or has none."""
    try:
        document = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        raise ValueError("it is no JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("it is no JWK set: it has no list of keys")
    keys, skipped = [], []
    for at, entry in enumerate(entries[:LARGEST_SET]):
        try:
            keys.append(_of_jwk(entry))
        except ValueError as error:
            skipped.append(f"keys[{at}]: {error}")
    if not keys:
        raise ValueError("; ".join(["it has no usable key", *skipped[:3]]))
    return KeySet(keys, skipped)


def read_keys(text: bytes) -> KeySet:
    """The keys in a file: a JWK set, public keys or certificates in PEM.  Raises `ValueError`."""
    if b"-----BEGIN " not in text:
        return read_jwks(text)
    if b"PRIVATE KEY-----" in text:
        raise ValueError("there is a private key in it; only the public one is wanted")
    try:
        if b"-----BEGIN CERTIFICATE-----" in text:
            found = [one.public_key() for one in x509.load_pem_x509_certificates(text)]
        else:
            end = b"-----END PUBLIC KEY-----"
            found = [cast(Any, load_pem_public_key(block + end)) for block in text.split(end)[:-1]]
    except (ValueError, TypeError):
        found = []
    if not found:
        raise ValueError("there is no public key and no certificate in it that could be read")
    return KeySet([_key(None, public, _allowed(public)) for public in found])


def _of_jwk(entry: Any) -> Key:
    """Raises `ValueError` that says why it is of no use, and quotes no part of a key."""
    if not isinstance(entry, dict):
        raise ValueError("it is no object")
    if entry.get("use", "sig") != "sig":
        raise ValueError("it is not for signatures")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("it is not for checking signatures")
    kid = entry.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise ValueError("its kid is no text")
    kind = entry.get("kty")
    implementation = _IMPLEMENTED.get(_OF_TYPE.get(kind, "")) if isinstance(kind, str) else None
    if implementation is None:
        raise ValueError("its kty is none of RSA, EC and OKP")
    if not _PRIVATE.isdisjoint(entry):
        raise ValueError("it has private parts, so it may be anybody's by now")
    try:
        public = implementation.from_jwk(entry)
    except (PyJWTError, ValueError, TypeError, KeyError, OverflowError):
        raise ValueError("it cannot be read") from None
    allowed = _allowed(public)
    if "alg" in entry:
        allowed = frozenset(one for one in allowed if one == entry["alg"])
        if not allowed:
            raise ValueError("its alg is not one of its type's")
    return _key(kid, public, allowed)


def _key(kid: str | None, public: Any, allowed: frozenset[str]) -> Key:
    return Key(
        kid, allowed, sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest(), public
    )


def _allowed(public: Any) -> frozenset[str]:
    """The algorithms for a key of this type and strength.  Raises `ValueError` if there are none."""
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size not in _RSA_BITS or public.public_numbers().e.bit_length() > 64:
            raise ValueError("an RSA key has 2048 to 8192 bits, and an exponent of 64 at most")
        return _RSA
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in _CURVES:
        return frozenset({_CURVES[public.curve.name]})
    if isinstance(public, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return frozenset({"EdDSA"})
    raise ValueError("it is of no type or curve that is used for tokens")
