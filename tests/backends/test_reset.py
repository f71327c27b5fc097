"""The reset command, with real children: how it ends, and that it always ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from consoled.backends.reset import LIMIT, ResetCommand


class World:
    """The reactor's children and a clock of our own."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.callLater = self.clock.callLater
        self.children: list[Any] = []

    def spawnProcess(self, *arguments: Any, **more: Any) -> Any:
        self.children.append(reactor.spawnProcess(*arguments, **more))  # type: ignore[attr-defined]
        return self.children[-1]

    def start(self, *argv: str) -> Deferred[str]:
        return ResetCommand(argv, self)()


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    for child in world.children:
        if child.pid:  # the test has not come to its end
            child.signalProcess("KILL")
    assert not world.clock.getDelayedCalls(), "the limit outlives its command"


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-I", "-S", "-c", code


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("pass", "succeeded"),
        ("raise SystemExit(3)", "ended with exit status 3"),
        ("import os; os.kill(os.getpid(), 15)", "was killed by signal 15"),
    ],
)
@pytest_twisted.inlineCallbacks
def test_how_it_ends(world: World, code: str, how: str) -> Any:
    assert (yield world.start(*python(code))) == how


@pytest_twisted.inlineCallbacks
def test_a_program_that_is_not_there(world: World) -> Any:
    assert (yield world.start("/nonexistent/reset")) == "ended with exit status 127"


@pytest_twisted.inlineCallbacks
def test_it_runs_as_often_as_it_is_called(world: World) -> Any:
    command = ResetCommand(python("pass"), world)
    assert (yield command()) == (yield command()) == "succeeded"


@pytest_twisted.inlineCallbacks
def test_what_it_says_is_not_kept_and_it_is_told_nothing(world: World) -> Any:
    talk = "import sys; sys.exit(len(sys.stdin.read()) or not sys.stdout.write('x' * 1000000))"
    assert (yield world.start(*python(talk))) == "succeeded"


def test_it_cannot_be_started() -> None:
    class Exhausted(World):
        def spawnProcess(self, *arguments: Any, **more: Any) -> Any:
            raise OSError(24, "Too many open files")

    ends: list[str] = []
    Exhausted().start("true").addCallback(ends.append)
    assert ends == ["could not be started: Too many open files"]


@pytest_twisted.inlineCallbacks
def until(condition: Callable[[], bool]) -> Any:
    for _ in range(2000):
        if condition():
            return
        yield deferLater(reactor, 0.01)
    raise AssertionError("it did not come to pass")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # before it is opened, and after
        return False


@pytest_twisted.inlineCallbacks
def test_it_is_killed_with_all_that_it_started_when_it_takes_too_long(world: World, tmp_path: Path) -> Any:
    pids = tmp_path / "pids"
    fork = f"""
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    with open({str(pids)!r} + ".new", "w") as file:
        file.write(f"{{os.getpid()}} {{child}}")
    os.rename({str(pids)!r} + ".new", {str(pids)!r})
time.sleep(600)
"""
    ended = world.start(*python(fork))
    yield until(pids.exists)
    parent, child = map(int, pids.read_text().split())
    world.clock.advance(LIMIT - 1)
    assert is_alive(parent)
    assert is_alive(child)
    world.clock.advance(1)
    assert (yield ended) == f"took longer than {LIMIT:g} s"
    yield until(lambda: not is_alive(child))


@pytest_twisted.inlineCallbacks
def test_what_it_leaves_running_does_not_keep_it_from_ending(world: World, tmp_path: Path) -> Any:
    note = tmp_path / "pid"
    linger = f"""
import os, time
if child := os.fork():
    with open({str(note)!r}, "w") as file:
        file.write(str(child))
else:
    time.sleep(600)
"""
    ended = world.start(*python(linger))
    try:
        assert (yield ended.addTimeout(20, reactor)) == "succeeded"
    finally:
        os.kill(int(note.read_text()), signal.SIGKILL)
