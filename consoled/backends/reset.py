"""The reset command of a console: `&R` runs it, and whoever typed that is told how it ended.

`tap` gives each console that has a `reset_command` one of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from consoled.command import run

LIMIT = 60.0
"""Seconds after which the command's process group is killed."""


class ResetCommand:
    """Runs one argument list, as often as it is called."""

    def __init__(self, argv: Sequence[str], reactor: Any) -> None:
        self._argv = tuple(argv)
        self._reactor = reactor

    def __call__(self) -> Deferred[str]:
        """Start it.  Fires with the end of a sentence: `succeeded`, `ended with exit status 3`."""
        return run(self._reactor, self._argv, LIMIT).addCallback(lambda outcome: outcome.how)
