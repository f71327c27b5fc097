"""The marks against their model: a set of offsets."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consoled.core.marks import Marks

RANGES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=10)
"""Gaps and lengths."""


def marked(ranges: list[tuple[int, int]]) -> tuple[Marks, set[int]]:
    marks, model, at = Marks(), set[int](), 0
    for gap, length in ranges:
        at += gap
        marks.add(at, at + length)
        model |= set(range(at, at + length))
        at += length
    return marks, model


@settings(max_examples=300)
@given(RANGES, st.integers(0, 80), st.integers(1, 20))
def test_a_run_is_the_longest_of_one_sort(ranges: list[tuple[int, int]], offset: int, length: int) -> None:
    marks, model = marked(ranges)
    run, own = marks.run(offset, length)
    assert 1 <= run <= length
    assert own == (offset in model)
    assert all((at in model) == own for at in range(offset, offset + run))
    assert run == length or ((offset + run) in model) != own


@settings(max_examples=200)
@given(RANGES, st.integers(0, 80))
def test_the_ranges_are_disjoint_and_as_few_as_can_be(ranges: list[tuple[int, int]], forgotten: int) -> None:
    marks, model = marked(ranges)
    marks.forget_before(forgotten)
    listed = list(marks)
    assert len(marks) == len(listed)
    assert {at for start, end in listed for at in range(start, end)} >= {at for at in model if at >= forgotten}
    assert all(end > forgotten and start in model for start, end in listed)
    assert all(end < start for (_, end), (start, _) in pairwise(listed))


def test_marks_go_forward() -> None:
    marks = Marks()
    marks.add(5, 9)
    with pytest.raises(ValueError, match="8 is before 9"):
        marks.add(8, 12)
    assert list(marks) == [(5, 9)]
    marks.add(9, 12)
    assert list(marks) == [(5, 12)]
