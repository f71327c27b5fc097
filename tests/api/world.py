"""Everything between a socket and a node, in memory: the real site, face, gate, hub and consoles over fake links."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.web.server import Site

from consoled.api.admission import Admission
from consoled.api.census import Census
from consoled.api.cloudapi import CloudApi, CloudApiSettings
from consoled.api.csm import Csm, CsmSettings
from consoled.api.doors import Door, Doors, LimitSettings
from consoled.api.meters import Meters
from consoled.api.metrics import Metrics, MetricsSettings
from consoled.api.native import Native
from consoled.api.origin import Origins
from consoled.api.patience import Patience
from consoled.api.proxies import Proxies
from consoled.api.session import Sessions
from consoled.api.site import make_site
from consoled.api.upgrade import Road
from consoled.api.vigil import Vigil
from consoled.auth.accounts import Accounts, Logins
from consoled.auth.audit import Audit, Record
from consoled.auth.gate import Gate
from consoled.auth.roles import ROLES
from consoled.auth.tenants import TenantTable
from consoled.auth.tickets import Tickets
from consoled.auth.tokens import TokensFile
from consoled.backends.settings import ConsoleSettings
from consoled.backends.triton import Find
from consoled.core import access
from consoled.core.attachment import Attachment
from consoled.core.changes import Reload
from consoled.core.console import Console
from consoled.core.hub import Hub
from consoled.core.sources import SourceState
from consoled.core.status import Up
from consoled.core.tally import Tally
from consoled.machines import Machines
from consoled.triton import Triton
from tests.api.wire import Client, Headers
from tests.fakes import EPOCH, FakeLink, FakeTranscript

PUBLIC = "/apis/console-operator/console-operator"
BARE = "/console-operator"

USERS = {
    "ada": ("admin", None),
    "oscar": ("operator", None),
    "olga": ("operator", None),
    "vera": ("viewer", None),
    "bob": ("operator", ["blue"]),
    "gina": ("operator", ["green"]),
    "both": ("viewer", ["blue", "green"]),
    "lost": ("operator", ["gone"]),
}
TENANTS = {"blue": "x1,x3", "green": "x2"}

ACME = "930896af-bf8c-48d4-885c-6573a94b1853"
"""An account of CloudAPI's."""
MACHINES = {
    "x1": "b2c5c0cb-0a0b-4a0e-9a0e-1b2c3d4e5f60",
    "x2": "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed",
    "x3": "6ec0bd7f-11c0-43da-975e-2a8ad9ebae0b",
}
"""Its machines: each console is one of them."""


def token(user: str) -> str:
    """The user's bearer token: nothing of it may ever be seen again."""
    return f"canary-{user}-4711"


def bearer(user: str | None) -> list[tuple[str, str]]:
    return [] if user is None else [("Authorization", f"Bearer {token(user)}")]


class Node:
    """A console and what is behind it."""

    def __init__(self, name: str, world: World, transcript: FakeTranscript, **settings: Any) -> None:
        self.name = name
        self.world = world
        self.link = FakeLink(f"<bmc-{name}:2001>")
        self.link.status = Up(EPOCH)
        self.transcript = transcript
        self.resets: list[Deferred[str]] = []
        settings.setdefault("reset", self._reset)
        self.console = Console(name, transcript, world.clock, world.now, **settings)
        self.console.link = self.link

    def _reset(self) -> Deferred[str]:
        self.resets.append(Deferred())
        return self.resets[-1]

    def says(self, data: bytes) -> None:
        self.console.received(data)

    @property
    def heard(self) -> bytes:
        """All keystrokes that got to it."""
        return b"".join(self.link.written)

    @property
    def clients(self) -> list[Attachment]:
        return list(self.console.attachments)


