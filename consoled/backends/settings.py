"""What every console may be told, whatever its kind.

Each kind's module extends `ConsoleSettings`; `config` reads the TOML into them, `tap` asks them for their
backend, and the link takes its patience from them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import msgspec

from consoled.core.seams import Backend
from consoled.core.secret import Secrets
from consoled.triton import UUID
from consoled.units import Duration


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a backend may use of the daemon."""

    reactor: Any
    secrets: Secrets
    state: Path
    """A directory of the daemon's own for what has to outlive it (host keys that were trusted on first use)."""
    noted: Callable[..., None] = lambda action, **details: None
    """`core.access.Audit.noted`."""


class ConsoleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """One `[[console]]`, complete: defaults applied and names filled in.  Equal settings mean an equal console."""

    name: str
    """The node's name, which clients ask for."""
    enabled: bool = True
    """False: the console is known, and is not held."""
    on_demand: bool = False
    """Dial when the first client attaches rather than at start."""
    linger: Duration = Duration(60)
    """On demand: how long the connection outlives the last client."""
    connect_timeout: Duration = Duration(15)
    """The limit on one attempt, negotiation and login included; more than 0."""
    keepalive: Duration = Duration(30)
    """Silence after which the peer is probed; a peer that answers nothing for three times this is gone.  0: never."""
    retry_initial: Duration = Duration(1)
    """The wait after the first failure, more than 0; it doubles with each further one."""
    retry_max: Duration = Duration(60)
    """The longest wait between attempts; not less than `retry_initial`."""
    quiet_timeout: Duration = Duration(0)
    """A connected node that says nothing for so long is reported.  0: never."""
    quiet_action: Literal["report", "reconnect"] = "report"
    """What to do then beside reporting it."""

    record_input: bool = False
    """Keep what people type in `DIRECTORY/input.NAME`, and tell them; what cannot be kept is not sent."""

    reset_command: tuple[str, ...] = ()
    """The argument list of the command that resets the node (`&R`); given 60 seconds, its output is not kept."""

    account: str = ""
    """For the CloudAPI face: the uuid of the account whose machine this is."""
    machine: str = ""
    """The machine's uuid, by which that face knows it."""
    machine_port: Literal[0, 1] = 0
    """Which of the machine's serial ports it is."""
    brand: str = "kvm"
    """The machine's brand."""

    def complaint(self) -> str:
        """What is wrong with what all kinds have, beginning with its key; empty if nothing is."""
        for key in ("account", "machine"):
            if getattr(self, key) and not UUID.fullmatch(getattr(self, key)):
                return f"{key}: {getattr(self, key)!r} is no uuid in lower case"
        if bool(self.account) != bool(self.machine):
            return "machine: an account and a machine go together"
        for key in ("connect_timeout", "retry_initial"):
            if not getattr(self, key):
                return f"{key}: must be more than 0"
        if self.retry_max < self.retry_initial:
            return f"retry_max: must not be less than retry_initial, which is {self.retry_initial:g} s"
        return ""

    @property
    def line(self) -> Self:
        """These settings without what does not concern the connection: where this is equal, one can be kept."""
        return msgspec.structs.replace(self, **_ASIDE)

    def backend(self, around: Surroundings) -> Backend:
        """The way to reach this console.  Raises `ValueError` for settings that contradict one another."""
        raise NotImplementedError


_ASIDE: Final = {
    field.name: field.default
    for field in msgspec.structs.fields(ConsoleSettings)
    if field.name
    in {
        *("enabled", "on_demand", "linger"),
        *("connect_timeout", "retry_initial", "retry_max", "quiet_timeout", "quiet_action"),
        *("record_input", "reset_command"),
        *("account", "machine", "machine_port", "brand"),
    }
}
"""What the link and the console heed, and no backend."""
