"""What every console may be told, whatever its kind.

Each kind's module extends `ConsoleSettings`; `config` reads the TOML into them, `tap` asks them for their
backend, and the link takes its patience from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from consoled.core.seams import Backend
from consoled.core.secret import Secrets
from consoled.units import Duration


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a backend may use of the daemon."""

    reactor: Any
    secrets: Secrets
    state: Path
    """A directory of the daemon's own for what has to outlive it (host keys that were trusted on first use)."""


class ConsoleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """One `[[console]]`, complete: defaults applied and names filled in.  Equal settings mean an equal console."""

    name: str
    enabled: bool = True
    """False: the console is known, and is not held."""
    on_demand: bool = False
    """Dial when the first client attaches rather than at start."""
    linger: Duration = Duration(60)
    """On demand: how long the connection outlives the last client."""
    connect_timeout: Duration = Duration(15)
    """The limit on one attempt, negotiation and login included."""
    keepalive: Duration = Duration(30)
    """Silence after which the peer is probed; a peer that answers nothing for three times this is gone.  0: never."""
    retry_initial: Duration = Duration(1)
    """The wait after the first failure; it doubles with each further one."""
    retry_max: Duration = Duration(60)
    """The longest wait between attempts."""
    quiet_timeout: Duration = Duration(0)
    """A connected node that says nothing for so long is reported.  0: never."""
    quiet_action: Literal["report", "reconnect"] = "report"
    """What to do then beside reporting it."""

    reset_command: tuple[str, ...] = ()
    """The argument list of the command that resets the node (`&R`); given 60 seconds, its output is not kept."""

    def backend(self, around: Surroundings) -> Backend:
        """The way to reach this console.  Raises `ValueError` for settings that contradict one another."""
        raise NotImplementedError
