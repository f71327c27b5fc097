"""A host and a port, as the configuration writes them: `"bmc1:2001"`, `"192.0.2.1:23"`, `"[2001:db8::1]:23"`.

Called by the settings of every kind that is reached over TCP, first when the configuration is read, so that a bad
address is an error with a place, and then at each dial.  Nothing is resolved here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address

_FORM = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[^\s:/@\[\]]+)):(?P<port>\d{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """A host (a name, or an IP address of either family) and a TCP port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises `ValueError` that shows the forms."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise ValueError(
                f'address: {text!r} is no address: write "host:port", or "[2001:db8::1]:port" for an IPv6 address'
            )
        if found["ipv6"]:
            try:
                IPv6Address(found["ipv6"])
            except ValueError:
                raise ValueError(f"address: {text!r} is no address: what stands in brackets is not IPv6") from None
        port = int(found["port"])
        if not 1 <= port <= 65535:
            raise ValueError(f"address: {text!r} is no address: ports go from 1 to 65535")
        return cls(found["ipv6"] or found["host"], port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
