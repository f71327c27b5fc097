"""Sockets that systemd hands over (`systemd:domain=INET:index=0`), and all other endpoints.

`listeners` makes its endpoints here.  Twisted looks for an inherited socket when it reads the description; but systemd
gives the sockets to the daemon alone and not to the check of the configuration that it runs before, so ours looks for
it when it is listened at.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from zope.interface import implementer

KIND = "systemd:"
"""How the description of an inherited socket begins."""


def endpoint(reactor: Any, description: str) -> Any:
    """The server endpoint of a description.  Raises `ValueError` for what is none."""
    if description.startswith(KIND):
        return Inherited(reactor, description)
    return serverFromString(reactor, description)


@implementer(IStreamServerEndpoint)
class Inherited:
    """One socket of systemd's."""

    def __init__(self, reactor: Any, description: str) -> None:
        self._reactor = reactor
        self._description = description

    def listen(self, factory: Any) -> Deferred[Any]:
        """Fails with `CannotListenError` if there is no such socket."""
        try:
            listening: Deferred[Any] = serverFromString(self._reactor, self._description).listen(factory)
            return listening
        except (LookupError, OSError, TypeError, ValueError) as error:
            why = OSError(f"systemd has handed over no such socket ({type(error).__name__}: {error})")
            return fail(CannotListenError(None, self._description, why))
