"""HTTP signatures: what clients sign is accepted, and nothing else is.  Signed here by the draft's own words."""

import base64
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384, SHA512
from hypothesis import given
from hypothesis import strategies as st

from consoled.auth.signatures import SKEW, KeyId, proof, verified
from consoled.core.access import HttpRequest, Malformed, Unauthenticated

NOW = 1_790_000_000.0
TARGET = b"/acme/machines/b2c5c0cb-0a0b-4a0e-9a0e-1b2c3d4e5f60/console"
KEY_ID = "/acme/keys/aa:bb:cc"
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
HASHES = {"sha1": SHA1, "sha256": SHA256, "sha384": SHA384, "sha512": SHA512}


def date(offset: float = 0.0) -> bytes:
    return format_datetime(datetime.fromtimestamp(NOW + offset, UTC), usegmt=True).encode()


def sign(message: str, algorithm: str) -> bytes:
    kind, name = algorithm.split("-")
    if kind == "rsa":
        return RSA.sign(message.encode(), padding.PKCS1v15(), HASHES[name]())
    if kind == "ecdsa":
        return EC.sign(message.encode(), ec.ECDSA(HASHES[name]()))
    return ED.sign(message.encode())


def public(algorithm: str) -> Any:
    return {"rsa": RSA, "ecdsa": EC, "ed25519": ED}[algorithm.split("-")[0]].public_key()


def request(method: str = "GET", target: bytes = TARGET, **headers: bytes) -> HttpRequest:
    named = {name.replace("_", "-"): (value,) for name, value in headers.items()}
    return HttpRequest(method, target, {"host": (b"cloud.example",), **named})


def signed(
    algorithm: str = "rsa-sha256",
    names: str | None = "(request-target) date",
    *,
    target: bytes = TARGET,
    method: str = "GET",
    when: bytes | None = None,
    key_id: str = KEY_ID,
    wrap: Any = lambda signature: signature,
    **headers: bytes,
) -> HttpRequest:
    """A request as `http-signature` makes it; `target` and `method` are what it is sent to."""
    headers.setdefault("date", date() if when is None else when)
    known = {"(request-target)": f"get {TARGET.decode()}", "(keyid)": key_id, "(algorithm)": algorithm}
    known |= {"host": "cloud.example", **{name.replace("_", "-"): value.decode() for name, value in headers.items()}}
    lines = [f"{name}: {known[name]}" for name in (names or "date").split(" ")]
    signature = base64.b64encode(wrap(sign("\n".join(lines), algorithm))).decode()
    said = "" if names is None else f'headers="{names}",'
    value = f'Signature keyId="{key_id}",algorithm="{algorithm}",{said}signature="{signature}"'
    return request(method, target, authorization=value.encode(), **headers)


def accepted(it: HttpRequest, algorithm: str = "rsa-sha256", now: float = NOW) -> bool:
    found = proof(it, now)
    assert found is not None
    assert found.algorithm == algorithm
    return verified(found, public(algorithm))


@pytest.mark.parametrize(
    "algorithm",
    ["rsa-sha256", "rsa-sha384", "rsa-sha512", "ecdsa-sha256", "ecdsa-sha384", "ecdsa-sha512", "ed25519-sha512"],
)
def test_T_AUTH_2_3_4_5_6(algorithm: str) -> None:
    assert accepted(signed(algorithm), algorithm)
    assert accepted(signed(algorithm, "date"), algorithm)
    assert accepted(signed(algorithm, None), algorithm)
    assert accepted(signed(algorithm, "(request-target) host date (keyid) (algorithm)"), algorithm)


def test_nothing_is_offered() -> None:
    assert proof(request(date=date()), NOW) is None
    assert proof(request(target=TARGET + b"?lines=5&mode=tail"), NOW) is None


def test_T_AUTH_8_an_altered_signature() -> None:
    good = proof(signed(), NOW)
    assert good is not None
    for at in range(0, len(good.signature), 37):
        bad = bytearray(good.signature)
        bad[at] ^= 1
        assert not verified(type(good)(good.key_id, good.algorithm, bytes(bad), good.messages), RSA.public_key())


def test_T_AUTH_9_10_another_target_or_method() -> None:
    assert not accepted(signed(target=TARGET.replace(b"b2c5", b"b2c6")))
    assert not accepted(signed(target=TARGET + b"?lines=1"))
    assert not accepted(signed(method="HEAD"))


@pytest.mark.parametrize("offset", [-SKEW, SKEW, 0.0])
def test_T_AUTH_11_within_the_skew(offset: float) -> None:
    assert accepted(signed(when=date(offset)))


@pytest.mark.parametrize("offset", [-SKEW - 1, SKEW + 1, 1e9, -1e9])
def test_T_AUTH_12_out_of_the_skew(offset: float) -> None:
    with pytest.raises(Malformed, match="clocks differ"):
        proof(signed(when=date(offset)), NOW)


