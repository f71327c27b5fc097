"""The reset command of a console: `&R` runs it, and whoever typed that is told how it ended.

`tap` gives each console that has a `reset_command` one of these.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

LIMIT = 60.0
"""Seconds after which the command's process group is killed."""


class ResetCommand:
    """Runs one argument list, as often as it is called."""

    def __init__(self, argv: Sequence[str], reactor: Any) -> None:
        self._argv = list(argv)
        self._reactor = reactor

    def __call__(self) -> Deferred[str]:
        """Start it.  Fires with the end of a sentence: `succeeded`, `ended with exit status 3`."""
        run = _Run(self._reactor)
        try:
            # No pipes: what it leaves running would hold them open, and the command would seem to run on.
            with Path(os.devnull).open("r+b", buffering=0) as null:
                files = dict.fromkeys(range(3), null.fileno())
                # In a session and process group of its own, so that what it started can be killed with it.
                self._reactor.spawnProcess(run, "/usr/bin/setsid", ["setsid", *self._argv], os.environ, childFDs=files)
        except OSError as error:
            run.ended.callback(f"could not be started: {error.strerror}")
        return run.ended


class _Run(ProcessProtocol):
    transport: Any

    def __init__(self, reactor: Any) -> None:
        self.ended: Deferred[str] = Deferred()
        self._reactor = reactor
        self._limit: Any = None

    def connectionMade(self) -> None:
        self._limit = self._reactor.callLater(LIMIT, self._kill)

    def _kill(self) -> None:
        os.killpg(self.transport.pid, signal.SIGKILL)

    def processEnded(self, reason: Failure) -> None:
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        end = reason.value
        assert isinstance(end, ProcessDone | ProcessTerminated)
        if end.signal is not None:
            self.ended.callback(f"was killed by signal {end.signal}")
        elif end.exitCode:
            self.ended.callback(f"ended with exit status {end.exitCode}")
        else:
            self.ended.callback("succeeded")
