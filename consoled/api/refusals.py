"""What a fault is in HTTP, for the faces that answer with CSM's `{"message": ...}`: its status and its headers."""

from __future__ import annotations

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from consoled.api.answers import HttpRefusal, refuse
from consoled.core.access import CannotKnow, Forbidden, TooManyTickets, Unauthenticated
from consoled.core.faults import Fault, NotMonitored, NotOpen, NotReloaded, TooManyClients, UnknownConsole

_log = Logger()


def refuse_for(request: Request, error: Exception) -> None:
    """Finish `request` with the refusal that `error` stands for."""
    headers: dict[str, str] = {}
    match error:
        case HttpRefusal(status=status, headers=more):
            headers.update(more)
        case Unauthenticated():
            status, headers["WWW-Authenticate"] = 401, "Bearer"
        case Forbidden():
            status = 403
        case NotReloaded():
            status = 422
        case UnknownConsole() | NotMonitored():
            status = 404
        case TooManyTickets(retry_after=seconds):
            status, headers["Retry-After"] = 429, str(seconds)
        case CannotKnow(retry_after=seconds):
            status, headers["Retry-After"] = 503, str(seconds)
        case TooManyClients() | NotOpen():
            status, headers["Retry-After"] = 503, "5"
        case TimeoutError():
            refuse(request, 503, "The service cannot decide in time; try again later", {"Retry-After": "5"})
            return
        case Fault():
            status = 409
        case _:
            _log.failure("a request failed", Failure(error))
            refuse(request, 500, "Internal error")
            return
    refuse(request, status, str(error), headers)
