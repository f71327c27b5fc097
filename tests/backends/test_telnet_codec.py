"""The telnet codec against an independent model of a peer, and against anything at all."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consoled.backends import telnet_codec as telnet
from consoled.backends.telnet_codec import (
    AYT,
    BINARY,
    DO,
    DONT,
    ECHO,
    IAC,
    NOP,
    SB,
    SE,
    SGA,
    WILL,
    WONT,
    TelnetCodec,
)

TTYPE, NAWS, COM_PORT = 24, 31, 44
EVERYTHING = bytes(range(256))


class Now:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def codec_of(binary: bool = True, agreed: bool | None = None) -> TelnetCodec:
    """A codec whose first questions were answered, with yes if `agreed`."""
    codec = TelnetCodec(Now(), binary)
    codec.answers()
    if agreed is not None:
        verbs = (WILL, DO) if agreed else (WONT, DONT)
        codec.decode(b"".join(bytes([IAC, verb, BINARY]) for verb in verbs))
        codec.decode(bytes([IAC, WILL, SGA]))
        assert codec.answers() == b""
    return codec


# ------------------------------------------------------------------ a peer that knows RFC 854 and nothing of our code


def peer_sends(data: bytes, binary: bool) -> bytes:
    """Byte by byte, as the RFC tells it."""
    wire = bytearray()
    for at, byte in enumerate(data):
        wire.append(byte)
        if byte == 255:
            wire.append(255)
        if byte == 13 and not binary and data[at + 1 : at + 2] != b"\n":
            wire.append(0)
    return bytes(wire)


def peer_reads(wire: bytes, binary: bool) -> bytes:
    data = bytearray()
    at = 0
    while at < len(wire):
        if wire[at] == 255:
            assert wire[at + 1] == 255, "a command within data"
            at += 1
        data.append(wire[at])
        if wire[at] == 13 and not binary:
            assert wire[at + 1] in (0, 10), "a CR must be followed by NUL or LF"
            if wire[at + 1] == 0:
                at += 1
        at += 1
    return bytes(data)


# Bytes that mean something come often enough.
telling = st.sampled_from([0, 10, 13, IAC, WILL, WONT, DO, DONT, SB, SE, NOP, BINARY, ECHO, 65])
streams = st.lists(telling | st.integers(0, 255), max_size=80).map(bytes)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


cuts = st.lists(st.integers(0, 1000), max_size=8)


@given(binary=st.booleans(), data=streams, cuts=cuts)
def test_what_the_peer_sends_is_what_we_read(binary: bool, data: bytes, cuts: list[int]) -> None:
    codec = codec_of(agreed=binary)
    assert b"".join(map(codec.decode, pieces(peer_sends(data, binary), cuts))) == data
    assert codec.answers() == b""


@given(binary=st.booleans(), data=streams, cuts=cuts)
def test_what_we_send_is_what_the_peer_reads(binary: bool, data: bytes, cuts: list[int]) -> None:
    codec = codec_of(agreed=binary)
    assert peer_reads(b"".join(map(codec.encode, pieces(data, cuts))), binary) == data


@pytest.mark.parametrize("binary", [True, False])
def test_all_bytes_before_and_after_all_bytes(binary: bool) -> None:
    data = b"".join(bytes([a, b]) for a in EVERYTHING for b in EVERYTHING)
    codec = codec_of(agreed=binary)
    assert codec.decode(peer_sends(data, binary)) == data
    assert peer_reads(codec.encode(data), binary) == data


@settings(max_examples=400)
@given(data=streams, cuts=cuts, start=st.sampled_from([None, True, False]))
def test_the_way_the_input_is_cut_makes_no_difference(data: bytes, cuts: list[int], start: bool | None) -> None:
    whole, cut = codec_of(agreed=start), codec_of(agreed=start)
    assert b"".join(map(cut.decode, pieces(data, cuts))) == whole.decode(data)
    assert cut.answers() == whole.answers()
    assert cut.settled == whole.settled
    # And what is left in their hands is the same, too.
    assert cut.decode(EVERYTHING) == whole.decode(EVERYTHING)
    assert cut.encode(EVERYTHING) == whole.encode(EVERYTHING)


@given(st.integers(0, 3), st.lists(st.integers(0, telnet.LONGEST_SUBNEGOTIATION + 4), max_size=4))
def test_a_subnegotiation_may_be_cut_anywhere_about_its_limit(over: int, cuts: list[int]) -> None:
    for tail in (b"\xff\xff", b"\xff\x01", b"ab"):
        data = bytes([IAC, SB]) + b"x" * (telnet.LONGEST_SUBNEGOTIATION - 2 + over) + tail + b"\xff\xf0out"
        whole, cut = codec_of(), codec_of()
        assert b"".join(map(cut.decode, pieces(data, cuts))) == whole.decode(data)


@given(st.lists(st.binary(max_size=3000) | streams, max_size=20))
def test_garbage_is_survived_and_answered_sparingly(chunks: list[bytes]) -> None:
    codec = codec_of()
    came = 0
    for chunk in chunks:
        came += len(chunk)
        codec.decode(chunk)
    assert len(codec.answers()) <= min(came, 3 * telnet.ANSWERS)


# ---------------------------------------------------------------------------------------------- options


def test_it_asks_for_transparency_both_ways_and_no_go_ahead() -> None:
    codec = TelnetCodec(Now())
    assert codec.answers() == bytes([IAC, WILL, BINARY, IAC, DO, BINARY, IAC, DO, SGA])
    assert codec.answers() == b""
    assert TelnetCodec(Now(), binary=False).answers() == bytes([IAC, DO, SGA])


@pytest.mark.parametrize(
    "replies", list(itertools.product([WILL, WONT], [DO, DONT], [WILL, WONT])), ids=lambda r: " ".join(map(str, r))
)
def test_it_is_settled_when_every_question_was_answered(replies: tuple[int, int, int]) -> None:
    codec = codec_of()
    for verb, option in zip(replies, (BINARY, BINARY, SGA), strict=True):
        assert not codec.settled
        codec.decode(bytes([IAC, verb, option]))
    assert codec.settled
    assert codec.answers() == b"", "an answer is not answered"


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ((WILL, ECHO), (DO, ECHO)),
        ((DO, SGA), (WILL, SGA)),
        ((DO, ECHO), (WONT, ECHO)),
        ((DO, TTYPE), (WONT, TTYPE)),
        ((DO, NAWS), (WONT, NAWS)),
        ((WILL, COM_PORT), (DONT, COM_PORT)),
        ((DO, 255), (WONT, 255)),
        ((WONT, ECHO), None),
        ((DONT, TTYPE), None),
    ],
)
def test_what_it_answers(asked: tuple[int, int], answer: tuple[int, int] | None) -> None:
    codec = codec_of()
    assert codec.decode(b"a" + bytes([IAC, *asked]) + b"b") == b"ab"
    assert codec.answers() == (bytes([IAC, *answer]) if answer else b"")


def test_without_binary_it_refuses_binary() -> None:
    codec = codec_of(binary=False)
    codec.decode(bytes([IAC, WILL, BINARY, IAC, DO, BINARY]))
    assert codec.answers() == bytes([IAC, DONT, BINARY, IAC, WONT, BINARY])
    assert codec.encode(b"\r") == b"\r\0"
    assert codec.decode(b"\r\0") == b"\r"


def test_an_option_can_be_turned_off_again_and_that_is_confirmed() -> None:
    codec = codec_of(agreed=True)
    assert codec.decode(b"\r\0" + bytes([IAC, WONT, BINARY]) + b"\r\0") == b"\r\0\r"
    assert codec.answers() == bytes([IAC, DONT, BINARY])
    codec.decode(bytes([IAC, DONT, BINARY]))
    assert codec.answers() == bytes([IAC, WONT, BINARY])
    assert codec.encode(b"\r") == b"\r\0"


def test_a_cr_and_a_nul_with_a_change_of_mode_between_are_no_pair() -> None:
    codec = codec_of(agreed=False)
    assert codec.decode(b"\r" + bytes([IAC, WILL, BINARY, IAC, WONT, BINARY]) + b"\0") == b"\r\0"


def test_a_loop_over_one_option_is_cut_off_and_others_still_work() -> None:
    codec = codec_of()
    codec.decode(bytes([IAC, DO, TTYPE]) * 1000)
    assert codec.answers() == bytes([IAC, WONT, TTYPE]) * telnet.ANSWERS_PER_OPTION
    assert codec.muted
    codec.decode(bytes([IAC, WILL, ECHO]))
    assert codec.answers() == bytes([IAC, DO, ECHO])


def test_a_peer_that_goes_to_and_fro_is_cut_off() -> None:
    codec = codec_of()
    codec.decode(bytes([IAC, WILL, ECHO, IAC, WONT, ECHO]) * 1000)
    assert codec.answers() == bytes([IAC, DO, ECHO, IAC, DONT, ECHO]) * (telnet.ANSWERS_PER_OPTION // 2)


def test_a_loop_over_all_options_is_cut_off() -> None:
    codec = codec_of()
    codec.decode(b"".join(bytes([IAC, DO, option]) for option in range(2, 255)) * 100)
    assert len(codec.answers()) == 3 * telnet.ANSWERS


def test_unanswered_an_option_may_be_turned_off_and_not_on() -> None:
    codec = codec_of(agreed=True)
    codec.decode(bytes([IAC, DO, TTYPE, IAC, DO, NAWS, IAC, WILL, TTYPE]) * 1000)
    codec.decode(b"".join(bytes([IAC, DO, option]) for option in range(64, 255)))
    codec.answers()
    codec.decode(bytes([IAC, WILL, ECHO, IAC, DONT, BINARY]))
    assert codec.answers() == b""
    assert codec.encode(b"\r") == b"\r\0"
    codec.decode(bytes([IAC, WONT, BINARY, IAC, WILL, BINARY]))
    assert codec.answers() == b""
    assert codec.decode(b"\r\0") == b"\r"


def test_after_a_while_a_peer_is_answered_again() -> None:
    """A login host may turn its echo off and on at every password, for months."""
    now = Now()
    codec = TelnetCodec(now)
    codec.answers()
    for _ in range(1000):
        codec.decode(bytes([IAC, WILL, ECHO, IAC, WONT, ECHO]))
        assert codec.answers() == bytes([IAC, DO, ECHO, IAC, DONT, ECHO])
        now.at += telnet.WINDOW / 4
    assert not codec.muted


# ---------------------------------------------------------------------------------------------- commands


@pytest.mark.parametrize("command", range(telnet.FIRST_COMMAND, SB))
def test_commands_are_no_output(command: int) -> None:
    codec = codec_of()
    assert codec.decode(b"a" + bytes([IAC, command]) + b"b") == b"ab"
    assert codec.answers() == b""


def test_an_undoubled_255_is_output_with_what_follows() -> None:
    assert codec_of().decode(b"a\xffb") == b"a\xffb"


def test_a_subnegotiation_is_no_output() -> None:
    codec = codec_of()
    assert codec.decode(b"a" + bytes([IAC, SB, TTYPE, 1, IAC, SE]) + b"b") == b"ab"
    assert codec.answers() == b""


def test_a_subnegotiation_of_an_agreed_option_is_told() -> None:
    told: list[tuple[int, bytes]] = []
    codec = TelnetCodec(Now(), subnegotiated=lambda option, data: told.append((option, data)))
    codec.decode(bytes([IAC, WILL, ECHO]))
    codec.decode(bytes([IAC, SB, ECHO, 1, IAC, IAC, 2, IAC, 3, IAC, SE]))
    codec.decode(bytes([IAC, SB, NAWS, 1, IAC, SE]))
    codec.decode(bytes([IAC, SB, IAC, SE]))
    assert told == [(ECHO, b"\x01\xff\x02\xff\x03")]


def test_the_longest_subnegotiation() -> None:
    told: list[bytes] = []
    codec = TelnetCodec(Now(), subnegotiated=lambda option, data: told.append(data))
    codec.decode(bytes([IAC, WILL, ECHO]))
    longest = b"x" * (telnet.LONGEST_SUBNEGOTIATION - 1)
    assert codec.decode(bytes([IAC, SB, ECHO]) + longest + bytes([IAC, SE]) + b"$ ") == b"$ "
    assert told == [longest]


def test_a_subnegotiation_whose_end_was_forgotten() -> None:
    codec = codec_of()
    assert codec.decode(bytes([IAC, SB, TTYPE, 1, IAC, DO, NAWS]) + b"login: ") == b"login: "
    assert codec.answers() == bytes([IAC, WONT, NAWS])


def test_a_subnegotiation_without_end_does_not_swallow_the_console() -> None:
    codec = codec_of()
    assert codec.decode(bytes([IAC, SB]) + b"x" * telnet.LONGEST_SUBNEGOTIATION + b"login: ") == b"login: "


def test_a_synch_is_no_output() -> None:
    assert codec_of().decode(b"^C" + bytes([IAC, 242]) + b"$ ") == b"^C$ "


def test_are_you_there_is_not_for_the_node() -> None:
    codec = codec_of()
    assert codec.decode(bytes([IAC, AYT])) == b""
    assert codec.answers() == b""


def test_enter_does_not_wait_for_the_next_key() -> None:
    codec = codec_of(agreed=False)
    assert codec.encode(b"ls\r") == b"ls\r\0"
    assert codec.encode(b"a\r\nb") == b"a\r\nb"
