"""Which web pages may talk to us: `Origin` (RFC 6454), and `Host` where nobody has to log in.

The site asks for every request, before any face sees it.  A browser lets any page open a WebSocket to any address and
says in `Origin` whose page it is; programs send none, or their own target's, and are not touched.  Without [auth] the
network is the only lock, and DNS rebinding picks it: a page of evil.example whose name suddenly means 127.0.0.1 is of
our own origin.  So without [auth] a request must name us by an address or by a name that no stranger can own.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from ipaddress import ip_address

_PORTS = {"http": 80, "https": 443}
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_HOST = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)


class Origins:
    """The web pages that may come in."""

    def __init__(self, allowed: Sequence[str] = (), *, is_open: bool = False) -> None:
        """`allowed` are origins (`https://noc.example.com`) or `null`, beside our own; `is_open`: nobody logs in.

        Raises `ValueError` that names the one which is no origin.
        """
        for one in allowed:
            if one != "null" and not _ORIGIN.fullmatch(one):
                raise ValueError(f'{one!r} is no origin: write "https://noc.example.com", in lower case, or "null"')
        self._allowed = frozenset(allowed)
        self._is_open = is_open
        known = [_ORIGIN.fullmatch(one) for one in allowed]
        self._names = {found["host"] for found in known if found} | {socket.gethostname().lower(), "localhost"}

    def objection(self, origins: Sequence[bytes], hosts: Sequence[bytes], scheme: str = "") -> tuple[int, str] | None:
        """What is to be said against a request with these `Origin` and `Host` headers: a status and a text, or None.

        `hosts` are as the client saw them; `scheme` is what it came by, empty if a proxy may have taken TLS off.
        """
        if len(hosts) > 1:
            return 400, "Host was sent more than once"
        host = hosts[0].decode("latin-1").strip().lower() if hosts else ""
        if self._is_open and hosts and not self._is_ours(host):
            return 421, (
                "This host name is not known to be this service's: use an address, or list its origin in http.origins"
            )
        if not origins:
            return None
        if len(origins) > 1:
            return 400, "Origin was sent more than once"
        origin = origins[0].decode("latin-1").strip().lower()
        if origin in self._allowed or _same(origin, host, scheme):
            return None
        return 403, "Web pages of this origin may not use this service"

    def _is_ours(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found["host"].removesuffix(".")
        # Nobody can register a name without a dot, nor one below localhost (RFC 6761 section 6.3).
        return name in self._names or "." not in name.strip("[]") or name.endswith(".localhost") or _is_address(name)


def _same(origin: str, host: str, scheme: str) -> bool:
    """Whether a page of `origin` came from the `host` that the request is for."""
    page, ours = _ORIGIN.fullmatch(origin), _HOST.fullmatch(host)
    if page is None or ours is None or (scheme and page["scheme"] != scheme):
        return False
    default = _PORTS[page["scheme"]]
    return (page["host"], int(page["port"] or default)) == (ours["host"], int(ours["port"] or default))


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
