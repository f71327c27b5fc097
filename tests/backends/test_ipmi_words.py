"""The programs' own words come out of the output, in whatever pieces it arrives, and the node's stay in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoled.backends.ipmi_program import IPMICONSOLE, IPMITOOL, Program
from consoled.backends.ipmi_words import Strainer

TIMEOUT = b"\r\n[error received]: session timeout\r\n"
STOLEN = b"\r\n[SOL session stolen]\r\n"
GOODBYE = b"\r\n[closing the connection]\r\n"
KEEPALIVE = b"Error: No response to keepalive - Terminating session\n"
NO_ANSWER = b"Error: No response de-activating SOL payload\n"
FAILED = b"Error sending SOL data: FAIL\nSOL session closed by BMC\n"
STRAY = b"IPMI Request Match NOT FOUND\n"
FOREIGN = b"packet session id 0x2f does not match active session 0xa1b2c3d4\n"

NODE = st.lists(
    st.sampled_from([b"login: ", b"\r\n", b"\r", b"[", b"[closing ", b"Error: ", b"\n", b"~B", b"SOL", b"I", b"\xff"])
    | st.binary(max_size=5)
    | st.sampled_from([TIMEOUT, GOODBYE, KEEPALIVE, FAILED]),
    max_size=8,
).map(b"".join)
"""What a node says: also the programs' words, if somebody runs one of them there."""


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


PROGRAMS = st.sampled_from([IPMICONSOLE, IPMITOOL])
CUTS = st.lists(st.integers(0, 10_000), max_size=10)


@given(NODE, st.sampled_from([GOODBYE, TIMEOUT + GOODBYE, STOLEN + GOODBYE]), CUTS)
def test_ipmiconsoles_last_words(node: bytes, last: bytes, cuts: list[int]) -> None:
    node += b"$"  # or its words before ours would be taken for ours
    strainer = Strainer(IPMICONSOLE.words)
    output = b"".join(map(strainer.feed, pieces(node + last, cuts)))
    rest, said = strainer.finish()
    assert output + rest == node
    assert said == last.strip().split(b"\r\n")[0].decode()


@given(NODE, st.sampled_from([KEEPALIVE, KEEPALIVE + NO_ANSWER, FAILED]), CUTS)
def test_ipmitools_last_words(node: bytes, last: bytes, cuts: list[int]) -> None:
    node += b"$"
    strainer = Strainer(IPMITOOL.words)
    # It writes a line at once, so the node's last bytes and its first words may come apart, but no word within.
    output = b"".join(map(strainer.feed, [*pieces(node, cuts), last[:7], *pieces(last[7:], cuts)]))
    rest, said = strainer.finish()
    assert output + rest == node
    assert said == last.split(b"\n")[0].decode()


@given(PROGRAMS, NODE, CUTS, st.lists(st.booleans(), min_size=11, max_size=11))
def test_a_node_loses_nothing(program: Program, node: bytes, cuts: list[int], waits: list[bool]) -> None:
    strainer = Strainer(program.words)
    output = b""
    for piece, waited in zip(pieces(node, cuts), waits, strict=False):
        output += strainer.feed(piece)
        if waited:
            output += strainer.release()
    assert output + strainer.release() == node
    assert strainer.held == b""


@given(PROGRAMS, st.binary(max_size=30), st.binary(max_size=30), CUTS)
def test_a_breaks_echo(program: Program, before: bytes, after: bytes, cuts: list[int]) -> None:
    echo = program.words.echo
    whole = before + b"." + echo + b"." + after
    strainer = Strainer(program.words)
    strainer.expect_break()
    parts = pieces(whole, cuts) if program is IPMICONSOLE else [whole]
    output = b"".join(map(strainer.feed, parts)) + strainer.release()
    assert output == before + b".." + after
    assert strainer.feed(b"." + echo + b".") == b"." + echo + b".", "once for each break"


def test_remarks_about_the_protocol_are_nobodys_output() -> None:
    strainer = Strainer(IPMITOOL.words)
    assert strainer.feed(b"log" + STRAY + b"in: " + FOREIGN[:30]) == b"login: "
    assert strainer.feed(FOREIGN[30:] + b"x") == b"x"


@pytest.mark.parametrize("typed", [b"p", b"E", b"I", b"S", b"~", b"Err", b"[", b"x"])
def test_a_typists_echo_does_not_wait(typed: bytes) -> None:
    for program in (IPMICONSOLE, IPMITOOL):
        assert Strainer(program.words).feed(typed) == typed


def test_what_waits_is_bounded() -> None:
    strainer = Strainer(IPMITOOL.words)
    for _ in range(100):
        strainer.feed(b"Error: again\n" * 100)
        assert len(strainer.held) <= 512
