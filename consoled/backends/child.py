"""A child process from its launch to its burial.

Made by `process` for each dial; it knows nothing of consoles or of what passes through the terminal.  The
reactor's `spawnProcess` starts it by way of `launch` and reaps it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from consoled.core.seams import Clock, Timer

LADDER = ((0.0, signal.SIGHUP), (2.0, signal.SIGTERM), (4.0, signal.SIGKILL))
"""How a child is asked to go: seconds after the asking, and the signal."""
_LAUNCH = str(Path(__file__).with_name("launch.py"))
_REPORT = 3
_REPORT_SIZE = 4096


class Child(ProcessProtocol):
    """One program, leader of its own session and process group."""

    transport: Any

    def __init__(self, clock: Clock) -> None:
        self.launched: Deferred[None] = Deferred(lambda _: self.kill())
        """Fires when the program runs, fails with a `ConnectionError` that says why it does not."""
        self.epitaph: str | None = None
        """How it ended, once it is reaped."""
        self.on_exit: Callable[[], None] | None = None
        """Called when it is reaped."""
        self.pid = 0
        self._clock = clock
        self._report = b""
        self._ladder: list[Timer] = []

    def spawn(
        self,
        reactor: Any,
        command: Sequence[str],
        environment: Mapping[str, str],
        terminal: int,
        user: str = "",
        directory: str = "",
    ) -> None:
        """Start `command` on the terminal's descriptor, which remains the caller's.  Raises `OSError`."""
        argv = [sys.executable, "-I", "-S", _LAUNCH, user, directory, *command]
        files: dict[int, int | str] = {0: terminal, 1: terminal, 2: terminal, _REPORT: "r"}
        reactor.spawnProcess(self, argv[0], argv, dict(environment), childFDs=files)

    def hang_up(self) -> None:
        """Ask it to go, and insist."""
        if self.epitaph is None and not self._ladder:
            self._ladder = [self._clock.callLater(after, self.signal, number) for after, number in LADDER if after]
            self.signal(LADDER[0][1])

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Signal everything in its process group, stopped or not.  Harmless when it is gone."""
        if self.epitaph is not None or not self.pid:
            return
        # Not reaped, so the number is still its own.  What took on more rights than we have will not listen:
        # closing its terminal is all that we can do then.
        for each in (number, signal.SIGCONT):
            with suppress(PermissionError):
                try:
                    os.killpg(self.pid, each)
                except ProcessLookupError:  # `launch` has not made it the leader of a group yet
                    os.kill(self.pid, each)

    # Twisted calls these.

    def connectionMade(self) -> None:
        self.pid = self.transport.pid

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._report = (self._report + data)[:_REPORT_SIZE]

    def childConnectionLost(self, childFD: int) -> None:
        if self.launched.called:  # cancelled
            return
        if self._report:
            self.launched.errback(ConnectionError(self._report.decode(errors="replace")))
        else:
            self.launched.callback(None)

    def processExited(self, reason: Failure) -> None:
        # At once: the group's number may be given to others when its last member is gone.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for timer in self._ladder:
            if timer.active():
                timer.cancel()
        self.epitaph = _epitaph(reason.value)
        if self.on_exit is not None:
            self.on_exit()


def _epitaph(end: BaseException | None) -> str:
    assert isinstance(end, ProcessDone | ProcessTerminated)
    if end.signal is None:
        return f"exited with status {end.exitCode or 0}"
    try:
        return f"killed by signal {signal.Signals(end.signal).name}"
    except ValueError:
        return f"killed by signal {end.signal}"  # a real-time signal
