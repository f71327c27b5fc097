"""The simpler machines: what they say, and how much of it."""

from __future__ import annotations

import re
from random import Random
from zlib import crc32

import pytest

from consoled.backends.demo_machine import STALL
from consoled.backends.demo_sources import FLOOD_LINE, Chatter, Echo, Flood, Quiet, flood_line


def test_a_chatter_says_a_line_at_each_interval() -> None:
    chatter = Chatter(100.0, 11_520, Random(1), 2.0)
    for turn in range(20):
        at = 100.0 + 2 * turn
        line = chatter.live(at)
        assert re.fullmatch(rb"\[ *%d\.\d{6}\] .+\r\n" % (2 * turn), line)
        # One call is enough: nothing wakes it between two lines.
        assert chatter.wakes() == pytest.approx(at + 2, abs=0.1)
        assert chatter.live(at + 1) == b""


@pytest.mark.parametrize("rate", [64, 100, 5_000, 65_536, 10_000_000])
def test_a_flood_keeps_its_rate(rate: int) -> None:
    flood = Flood(0.0, rate)
    said, now = [flood.live(0)], 0.0
    while now < 3:
        now = flood.wakes()
        said.append(flood.live(now))
    stream = b"".join(said)
    assert len(stream) == pytest.approx(rate * now, abs=max(map(len, said)) + FLOOD_LINE)
    assert max(map(len, said)) <= STALL
    lines = len(stream) // FLOOD_LINE
    assert stream == b"".join(map(flood_line, range(lines)))


def test_a_flood_line_can_be_checked() -> None:
    for number in (0, 1, 10**12):
        line = flood_line(number)
        assert len(line) == FLOOD_LINE
        assert line.endswith(b"\r\n")
        digits, crc, _ = line.split(b" ")
        assert int(digits) == number
        assert int(crc, 16) == crc32(digits)


def test_a_stalled_flood_goes_on_with_whole_lines() -> None:
    flood = Flood(0.0, 10_000_000)
    flood.live(0)
    late = flood.live(3600)
    assert 0 < len(late) <= 2 * STALL
    assert int(late[:20]) == STALL // FLOOD_LINE


def test_an_echo_gives_back_every_byte() -> None:
    echo = Echo(0.0)
    every = bytes(range(256))
    for piece in (every, every[::-1], b"\r", b"\n", b"\r\n", b"\x03"):
        assert echo.typed(1, piece)
        assert echo.live(1) == piece
    assert echo.wakes() == float("inf")


def test_an_echo_is_bounded() -> None:
    echo = Echo(0.0)
    assert echo.typed(0, b"x" * STALL)
    assert not echo.typed(0, b"y")
    assert echo.live(0) == b"x" * STALL
    assert echo.typed(0, b"z")


def test_quiet_says_nothing() -> None:
    quiet = Quiet(0.0)
    quiet.typed(1, b"hello\n\x03")
    quiet.broke(2)
    assert quiet.live(1e6) == b""
    assert quiet.wakes() == float("inf")
