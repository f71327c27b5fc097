"""Token buckets: never more than what was promised, in any stretch of time, and never less than what is owed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from consoled.api.pace import Bucket, Buckets


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 5)), max_size=40))
def test_whoever_waits_when_told_gets_the_rate_and_the_burst(steps: list[tuple[float, int]]) -> None:
    clock = Clock()
    bucket = Bucket(3, 10, clock.seconds)
    taken = 0
    for pause, count in steps:
        clock.advance(pause)
        wait = bucket.take(count)
        taken += count
        assert wait >= 0
        assert taken - 10 - 1e-6 <= 3 * (clock.seconds() + wait)
        clock.advance(wait)
        assert bucket.left >= -1e-6


def test_a_full_bucket_gives_its_burst_at_once() -> None:
    clock = Clock()
    bucket = Bucket(2, 5, clock.seconds)
    assert [bucket.take() for _ in range(6)] == [0, 0, 0, 0, 0, 0.5]
    assert bucket.wait() == 1
    clock.advance(1000)
    assert bucket.left == 5


def test_buckets_forget_whoever_was_there_longest_ago() -> None:
    buckets = Buckets(1, 5, Clock().seconds, most=2)
    buckets.of("a").take(5)
    buckets.of("b").take(5)
    buckets.of("a")
    buckets.of("c")
    assert len(buckets) == 2
    assert buckets.find("b") is None
    assert buckets.of("a").left == 0
