"""The flavours: however the stream is cut, the same comes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from consoled.api.frames import Raw, Text, binary_frame, keystrokes, quiet_text, text_frame

pieces = st.lists(
    st.one_of(
        st.binary(max_size=20), st.text(max_size=10).map(str.encode), st.sampled_from([b"\xe2", b"\x82", b"\xac"])
    )
)


def parse(wire: bytes, mask: bool = False) -> list[Frame]:
    """The frames, by another implementation."""
    reader, frames = StreamReader(), []
    reader.feed_data(wire)
    reader.feed_eof()
    while reader.buffer:
        parsing = Frame.parse(reader.read_exact, mask=mask, max_size=2**20)
        try:
            while True:
                next(parsing)
        except StopIteration as done:
            frames.append(done.value)
    return frames


@given(pieces)
def test_text_is_the_same_however_the_stream_is_cut(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    text = Text()
    frames = [text.encode(piece, 0) for piece in pieces]
    dangling = text.dangling
    assert whole.endswith(dangling)
    frames.append(text.flush())
    assert text.dangling == b""
    sent = parse(b"".join(frame for frame in frames if frame is not None))
    assert all(frame.opcode is Opcode.TEXT and frame.fin and frame.data for frame in sent)
    assert b"".join(bytes(frame.data) for frame in sent).decode() == whole.decode(errors="replace")
    assert text.flush() is None


@given(pieces, st.binary())
def test_another_encoding_can_go_on_where_one_dangles(before: list[bytes], after: bytes) -> None:
    one, other = Text(), Text()
    for piece in before:
        one.encode(piece, 0)
    other.encode(one.dangling, 0)
    assert other.encode(after, 0) == one.encode(after, 0)
    assert other.flush() == one.flush()


@given(st.lists(st.binary(min_size=1)))
def test_raw_is_the_bytes(pieces: list[bytes]) -> None:
    raw = Raw()
    sent = parse(b"".join(raw.encode(piece, 0) or b"" for piece in pieces))
    assert [bytes(frame.data) for frame in sent] == pieces
    assert all(frame.opcode is Opcode.BINARY and frame.fin for frame in sent)
    assert (raw.dangling, raw.flush(), raw.own_lines) == (b"", None, False)


def test_long_frames() -> None:
    for size in (0, 1, 125, 126, 65535, 65536, 100_000):
        [frame] = parse(text_frame("x" * size))
        assert (frame.opcode, len(frame.data)) == (Opcode.TEXT, size)
        [frame] = parse(binary_frame(b"x" * size))
        assert (frame.opcode, len(frame.data)) == (Opcode.BINARY, size)


def test_only_quiet_text_leaves_the_daemons_lines_out() -> None:
    assert Text().own_lines
    assert not quiet_text().own_lines


# ------------------------------------------------------------------------------------------------- keystrokes


def masked(payload: bytes, opcode: Opcode, fin: bool = True) -> bytes:
    """A client's frame, by another implementation."""
    return Frame(opcode, payload, fin).serialize(mask=True)


@given(st.binary(max_size=125))
def test_short_binary_messages_are_understood(payload: bytes) -> None:
    assert keystrokes(masked(payload, Opcode.BINARY)) == (payload, True)


@given(st.text(st.characters(max_codepoint=127), max_size=125))
def test_short_ascii_messages_are_understood(text: str) -> None:
    assert keystrokes(masked(text.encode(), Opcode.TEXT)) == (text.encode(), False)


@given(st.binary(max_size=300))
def test_whatever_is_understood_is_what_another_implementation_understands(data: bytes) -> None:
    message = keystrokes(data)
    if message is not None:
        [frame] = parse(data, mask=True)
        assert message == (frame.data, frame.opcode is Opcode.BINARY)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        masked(b"x", Opcode.BINARY)[:-1],
        masked(b"x", Opcode.BINARY) + b"\x82",
        masked(b"x", Opcode.BINARY) * 2,
        masked(b"x" * 126, Opcode.BINARY),
        masked(b"x", Opcode.BINARY, fin=False),
        masked(b"x", Opcode.CONT),
        masked(b"x", Opcode.PING),
        masked(b"\x03\xe8", Opcode.CLOSE),
        masked("\u20ac".encode(), Opcode.TEXT),
        masked(b"\xff", Opcode.TEXT),
        binary_frame(b"unmasked"),
        b"\xc2" + masked(b"x", Opcode.BINARY)[1:],
    ],
)
def test_all_else_is_left_to_autobahn(data: bytes) -> None:
    assert keystrokes(data) is None
