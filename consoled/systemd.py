"""Talking to systemd: readiness and the watchdog (sd_notify(3)).

Called by `tap`.  Without `NOTIFY_SOCKET` in the environment every call does nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping

from twisted.logger import Logger

_log = Logger()


class Notifier:
    """One service's line to systemd."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Takes what is meant for us out of `environment`, so that no child process inherits it."""
        self._address = environment.pop("NOTIFY_SOCKET", "")
        usec, pid = environment.pop("WATCHDOG_USEC", "0"), environment.pop("WATCHDOG_PID", "")
        meant = not pid or pid == str(os.getpid())
        self.watchdog = int(usec) / 1e6 if usec.isdecimal() and meant else 0.0
        """Seconds within which systemd wants to hear `alive`; 0 for never."""

    def ready(self) -> None:
        """We listen, and hold our consoles."""
        self._send("READY=1")

    def reloading(self) -> None:
        """We read the configuration again; `ready` ends it (`Type=notify-reload`)."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def alive(self) -> None:
        """The reactor turns."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """We are on our way out."""
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        # A leading @ stands for the NUL of an abstract socket.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.setblocking(False)
                line.sendto(state.encode(), address)
        except OSError as error:
            _log.warn("systemd was not told {state}: {error}", state=state, error=error)
