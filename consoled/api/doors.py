"""The open door: who may be connected, before anybody knows who it is.

Every connection that a listener accepts passes `Door`, below TLS and HTTP, and has a `Guest` between its socket and
what is above, for as long as it lasts.  A guest is *waiting* (shaking hands, asking, being asked) until it has a
session.  Waiting costs a stranger nothing, so it is what is bounded most: for each address, where the one who overdoes
it gets a 429, and in all, where the one who has waited longest has to go, so that a flood does not keep others out.
`seat` counts the sessions of each user.  An address of IPv6 means its /64; local sockets and trusted proxies are not
counted, the clients for which a proxy speaks are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Annotated, Any

import msgspec
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from consoled.api.answers import HttpRefusal
from consoled.api.proxies import LOCAL, Proxies, place
from consoled.core.access import User
from consoled.units import Duration, Size

_Count = Annotated[int, msgspec.Meta(ge=1)]
RETRY = 5
"""Seconds after which whoever found a limit reached may try again."""
NAMED = 100
"""Strangers at the proxies' door that the log names, each once: they may come as often as they like."""

_log = Logger()


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[limits]`.  What stands beside it: `hub.max_clients`."""

    waiting: _Count = 2000
    """Connections that have no session (yet), in all; beyond it, the one that has waited longest goes."""
    waiting_each_address: _Count = 1000
    """The same of one address (an IPv6 /64); more are refused."""
    connections_each_address: _Count = 5000
    """Connections with and without a session."""
    sessions_each_user: _Count = 5000
    """Sessions that one user may have at once."""
    failed_logins: _Count = 20
    """How often an address may fail to log in, at once and then in each minute."""
    handshake: Duration = Duration(10)
    """The limit on a TLS handshake; more than 0, as the next two."""
    request: Duration = Duration(30)
    """The limit on a request, from its first byte to its last."""
    idle: Duration = Duration(60)
    """How long a connection may stand without a request."""
    headers: Size = Size(16 * 1024)
    """The longest head of a request; 1 KiB or more."""
    body: Size = Size(64 * 1024)
    """The longest body of a request."""
    messages: _Count = 2000
    """Messages a second that are heard from one client; five times as many at once.  The rest wait their turn."""
    backlog: _Count = 1024
    """Connections that the kernel keeps for us until we accept them (its own limit is `net.core.somaxconn`)."""

    def __post_init__(self) -> None:
        for name in ("handshake", "request", "idle"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: must be more than zero")
        if self.headers < 1024:
            raise ValueError("headers: must be at least 1024 bytes")


def group(host: str) -> str:
    """What counts as one address: an IPv6 network of 64 bits is given to one customer, often to one machine."""
    try:
        found = ip_address(host)
    except ValueError:
        return host
    if isinstance(found, IPv6Address):
        return f"{IPv6Address(int(found) >> 64 << 64)}/64"
    return str(found)


class Doors:
    """All that are connected, over all listeners."""

    def __init__(self, settings: LimitSettings, proxies: Proxies) -> None:
        self.settings = settings
        self.proxies = proxies
        self._waiting: dict[Guest, None] = {}
        self._waiting_from: Counter[str] = Counter()
        self._here_from: Counter[str] = Counter()
        self._seated: Counter[str] = Counter()

    def renew(self, settings: LimitSettings, proxies: Proxies) -> None:
        """Other limits, for those who come from now on."""
        self.settings, self.proxies = settings, proxies

    def objection(self, host: str) -> str:
        """Why one more from `host` may not come in; empty if it may."""
        settings, key = self.settings, self.key(host)
        if not key:
            return ""
        if self._waiting_from[key] >= settings.waiting_each_address:
            return "Too many connections from this address wait already; try again later"
        if self._here_from[key] >= settings.connections_each_address:
            return "Too many connections from this address; try again later"
        return ""

    def key(self, host: str) -> str:
        """What a connection of `host` counts under; empty if it does not."""
        return "" if host == LOCAL or self.proxies.trusts(host) else group(host)

    # The guests' comings and goings.

    def came(self, guest: Guest) -> None:
        if len(self._waiting) >= self.settings.waiting:
            oldest = next(iter(self._waiting))
            self.rose(oldest)
            oldest.transport.abortConnection()
        self._waiting[guest] = None
        self._count(guest, 1)

    def moved(self, guest: Guest, host: str) -> None:
        """A proxy says that `guest` is `host`.  Raises `HttpRefusal` if there are too many of those."""
        if (key := self.key(host)) == guest.key:
            return
        self._count(guest, -1)
        guest.key = ""
        if objection := self.objection(host):
            raise _too_many(objection)
        guest.key = key
        self._count(guest, 1)

    def sat(self, guest: Guest, user: User) -> None:
        """See `seat`."""
        _less(self._seated, guest.user)
        guest.user = ""
        if user.proof == "open":
            return
        if self._seated[user.name] >= self.settings.sessions_each_user:
            raise _too_many("Too many sessions of this user; try again later")
        self._seated[user.name] += 1
        guest.user = user.name

    def left(self, guest: Guest) -> None:
        self.rose(guest)
        _less(self._here_from, guest.key)
        _less(self._seated, guest.user)

    def rose(self, guest: Guest) -> None:
        """`guest` waits no more."""
        if guest in self._waiting:
            del self._waiting[guest]
            _less(self._waiting_from, guest.key)

    def _count(self, guest: Guest, change: int) -> None:
        if not guest.key:
            return
        if change > 0:
            self._here_from[guest.key] += 1
            self._waiting_from[guest.key] += guest in self._waiting
        else:
            _less(self._here_from, guest.key)
            if guest in self._waiting:
                _less(self._waiting_from, guest.key)


class Guest(ProtocolWrapper):
    """One connection, between its socket and what is above."""

    factory: Door
    transport: Any

    def makeConnection(self, transport: Any) -> None:
        self.peer, _ = place(transport.getPeer())
        """The IP address that has really connected, or `local`."""
        self.key = self.factory.doors.key(self.peer)
        self.user = ""
        # Nothing of ours is on the bytes' way out.
        self.write = transport.write  # type: ignore[method-assign]
        self.beneath = transport
        """For `straight`."""
        super().makeConnection(transport)  # type: ignore[no-untyped-call]


class Door(WrappingFactory[Guest]):
    """A factory of guests before another factory."""

    protocol: Callable[..., Any] = Guest
    noisy = False

    def __init__(self, doors: Doors, factory: Any, *, is_tls: bool = False, is_proxied: bool = False) -> None:
        """`is_tls`: a refusal cannot be written.  `is_proxied`: only trusted proxies may connect (PROXY protocol)."""
        super().__init__(factory)  # type: ignore[no-untyped-call]
        self.doors = doors
        self._is_tls = is_tls
        self._is_proxied = is_proxied
        self._strangers: set[str] = set()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        host, _ = place(addr)
        if self._is_proxied and not self.doors.proxies.trusts(host):
            self._turned_away(host)
            return Refusal()
        if objection := self.doors.objection(host):
            return Refusal(b"" if self._is_tls else _answer(objection))
        return super().buildProtocol(addr)

    def _turned_away(self, host: str) -> None:
        if host not in self._strangers and len(self._strangers) < NAMED:
            self._strangers.add(host)
            _log.warn("{host} is not in http.trusted_proxies, and is turned away from the proxies' door", host=host)

    def registerProtocol(self, p: Guest) -> None:
        self.doors.came(p)

    def unregisterProtocol(self, p: Guest) -> None:
        self.doors.left(p)


class Refusal(Protocol):
    """Says one thing, if it has anything to say, and hangs up."""

    transport: Any

    def __init__(self, answer: bytes = b"") -> None:
        self._answer = answer

    def connectionMade(self) -> None:
        if not self._answer:
            self.transport.abortConnection()
            return
        self.transport.write(self._answer)
        self.transport.loseConnection()


def guest(request: Any) -> Guest | None:
    """The guest whose `request` it is; None in a world without doors."""
    # No channel is left of a client that has gone.
    transport = request.channel and request.channel.transport
    while transport is not None and not isinstance(transport, Guest):
        transport = getattr(transport, "transport", None)
    return transport


def seat(request: Any, user: User) -> None:
    """`user`'s `request` is about to become a session, and counts as one of the user's.

    Called by the faces beside `Hub.admit`.  Raises `HttpRefusal` if there are too many of them already.
    """
    if (who := guest(request)) is not None:
        who.factory.doors.sat(who, user)


def rise(request: Any) -> None:
    """`request` becomes a session now, and waits no more.  Called by `upgrade`."""
    if (who := guest(request)) is not None:
        who.factory.doors.rose(who)


def _less(counts: Counter[str], key: str) -> None:
    """One less of `key`; nothing is kept of what is not there."""
    if key:
        counts[key] -= 1
        if counts[key] <= 0:
            del counts[key]


def _too_many(objection: str) -> HttpRefusal:
    return HttpRefusal(429, objection, {"Retry-After": str(RETRY)})


def _answer(objection: str) -> bytes:
    body = msgspec.json.encode({"message": objection})
    head = (
        f"HTTP/1.1 429 Too Many Requests\r\nServer: consoled\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: {RETRY}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
