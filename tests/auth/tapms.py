"""A tenant service as CSM's is (contract, 1.5), in memory or behind a socket."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request


def tenant(name: str, *groups: str) -> dict[str, Any]:
    """One tenant object, with a resource for each of `groups`."""
    wished = [{"type": "compute", "xnames": ["x66"], "hsmgrouplabel": name, "enforceexclusivehsmgroups": True}]
    observed = [{"type": "compute", "hsmpartitionname": "", "xnames": group.split(",")} for group in groups]
    return {
        "metadata": {"name": name},
        "spec": {"tenantname": name, "state": "Deployed", "tenantresources": wished},
        "status": {"uuid": "5d3f9be4-0d7a-4f5e-8f4c-0f6d6c1d3d5e", "tenantresources": observed},
    }


class Tapms:
    """The service; what it does wrong can be set."""

    def __init__(self, **tenants: str) -> None:
        self.tenants = {name: tenant(name, *groups.split(";")) for name, groups in tenants.items()}
        self.asked: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.answer: tuple[int, bytes] | None = None
        """What it answers to everybody."""
        self.error: Exception | None = None
        self.waiting: list[Deferred[tuple[int, bytes]]] | None = None
        """Who has no answer yet, if it does not answer."""

    def get(self, url: str, headers: Mapping[str, str]) -> Deferred[tuple[int, bytes]]:
        """As `consoled.fetch.Fetcher`, without a socket."""
        self.asked.append(url)
        self.headers.append(headers)
        if self.error is not None:
            raise self.error
        if self.waiting is not None:
            self.waiting.append(Deferred())
            return self.waiting[-1]
        return succeed(self.say(url))

    def say(self, url: str) -> tuple[int, bytes]:
        """Status and body."""
        if self.answer is not None:
            return self.answer
        name = url.rpartition("/v1alpha3/tenants/")[2]
        if name in self.tenants:
            return 200, json.dumps(self.tenants[name]).encode()
        return 404, json.dumps(f"Tenant with name/uuid '{name}' not found.").encode()


class Page(Resource):
    """The service behind a twisted.web server."""

    isLeaf = True

    def __init__(self, tapms: Tapms) -> None:
        super().__init__()
        self._tapms = tapms
        self.drops = ""
        """How it drops connections: "" not at all, or before or in the middle of the answer."""
        self.redirect = ""

    def render(self, request: Request) -> Any:
        self._tapms.asked.append(request.uri.decode())
        if self.drops:
            if self.drops == "in the middle":
                request.setHeader(b"content-length", b"1000")
                request.write(b'{"status": {')
            request.transport.abortConnection()
            return NOT_DONE_YET
        if self.redirect:
            request.setResponseCode(302)
            request.setHeader(b"location", self.redirect.encode())
            return b""
        status, body = self._tapms.say(request.uri.decode())
        request.setResponseCode(status)
        return body
