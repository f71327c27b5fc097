"""The HTTP site: one resource that gives each path to the face it belongs to.

The faces are asked in their order; each takes the decoded path segments or passes.  What nobody takes is 404.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any, Protocol

from twisted.web.http import Request as HttpRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from consoled.api.answers import refuse

IDLE = 60.0
"""Seconds that a connection may stand without a request."""


class Face(Protocol):
    """One API."""

    def took(self, request: Request, path: Sequence[bytes]) -> bool:
        """Answer `request`, now or later, if `path` is ours; the segments are percent-decoded once."""


class Faces(Resource):
    """The root of the site."""

    isLeaf = True

    def __init__(self, faces: Sequence[Face]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._faces = faces

    def render(self, request: Request) -> int:
        path = list(request.postpath or ())
        # A gateway that rewrites a prefix is apt to leave a second slash.
        while path and not path[0]:
            del path[0]
        if not any(face.took(request, path) for face in self._faces):
            refuse(request, 404, "There is nothing at this path")
        return NOT_DONE_YET


def make_site(faces: Sequence[Face], reactor: Any = None) -> Site:
    """The site of these faces.  `reactor` tells the time (default: Twisted's own)."""
    site = _QuietSite(Faces(faces), _BodilessRequest, timeout=IDLE, reactor=reactor)
    site.displayTracebacks = False
    site.noisy = False
    return site


class _BodilessRequest(Request):
    """Lets go of a request's body: no face wants one, and it may be of any length."""

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        pass


class _QuietSite(Site):
    """Keeps no access log: the audit says who came, and a URL is no place to look for it."""

    def log(self, request: HttpRequest) -> None:
        pass
