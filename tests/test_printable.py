"""Foreign text: nothing in it that a terminal would obey, and nothing lost."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoled.printable import LONGEST, PlainStream, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, Zoë, 日本", "plain text, Zoë, 日本"),
        ("\x1b]0;pwned\x07", r"\x1b]0;pwned\x07"),
        ("a\r\nb", r"a\r\nb"),
        ("a\u2028b\u0085c\u00a0d", r"a\u2028b\x85c\xa0d"),
        ("\u202eabc\ufeff", r"\u202eabc\ufeff"),
        ("\ud800", r"\ud800"),
        ("\\x1b", r"\\x1b"),
        ("", ""),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters(), max_size=LONGEST))
def test_printable_is_printable_and_loses_nothing(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert "".join(unescaped(shown)) == text


def unescaped(shown: str) -> list[str]:
    """The inverse, by another road."""
    out, at = [], 0
    widths = {"x": 2, "u": 4, "U": 8}
    while at < len(shown):
        if shown[at] != "\\":
            out.append(shown[at])
            at += 1
        elif shown[at + 1] in widths:
            width = widths[shown[at + 1]]
            out.append(chr(int(shown[at + 2 : at + 2 + width], 16)))
            at += 2 + width
        else:
            out.append({"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}[shown[at + 1]])
            at += 2
    return out


def test_the_length_is_bounded() -> None:
    assert printable("a" * LONGEST) == "a" * LONGEST
    assert printable("a" * (LONGEST + 1)) == "a" * (LONGEST - 3) + "..."


@given(st.text(st.characters()))
def test_a_plain_stream_is_plain(text: str) -> None:
    out = io.StringIO()
    PlainStream(out).write(text)
    assert all(one.isprintable() or one in "\n\t" for one in out.getvalue())
    if all(one.isprintable() or one in "\n\t" for one in text):
        assert out.getvalue() == text
    out.getvalue().encode()  # surrogates are no text
