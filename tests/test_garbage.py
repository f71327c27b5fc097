"""No search for garbage while the consoles are made, and none of them afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from consoled.garbage import unhurried


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_no_search_within() -> None:
    with unhurried():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_is_left_is_not_searched_again() -> None:
    before = gc.get_freeze_count()
    with unhurried():
        kept = [[] for _ in range(5000)]
    assert gc.get_freeze_count() >= before + len(kept)


def test_what_comes_later_is_searched() -> None:
    class Knot:
        pass

    with unhurried():
        pass
    knot = Knot()
    knot.itself = knot  # type: ignore[attr-defined]
    del knot
    gc.collect()
    gc.unfreeze()
    assert not any(type(one) is Knot for one in gc.get_objects())


def test_searched_again_after_a_failure() -> None:
    with pytest.raises(ValueError, match="no"), unhurried():
        raise ValueError("no")
    assert gc.isenabled()


def test_within_another() -> None:
    with unhurried():
        with unhurried():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
