"""The machines of Triton: found when somebody wants their console, and forgotten when nobody does.

`tap` makes one of these for the `cloudapi` face, which asks it whether an account has a machine, and for the machine's
console; the gate asks it, as one of its `Tenants`, which consoles are an account's.  A found machine gets a console on
the hub like any other, on demand, with a transcript; `sweep` removes it once its machine is gone, or nobody uses it.
Consoles of the configuration that name an account and a machine are there without VMAPI and CNAPI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from twisted.internet.defer import Deferred, DeferredLock, fail, succeed
from twisted.logger import Logger

from consoled.auth.tenants import Holding, UnknownTenant
from consoled.backends.settings import ConsoleSettings
from consoled.backends.triton import DIAL, NOT_CONNECTED, Find, TritonBackend
from consoled.core.console import Console
from consoled.core.faults import NotOpen
from consoled.core.hub import Hub
from consoled.core.status import Off
from consoled.fetch import Unreachable
from consoled.triton import Machine, Triton, UnknownMachine
from consoled.units import Duration

SWEEP: Final = 60.0
"""Seconds between two looks at which machines are still there, and wanted."""
RETRY: Final = 2.0
"""The most seconds between two attempts to connect: whoever waits for it does not wait for long."""

Make = Callable[[ConsoleSettings, Find], Deferred[tuple[Console, TritonBackend]]]
"""Make a console with its transcript and its link, which asks where to connect to."""

ByMachine = Mapping[tuple[str, int], ConsoleSettings]
"""Consoles of the configuration, by the machine and its port that they are."""

_log = Logger()


def by_machine(consoles: Iterable[ConsoleSettings]) -> ByMachine:
    """Those of `consoles` that are machines'.  Raises `ValueError` if two are the same machine's same port."""
    found: dict[tuple[str, int], ConsoleSettings] = {}
    for settings in consoles:
        if settings.machine:
            other = found.setdefault((settings.machine, settings.machine_port), settings)
            if other is not settings:
                raise ValueError(f"console {settings.name}: machine: it is that of console {other.name} as well")
    return found


@dataclass(slots=True, eq=False)
class _Known:
    """A console that somebody has asked for."""

    record: Machine
    """Its machine, as VMAPI described it last."""
    port: int
    backend: TritonBackend | None = None
    """How it is reached; None until somebody is let in."""
    is_idle: bool = False
    """Whether nobody has asked for it since the last sweep."""
    lock: DeferredLock = field(default_factory=DeferredLock)
    """Held while the console is made, or closed."""


class Machines:
    """Which machine is whose, and its consoles: of several serial ports each is one."""

    def __init__(
        self, hub: Hub, configured: Iterable[ConsoleSettings], triton: Triton | None, make: Make, linger: float = 3.0
    ) -> None:
        """`triton` None: only what is `configured` is known.  `linger`: seconds for which a link outlives its clients.

        Raises `ValueError` as `by_machine`.
        """
        self._hub = hub
        self._make = make
        self._known: dict[str, _Known] = {}
        """By their names on the hub."""
        self._set(by_machine(configured), triton, linger)

    def _set(self, configured: ByMachine, triton: Triton | None, linger: float) -> None:
        self._configured = configured
        self._by_name = {settings.name: settings for settings in configured.values()}
        self._triton = triton
        self._linger = linger

    async def renew(self, configured: ByMachine, triton: Triton | None, linger: float) -> None:
        """Go on by other settings.  What was found and is configured now, or cannot be asked about, is let go of."""
        self._set(configured, triton, linger)
        for name, known in list(self._known.items()):
            if triton is None or name in self._by_name or (known.record.uuid, known.port) in configured:
                if known.backend is not None:
                    await self._drop(name, known, "The console is looked after in another way now")
                self._known.pop(name, None)

    # ------------------------------------------------------------------------------------------- the face asks these

    async def find(self, uuid: str, account: str | None, port: int = 0) -> tuple[Machine, str]:
        """The machine `uuid` of the account (None: of any), and what its console is called on the hub.

        Raises `UnknownMachine`, or `Unreachable` if VMAPI cannot say.
        """
        if (settings := self._configured.get((uuid, port))) is not None:
            if account not in (None, settings.account):
                raise UnknownMachine(uuid)
            state = "running" if settings.enabled else "stopped"
            return Machine(uuid, settings.account, state, settings.brand, None), settings.name
        if self._triton is None:
            raise UnknownMachine(uuid)
        record = await self._triton.machine(uuid, account)
        name = f"{uuid}.{port}" if port else uuid
        known = self._known.setdefault(name, _Known(record, port))
        known.record, known.is_idle = record, False
        return record, name

    async def console(self, name: str) -> Console:
        """The console of a machine that has been found, made if it is not there.  Raises what `Hub.find` does."""
        if (known := self._known.get(name)) is not None:
            made = known.lock.run(lambda: Deferred.fromCoroutine(self._demand(name, known)))
            # One who goes away takes nothing from the others who wait for it.
            waited: Deferred[None] = Deferred()
            made.chainDeferred(waited)
            await waited
        return self._hub.find(name)

    def trouble(self, name: str) -> str:
        """How a console could not be connected to, in the words that CloudAPI's clients are told."""
        known = self._known.get(name)
        return known.backend.trouble if known and known.backend else NOT_CONNECTED

    async def _demand(self, name: str, known: _Known) -> None:
        known.is_idle = False
        if known.backend is not None:
            return
        settings = ConsoleSettings(
            name=name,
            on_demand=True,
            linger=Duration(self._linger),
            connect_timeout=Duration(DIAL),
            retry_max=Duration(RETRY),
        )
        console, backend = await self._make(settings, self._way(known))
        try:
            self._hub.add(console)
        except NotOpen:
            await console.close()
            raise
        known.backend = backend

    def _way(self, known: _Known) -> Find:
        async def find() -> tuple[str, int]:
            """Where it listens now: it may have moved to another server since."""
            assert self._triton is not None
            known.record = await self._triton.machine(known.record.uuid, known.record.owner)
            return await self._triton.socket(known.record, known.port)

        return find

    # ------------------------------------------------------------------------------------------- the gate asks these

    def nodes(self, tenant: str) -> Deferred[Holding]:
        """The consoles of an account; see `auth.tenants.Tenants`."""
        names = {name for name, settings in self._by_name.items() if settings.account == tenant}
        names |= {name for name, known in self._known.items() if known.record.owner == tenant}
        return succeed(Holding(frozenset(names))) if names else fail(UnknownTenant(tenant))

    def tags(self, console: str) -> tuple[str, frozenset[str]]:
        """The uuid of a console's machine, and the uuids of the roles that this is tagged with."""
        if (known := self._known.get(console)) is not None:
            return known.record.uuid, known.record.role_tags
        settings = self._by_name.get(console)
        return (settings.machine if settings else ""), frozenset()

    # ------------------------------------------------------------------------------------------- forgetting

    async def sweep(self) -> None:
        """Let go of the consoles whose machine is gone, and of those that nobody has asked for since the last time."""
        for name, known in list(self._known.items()):
            if not self._hub.is_open:
                return
            try:
                await self._look_at(name, known)
            except Exception:
                _log.failure("machine {name}: cannot be looked after", name=name)

    async def _look_at(self, name: str, known: _Known) -> None:
        was_idle, known.is_idle = known.is_idle, True
        if known.lock.locked:
            return
        if known.backend is None:
            if was_idle:
                del self._known[name]
            return
        console = self._hub.find(name)
        if console.attachments:
            if await self._is_gone(known):
                await self._drop(name, known, "The machine is gone")
        elif was_idle and isinstance(console.link.status, Off):
            await self._drop(name, known, "Nobody has asked for the console")

    async def _is_gone(self, known: _Known) -> bool:
        assert self._triton is not None
        try:
            known.record = await self._triton.machine(known.record.uuid, known.record.owner)
        except UnknownMachine:
            return True
        except Unreachable as error:
            _log.debug("machine {uuid}: {why}", uuid=known.record.uuid, why=error)
            return False
        return known.record.state == "deleted"

    async def _drop(self, name: str, known: _Known, why: str) -> None:
        def remove() -> Deferred[None]:
            known.backend = None
            return self._hub.remove(name, why)

        await known.lock.run(remove)
