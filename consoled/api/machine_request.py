"""What a request for a machine's console asks for: who knocks, by which signature, and for which sort of session.

`cloudapi` decides on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, Literal
from urllib.parse import parse_qs

from twisted.web.server import Request

from consoled.api.proxies import knock
from consoled.api.restify import Refused, text
from consoled.api.upgrade import asks_for_upgrade, demand_upgrade
from consoled.core.access import HttpRequest, Knock

SUBPROTOCOLS: Final = ("binary", "console")
MOST_LINES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Options:
    """What a query asks for; the original knows none of it."""

    verb: Literal["interact", "tail"]
    lines: int
    port: int


def knock_of(request: Request) -> Knock:
    """Its credentials, a signature over the request among them."""
    return replace(knock(request), request=_http(request))


def _http(request: Request) -> HttpRequest:
    every = request.requestHeaders.getAllRawHeaders()
    headers = {name.lower().decode("latin-1"): tuple(values) for name, values in every}
    return HttpRequest(text(request.method), request.uri, headers)


def asked_options(request: Request) -> Options:
    """What the query says.  Raises `Refused`."""
    try:
        query = parse_qs(request.uri.partition(b"?")[2].decode("latin-1"), keep_blank_values=True, max_num_fields=64)
    except ValueError:
        raise Refused(400, "InvalidArgument", "The query has too many parameters") from None
    mode, lines, port = (query.get(name, [default]) for name, default in _DEFAULTS.items())
    if mode not in (["interact"], ["tail"]):
        raise Refused(400, "InvalidArgument", "mode must be interact or tail")
    if port not in (["0"], ["1"]):
        raise Refused(400, "InvalidArgument", "port must be 0 or 1")
    if len(lines) > 1 or not re.fullmatch("[0-9]{1,7}", lines[0]):
        raise Refused(400, "InvalidArgument", f"lines must be a whole number from 0 to {MOST_LINES}")
    return Options("tail" if mode == ["tail"] else "interact", min(int(lines[0]), MOST_LINES), int(port[0]))


_DEFAULTS: Final = {"mode": "interact", "lines": "0", "port": "0"}


def chosen_subprotocol(request: Request) -> str | None:
    """The first in the client's order that is ours; None if it offers none.  Raises `Refused` if it is no upgrade."""
    if not asks_for_upgrade(request):
        message = "Console connect endpoint is a websocket and must be upgraded"
        raise Refused(400, "UpgradeRequiredError", message)
    demand_upgrade(request)
    values = request.requestHeaders.getRawHeaders("sec-websocket-protocol") or []
    offered = [token.strip() for value in values for token in value.split(",")]
    for one in offered:
        if one in SUBPROTOCOLS:
            return one
    if offered:
        raise Refused(400, "InvalidArgument", "The subprotocol must be binary or console")
    return None
