"""Programs of the site's: output, limits, and nothing left behind."""

import os
import signal
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from consoled.command import run


class Patient:
    """The reactor with a clock that the test moves."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.callLater = self.clock.callLater
        self.spawnProcess = reactor.spawnProcess


@pytest_twisted.ensureDeferred
async def test_the_output_of_a_program():
    outcome = await run(reactor, ["printf", "%s %s", "a b", "c"], 30, 100)
    assert (outcome.succeeded, outcome.how, outcome.output) == (True, "succeeded", b"a b c")


@pytest_twisted.ensureDeferred
async def test_output_that_nobody_wants():
    outcome = await run(reactor, ["echo", "hello"], 30)
    assert outcome.succeeded
    assert outcome.output == b""


@pytest.mark.parametrize(
    ("script", "how"),
    [
        ("exit 3", "ended with exit status 3"),
        ("kill -TERM $$", "was killed by signal 15"),
        ("printf 'no\\n\\033[2Jpassword' >&2; exit 1", "ended with exit status 1: no \\x1b[2Jpassword"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_program_that_fails(script, how):
    outcome = await run(reactor, ["sh", "-c", script], 30, 100)
    assert not outcome.succeeded
    assert outcome.how == how


@pytest_twisted.ensureDeferred
async def test_a_program_that_is_not_there():
    outcome = await run(reactor, ["/nonexistent/program"], 30, 100)
    assert not outcome.succeeded
    assert "ended with exit status 127" in outcome.how
    assert "/nonexistent/program" in outcome.how


@pytest_twisted.ensureDeferred
async def test_a_program_that_prints_without_end():
    outcome = await run(reactor, ["yes"], 30, 1000)
    assert outcome.how == "printed more than 1000 bytes"
    assert not outcome.succeeded


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # before it is opened, and after
        return True


async def started(pipe: int) -> list[int]:
    """The two numbers that a script writes into a pipe when it has started."""
    answer: Deferred[list[int]] = Deferred()

    class Watch:
        def fileno(self):
            return pipe

        def logPrefix(self):
            return "pipe"

        def doRead(self):
            reactor.removeReader(self)
            answer.callback([int(number) for number in os.read(pipe, 100).split()])

        def connectionLost(self, why):
            """The test closes the pipe."""

    reactor.addReader(Watch())
    return await answer.addTimeout(30, reactor)


@pytest.mark.parametrize("ending", ["limit", "cancel"])
@pytest_twisted.ensureDeferred
async def test_a_program_that_takes_too_long_is_killed_with_its_children(ending, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    pipe = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    patient = Patient()
    script = f"trap '' TERM HUP; sleep 1000 & echo $$ $! > {fifo}; wait"
    running = run(patient, ["sh", "-c", script], 10, 100)
    pids = await started(pipe)
    try:
        assert not any(gone(pid) for pid in pids)
        if ending == "limit":
            patient.clock.advance(10)
        else:
            running.cancel()
        outcome = await running.addErrback(lambda failure: failure.value)
        if ending == "limit":
            assert outcome.how == "took longer than 10 s"
        for _ in range(1000):
            if all(gone(pid) for pid in pids):
                return
            await deferLater(reactor, 0.01)
        raise AssertionError("something lives on")
    finally:
        os.close(pipe)
        for pid in pids:
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)
