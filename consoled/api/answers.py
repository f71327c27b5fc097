"""Plain HTTP answers: JSON with a length, as every refusal before a WebSocket is one.

Called by the faces and by `site`; `HttpRefusal` is raised by whoever is asked on the way to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from twisted.web.server import Request


class HttpRefusal(Exception):
    """An answer of the HTTP level: its status, a message for the client, and headers that belong to it."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


def answer(request: Request, status: int, body: Any = None, headers: Mapping[str, str] | None = None) -> None:
    """Finish `request` with `body` as JSON, or with none.

    The length is always given: some clients cannot read a chunked refusal of an upgrade.
    """
    payload = b"" if body is None else msgspec.json.encode(body)
    request.setResponseCode(status, HTTPStatus(status).phrase.encode())
    request.setHeader(b"server", b"consoled")
    request.setHeader(b"cache-control", b"no-store")
    if body is not None:
        request.setHeader(b"content-type", b"application/json")
    if status != 204:
        request.setHeader(b"content-length", str(len(payload)).encode())
    for name, value in (headers or {}).items():
        request.setHeader(name.encode(), value.encode())
    request.write(payload)
    request.finish()


def refuse(request: Request, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
    """Finish `request` with a refusal: `{"message": ...}`."""
    answer(request, status, {"message": message}, headers)
