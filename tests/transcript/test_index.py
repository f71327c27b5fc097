"""The sidecar: what is written is understood, and what is torn does no harm."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoled.transcript.disk import Disk
from consoled.transcript.index import Index, State, parse, render

from .fakes import FakeDisk

numbers = st.integers(0, 10**15)
ranges = st.lists(st.integers(0, 10**12), unique=True, max_size=12).map(
    lambda edges: tuple(zip(sorted(edges)[::2], sorted(edges)[1::2], strict=False))
)
states = st.builds(
    State,
    start=numbers,
    born=numbers.map(float),
    rotating=st.none() | st.tuples(numbers, numbers),
    head=numbers,
    marks=ranges,
    lost=ranges,
)


@given(states)
def test_what_is_rendered_is_understood(state):
    assert parse(render(state)) == state
    assert parse(render(state)).intact


@given(states, st.data())
def test_a_torn_index_says_nothing_that_is_not_true(state, data):
    text = render(state)
    torn = parse(text[: data.draw(st.integers(0, len(text) - 1))])
    assert torn.start in (None, state.start)
    assert torn.rotating in (None, state.rotating)
    assert torn.head in (0, state.head)
    assert torn.marks == state.marks[: len(torn.marks)]
    assert torn.lost == state.lost[: len(torn.lost)]


@given(st.binary(max_size=60))
def test_garbage_is_left_out(garbage):
    state = parse(b"consoled-index 1\nstart 5 1\n" + garbage + b"\nmark 7 9\n")
    assert not state.intact or b"\n" in garbage or garbage.strip() == b"" or garbage[:4] in (b"head", b"lost", b"mark")
    assert state.start is not None


def test_a_format_to_come_is_left_alone(tmp_path):
    (tmp_path / "x").write_bytes(b"consoled-index 2\nstart 5 1\n")
    index = Index(Disk(), str(tmp_path), "x")
    with pytest.raises(OSError, match="another version"):
        index.load()


def test_after_a_record_that_did_not_fit_the_next_begins_a_line_of_its_own(tmp_path):
    disk = FakeDisk()
    index = Index(disk, str(tmp_path), "x")
    index.replace(State(start=0))
    written = []

    def full(fd, data):
        if written:
            raise OSError(errno.ENOSPC, "full")
        written.append(os.write(fd, bytes(data)[:7]))
        raise OSError(errno.ENOSPC, "full")

    disk.faults["write"] = full
    with pytest.raises(OSError, match="full"):
        index.append("mark 100 150")
    disk.faults.clear()
    index.append("mark 200 250")
    assert index.load().marks == ((200, 250),)


def test_an_index_that_was_taken_away_is_not_begun_in_the_middle(tmp_path):
    index = Index(Disk(), str(tmp_path), "x")
    with pytest.raises(FileNotFoundError):
        index.append("mark 1 2")


def test_a_long_index_is_shortened_by_what_is_kept_no_more(tmp_path):
    index = Index(Disk(), str(tmp_path), "x")
    index.replace(State(start=0))
    for n in range(0, 60000, 10):
        index.append(*(f"mark {n + k} {n + k + 1}" for k in range(0, 10, 2)))
    index.prune(59990, 60000)
    assert (tmp_path / "x").stat().st_size < 200
    assert index.load().marks == ((59990, 59991), (59992, 59993), (59994, 59995), (59996, 59997), (59998, 59999))
