"""Threads that a disk may hold for ever without keeping the process from ending.

The scribe and upkeep each have a `DiskThread`; the transcripts' reads run in `Readers`.  Tests put something that runs
inline, or never, in their place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

log = Logger()


class Worker(Protocol):
    """A thread that does one job after the other."""

    def run(self, job: Callable[[], None], patience: float, late: Callable[[], None]) -> bool:
        """Do `job` in the thread.

        True if it was done within `patience` seconds.  If not, `late` is called in the reactor's thread when it is.
        """

    def stop(self) -> None:
        """End the thread after the jobs that it has.  Does not wait."""


class DiskThread:
    """The real worker; its thread starts with the first job."""

    def __init__(self, name: str, call_from_thread: Callable[..., Any]) -> None:
        self._call_from_thread = call_from_thread
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def run(self, job: Callable[[], None], patience: float, late: Callable[[], None]) -> bool:
        if self._thread.ident is None:
            self._thread.start()
        done, decision = threading.Lock(), threading.Lock()
        done.acquire()
        finished = waited_out = False

        def work() -> None:
            nonlocal finished
            try:
                job()
            except Exception:
                log.failure("a job of the thread {name}", name=self._thread.name)
            with decision:
                finished = True
            done.release()
            if waited_out:
                self._call_from_thread(late)

        self._jobs.put(work)
        if patience > 0 and done.acquire(timeout=patience):
            return True
        with decision:
            waited_out = not finished
        return not waited_out

    def stop(self) -> None:
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


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
