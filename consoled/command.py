"""Running somebody's program once: its output, bounded in size and in time.

Called for what the site configures as an argument list (a reset command, a helper that prints a password).  Never a
shell; a process group of its own, so that what it started ends with it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended."""

    succeeded: bool
    how: str
    """The end of a sentence: `succeeded`, `ended with exit status 3`, `was killed by signal 9`."""
    output: bytes = field(default=b"", repr=False)
    """What it printed; it may be a secret."""


def run(reactor: Any, argv: Sequence[str], limit: float, most: int = 0) -> Deferred[Outcome]:
    """Run `argv`, kill it after `limit` seconds, or when it has printed more than `most` bytes.  Does not fail.

    With `most` 0 nothing that it prints is read; else the first of its complaints is in the outcome of a failure,
    unless it has printed something, too.  Cancelling the Deferred kills it.
    """
    running = _Run(reactor, limit, most)
    try:
        with Path(os.devnull).open("r+b", buffering=0) as null:
            files: dict[int, Any] = dict.fromkeys(range(3), null.fileno())
            # Only if it is wanted: what a program leaves running holds its pipes open, and it would seem to run on.
            if most:
                files |= {1: "r", 2: "r"}
            # setsid(1) becomes the program itself, as the leader of a session.
            reactor.spawnProcess(running, "/usr/bin/setsid", ["setsid", *argv], os.environ, childFDs=files)
    except OSError as error:
        running.over()
        return succeed(Outcome(False, f"could not be started: {error.strerror}"))
    return running.ended


class _Run(ProcessProtocol):
    transport: Any

    def __init__(self, reactor: Any, limit: float, most: int) -> None:
        self.ended: Deferred[Outcome] = Deferred(lambda _: self._kill())
        self._most = most
        self._output = bytearray()
        self._complaint = b""
        self._why = ""
        self._timer = reactor.callLater(limit, self._stop, f"took longer than {limit:g} s")

    def outReceived(self, data: bytes) -> None:
        self._output += data
        if len(self._output) > self._most:
            self._stop(f"printed more than {self._most} bytes")

    def errReceived(self, data: bytes) -> None:
        self._complaint = (self._complaint + data)[:200]

    def over(self) -> None:
        if self._timer.active():
            self._timer.cancel()

    def processEnded(self, reason: Failure) -> None:
        self.over()
        if not self.ended.called:
            self.ended.callback(
                Outcome(not self._why and self._ended_well(reason), self._how(reason), bytes(self._output))
            )

    @staticmethod
    def _ended_well(reason: Failure) -> bool:
        return not isinstance(reason.value, ProcessTerminated)

    def _how(self, reason: Failure) -> str:
        error = reason.value
        if self._why:
            how = self._why
        elif not isinstance(error, ProcessTerminated):
            return "succeeded"
        elif error.signal is not None:
            how = f"was killed by signal {error.signal}"
        else:
            how = f"ended with exit status {error.exitCode}"
        # One that fails after printing a secret may have complained with it (`sh -x`).
        complaint = "" if self._output else " ".join(self._complaint.decode(errors="replace").split())
        return f"{how}: {ascii(complaint)[1:-1]}" if complaint else how

    def _stop(self, why: str) -> None:
        self._why = self._why or why
        self._kill()

    def _kill(self) -> None:
        if self.transport.pid is not None:
            os.killpg(self.transport.pid, signal.SIGKILL)
