"""The listening services, out of endpoint descriptions.

`tap` makes them.  What they accept goes, by the description, through Twisted's PROXY protocol, then through the doors
(descriptors, limits), then TLS, then to the site.
"""

from __future__ import annotations

from typing import Any

from twisted.application.internet import StreamServerEndpointService
from twisted.application.strports import service
from twisted.protocols.tls import TLSMemoryBIOFactory

from consoled.listening.contexts import Contexts

PROXIED = "haproxy:"
"""How a description begins whose clients come by way of the PROXY protocol."""


def with_backlog(description: str, backlog: int) -> str:
    """`description` with a `backlog`, where its kind has one and it names none."""
    kind = description.removeprefix(PROXIED).partition(":")[0]
    if kind not in ("tcp", "tcp6", "ssl", "unix") or ":backlog=" in description:
        return description
    return f"{description}:backlog={backlog}"


def is_proxied(description: str) -> bool:
    """Whether its clients come by way of the PROXY protocol."""
    return description.startswith(PROXIED)


def secured(factory: Any, contexts: Contexts, reactor: Any) -> TLSMemoryBIOFactory:
    """`factory` with TLS below it."""
    return TLSMemoryBIOFactory(contexts, False, factory, clock=reactor)


def listener(description: str, factory: Any, backlog: int, reactor: Any) -> StreamServerEndpointService:
    """The service that listens at `description` for `factory`.  Raises `ValueError` for what is no description."""
    return service(with_backlog(description, backlog), factory, reactor)
