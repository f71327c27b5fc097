"""HTTP signatures as CloudAPI's clients make them: what a request says was signed, by which key, and whether it was.

Two forms are in use: an `Authorization: Signature ...` header (draft-cavage-http-signatures-10, as the npm package
`http-signature` 1.x reads it, and the older one of CloudAPI's cURL recipe), and a pre-signed URL, whose signature
covers its whole query.  No key is looked up here and no console byte passes: the checker of signed requests calls
`proof` with a request, finds the key that it names, and asks `verified`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import parse_qsl, quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

from consoled.core.access import HttpRequest, Malformed, Unauthenticated

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

SKEW: Final = 300.0
"""Seconds by which a client's clock may differ from ours, either way."""
LONGEST: Final = 8192
"""In bytes, of the header."""

_HASHES: Final = {"sha256": SHA256(), "sha384": SHA384(), "sha512": SHA512()}
# SHA-1 and DSA are left out: nobody has to use them any more, and both are weak.
_ALGORITHMS: Final = frozenset({*(f"{kind}-{name}" for kind in ("rsa", "ecdsa") for name in _HASHES), "ed25519-sha512"})
_HEADER: Final = re.compile(rb"Signature ([A-Za-z]+=.*?)(?: ([A-Za-z0-9+/]+={0,2}))?", re.DOTALL)
_PARAMETER: Final = re.compile(r'([A-Za-z]+)=(?:"([^"]*)"|([0-9]{1,15}))(,|\Z)')
_IN_URL: Final = frozenset({"algorithm", "expires", "keyId", "signature"})
_ONCE: Final = frozenset({"date", "x-date", "host", "authorization"})
"""Headers that may stand in a request only once: of two, a proxy may have read the one and we the other."""


@dataclass(frozen=True, slots=True)
class KeyId:
    """Whose key it is said to be: `/acme/keys/NAME` or, for a sub-user, `/acme/users/bob/keys/NAME`."""

    account: str
    user: str | None
    key: str
    """A fingerprint (MD5 in colon-separated hex, or `SHA256:` and base64) or the key's name."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a request offers; worth nothing before `verified`."""

    key_id: KeyId
    algorithm: str
    signature: bytes = field(repr=False)
    messages: tuple[bytes, ...] = field(repr=False)
    """What may have been signed; more than one where clients differ in how they sort."""


def proof(request: HttpRequest, now: float) -> Proof | None:
    """The proof in `request`, or None if it offers none, or a proof of another sort.  `now`: seconds since the epoch.

    Raises `Malformed` for what cannot be understood or is out of date, `Unauthenticated` for a key id of no known
    form, and for a pre-signed URL that has expired.
    """
    query = request.target.partition(b"?")[2]
    in_url = _presigned(query)
    values = request.headers.get("authorization", ())
    if in_url is not None:
        if values:
            raise Malformed("Authorization header invalid: the URL is signed as well")
        return _from_url(request, in_url, now)
    if not any(value.startswith(b"Signature") for value in values):
        return None
    if len(values) > 1 or len(values[0]) > LONGEST:
        raise Malformed("Authorization header invalid: several of them, or too long")
    return _from_header(values[0], request, now)


def verified(proof: Proof, key: PublicKey) -> bool:
    """Whether `key` has signed it."""
    kind, _, name = proof.algorithm.partition("-")
    signature = _unwrapped(proof.signature)
    for message in proof.messages:
        try:
            if kind == "rsa" and isinstance(key, RSAPublicKey):
                key.verify(signature, message, PKCS1v15(), _HASHES[name])
            elif kind == "ecdsa" and isinstance(key, EllipticCurvePublicKey):
                key.verify(signature, message, ECDSA(_HASHES[name]))
            elif kind == "ed25519" and isinstance(key, Ed25519PublicKey):
                key.verify(signature, message)
            else:
                return False
        except InvalidSignature:
            continue
        return True
    return False


# ------------------------------------------------------------------------------------------- the header


def _from_header(value: bytes, request: HttpRequest, now: float) -> Proof:
    found = _HEADER.fullmatch(value)
    if found is None:
        raise _invalid("bad param format")
    parameters = _parameters(found[1].decode("latin-1"))
    old = found[2]
    if old is not None:
        if "signature" in parameters or "headers" in parameters:
            raise _invalid("bad param format")
        parameters["signature"] = old.decode()
    for name in ("keyId", "algorithm", "signature"):
        if not parameters.get(name):
            raise _invalid(f"{name} was not specified")
    algorithm = _algorithm(parameters["algorithm"])
    dated = "x-date" if "x-date" in request.headers else "date"
    _check_skew(_header(request, dated), now)
    if old is not None:
        if not algorithm.startswith("rsa-"):
            raise _invalid(f"{algorithm} is not supported in this form")
        message = _header(request, dated).encode("latin-1")
    else:
        signed = (parameters.get("headers") or dated).lower().split(" ")
        if dated not in signed:
            raise _invalid(f"{dated} was not a signed header")
        message = "\n".join(_line(name, parameters, request) for name in signed).encode("latin-1")
    return Proof(_key_id(parameters["keyId"]), algorithm, _decoded(parameters["signature"]), (message,))


