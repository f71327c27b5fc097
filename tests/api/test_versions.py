"""Version ranges as clients of CloudAPI send them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoled.api.versions import satisfies

NINE = (9, 0, 0)


@pytest.mark.parametrize(
    "text",
    ["~9||~8", "~9", "9.0.0", "*", ">=8", "", "9", "9.x", "9.0", "^9", "^9.0.0", "8 - 10", ">=8 <10", "~8 || 9.0.0",
     "v9.0.0", "=9.0.0", "x", ">8", "<=9", "~> 9.0", "~9.0.0", ">= 9.0.0", "8 - 9", "*.*"],
)  # fmt: skip
def test_T_VER_1(text: str) -> None:
    assert satisfies(NINE, text)


@pytest.mark.parametrize(
    "text",
    ["~8", "~7||~8", "8.0.0", "garbage", "9.0.1", "~9.1", "^8", "^9.0.1", ">9", "<9", "<=8", "8 - 8.9", "9..0", "~~9",
     "9 garbage", "^0.9", "||garbage", ">", "9.0.0.0", "٩", "9" * 300, "9.0.0||~~"],
)  # fmt: skip
def test_T_VER_2(text: str) -> None:
    assert not satisfies(NINE, text)


@pytest.mark.parametrize(
    ("text", "above"),
    [("^0.2.3", (0, 3, 0)), ("^0.0.3", (0, 0, 4)), ("^1.2.3", (2, 0, 0)), ("^0.x", (1, 0, 0)), ("~1.2.3", (1, 3, 0))],
)
def test_where_a_range_ends(text: str, above: tuple[int, int, int]) -> None:
    major, minor, patch = above
    before = (major, minor, patch - 1) if patch else (major, minor - 1, 99) if minor else (major - 1, 99, 99)
    assert satisfies(before, text)
    assert not satisfies(above, text)


@given(st.text(alphabet="0123456789.xX*~^<>=|- v", max_size=30))
def test_whatever_comes_has_an_answer(text: str) -> None:
    assert satisfies(NINE, text) in (True, False)
