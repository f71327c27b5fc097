"""Threads that a disk may hold for ever without keeping the process from ending.

The scribe and upkeep each have a `DiskThread`; the transcripts' reads run in `Readers`.  Tests put something that runs
inline, or never, in their place.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeAlias

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

log = Logger()

InThread = Callable[..., Deferred[Any]]
"""`in_thread(function, *args)`: fires with what the function returns in a thread that may block."""


class Worker(Protocol):
    """A thread that does one job after the other."""

    def run(self, job: Callable[[], None], patience: float, late: Callable[[], None]) -> bool:
        """Do `job` in the thread, unless that was stopped.

        True if it was done within `patience` seconds.  If not, `late` is called in the reactor's thread when it is.
        """

    def stop(self) -> None:
        """End the thread after the jobs that it has.  Does not wait."""


_Job: TypeAlias = "tuple[Callable[[], None], Callable[[], None], list[None]]"
"""What to do, whom to call if it is late, and the say whether it is: whoever of the two threads takes that first."""


class DiskThread:
    """The real worker; its thread starts with the first job.

    The two wake one another by eventfd(2), because its calls are made without the interpreter's lock: a thread that is
    woken by a lock of Python's first has to wait for that one, which doubles the time of a hand-over (26 us, not 13).
    """

    def __init__(self, name: str, call_from_thread: Callable[..., Any]) -> None:
        self._call_from_thread = call_from_thread
        self._jobs: deque[_Job | None] = deque()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._given = self._done = -1
        self._look = select.poll()
        self._stopped = False

    def run(self, job: Callable[[], None], patience: float, late: Callable[[], None]) -> bool:
        if self._stopped:
            return False
        if self._thread.ident is None:
            self._given, self._done = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_CLOEXEC), os.eventfd(0)
            self._look.register(self._done, select.POLLIN)
            self._thread.start()
        say = [None]
        self._give((job, late, say))
        if (patience <= 0 or not self._look.poll(1000 * patience)) and _taken(say):
            return False
        _wait(self._done)  # it is there, or will be at once
        return True

    def stop(self) -> None:
        if self._thread.ident is not None and not self._stopped:
            self._give(None)
        self._stopped = True

    def _give(self, job: _Job | None) -> None:
        self._jobs.append(job)
        os.eventfd_write(self._given, 1)

    def _work(self) -> None:
        while True:
            _wait(self._given)
            given = self._jobs.popleft()
            if given is None:
                break
            job, late, say = given
            try:
                job()
            except Exception:
                log.failure("a job of the thread {name}", name=self._thread.name)
            if _taken(say):
                os.eventfd_write(self._done, 1)
            else:
                self._call_from_thread(late)
        os.close(self._given)
        os.close(self._done)


def _wait(number: int) -> None:
    """Until the eventfd `number` is written to.  Unlike others of `os`, its calls end with a signal (PEP 475)."""
    while True:
        try:
            os.eventfd_read(number)
        except InterruptedError:
            continue
        return


def _taken(say: list[None]) -> bool:
    """Whether the caller is the first of two threads to ask."""
    try:
        say.pop()  # no other thread can come between
    except IndexError:
        return False
    return True


class Readers:
    """A few threads: `readers(function, *args)` fires with what the function returns in one of them."""

    def __init__(self, count: int, name: str, call_from_thread: Callable[..., Any]) -> None:
        self._call_from_thread = call_from_thread
        self._calls: SimpleQueue[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"{name}-{n}", daemon=True) for n in range(count)]

    def __call__(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        if self._threads[0].ident is None:
            for thread in self._threads:
                thread.start()
        done: Deferred[Any] = Deferred()
        self._calls.put((done, function, args))
        return done

    def stop(self) -> None:
        """End the threads after the calls that there are.  Does not wait."""
        for _ in self._threads:
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            done, function, args = call
            try:
                self._call_from_thread(done.callback, function(*args))
            except Exception:
                self._call_from_thread(done.errback, Failure())
