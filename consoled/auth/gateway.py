"""A gateway in front that has checked a token already: from which addresses its word counts.

Asked by `jwt_tokens` for each token, and only where `trusted_gateway` is configured.  What counts is who really
connected; what a request says about itself (`X-Forwarded-For`) does not get here.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address, ip_network

_WIDEST = {4: 8, 6: 7}
"""The shortest prefix of a network that may be trusted: 10.0.0.0/8 and fc00::/7 are the widest private ones."""


class Gateway:
    """The addresses of a gateway; of none, unless some are named."""

    def __init__(self, networks: Iterable[str]) -> None:
        """`networks`: IP addresses and networks.  Raises `ValueError` for one that the Internet may be in."""
        self._networks = tuple(ip_network(one) for one in networks)
        for network in self._networks:
            ends = (network.network_address, network.broadcast_address)
            if network.prefixlen < _WIDEST[network.version] or any(end.is_global for end in ends):
                raise ValueError(f"{network} is not a cluster's own network: name the gateway's private addresses")

    def vouches(self, peer: str) -> bool:
        """Whether what comes from the IP address `peer` has been checked there."""
        if not self._networks:
            return False
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)
