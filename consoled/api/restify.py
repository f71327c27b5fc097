"""Restify's words: how Triton's CloudAPI says no, and what it looks at in any request.

`cloudapi` is the face; here are the error bodies (`{"code", "message"}`), their codes, and the header checks that the
original's framework makes before anything of its own.  `docs/api-cloudapi.md` has what differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from consoled.api.answers import HttpRefusal
from consoled.api.versions import satisfies
from consoled.core.access import CannotKnow, Forbidden, Malformed, Unauthenticated
from consoled.core.faults import Fault, NotMonitored, NotOpen, TooManyClients, UnknownConsole
from consoled.fetch import Unreachable

VERSION: Final = (9, 0, 0)
VERSIONS: Final = "9.0.0"
ACTION: Final = "connectmachineconsole"

_log = Logger()


class Refused(Exception):
    """An answer in restify's form."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers or {}


def not_found() -> Refused:
    """There is no such machine, or it is somebody else's."""
    return Refused(404, "ResourceNotFound", "VM not found")


def in_their_words(request: Request, error: Exception) -> Refused:
    """The answer to `request` that `error` stands for.  A bug is logged, and is a 500."""
    retry = {"Retry-After": "5"}
    match error:
        case Refused():
            return error
        case Malformed():
            return Refused(400, "InvalidHeader", str(error))
        case Unauthenticated():
            message = "You must make authenticated requests to use CloudAPI"
            if _shows_signature(request):
                message = "Invalid authorization credentials supplied"
            return Refused(401, "InvalidCredentials", message, {"WWW-Authenticate": "Signature"})
        case Forbidden():
            message = f"You do not have permission to access {shown(request)} ({ACTION})"
            return Refused(403, "NotAuthorized", message)
        case UnknownConsole() | NotMonitored():
            return not_found()
        case HttpRefusal(status=429, headers=headers):
            return Refused(429, "TooManyRequests", str(error), headers)
        case HttpRefusal(status=status, headers=headers):
            return Refused(status, "InvalidArgument", str(error), headers)
        case CannotKnow() | Unreachable() | TimeoutError() | NotOpen():
            message = "The service cannot decide at present; try again later"
            return Refused(503, "ServiceUnavailable", message, retry)
        case TooManyClients():
            return Refused(503, "ServiceUnavailable", str(error), retry)
        case Fault():
            return Refused(409, "InvalidArgument", str(error))
    _log.failure("a request failed", Failure(error))
    return Refused(500, "InternalError", "Internal error")


def not_allowed(request: Request) -> Refused:
    """Another method than GET."""
    message = f"{text(request.method)} is not allowed"
    return Refused(405, "MethodNotAllowedError", message, {"Allow": "GET"})


def check_version(request: Request) -> None:
    """Raise `Refused` unless every version that the client asks for is ours."""
    for name in ("accept-version", "api-version", "x-api-version"):
        for value in request.requestHeaders.getRawHeaders(name) or []:
            if not satisfies(VERSION, value):
                raise Refused(400, "InvalidVersion", f"{value} is not supported by GET {shown(request)}")


def check_header(request: Request) -> None:
    """Raise `Malformed` as restify's parser does before anybody looks at credentials."""
    for value in request.requestHeaders.getRawHeaders("authorization") or []:
        if len(value.split()) < 2:
            raise Malformed("Authorization header invalid: one word is no credentials")


def _shows_signature(request: Request) -> bool:
    values = request.requestHeaders.getRawHeaders(b"authorization") or []
    return any(value.startswith(b"Signature") for value in values) or b"signature=" in request.uri


def shown(request: Request) -> str:
    """Its path, as a message may have it."""
    return ascii(text(request.path))[1:-1]


def text(data: bytes) -> str:
    """What `data` says, whatever it is."""
    return data.decode("utf-8", "replace")
