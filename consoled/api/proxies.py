"""Who a request comes from, also where reverse proxies stand between: the address that the rest may believe.

The site asks `Proxies.visitor` once for each request, before any face sees it; faces, limits and the audit log use
what it found.  A proxy's word counts only if the proxy's own address is listed in `http.trusted_proxies`: of
`X-Forwarded-For`, hops are taken off from the right for as long as the one who reported them is trusted, so what a
client has put there itself is never reached.  The PROXY protocol (the `haproxy:` endpoints) is Twisted's; `doors` lets
nobody but trusted proxies connect to such a listener.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet import address

from consoled.core.access import Knock
from consoled.printable import printable

LOCAL = "local"
"""Stands for the address of whoever comes over a local socket, and for those in the list of trusted proxies."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Where a request comes from."""

    host: str
    """The client's IP address, as far as it can be believed; `local` behind a local socket."""
    port: int | None
    """Its port; None if a proxy has reported it, or there is none."""
    peer: str
    """The IP address that has really connected."""
    is_direct: bool
    """Whether no proxy has spoken for it, so that the headers are its own."""

    @property
    def origin(self) -> str:
        """For people: `192.0.2.7:40112`, `[2001:db8::7]:40112`, `192.0.2.7`, `local`."""
        if self.port is None:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def knock(request: Any, ticket: bytes | None = None) -> Knock:
    """What the client of `request`, which has come through the site, shows at the gate."""
    visitor: Visitor = request.visitor
    ask_certificate = getattr(request.channel.transport, "getPeerCertificate", lambda: None)
    certificate = ask_certificate()
    return Knock(
        visitor.origin,
        tuple(request.requestHeaders.getRawHeaders(b"authorization") or ()),
        certificate and certificate.to_cryptography().public_bytes(Encoding.DER),
        ticket,
        peer=visitor.peer,
    )


def host_of(origin: str) -> str:
    """The address in an `origin` as `Visitor.origin` spells it."""
    if origin.startswith("["):
        return origin[1:].partition("]")[0]
    return origin.partition(":")[0] if origin.count(":") == 1 else origin


class Proxies:
    """The reverse proxies that are believed."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        """`networks` are addresses, networks, or `local`.  Raises `ValueError` that names the one that is neither."""
        self._local = LOCAL in networks
        self._networks = [ip_network(network) for network in networks if network != LOCAL]

    def trusts(self, host: str) -> bool:
        """Whether what `host` says about others is believed."""
        if host == LOCAL:
            return self._local
        found = _ip(host)
        return found is not None and any(found in network for network in self._networks)

    def visitor(self, request: Any, peer: str | None = None) -> Visitor:
        """Who sent `request` over a connection from `peer` (None: from whom the transport names)."""
        host, port = place(request.channel.getPeer())
        peer = host if peer is None else peer
        if not self.trusts(host):
            return Visitor(host, port, peer, is_direct=True)
        values = request.requestHeaders.getRawHeaders(b"x-forwarded-for") or []
        hops = [hop for value in values for hop in value.decode("latin-1").split(",")]
        while hops and self.trusts(host):
            found = _hop(hops.pop())
            if found is None:
                break
            host, port = found, None
        return Visitor(host, port, peer, is_direct=False)


def place(where: object) -> tuple[str, int | None]:
    """Host and port of a transport's end; `local` for a local socket."""
    if not isinstance(where, address.IPv4Address | address.IPv6Address):
        return LOCAL, None
    found = _ip(where.host)
    # The PROXY protocol may name anything; others see it.
    return printable(where.host) if found is None else str(found), where.port


def _ip(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    # A listener on `::` shows IPv4 clients so.
    return (found.ipv4_mapped if isinstance(found, IPv6Address) else None) or found


def _hop(text: str) -> str | None:
    """The address in one entry of X-Forwarded-For; some proxies add a port."""
    text = text.strip(" \t")
    found = _ip(text) or _ip(host_of(text))
    return None if found is None else str(found)
