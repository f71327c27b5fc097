"""Which segments go."""

from hypothesis import given
from hypothesis import strategies as st

from consoled.transcript.directory import Segment
from consoled.transcript.retention import Holding, surplus
from consoled.transcript.settings import TranscriptSettings


def holding(name, *sizes, active=0, mtime=0.0):
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    return Holding(name, tuple(Segment(*pair, mtime) for pair in zip(starts, sizes, strict=True)), active)


def going(holdings, now=0.0, **settings):
    settings = TranscriptSettings(directory="/x", **settings)
    return [(name, segment.start) for name, segment in surplus(holdings, settings, now)]


def test_nothing_goes_without_a_reason():
    assert going([holding("a", 10, 10)], max_total=0) == []


def test_the_oldest_go_when_there_are_too_many():
    assert going([holding("a", 10, 10, 10), holding("b", 5)], keep=1) == [("a", 0), ("a", 10)]


def test_the_old_go_when_their_time_is_over():
    closed = (Segment(0, 5, 100.0), Segment(5, 5, 200.0), Segment(10, 5, 300.0))
    assert going([Holding("a", closed, 5)], now=401.0, keep_for=200) == [("a", 0), ("a", 5)]


def test_the_oldest_of_the_noisiest_go_when_all_are_too_big():
    loud, quiet = holding("loud", 40, 40, 40), holding("quiet", 30, 30)
    assert going([quiet, loud], max_total=200) == []
    assert going([quiet, loud], max_total=150) == [("loud", 0)]
    assert going([quiet, loud], max_total=110) == [("loud", 0), ("loud", 40)]
    assert going([quiet, loud], max_total=80) == [("loud", 0), ("loud", 40), ("quiet", 0)]


def test_active_files_count_and_stay():
    assert going([holding("a", 10, active=500)], max_total=100) == [("a", 0)]


@given(
    st.lists(st.tuples(st.lists(st.integers(1, 50), max_size=6), st.integers(0, 50)), max_size=6),
    st.integers(1, 300),
    st.integers(0, 4),
)
def test_what_stays_is_within_bounds_and_the_newest(sizes, budget, keep):
    holdings = [holding(str(n), *closed, active=active) for n, (closed, active) in enumerate(sizes)]
    gone = going(holdings, max_total=budget, keep=keep)
    assert len(gone) == len(set(gone))
    left = {}
    for each in holdings:
        stays = [segment for segment in each.closed if (each.name, segment.start) not in gone]
        assert stays == list(each.closed[len(each.closed) - len(stays) :])
        left[each.name] = sum(segment.size for segment in stays)
        assert not keep or len(stays) <= keep
    total = sum(left.values()) + sum(each.active for each in holdings)
    assert total <= budget or not any(left.values())