class World:
    """One daemon: x1 and x2, and x3, which is known and not held.  x1 and x3 are the tenant blue's, x2 is green's."""

    def __init__(self, directory: Path, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.directory = directory
        self.records: list[Record] = []
        self.trouble: str | None = None
        self.unready: str | None = None
        self.reload: Reload | None = None
        self.sources: list[SourceState] = []
        tokens = directory / "tokens.toml"
        tokens.write_text("\n".join(entry(name, *what) for name, what in USERS.items()))
        self.audit = Audit(self.records.append, self.now)
        self.tokens = TokensFile(tokens, ROLES, self.clock)
        self.issued: list[str] = []
        """Every one-use ticket."""
        self.tickets = Tickets(self.clock, self._ticket, self.audit)
        self.gate: access.Gate = Gate([self.tokens, self.tickets], ROLES, TenantTable(TENANTS), self.audit, self.now)
        self.accounts: Accounts | None = None
        self.triton: Triton | None = None
        self.nodes: dict[str, Node] = {}
        self.clients: list[Client] = []
        self.hub: Hub
        self.machines: Machines
        self.meters: Meters
        self.tally: Tally
        self.native: Native
        self.sessions: Sessions
        self.doors: Doors
        self.site: Site
        self.entrance: Door

    def now(self) -> float:
        return EPOCH + self.clock.seconds()

    def _ticket(self) -> str:
        self.issued.append(f"a-ticket-{len(self.issued)}")
        return self.issued[-1]

    def begin(
        self,
        *,
        gate: access.Gate | None = None,
        max_clients: int = 100,
        opened: bool = True,
        noted: bool = True,
        kept: bytes = b"",
        start: int = 0,
        settings: dict[str, Any] | None = None,
        console: dict[str, Any] | None = None,
        limits: dict[str, Any] | None = None,
        proxies: tuple[str, ...] = (),
        origins: Origins | None = None,
        patient: bool = False,
        cloud: dict[str, Any] | None = None,
    ) -> World:
        """Start over.  `kept` and `start` are x1's transcript as it was before; `settings` and `cloud` are the faces'.

        Unless `noted`, x1 opens without a line of its own.  If `patient`, failed logins are counted.
        """
        self.hub = Hub(max_clients)
        self.meters = Meters()
        self.tally = Tally()
        self.machines = Machines(self.hub, configured(), self.triton, self.found)
        self.gate = gate or self.make_gate()
        transcripts = {"x1": FakeTranscript(start, kept), "x2": FakeTranscript()}
        self.nodes = {name: Node(name, self, transcript, **(console or {})) for name, transcript in transcripts.items()}
        if not noted:
            self.x1.console.open = self.x1.link.open  # type: ignore[method-assign]
        bounds = LimitSettings(**(limits or {}))
        if patient:
            self.gate = Patience(self.gate, bounds, self.clock, b"key", self.meters)
        self.sessions = Sessions()
        vigil = Vigil(self.clock, lambda: 0.0)
        road = Road(self.sessions, self.clock, self.meters)
        csm = Csm(
            CsmSettings(**(settings or {})),
            self.hub,
            self.gate,
            self.audit,
            road,
            vigil,
            self.now,
            lambda: self.trouble,
            self.meters,
            lambda: self.unready,
        )
        hidden = bool((settings or {}).get("hide_forbidden"))
        admission = Admission(self.hub, self.gate, hidden)
        cloudapi = CloudApi(
            CloudApiSettings(**(cloud or {})),
            self.hub,
            self.machines,
            Logins(self.accounts),
            self.gate,
            self.audit,
            road,
            vigil,
            self.clock,
            self.now,
            self.meters,
        )
        self.native = Native(
            *(self.hub, admission, self.audit, road, vigil, self.tickets, self.clock, self.now, self.meters),
            trouble=lambda: self.trouble,
            unready=lambda: self.unready,
            reload=self.reload,
            sources=lambda: self.sources,
        )
        census = Census(self.hub, self.meters.departed, self.tally, lambda: None, lambda: self.sources)
        faces = [
            csm,
            self.native,
            Metrics(self.meters, admission, road, self.hub, census, MetricsSettings(per_console=True)),
            cloudapi,
        ]
        self.doors = Doors(bounds, Proxies(proxies))
        self.site = make_site(faces, self.clock, doors=self.doors, origins=origins)
        self.entrance = Door(self.doors, self.site)
        if opened:
            self.open()
        return self

    def make_gate(self) -> access.Gate:
        return self.gate

    def found(self, settings: ConsoleSettings, find: Find) -> Deferred[Any]:
        """The console of a machine that was found."""
        raise NotImplementedError

    def open(self) -> None:
        for node in self.nodes.values():
            self.hub.begin(node.console)
        self.hub.open(["x3"])

    @property
    def x1(self) -> Node:
        return self.nodes["x1"]

    @property
    def x2(self) -> Node:
        return self.nodes["x2"]

    # Clients.

    def client(self, peer: Any = None) -> Client:
        self.clients.append(Client(self.entrance, lambda: self.clock.advance(0), peer))
        return self.clients[-1]

    def ask(
        self, path: str, headers: Headers = (), user: str | None = None, method: str = "GET", body: str = ""
    ) -> Any:
        """A plain request's answer."""
        return self.client().request(path, [*headers, *bearer(user)], method, body)

    def knock(
        self, path: str, user: str | None = "oscar", headers: Headers = (), peer: Any = None, **options: Any
    ) -> Client:
        """A client that has asked for an upgrade, whatever came of it."""
        client = self.client(peer)
        client.upgrade(path, [*bearer(user), *headers], **options)
        return client

    def interact(self, node: str = "x1", user: str | None = "oscar", headers: Headers = ()) -> Client:
        client = self.knock(f"{BARE}/interact/{node}", user, headers)
        assert client.is_open, client.refusal
        return client

    def joined(self, node: str = "x1", user: str = "oscar") -> Client:
        """An interactive client that has read its banner."""
        client = self.interact(node, user)
        client.news()
        return client

    def tail(self, node: str = "x1", *, lines: int | None = None, follow: bool = False, user: str = "vera") -> Client:
        headers = [("Cray-Console-Follow", str(follow))]
        if lines is not None:
            headers.append(("Cray-Console-Lines", str(lines)))
        client = self.knock(f"{BARE}/tail/{node}", user, headers)
        assert client.response.status_code == 101, client.refusal
        return client

    # What was written down.

    def audited(self, action: str) -> list[Record]:
        return [record for record in self.records if record["action"] == action]

    def stop(self) -> None:
        """End the day: the hub lets go, whoever does not go is dropped, and nothing is left running."""
        if self.hub.is_open:
            self.hub.close()
        for client in self.clients:
            client.socket.start_reading()
            client.socket.hang_up()
        assert not self.sessions.sessions
        assert not any(node.clients for node in self.nodes.values())


def configured() -> list[ConsoleSettings]:
    """The consoles' settings, as far as CloudAPI cares."""
    return [
        ConsoleSettings(name=name, account=ACME, machine=uuid, enabled=name != "x3") for name, uuid in MACHINES.items()
    ]


def entry(name: str, role: str | list[str], tenants: list[str] | None, expires: float | None = None) -> str:
    """A user's token in the file; it expires so many seconds after the beginning."""
    more = "" if tenants is None else f"tenants = {tenants}\n"
    if expires is not None:
        more += f"expires = {datetime.fromtimestamp(EPOCH + expires, UTC).isoformat()}\n"
    digest = sha256(token(name).encode()).hexdigest()
    return f'[[token]]\nname = "{name}"\nsha256 = "{digest}"\nrole = {json.dumps(role)}\n{more}'


class Anything:
    """A scope without bounds."""

    user = access.User("anybody", ("admin",), None, proof="test")
    holds = math.inf

    def limits(self, verb: str, console: str) -> access.Limits:
        return access.Limits()

    def again(self) -> Deferred[Any]:
        return succeed(self)

    def admits(self, verb: str, console: str) -> bool:
        return True

    def require(self, verb: str, console: str) -> None:
        pass


class Deaf:
    """A gate that never answers, neither to `login` nor, if it may be passed, to `authorise`."""

    def __init__(self, behind: access.Gate | None = None) -> None:
        self._behind = behind
        self.asked: list[Deferred[Any]] = []
        self.cancelled = 0

    def login(self, knock: access.Knock) -> Deferred[Any]:
        return self._wait() if self._behind is None else self._behind.login(knock)

    def authorise(self, user: access.User, verb: access.Verb, tenant: Any = ()) -> Deferred[Any]:
        return self._wait()

    def _wait(self) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred(self._cancel)
        self.asked.append(deferred)
        return deferred

    def _cancel(self, deferred: Deferred[Any]) -> None:
        self.cancelled += 1
        # As `core.access` promises.
        deferred.errback(access.CannotKnow("cancelled"))