@pytest.mark.parametrize("text", [b"garbage", b"", b"2026-13-45", b"Sat, 99 Nov 2026 22:05:35 GMT", b"NaN", b"1e400"])
def test_T_AUTH_13_a_date_that_cannot_be_parsed(text: bytes) -> None:
    with pytest.raises(Malformed, match="Authorization header invalid"):
        proof(signed(when=text), NOW)


def test_T_AUTH_14_the_date_must_be_signed() -> None:
    with pytest.raises(Malformed, match="date was not a signed header"):
        proof(signed(names="(request-target)"), NOW)
    with pytest.raises(Malformed, match="date was not in the request"):
        proof(request(authorization=signed().headers["authorization"][0]), NOW)


@pytest.mark.parametrize(
    "algorithm", ["hmac-sha256", "rsa-sha1", "dsa-sha1", "none", "rsa", "rsa-md5", "ed25519-sha256", "rsa-sha256-x", ""]
)
def test_T_AUTH_15_unknown_algorithms(algorithm: str) -> None:
    value = f'Signature keyId="{KEY_ID}",algorithm="{algorithm}",signature="AAAA"'.encode()
    with pytest.raises(Malformed):
        proof(request(authorization=value, date=date()), NOW)


def test_T_AUTH_16_an_algorithm_of_another_key_type() -> None:
    found = proof(signed("rsa-sha256"), NOW)
    assert found is not None
    assert not verified(found, EC.public_key())
    assert not verified(found, ED.public_key())


def test_the_key_id_names_account_user_and_key() -> None:
    ids = {
        "/acme/keys/aa:bb": KeyId("acme", None, "aa:bb"),
        "/acme/users/bob/keys/laptop": KeyId("acme", "bob", "laptop"),
        "/acme/user/bob/keys/laptop": KeyId("acme", "bob", "laptop"),
        "/acme/keys/*)(uid=*": KeyId("acme", None, "*)(uid=*"),
    }
    for text, key_id in ids.items():
        found = proof(signed(key_id=text), NOW)
        assert found is not None
        assert found.key_id == key_id


