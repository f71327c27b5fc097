"""What can be told from the text of a Twisted server endpoint description (`twisted.internet.endpoints`).

`config` holds the places where the daemon is to listen to it, `listeners` makes endpoints of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address

PROXIED = "haproxy:"
"""How a description begins whose clients come by way of the PROXY protocol."""

_ARGUMENT = re.compile(r"(?:^|:)((?:\\.|[^:\\])*)")


def with_backlog(description: str, backlog: int) -> str:
    """`description` with a `backlog`, where its kind has one and it names none."""
    kind = description.removeprefix(PROXIED).partition(":")[0]
    if kind not in ("tcp", "tcp6", "ssl", "unix") or ":backlog=" in description:
        return description
    return f"{description}:backlog={backlog}"


def is_proxied(description: str) -> bool:
    """Whether its clients come by way of the PROXY protocol."""
    return description.startswith(PROXIED)


def is_loopback(description: str) -> bool:
    """Whether a Twisted server endpoint description can only be reached from this machine.

    Where that cannot be seen from the text (a socket that systemd hands over, a plugin's endpoint), it is no; so it is
    for a proxy's, whose clients come from anywhere.
    """
    if is_proxied(description):
        return False
    kind, _, options = _endpoint(description)
    if kind == "unix":
        return True
    if kind not in ("tcp", "tcp6"):
        return False
    interface = options.get("interface", "")
    if interface == "localhost":
        return True
    try:
        return ip_address(interface).is_loopback
    except ValueError:
        return False


def port(description: str) -> int:
    """The TCP port of a Twisted server endpoint description; 0 if that cannot be seen from the text."""
    kind, arguments, options = _endpoint(description)
    text = options.get("port", arguments[0] if arguments else "")
    return int(text) if kind in ("tcp", "tcp6") and re.fullmatch(r"-?\d{1,20}", text, re.ASCII) else 0


def _endpoint(description: str) -> tuple[str, list[str], Mapping[str, str]]:
    bare = description.removeprefix(PROXIED)
    kind, *arguments = [re.sub(r"\\(.)", r"\1", part) for part in _ARGUMENT.findall(bare)]
    return kind, arguments, dict(part.split("=", 1) for part in arguments if "=" in part)