def _parameters(text: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    at = 0
    while at < len(text):
        found = _PARAMETER.match(text, at)
        if found is None or found[1] in parameters or (found.end() == len(text) and found[4]):
            raise _invalid("bad param format")
        parameters[found[1]] = found[2] if found[2] is not None else found[3]
        at = found.end()
    return parameters


def _line(name: str, parameters: dict[str, str], request: HttpRequest) -> str:
    """One line of the string to sign (section 2.3 of the draft)."""
    match name:
        case "request-line":
            return f"{request.method} {request.target.decode('latin-1')} HTTP/1.1"
        case "(request-target)":
            return f"(request-target): {request.method.lower()} {request.target.decode('latin-1')}"
        case "(keyid)" | "(algorithm)" | "(opaque)" | "(created)" | "(expires)":
            value = parameters.get("keyId" if name == "(keyid)" else name[1:-1])
            if value is None:
                raise _invalid(f"{name} was not in the request")
            return f"{name}: {value}"
    return f"{name}: {_header(request, name)}"


def _header(request: HttpRequest, name: str) -> str:
    values = request.headers.get(name, ())
    if not values:
        raise _invalid(f"{name} was not in the request")
    if len(values) > 1 and name in _ONCE:
        raise _invalid(f"{name} was sent more than once")
    return b", ".join(value.strip() for value in values).decode("latin-1")


def _check_skew(date: str, now: float) -> None:
    try:
        then = parsedate_to_datetime(date)
    except (ValueError, TypeError, IndexError):
        try:
            then = datetime.fromisoformat(date)
        except ValueError:
            raise _invalid("the date cannot be understood") from None
    try:
        skew = abs(now - then.timestamp()) if then.tzinfo else SKEW + 1
    except (ValueError, OverflowError):
        raise _invalid("the date cannot be understood") from None
    if not skew <= SKEW:
        raise _invalid(f"the clocks differ by more than {SKEW:.0f} seconds")


# ------------------------------------------------------------------------------------------- the pre-signed URL


def _presigned(query: bytes) -> list[tuple[str, str]] | None:
    """The query's parameters if it is pre-signed.  Raises `Malformed` if only some of what that takes is there."""
    try:
        parameters = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=64)
    except ValueError:
        parameters = []  # whatever it is, it is no signature; the face will have its own opinion
    names = [name for name, _ in parameters]
    there = _IN_URL.intersection(names)
    if not there:
        return None
    if there != _IN_URL or len(set(names)) != len(names):
        raise Malformed("The pre-signed URL is invalid: algorithm, expires, keyId and signature, each once")
    return parameters


def _from_url(request: HttpRequest, parameters: Sequence[tuple[str, str]], now: float) -> Proof:
    values = dict(parameters)
    methods = sorted(values.get("method", request.method).split(","))
    if request.method not in methods:
        raise Malformed(f"The pre-signed URL is not for {request.method}")
    if not re.fullmatch(r"[0-9]{1,12}", values["expires"]):
        raise Malformed("The pre-signed URL is invalid: expires must be a number of seconds")
    if now > int(values["expires"]):
        raise Unauthenticated("the pre-signed URL has expired")
    path = request.target.partition(b"?")[0].decode("latin-1")
    signed = sorted((name, value) for name, value in parameters if name != "signature")
    head = f"{','.join(methods)}\n{_header(request, 'host')}\n{path}\n"
    # smartdc-auth sorts as people do, by a locale; others as computers do.
    orders = (signed, sorted(signed, key=lambda pair: pair[0].lower()))
    messages = dict.fromkeys(
        head + "&".join(f"{_escaped(name)}={_escaped(value)}" for name, value in order) for order in orders
    )
    return Proof(
        _key_id(values["keyId"]),
        _algorithm(values["algorithm"]),
        _decoded(values["signature"]),
        tuple(message.encode("latin-1") for message in messages),
    )


def _escaped(text: str) -> str:
    return quote(text, safe="~")


# ------------------------------------------------------------------------------------------- what both have


def _algorithm(name: str) -> str:
    if name.lower() not in _ALGORITHMS:
        raise _invalid(f"{name} is not supported")
    return name.lower()


def _key_id(text: str) -> KeyId:
    match text.split("/"):
        case ["", account, _, key] if account and key:
            return KeyId(account, None, key)
        case ["", account, _, user, _, key] if account and user and key:
            return KeyId(account, user, key)
    raise Unauthenticated("a key id of no known form")


def _decoded(signature: str) -> bytes:
    try:
        return base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        raise _invalid("the signature is not base64") from None


def _unwrapped(signature: bytes) -> bytes:
    """Without the wrapping that an SSH agent gives it: the algorithm's name and a blob (RFC 4253, section 6.6)."""
    name, rest = _string(signature)
    blob, tail = _string(rest)
    if tail or not name:
        return signature
    if name in (b"rsa-sha2-256", b"rsa-sha2-512", b"ssh-ed25519"):
        return blob
    if name.startswith(b"ecdsa-sha2-"):  # two integers (RFC 5656, section 3.1.2)
        r, rest = _string(blob)
        s, _ = _string(rest)
        return encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
    return signature


def _string(data: bytes) -> tuple[bytes, bytes]:
    """The SSH string at the beginning of `data`, and what follows; twice nothing if there is none."""
    length = int.from_bytes(data[:4])
    if len(data) < 4 or length > len(data) - 4:
        return b"", b""
    return data[4 : 4 + length], data[4 + length :]


def _invalid(why: str) -> Malformed:
    return Malformed(f"Authorization header invalid: {why}")