@pytest.mark.parametrize(
    "text", ["acme", "/acme", "/acme/keys", "/acme/keys/", "//keys/x", "/a/b/c/d/e/f/g", "a/b/c/d"]
)
def test_T_AUTH_18_malformed_key_ids(text: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        proof(signed(key_id=text), NOW)
    assert not isinstance(caught.value, Malformed)


@pytest.mark.parametrize(
    "value",
    [
        b"Signature",
        b"Signature ",
        b'Signature keyId="/a/keys/b"',
        b'Signature keyId="/a/keys/b", algorithm="rsa-sha256",signature="AAAA"',
        b'Signature keyId="/a/keys/b",algorithm="rsa-sha256",signature="AAAA",',
        b'Signature keyId="/a/keys/b",keyId="/c/keys/b",algorithm="rsa-sha256",signature="AAAA"',
        b'Signature keyId="/a/keys/b",algorithm="rsa-sha256",signature="A~A"',
        b'Signature keyId="/a/keys/b",algorithm="rsa-sha256",headers="date x-nothing",signature="AAAA"',
        b'Signature keyId="/a/keys/b",algorithm="rsa-sha256",headers="date (opaque)",signature="AAAA"',
        b'Signature keyId="/a/keys/b',
        b'Signature keyId="/a/keys/b",algorithm="rsa-sha256",signature="' + b"A" * 9000 + b'"',
    ],
)
def test_T_AUTH_19_malformed_headers(value: bytes) -> None:
    with pytest.raises(Malformed):
        proof(request(authorization=value, date=date()), NOW)


def test_other_schemes_are_none_of_our_business() -> None:
    for value in (b"Basic YTpi", b"Bearer abc", b"signature keyId=1", b"word"):
        assert proof(request(authorization=value, date=date()), NOW) is None


@pytest.mark.parametrize("name", ["date", "authorization"])
def test_what_stands_twice_is_refused(name: str) -> None:
    it = signed()
    twice = HttpRequest(it.method, it.target, {**it.headers, name: it.headers[name] * 2})
    with pytest.raises(Malformed):
        proof(twice, NOW)


def test_T_AUTH_23_the_old_form() -> None:
    signature = base64.b64encode(sign(date().decode(), "rsa-sha256"))
    value = f'Signature keyId="{KEY_ID}",algorithm="rsa-sha256" '.encode() + signature
    assert accepted(request(authorization=value, date=date()))
    assert not accepted(request(authorization=value, date=date(1)))
    with pytest.raises(Malformed):
        proof(request(authorization=value.replace(b"rsa-sha256", b"ecdsa-sha256"), date=date()), NOW)


def test_T_AUTH_24_x_date_in_place_of_date() -> None:
    assert accepted(signed(names="(request-target) x-date", x_date=date(), when=b"whatever"))
    assert accepted(signed(names="x-date", x_date=date(2).replace(b"GMT", b"+0000")))
    with pytest.raises(Malformed, match="clocks differ"):
        proof(signed(names="x-date", x_date=date(SKEW + 5)), NOW)
    with pytest.raises(Malformed, match="x-date was not a signed header"):
        proof(signed(names="date", x_date=date()), NOW)


def wrapped(name: bytes, blob: bytes) -> bytes:
    return len(name).to_bytes(4) + name + len(blob).to_bytes(4) + blob


def test_signatures_as_an_ssh_agent_gives_them() -> None:
    def two_integers(signature: bytes) -> bytes:
        r, s = (b"\0" + number.to_bytes(32) for number in decode_dss_signature(signature))
        return wrapped(b"ecdsa-sha2-nistp256", len(r).to_bytes(4) + r + len(s).to_bytes(4) + s)

    assert accepted(signed("rsa-sha512", wrap=lambda it: wrapped(b"rsa-sha2-512", it)), "rsa-sha512")
    assert accepted(signed("ed25519-sha512", wrap=lambda it: wrapped(b"ssh-ed25519", it)), "ed25519-sha512")
    assert accepted(signed("ecdsa-sha256", wrap=two_integers), "ecdsa-sha256")
    assert not accepted(signed("rsa-sha512", wrap=lambda it: wrapped(b"rsa-sha2-512", it[:-1] + b"\0")), "rsa-sha512")


# ------------------------------------------------------------------------------------------- pre-signed URLs


def presigned(
    *, methods: str = "GET", to: str = "GET", host: bytes = b"cloud.example", locale: bool = True, **query: str
) -> HttpRequest:
    """A request for a URL that is signed for `methods` as smartdc-auth does it."""
    if "," in methods:
        query["method"] = methods
    query = {"algorithm": "RSA-SHA256", "expires": str(int(NOW) + 60), "keyId": KEY_ID, **query}
    order = sorted(query, key=str.lower) if locale else sorted(query)
    line = "&".join(f"{quote(name, safe='~')}={quote(query[name], safe='~')}" for name in order)
    signature = base64.b64encode(sign(f"{methods}\ncloud.example\n{TARGET.decode()}\n{line}", "rsa-sha256")).decode()
    target = f"{TARGET.decode()}?{line}&signature={quote(signature, safe='')}"
    return HttpRequest(to, target.encode(), {"host": (host,)})


@pytest.mark.parametrize("locale", [True, False])
def test_T_AUTH_26_a_pre_signed_url(locale: bool) -> None:
    assert accepted(presigned(locale=locale))
    assert accepted(presigned(locale=locale, **{"as-role": "a,b c*'()", "Zone": "ü"}))
    assert accepted(presigned(locale=locale, methods="GET,HEAD"))


def test_T_AUTH_27_what_the_signature_does_not_cover() -> None:
    assert not accepted(presigned(host=b"other.example"))
    it = presigned()
    assert not accepted(HttpRequest("GET", it.target + b"&mode=interact", it.headers))
    with pytest.raises(Malformed, match="not for POST"):
        proof(presigned(methods="GET,HEAD", to="POST"), NOW)
    with pytest.raises(Unauthenticated, match="Authentication is required"):
        proof(presigned(), NOW + 61)
    for broken in (b"&keyId=x", b"&signature=AAAA"):
        with pytest.raises(Malformed):
            proof(HttpRequest("GET", it.target + broken, it.headers), NOW)
    with pytest.raises(Malformed):
        proof(HttpRequest("GET", it.target.replace(b"expires=", b"expired="), it.headers), NOW)
    with pytest.raises(Malformed):
        proof(presigned(expires="never"), NOW)
    with pytest.raises(Malformed, match="as well"):
        proof(HttpRequest("GET", it.target, {**it.headers, "authorization": (b"Bearer x",)}), NOW)


# ------------------------------------------------------------------------------------------- whatever comes


@given(st.binary(max_size=300))
def test_whatever_header_comes_is_refused(value: bytes) -> None:
    with pytest.raises(Unauthenticated):
        proof(request(authorization=b"Signature " + value, date=date()), NOW)
    if not value.startswith(b"Signature"):
        assert proof(request(authorization=value, date=date()), NOW) is None


@given(st.data())
def test_a_mutilated_request_is_refused(data: Any) -> None:
    it = signed() if data.draw(st.booleans()) else presigned()
    names = sorted(name for name in it.headers if name != "host")
    where = data.draw(st.sampled_from([*names, "target"]))
    value = it.target if where == "target" else it.headers[where][0]
    at = data.draw(st.integers(0, len(value) - 1))
    there = value[:at] + data.draw(st.binary(max_size=3)) + value[at + 1 :]
    if there.strip() == value.strip():
        return
    bad = HttpRequest(it.method, there if where == "target" else it.target, {**it.headers})
    if where != "target":
        bad = HttpRequest(it.method, it.target, {**it.headers, where: (there,)})
    try:
        found = proof(bad, NOW)
    except Unauthenticated:
        return
    if found is None or (found.key_id == KeyId("acme", None, "aa:bb:cc") and found.algorithm == "rsa-sha256"):
        good = proof(it, NOW)
        same = (
            found is not None
            and good is not None
            and found.messages == good.messages
            and found.signature == good.signature
        )
        assert same or found is None or not verified(found, RSA.public_key())
