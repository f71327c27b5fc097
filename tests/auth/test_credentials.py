"""`Authorization` headers: exactly one well-formed bearer token, or none at all, or no."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoled.auth.credentials import LONGEST, BearerToken, IBearerToken, bearer
from consoled.core.access import Unauthenticated

BODY = string.ascii_letters + string.digits + "-._~+/"
tokens = st.builds(
    lambda body, pad: (body + pad).encode(), st.text(BODY, min_size=1, max_size=200), st.sampled_from(["", "=", "=="])
)
schemes = st.sampled_from([b"Bearer", b"bearer", b"BEARER", b"bEaReR"])


@given(schemes, st.integers(1, 3), tokens, st.sampled_from([b"", b" ", b"\t "]))
def test_one_well_formed_header_is_the_token(scheme: bytes, spaces: int, token: bytes, around: bytes) -> None:
    found = bearer([around + scheme + b" " * spaces + token + around])
    assert found is not None
    assert found.value == token
    assert IBearerToken.providedBy(found)


def test_no_header_is_no_token() -> None:
    assert bearer([]) is None


@given(st.lists(st.binary(max_size=50) | tokens.map(b"Bearer ".__add__), min_size=2, max_size=4))
def test_several_headers_are_refused_whatever_they_hold(headers: list[bytes]) -> None:
    with pytest.raises(Unauthenticated):
        bearer(headers)


@given(tokens, st.integers(0, 200), st.integers(0, 255).map(lambda n: bytes([n])))
def test_a_byte_outside_the_alphabet_is_refused(token: bytes, at: int, byte: bytes) -> None:
    token = token.rstrip(b"=") + b"z"
    at = at % len(token)
    header = b"Bearer " + token[:at] + byte + token[at:]
    # A blank in front is one more of the blanks that may stand there.
    if byte.decode("latin-1") in BODY or (byte == b" " and at == 0):
        assert bearer([header]) is not None
    else:
        with pytest.raises(Unauthenticated):
            bearer([header])


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearertoken",
        b"Bearer\ttoken",
        b"Bearer a b",
        b"Bearer a,Bearer b",
        b"Bearer =",
        b"Bearer a=b",
        b'Bearer "a"',
        b"Bearer a\n",
        b"Bearer a\x00",
        b"Basic dXNlcjpwYXNz",
        b"token",
        "Bearer tokén".encode(),
        "\u0412earer token".encode(),
    ],
)
def test_malformed_is_refused(header: bytes) -> None:
    with pytest.raises(Unauthenticated):
        bearer([header])


def test_the_length_is_bounded() -> None:
    longest = b"Bearer " + b"a" * (LONGEST - len(b"Bearer "))
    assert bearer([longest]) is not None
    with pytest.raises(Unauthenticated):
        bearer([longest + b"a"])


def test_a_token_shows_itself_to_nobody() -> None:
    token = BearerToken(b"canary-4711")
    for text in (repr(token), str(token), f"{token}", f"{[token]}"):
        assert "canary" not in text
    with pytest.raises(Unauthenticated) as caught:
        bearer([b"Bearer canary-4711 "[:-1] + b"!"])
    assert "canary" not in f"{caught.value!r} {caught.value} {caught.value.why}"


def test_tokens_are_not_compared_by_accident() -> None:
    assert BearerToken(b"a") != BearerToken(b"a")
