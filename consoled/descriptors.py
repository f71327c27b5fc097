"""The budget of file descriptors: each console takes two, each client one.

`tap` asks once at start, because it is better to know before fifty racks boot, and puts a `Doorman` before the site:
whoever wants to come in may take all descriptors but the last, which the transcripts and the links need to go on.
"""

from __future__ import annotations

import os
import resource
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

RESERVE = 64
"""For the listeners, the log, the tokens file, readers of transcripts and children being started."""

_log = Logger()


def raise_limit(consoles: int, clients: int) -> None:
    """Raise the soft limit to the hard one, and warn if `consoles` and `clients` cannot all fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return
    must = 2 * consoles + RESERVE
    if must > hard:
        _log.error(
            "{consoles} consoles need {must} file descriptors, and the limit is {hard}: raise LimitNOFILE",
            consoles=consoles,
            must=must,
            hard=hard,
        )
    elif must + clients > hard:
        _log.warn(
            "{clients} clients beside {consoles} consoles need {all} file descriptors, and the limit is {hard}: "
            "raise LimitNOFILE or lower hub.max_clients",
            clients=clients,
            consoles=consoles,
            all=must + clients,
            hard=hard,
        )


class Doorman(Factory):
    """A factory that hands connections on to `factory` while there are descriptors to spare, and then drops them."""

    noisy = False

    def __init__(self, factory: Any = None) -> None:
        """`factory` None: nobody is let in before `lead_to`."""
        self._factory = factory
        self._full = False

    def lead_to(self, factory: Any) -> None:
        """Hand connections on to another factory from now on."""
        if self.numPorts:
            factory.doStart()
            self.stopFactory()
        self._factory = factory

    def startFactory(self) -> None:
        if self._factory is not None:
            self._factory.doStart()

    def stopFactory(self) -> None:
        if self._factory is not None:
            self._factory.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if self._factory is None:
            return _Refusal()
        was_full, self._full = self._full, _left() < RESERVE // 2
        if not self._full:
            return self._factory.buildProtocol(addr)
        if not was_full:
            _log.error("hardly any file descriptor is left: whoever connects is refused; raise LimitNOFILE")
        # Not None: TLS, which may stand before us, cannot take that for an answer.
        return _Refusal()


class _Refusal(Protocol):
    transport: Any

    def connectionMade(self) -> None:
        self.transport.abortConnection()


def _left() -> int:
    """How many descriptors are free, at least: the kernel gives out the lowest number that is."""
    try:
        lowest = os.dup(0)
    except OSError:
        return 0
    os.close(lowest)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return RESERVE if soft == resource.RLIM_INFINITY else soft - lowest
