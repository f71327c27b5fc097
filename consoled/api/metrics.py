"""The face that shows Prometheus what the daemon counts: `GET /metrics`.

It takes the verb `list`: how many are at work here is not for strangers.  What is counted is in `meters`.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from twisted.web.server import Request

from consoled.api.admission import Admission
from consoled.api.answers import refuse
from consoled.api.meters import Meters
from consoled.api.refusals import refuse_for
from consoled.api.upgrade import Road
from consoled.core.access import Unauthenticated


class Metrics:
    """The face."""

    def __init__(self, meters: Meters, admission: Admission, road: Road) -> None:
        self._registry = meters.registry
        self._admission = admission
        self._road = road

    def took(self, request: Request, path: Sequence[bytes]) -> bool:
        if list(path) != [b"metrics"]:
            return False
        if request.method == b"GET":
            self._road.decide(request, self._collect(request), lambda page: _show(request, page), refuse_for)
        else:
            refuse(request, 405, f"({request.method.decode('ascii', 'replace')}) Not Allowed", {"Allow": "GET"})
        return True

    async def _collect(self, request: Request) -> bytes:
        if await self._admission.inquire(request) is None:
            raise Unauthenticated("no credentials")
        return generate_latest(self._registry)


def _show(request: Request, page: bytes) -> None:
    request.setHeader(b"server", b"consoled")
    request.setHeader(b"cache-control", b"no-store")
    request.setHeader(b"content-type", CONTENT_TYPE_LATEST.encode())
    request.setHeader(b"content-length", str(len(page)).encode())
    request.write(page)
    request.finish()
