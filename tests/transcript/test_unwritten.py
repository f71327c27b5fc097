"""The queue: any order of coming, being written and being read."""

from hypothesis import given
from hypothesis import strategies as st

from consoled.transcript.unwritten import Unwritten

steps = st.lists(st.tuples(st.binary(min_size=1, max_size=8), st.booleans(), st.integers(0, 12)), max_size=20)


@given(st.integers(0, 50), steps)
def test_what_is_not_written_is_there(first, steps):
    queue, stream, own, written = Unwritten(), b"", [], first
    queue.begin(first)
    for data, mine, taken in steps:
        if mine:
            own.append((first + len(stream), first + len(stream) + len(data)))
        stream += data
        queue.add(data, mine)
        target = min(written + taken, first + len(stream))
        assert queue.written_to(target) == target - written
        assert queue.written_to(written) == 0
        written = target
        assert queue.head == first + len(stream)
        assert len(queue) == queue.head - written
        pending, marks = queue.pending()
        assert b"".join(pending) == stream[written - first :]
        assert list(marks) == [mark for mark in own if mark[1] > written]
        for at in range(written, queue.head):
            for limit in (1, 3, 100):
                assert queue.read(at, limit) == (at, stream[at - first :][:limit])
            assert queue.before(at) == stream[written - first : at - first]
        assert queue.read(queue.head, 5) == (queue.head, b"")
        assert queue.read(queue.head + 3, 5) == (queue.head + 3, b"")


def test_dropped_bytes_are_a_gap_at_the_end_until_it_is_skipped():
    queue = Unwritten()
    queue.add(b"kept", own=False)
    queue.drop(5)
    queue.drop(2)
    assert (len(queue), queue.head) == (4, 11)
    assert queue.read(6, 10) == (11, b"")
    assert queue.read(2, 10) == (2, b"pt")
    queue.written_to(4)
    assert queue.skip() == 7
    queue.add(b"next", own=True)
    assert queue.pending() == ((b"next",), ((11, 15),))


def test_giving_up():
    queue = Unwritten()
    queue.add(b"kept", own=True)
    queue.drop(5)
    assert queue.clear() == 4
    assert (len(queue), queue.pending()) == (0, ((), ()))
