"""The HTTP site: one resource that gives each path to the face it belongs to.

The faces are asked in their order; each takes the decoded path segments or passes.  What nobody takes is 404.  Before
that, each request is looked at once: who has sent it (`proxies`), whether its web page may (`origin`), whether it is
too large.  What is refused below, by the HTTP parser, is the business of `channel`.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any, Protocol

from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.web.http import Request as HttpRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from consoled.api.answers import HttpRefusal, refuse
from consoled.api.channel import Channel
from consoled.api.doors import Doors, LimitSettings, guest
from consoled.api.origin import Origins
from consoled.api.proxies import Proxies, Visitor


class Face(Protocol):
    """One API."""

    def took(self, request: Request, path: Sequence[bytes]) -> bool:
        """Answer `request`, now or later, if `path` is ours; the segments are percent-decoded once."""


class Faces(Resource):
    """The root of the site."""

    isLeaf = True

    def __init__(self, faces: Sequence[Face], doors: Doors, origins: Origins) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._faces = faces
        self._doors = doors
        self._origins = origins

    def render(self, request: _Request) -> int:
        path = list(request.postpath or ())
        # A gateway that rewrites a prefix is apt to leave a second slash.
        while path and not path[0]:
            del path[0]
        try:
            self._examine(request)
        except HttpRefusal as refusal:
            refuse(request, refusal.status, str(refusal), refusal.headers)
        else:
            if not any(face.took(request, path) for face in self._faces):
                refuse(request, 404, "There is nothing at this path")
        return NOT_DONE_YET

    def _examine(self, request: _Request) -> None:
        """Find out who has sent `request`.  Raises `HttpRefusal` for what no face need see."""
        who = guest(request)
        request.visitor = visitor = self._doors.proxies.visitor(request, None if who is None else who.peer)
        if who is not None:
            self._doors.moved(who, visitor.host)
        if request.is_too_large:
            raise HttpRefusal(413, f"A request's body may have {self._doors.settings.body} bytes")
        get = request.requestHeaders.getRawHeaders
        hosts = get(b"host") or []
        if not hosts and request.clientproto == b"HTTP/1.1":
            raise HttpRefusal(400, "A request of HTTP/1.1 must have a Host header")  # RFC 9112, section 3.2
        if not visitor.is_direct:
            hosts = (get(b"x-forwarded-host") or hosts)[-1:]
        scheme = "https" if isinstance(request.channel.transport, TLSMemoryBIOProtocol) else ""
        if objection := self._origins.objection(get(b"origin") or [], hosts, scheme):
            raise HttpRefusal(*objection)


def make_site(
    faces: Sequence[Face], reactor: Any = None, *, doors: Doors | None = None, origins: Origins | None = None
) -> OurSite:
    """The site of these faces.  `reactor` tells the time (default: Twisted's own)."""
    site = OurSite(None, _Request, parsePOSTFormSubmission=False, reactor=reactor)
    site.displayTracebacks = False
    site.noisy = False
    site.serve(faces, doors or Doors(LimitSettings(), Proxies()), origins or Origins())
    return site


class _Request(Request):
    """Keeps a request's body in memory, within bounds, and parses no form in it."""

    visitor: Visitor
    """Where it comes from."""
    is_too_large = False

    def process(self) -> None:
        if self.path.startswith(b"/"):
            super().process()  # type: ignore[no-untyped-call]
        else:  # `*`, or an address as only proxies are asked for one
            refuse(self, 400, "The request must name a path")

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()
        channel: Any = self.channel
        self._body_limit = channel.site.limits.body
        self.is_too_large = (length or 0) > self._body_limit

    def handleContentChunk(self, data: bytes) -> None:
        assert self.content is not None
        if self.content.tell() + len(data) > self._body_limit:
            self.is_too_large = True
        if self.is_too_large:
            self.content = BytesIO()
        else:
            self.content.write(data)


class OurSite(Site):
    """Keeps no access log: the audit says who came, and a URL is no place to look for it."""

    protocol = Channel  # type: ignore[assignment]  # Twisted's own would speak HTTP/2 with whoever can
    limits: LimitSettings

    def serve(self, faces: Sequence[Face], doors: Doors, origins: Origins) -> None:
        """Give requests to these faces, also those that come over connections that are there."""
        self.resource = Faces(faces, doors, origins)
        self.limits = doors.settings
        self.timeOut = doors.settings.idle

    def log(self, request: HttpRequest) -> None:
        pass
