"""The face that shows Prometheus what the daemon counts: `GET /metrics`.

It takes the verb `list`: how many are at work here is not for strangers.  What is counted is in `meters` and `census`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from twisted.web.server import Request

from consoled.api.admission import Admission
from consoled.api.answers import refuse
from consoled.api.census import Census, each
from consoled.api.meters import Meters
from consoled.api.refusals import refuse_for
from consoled.api.upgrade import Road
from consoled.core.access import Scope, Unauthenticated
from consoled.core.hub import Hub


class MetricsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[metrics]`."""

    per_console: bool = False
    """Show series of single consoles as well: some for each, of those that whoever asks may list."""


class Metrics:
    """The face."""

    def __init__(
        self,
        meters: Meters,
        admission: Admission,
        road: Road,
        hub: Hub,
        census: Census | None = None,
        settings: MetricsSettings = MetricsSettings(),  # noqa: B008  # it is frozen
    ) -> None:
        self._registry = meters.registry
        self._admission = admission
        self._road = road
        self._hub = hub
        self._census = census
        self._settings = settings

    def took(self, request: Request, path: Sequence[bytes]) -> bool:
        if list(path) != [b"metrics"]:
            return False
        if request.method == b"GET":
            self._road.decide(request, self._collect(request), lambda page: _show(request, page), refuse_for)
        else:
            refuse(request, 405, f"({request.method.decode('ascii', 'replace')}) Not Allowed", {"Allow": "GET"})
        return True

    async def _collect(self, request: Request) -> bytes:
        scope = await self._admission.inquire(request)
        if scope is None:
            raise Unauthenticated("no credentials")
        return generate_latest(_Page(self._families(scope)))

    def _families(self, scope: Scope) -> Iterator[Any]:
        yield from self._registry.collect()
        if self._census is not None:
            yield from self._census.collect()
        if self._settings.per_console:
            yield from each(console for console in self._hub if scope.admits("list", console.name))


class _Page:
    """A registry of what is shown once."""

    def __init__(self, families: Iterator[Any]) -> None:
        self.collect = lambda: families


def _show(request: Request, page: bytes) -> None:
    request.setHeader(b"server", b"consoled")
    request.setHeader(b"cache-control", b"no-store")
    request.setHeader(b"content-type", CONTENT_TYPE_LATEST.encode())
    request.setHeader(b"content-length", str(len(page)).encode())
    request.write(page)
    request.finish()
