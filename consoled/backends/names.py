"""Names into addresses: `getaddrinfo` in threads of its own, so that a silent name server holds up nothing else.

`tap` installs one `Names` in the reactor, and every dial by host and port asks it.  Twisted's own resolver asks in the
reactor's ten threads, even for what is no name; with a name server that gives no answer each question takes many
seconds, nobody takes a question back, all else that wants a thread stands behind them, and so does the daemon's end.

Here a numeric address is answered at once, two dials to one name share one question, names that were not found the
last time stand behind all others and never take the last quarter of the threads, and the process ends without them.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer

MOST = 256
"""How many questions may be under way, each in a thread that only waits."""

_FAMILIES: dict[frozenset[Any], int] = {
    frozenset({IPv4Address}): socket.AF_INET,
    frozenset({IPv6Address}): socket.AF_INET6,
}
_TYPES = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}

_Question = tuple[str, int, str]
"""A name, an address family or 0, and the kind of transport."""
_Found = Sequence[tuple[Any, ...]]
"""As `getaddrinfo` gives it; empty: nothing was found."""


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        raise NotImplementedError  # Twisted's endpoints never do


@implementer(IHostnameResolver)
class Names:
    """One for the whole daemon; its methods are for the reactor's thread."""

    def __init__(
        self,
        call_from_thread: Callable[..., Any],
        getaddrinfo: Callable[..., _Found] = socket.getaddrinfo,
        in_thread: Callable[..., None] = lambda call, *args: Thread(target=call, args=args, daemon=True).start(),
        most: int = MOST,
    ) -> None:
        self._call_from_thread = call_from_thread
        self._getaddrinfo = getaddrinfo
        self._in_thread = in_thread
        self._most = self._free = most
        self._asked: dict[_Question, list[tuple[IResolutionReceiver, int]]] = {}
        """Who waits for which answer, and for which port."""
        self._hopeful: deque[_Question] = deque()
        self._doubtful: deque[_Question] = deque()
        self._not_found: set[_Question] = set()

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """See `IHostnameResolver`."""
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        question = hostName, _FAMILIES.get(frozenset(addressTypes or ()), 0), transportSemantics
        if numeric := self._found(question, socket.AI_NUMERICHOST):
            _tell(resolutionReceiver, portNumber, numeric, transportSemantics)
        elif question in self._asked:
            self._asked[question].append((resolutionReceiver, portNumber))
        else:
            self._asked[question] = [(resolutionReceiver, portNumber)]
            (self._doubtful if question in self._not_found else self._hopeful).append(question)
            self._ask_next()
        return resolution

    def _ask_next(self) -> None:
        while self._free and (self._hopeful or (self._doubtful and self._free > self._most // 4)):
            self._free -= 1
            self._in_thread(self._ask, (self._hopeful or self._doubtful).popleft())

    def _ask(self, question: _Question) -> None:
        """In a thread of its own."""
        self._call_from_thread(self._answered, question, self._found(question))

    def _found(self, question: _Question, flags: int = 0) -> _Found:
        name, family, semantics = question
        try:
            return self._getaddrinfo(name, 0, family, _TYPES[semantics], 0, flags)
        except (OSError, UnicodeError):
            return ()

    def _answered(self, question: _Question, found: _Found) -> None:
        self._free += 1
        (self._not_found.discard if found else self._not_found.add)(question)
        for receiver, port in self._asked.pop(question):
            _tell(receiver, port, found, question[2])
        self._ask_next()


def _tell(receiver: IResolutionReceiver, port: int, found: _Found, semantics: Any) -> None:
    for family, _, _, _, (host, _, *more) in found:
        if family == socket.AF_INET:
            receiver.addressResolved(IPv4Address(semantics, host, port))
        elif family == socket.AF_INET6:
            receiver.addressResolved(IPv6Address(semantics, host, port, *more))
    receiver.resolutionComplete()
