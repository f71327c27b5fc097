"""Durations and sizes: what people write, and what they should not have written."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoled.units import Duration, FilePath, Size, units

SECONDS = {"ms": Fraction(1, 1000), "s": 1, "m": 60, "h": 3600, "d": 86400}
BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12} | {
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
SPACE = st.sampled_from(["", " ", "  "])
NUMBER = st.one_of(
    st.integers(0, 10**9).map(str), st.tuples(st.integers(0, 10**6), st.integers(0, 999)).map("{0[0]}.{0[1]:03}".format)
)


@given(st.lists(st.tuples(SPACE, NUMBER, SPACE, st.sampled_from(sorted(SECONDS))), min_size=1, max_size=4), SPACE)
def test_a_duration_is_the_sum_of_its_parts(parts: list[tuple[str, str, str, str]], end: str) -> None:
    total = sum(Fraction(number) * SECONDS[unit] for _, number, _, unit in parts)
    parsed = Duration.parse("".join(map("".join, parts)) + end)
    assert type(parsed) is Duration
    assert parsed == pytest.approx(float(total), rel=1e-12)


@given(st.integers(0, 10**12) | st.floats(0, 1e12))
def test_a_number_is_seconds(seconds: float) -> None:
    assert Duration.parse(seconds) == seconds


@given(SPACE, NUMBER, SPACE, st.sampled_from(sorted(BYTES)), st.booleans(), SPACE)
def test_a_size_is_exact(before: str, number: str, between: str, unit: str, lower: bool, after: str) -> None:
    text = before + number + between + (unit.lower() if lower else unit) + after
    parsed = Size.parse(text)
    assert type(parsed) is Size
    assert parsed == int(Fraction(number) * BYTES[unit])


@given(st.integers(0, 10**18 - 1))
def test_a_number_is_bytes(count: int) -> None:
    assert Size.parse(count) == Size.parse(str(count)) == count


def test_examples() -> None:
    assert [Duration.parse(text) for text in ("90s", "1h 30m", "500ms", "7d", "1.5h")] == [90, 5400, 0.5, 604800, 5400]
    assert [Size.parse(text) for text in ("64 KiB", "5 MB", "20GiB", "1.5kb")] == [65536, 5000000, 21474836480, 1500]
    assert Size.parse("1.001 KB") == 1001, "no rounding on the way"


DURATION_FORMS = 'write a number of seconds or "500ms", "30s", "5m", "1h 30m", "7d"'
BAD_DURATIONS = [
    "",
    " ",
    "s",
    "5",
    "5 minutes",
    "5M",
    "-5s",
    "1h30",
    "1,5s",
    ".5s",
    "5.s",
    "1e3s",
    "٣s",
    "0x1s",
    True,
    None,
]
BAD_DURATIONS += [[], b"5s", "9" * 400 + "d"]


@pytest.mark.parametrize("value", BAD_DURATIONS, ids=lambda value: repr(value)[:20])
def test_a_bad_duration_is_quoted(value: Any) -> None:
    with pytest.raises(ValueError) as refused:
        Duration.parse(value)
    assert str(refused.value) == f"{value!r} is not a duration: {DURATION_FORMS}"


@pytest.mark.parametrize(
    "value", [-1, -0.5, float("nan"), float("inf"), float("-inf"), 10**400], ids=lambda value: str(value)[:5]
)
def test_a_number_that_is_no_time_is_quoted(value: float) -> None:
    with pytest.raises(ValueError) as refused:
        Duration.parse(value)
    assert str(refused.value).startswith(f"{value!r} is not a duration: ")


BAD_SIZES = [
    "",
    " ",
    "KiB",
    "5 KIBI",
    "-5",
    "5 k",
    "5 KiB 3",
    "1,5 KB",
    ".5 KB",
    "5.",
    "1e3",
    "٣",
    "0x10",
    True,
    None,
    5.0,
]
BAD_SIZES += [-1, [], b"5", "9" * 5000]


@pytest.mark.parametrize("value", BAD_SIZES, ids=lambda value: repr(value)[:20])
def test_a_bad_size_is_quoted(value: Any) -> None:
    with pytest.raises(ValueError) as refused:
        Size.parse(value)
    forms = 'write a number of bytes or "64 KiB", "5 MB", "20 GiB"'
    assert str(refused.value) == f"{value!r} is not a size: {forms}"


@given(st.text(max_size=12))
def test_whatever_is_written_is_taken_or_quoted(text: str) -> None:
    for kind in (Duration, Size):
        try:
            assert kind.parse(text) >= 0
        except ValueError as error:
            assert str(error).startswith(repr(text))


@pytest.mark.parametrize(
    ("written", "read"),
    [("tokens.toml", "/etc/c/tokens.toml"), ("../x/", "/etc/c/../x/"), ("/abs/olute", "/abs/olute"), ("", "")],
)
def test_a_path_begins_at_the_configuration(written: str, read: str) -> None:
    assert FilePath.parse(written, "/etc/c") == read


@pytest.mark.parametrize("value", [None, 5, b"x", "a\0b"], ids=repr)
def test_a_bad_path_is_quoted(value: Any) -> None:
    with pytest.raises(ValueError) as refused:
        FilePath.parse(value, "/etc/c")
    assert str(refused.value) == f"{value!r} is not a path"


def test_each_type_is_read_by_its_rule() -> None:
    decode = units("/etc/c")
    assert [decode(kind, "5m") for kind in (Duration, FilePath)] == [300, "/etc/c/5m"]
    assert decode(Size, "5 KB") == 5000
    with pytest.raises(NotImplementedError, match="no rule for <class 'complex'>"):
        decode(complex, "5")
