"""The parking: which links operators have parked, over restarts.

Who parks a link, for a repair, expects it to stay so until it is released, whatever becomes of the daemon meanwhile.
`fleet` asks about each console that it begins with, and has what its link says remembered: in one small file of the
state directory, by the names of the consoles, those of consoles that are out of the configuration for now among them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from consoled import atomic
from consoled.core.status import Parked
from consoled.printable import printable

_log = Logger()


class _Entry(msgspec.Struct, frozen=True):
    """One link, as the file has it."""

    since: Annotated[float, Meta(ge=0, le=253402300799)]
    """In epoch seconds, of years with four digits."""
    by: str


class Parking:
    """All of them."""

    def __init__(self, path: Path, in_thread: Callable[..., Deferred[Any]]) -> None:
        """`path` is the file's; `in_thread(function, *args)` fires with what the function returns in a thread."""
        self._path = path
        self._in_thread = in_thread
        self._parked: dict[str, Parked] = {}
        self._is_stale = False
        """Whether the file says other than we know."""
        self._writing: Deferred[None] = succeed(None)
        self.trouble: str | None = None
        """Why the file could not be written, for people."""

    def open(self) -> None:
        """Read the file, as the configuration was.  If it makes no sense nothing is parked; the log says so."""
        try:
            self._parked = _read(self._path)
        except (OSError, ValueError) as error:
            _log.error("no link is parked that was before, since {path} cannot be read: {why}",
                       path=str(self._path), why=error)  # fmt: skip

    def find(self, name: str) -> Parked | None:
        """Who has parked the link of the console `name`, if anybody has."""
        return self._parked.get(name)

    def remember(self, name: str, parked: Parked | None) -> None:
        """The link of `name` is parked now, or, by None, no longer."""
        if parked == self._parked.get(name):
            return
        if parked is None:
            del self._parked[name]
        else:
            self._parked[name] = parked
        self._is_stale = True
        if self._writing.called:
            self._write()

    def close(self) -> Deferred[None]:
        """Write what is not written, one last time if that has failed.  If the disk hangs it does not fire."""
        if self._is_stale and self._writing.called:
            self._write()
        closed: Deferred[None] = Deferred()
        self._writing.addBoth(closed.callback)
        return closed

    def _write(self) -> None:
        self._writing = Deferred.fromCoroutine(self._catch_up())

    async def _catch_up(self) -> None:
        while self._is_stale:
            self._is_stale = False
            try:
                await self._in_thread(_write, self._path, dict(self._parked))
            except OSError as error:
                self._is_stale = True
                self.trouble = f"{self._path}: {error.strerror}: links that are parked would not be after a restart"
                _log.error("{trouble}", trouble=self.trouble)
                return
            self.trouble = None


def _read(path: Path) -> dict[str, Parked]:
    """Raises `OSError` and `ValueError`."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, _Entry])
    except FileNotFoundError:
        return {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return {name: Parked(held.since, printable(held.by)) for name, held in found.items()}


def _write(path: Path, parked: dict[str, Parked]) -> None:
    """Raises `OSError`."""
    text = msgspec.json.encode({name: _Entry(one.since, one.by) for name, one in sorted(parked.items())})
    atomic.replace(path, msgspec.json.format(text, indent=2) + b"\n")
