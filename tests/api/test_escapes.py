"""ConMan's escapes as a pure matter: what is typed, and what is commanded."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoled.api.conman import Interact
from consoled.api.escapes import COMMANDS, HELP, Command, Escapes

typed = st.lists(
    st.one_of(st.sampled_from([b"&", b"&&", b"&.", b"&I", b"&\n", b"I", b".", b"&x"]), st.binary(max_size=4))
)
cuts = st.lists(st.integers(0, 60), max_size=8)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def heard(*messages: bytes) -> list[bytes | str]:
    """Keystrokes, joined between the commands."""
    escapes, result = Escapes(), [b""]
    for message in messages:
        for item in escapes.feed(message):
            if isinstance(item, Command):
                result += [item.sign, b""]
            else:
                assert item
                result[-1] += item
    return result


@given(typed, cuts)
def test_any_split_gives_the_same(typed: list[bytes], cuts: list[int]) -> None:
    data = b"".join(typed)
    assert heard(*split(data, cuts)) == heard(data)


@given(typed)
def test_against_the_definition(typed: list[bytes]) -> None:
    data = b"".join(typed)
    expected: list[bytes | str] = [b""]
    at = 0
    while at < len(data):
        pair = data[at : at + 2]
        if pair == b"&":
            break
        if pair == b"&&":
            expected[-1] += b"&"
            at += 2
        elif pair[:1] == b"&" and pair[1:] in [bytes([sign]) for sign in b"?.BDEFIJLMQRWZ"]:
            expected += [pair[1:].decode(), b""]
            at += 2
        elif pair[:1] == b"&":
            expected[-1] += pair
            at += 2
        else:
            expected[-1] += pair[:1]
            at += 1
    assert heard(data) == expected


@given(st.binary().map(lambda data: data.replace(b"&", b"")))
def test_without_a_prefix_it_is_one_piece(data: bytes) -> None:
    assert list(Escapes().feed(data)) == ([data] if data else [])


def test_a_prefix_waits_for_what_follows() -> None:
    assert heard(b"&") == [b""]
    assert heard(b"&", b"&") == [b"&"]
    assert heard(b"a&", b"", b"b") == [b"a&b"]


@pytest.mark.parametrize("sign", COMMANDS.decode())
def test_each_command_has_its_method_and_its_line_of_help(sign: str) -> None:
    assert sign in Interact._COMMANDS
    assert f"&{sign}" in dict(HELP)


def test_nothing_is_read_behind_a_command_that_was_not_asked_for() -> None:
    feeding = Escapes().feed(b"a&.b")
    assert [next(feeding), next(feeding)] == [b"a", Command(".")]
