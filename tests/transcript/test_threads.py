"""The thread that writes, and how it is waited for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest
from twisted.logger import capturedLogs

from consoled.transcript.threads import DiskThread

LIMIT = 10.0


class Hung:
    """A job that a disk holds."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.go_on.wait(LIMIT)


class Turns:
    """What a reactor does for threads."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[Any] = SimpleQueue()

    def call_from_thread(self, call: Any, *args: Any) -> None:
        self.calls.put((call, args))


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def worker(turns: Turns) -> Iterator[DiskThread]:
    worker = DiskThread("a-disk", turns.call_from_thread)
    yield worker
    worker.stop()
    ours = worker._thread
    if ours.ident is not None:
        ours.join(LIMIT)
    assert not ours.is_alive()


def never() -> None:
    raise AssertionError("it was in time")


def test_what_is_done_in_time(worker: DiskThread) -> None:
    done: list[str] = []
    for number in range(100):
        assert worker.run(lambda: done.append(threading.current_thread().name), LIMIT, never)
        assert done == ["a-disk"] * (number + 1)


def test_what_is_late_is_told_and_the_next_is_waited_for_by_itself(worker: DiskThread, turns: Turns) -> None:
    hung, late = Hung(), object()
    assert not worker.run(hung, 0.001, late)
    assert hung.begun.wait(LIMIT)
    assert turns.calls.empty()
    hung.go_on.set()
    assert turns.calls.get(timeout=LIMIT) == (late, ())
    done: list[int] = []
    for number in range(3):
        assert worker.run(lambda: done.append(1), LIMIT, never)
        assert len(done) == number + 1
    assert turns.calls.empty()


def test_nobody_waits_without_patience_and_all_are_done_in_order(worker: DiskThread, turns: Turns) -> None:
    hung, done = Hung(), []
    assert not worker.run(hung, 0, 0)
    for number in range(1, 5):
        assert not worker.run(lambda number=number: done.append(number), 0, number)
    hung.go_on.set()
    assert [turns.calls.get(timeout=LIMIT)[0] for _ in range(5)] == [0, 1, 2, 3, 4]
    assert done == [1, 2, 3, 4]


def test_a_job_that_fails_is_done_as_well(worker: DiskThread) -> None:
    with capturedLogs() as logged:
        assert worker.run(lambda: 1 // 0, LIMIT, never)
    assert logged[0]["log_failure"].check(ZeroDivisionError)
    assert worker.run(lambda: None, LIMIT, never)


def test_after_the_stop_what_was_given_is_done_and_nothing_more(turns: Turns) -> None:
    worker, hung, done = DiskThread("a-disk", turns.call_from_thread), Hung(), []
    worker.run(hung, 0, 0)
    worker.run(lambda: done.append("before"), 0, 1)
    worker.stop()
    worker.stop()
    assert not worker.run(lambda: done.append("after"), 0.001, never)
    hung.go_on.set()
    worker._thread.join(LIMIT)
    assert not worker._thread.is_alive()
    assert done == ["before"]


def test_one_that_had_nothing_to_do_has_nothing_to_end(turns: Turns) -> None:
    worker = DiskThread("a-disk", turns.call_from_thread)
    worker.stop()
    assert worker._thread.ident is None


def test_a_signal_that_the_thread_gets_does_not_end_it(worker: DiskThread) -> None:
    """The kernel gives a process's signal to any of its threads, and a call on an eventfd ends with it."""
    assert worker.run(lambda: None, LIMIT, never)
    ident = worker._thread.ident
    assert ident is not None
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        for _ in range(50):
            signal.pthread_kill(ident, signal.SIGUSR1)
            assert worker.run(lambda: None, LIMIT, never)  # it has had the signal before it can do this
    finally:
        signal.signal(signal.SIGUSR1, before)
