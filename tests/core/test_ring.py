"""The ring against its model: a byte string that forgets nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consoled.core.ring import Ring

PIECES = st.lists(st.text("ab\n", max_size=30).map(str.encode), max_size=12)


@settings(max_examples=300)
@given(st.integers(1, 20), st.integers(0, 1000), PIECES, st.data())
def test_it_holds_the_newest_bytes_of_the_stream(capacity: int, start: int, pieces: list[bytes], data: Any) -> None:
    ring = Ring(capacity, start)
    stream = b""
    for piece in pieces:
        ring.append(piece)
        stream += piece
        assert ring.head == start + len(stream)
        assert min(capacity, len(stream)) <= ring.head - ring.start <= 2 * capacity
    at = data.draw(st.integers(ring.start, ring.head))
    limit = data.draw(st.integers(0, 60))
    assert ring.read(at, limit) == stream[at - start :][:limit]


@settings(max_examples=300)
@given(st.integers(1, 20), PIECES, st.integers(1, 8), st.data())
def test_lines_are_counted_backwards(capacity: int, pieces: list[bytes], lines: int, data: Any) -> None:
    ring = Ring(capacity, 100)
    for piece in pieces:
        ring.append(piece)
    before = data.draw(st.integers(ring.start, ring.head))
    kept = ring.read(ring.start, before - ring.start)
    feeds = [ring.start + at for at, byte in enumerate(kept) if byte == 10]
    if len(feeds) < lines:
        assert ring.line_start(before, lines) == (ring.start, lines - len(feeds))
    else:
        assert ring.line_start(before, lines) == (feeds[-lines] + 1, 0)


@pytest.mark.parametrize("offset", [0, 7, 13])
def test_what_is_not_here_is_no_silence(offset: int) -> None:
    ring = Ring(2, 4)
    ring.append(b"abcdefgh")
    assert (ring.start, ring.head) == (10, 12)
    with pytest.raises(ValueError, match=f"offset {offset} is outside of 10 to 12"):
        ring.read(offset, 1)


def test_what_was_read_stays_as_it_was() -> None:
    ring = Ring(4)
    ring.append(b"abcd")
    read = ring.read(0, 4)
    ring.append(b"efghijkl")
    assert read == b"abcd"


def test_a_ring_holds_something() -> None:
    with pytest.raises(ValueError, match="not 0"):
        Ring(0)


@settings(max_examples=300)
@given(PIECES, st.integers(0, 50))
def test_shrinking_keeps_the_newest(pieces: list[bytes], keep: int) -> None:
    ring = Ring(16)
    for piece in pieces:
        ring.append(piece)
    head, start = ring.head, ring.start
    newest = ring.read(start, head - start)
    ring.shrink(keep)
    assert ring.head == head
    assert ring.start == max(start, head - keep)
    assert ring.read(ring.start, 1000) == newest[ring.start - start :]
    ring.append(b"more")
    assert ring.read(head, 4) == b"more"
