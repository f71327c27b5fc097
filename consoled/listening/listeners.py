"""The listeners: every port that clients come to, by its endpoint description.

`reception` says what they lead to; a reload opens and closes some and leaves the others alone.  What they accept goes,
by the description, through Twisted's PROXY protocol, then to a `Doorman` of ours (descriptors), then through the doors
(limits), then TLS, then to the site.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from consoled.descriptors import Doorman
from consoled.listening.contexts import Contexts
from consoled.listening.descriptions import with_backlog
from consoled.listening.inherited import endpoint

_log = Logger()


def secured(factory: Any, contexts: Contexts, reactor: Any) -> TLSMemoryBIOFactory:
    """`factory` with TLS below it."""
    return TLSMemoryBIOFactory(contexts, False, factory, clock=reactor)


class Listener:
    """One place to listen at."""

    def __init__(self, key: str, description: str, backlog: int, reactor: Any) -> None:
        """`key` and `description` as the configuration has them.  Raises `ValueError` for what is no description."""
        self.doorman = Doorman()
        self._where = f"{key}: {description}"
        self._endpoint = endpoint(reactor, with_backlog(description, backlog))
        self._listening: Deferred[Any] | None = None

    def listen(self) -> None:
        """Begin.  Raises `OSError` that names the key; of endpoints that take their time, it is logged."""
        at_once: list[Failure] = []

        def failed(failure: Failure) -> None:
            if self._listening is None:
                at_once.append(failure)
            elif not failure.check(CancelledError):
                _log.failure("cannot listen at {where}", failure, where=self._where)

        listening = self._endpoint.listen(self.doorman).addErrback(failed)
        if at_once:
            raise OSError(f"{self._where}: {at_once[0].getErrorMessage()}")
        self._listening = listening

    def stop(self) -> Deferred[Any]:
        """Accept nobody any more; whoever is in stays.  Idempotent."""
        listening, self._listening = self._listening, None
        if listening is None:
            return succeed(None)
        listening.cancel()
        return listening.addCallback(lambda port: port and port.stopListening())


class Listeners(Service):
    """All of them."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._at: dict[str, Listener] = {}

    def make(self, descriptions: Iterable[tuple[str, str]], backlog: int) -> dict[str, Listener]:
        """Those of `descriptions`, each with its key, that are not there yet.  Raises `ValueError` that names it."""
        made = {}
        for key, description in descriptions:
            if description not in self._at:
                try:
                    made[description] = Listener(key, description, backlog, self._reactor)
                except (OSError, TypeError, ValueError) as error:
                    raise ValueError(f"{key}: {description}: {error}") from None
        return made

    async def open(self, made: Mapping[str, Listener], staying: Collection[str]) -> None:
        """Listen at `made`, where nobody is let in yet; if that fails, all is as before.

        One that is not among `staying` may have the port that is wanted now: then it is given up first.
        Raises `OSError` that names the key.
        """
        new = list(made.values())
        leaving = [one for description, one in self._at.items() if description not in staying]
        try:
            _listen(new)
        except OSError:
            await _stop([*new, *leaving])
            try:
                _listen(new)
            except OSError:
                await _stop(new)
                _listen(leaving)
                raise

    def serve(self, made: Mapping[str, Listener], factories: Mapping[str, Any]) -> Deferred[Any]:
        """Lead everybody who comes to the factory of its description; `made` are new, and what has none is given up.

        Fires when those have stopped.
        """
        self._at.update(made)
        leaving = [self._at.pop(description) for description in list(self._at) if description not in factories]
        for description, factory in factories.items():
            self._at[description].doorman.lead_to(factory)
        return _stop(leaving)

    # Twisted calls these.

    def privilegedStartService(self) -> None:
        _listen(self._at.values())

    def stopService(self) -> Deferred[Any]:
        super().stopService()  # type: ignore[no-untyped-call]
        return _stop(self._at.values())


def _listen(listeners: Iterable[Listener]) -> None:
    for one in listeners:
        one.listen()


def _stop(listeners: Iterable[Listener]) -> Deferred[Any]:
    return DeferredList([one.stop() for one in listeners])
