"""A list of consoles as JSON, printed by a program or had over HTTP.

The list has tables as those under `[[console]]`.  Asked by the keeper; nothing here is remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
from twisted.internet.defer import Deferred

from consoled.command import run
from consoled.core.secret import Secrets, SecretUnavailable
from consoled.fetch import Fetcher, Late, Unreachable
from consoled.inventory import Table
from consoled.printable import printable
from consoled.sources.settings import CommandSource, HttpSource

LARGEST: Final = 64 << 20
"""Bytes of an answer."""
MOST: Final = 4_000_000
"""Values in an answer.  Python takes 64 bytes for the three of `{},`, so the bytes alone are no limit."""


class Unusable(Exception):
    """There is no answer, or none of any use; the text says why, for operators, and shows nothing secret."""

    def __init__(self, why: str, sort: str = "answer", more: str = "") -> None:
        """`sort` is one of `core.sources.SORTS`; `more` is for the log alone, as it may name consoles."""
        super().__init__(why)
        self.sort = sort
        self.more = more


@dataclass(frozen=True, slots=True)
class Around:
    """What a source may use of the daemon."""

    reactor: Any
    secrets: Secrets
    in_thread: Callable[..., Deferred[Any]]
    """`in_thread(function, *arguments)` runs what takes long."""


class Source(Protocol):
    """Somebody who knows of consoles."""

    async def ask(self) -> list[Table]:
        """All that it knows of.  Raises `Unusable`; has no limit of its own, and may be cancelled."""


class Web(Protocol):
    """What is asked over HTTP."""

    async def get(self, url: str) -> bytes:
        """The body of a good answer.  Raises `Unusable`."""


class Site:
    """One HTTP service, and what is shown to it."""

    def __init__(self, settings: Any, around: Around) -> None:
        """`settings` of a source over HTTP.  Raises `OSError` or `ValueError` if they cannot be used."""
        self._http = Fetcher(
            around.reactor,
            ca=settings.ca,
            fingerprint=settings.fingerprint,
            limit=settings.limit,
            largest=LARGEST,
        )
        self._token = settings.token
        self._secrets = around.secrets
        self._was_refused = False

    async def get(self, url: str) -> bytes:
        """See `Web`."""
        headers = {}
        try:
            if self._token is not None:
                token = await self._secrets.fetch(self._token, fresh=self._was_refused)
                headers["Authorization"] = f"Bearer {token}"
            status, body = await self._http.get(url, headers)
        except SecretUnavailable as error:
            raise Unusable(str(error), "secret") from None
        except Unreachable as error:
            raise Unusable(str(error), "timeout" if isinstance(error, Late) else "unreachable") from None
        self._was_refused = status in (401, 403)
        if status != 200:
            sort = "refused" if self._was_refused else "status"
            raise Unusable(f"{url}: status {status}{explained(body)}", sort)
        return body


class Printed:
    """What a program prints."""

    def __init__(self, settings: CommandSource, around: Around) -> None:
        self._settings = settings
        self._around = around

    async def ask(self) -> list[Table]:
        """See `Source`."""
        argv = self._settings.command
        outcome = await run(self._around.reactor, argv, self._settings.limit, LARGEST)
        if not outcome.succeeded:
            raise Unusable(f"{argv[0]} {outcome.how}", "program")
        entries: list[Table] = await self._around.in_thread(parse, outcome.output)
        return entries


class Posted:
    """What a web server has."""

    def __init__(self, settings: HttpSource, web: Web, around: Around) -> None:
        self._url = settings.url
        self._web = web
        self._around = around

    async def ask(self) -> list[Table]:
        """See `Source`."""
        entries: list[Table] = await self._around.in_thread(parse, await self._web.get(self._url))
        return entries


def parse(text: bytes) -> list[Table]:
    """The list in `text`.  Raises `Unusable`."""
    entries: list[Table] = decoded(text, list[Table], "a list of consoles")
    return entries


def decoded(text: bytes, kind: Any, what: str) -> Any:
    """`text` as JSON of this `kind`.  Raises `Unusable`: it is not `what`."""
    if sum(map(text.count, (b",", b"[", b"{"))) > MOST:
        raise Unusable(f"the answer has more than {MOST} values")
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise Unusable(f"the answer is not {what}: {printable(str(error))}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unusable("the answer is not JSON") from None


class _Problem(msgspec.Struct, frozen=True):
    """RFC 7807, section 3.1."""

    title: str = ""
    detail: str = ""


def explained(body: bytes) -> str:
    """What a problem document (RFC 7807) says, as the end of a sentence; empty for any other `body`."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    said = ": ".join(part for part in (problem.title, problem.detail) if part)
    return f" ({printable(said)})" if said else ""
