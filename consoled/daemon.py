"""The daemon: all parts of one consoled, and their order at start, at reload and at stop.

`tap` makes it out of a configuration and twistd runs it.  What outlives a reload is made here, once; what one
configuration says is made into `Terms` (who comes in) and a `Plan` (the consoles).
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import txaio
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, TimeoutError
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from consoled import __version__
from consoled.api.census import Census
from consoled.api.meters import Meters
from consoled.api.pulse import BEAT, Pulse
from consoled.auth.audit import Audit
from consoled.auth.sinks import Records
from consoled.auth.tickets import Tickets
from consoled.backends.names import Names
from consoled.backends.settings import Surroundings
from consoled.caveats import warnings
from consoled.config import Config, ConfigError, complete, settled, tables
from consoled.core.access import User
from consoled.core.changes import Changes
from consoled.core.faults import NotOpen, NotReloaded
from consoled.core.hub import Hub
from consoled.core.sources import SourceState
from consoled.core.tally import Tally
from consoled.descriptors import raise_limit
from consoled.fleet import Fleet
from consoled.garbage import unhurried
from consoled.listening.contexts import LOOK
from consoled.machines import SWEEP, Machines
from consoled.parking import Parking
from consoled.reception import Reception
from consoled.reloads import Reloads, Wish
from consoled.secrets.fetcher import Fetcher
from consoled.sources.keeper import Keeper
from consoled.sources.listing import Around
from consoled.systemd import Notifier
from consoled.terms import Standing, Terms

REST = 60.0
"""Seconds between two looks at which consoles are silent."""
LAST_WORDS = 1.0
"""Seconds for the audit to reach the disk when the daemon stops."""
SAID = 20
"""Names that two sources have which the log names one by one."""

InThread = Callable[..., Deferred[Any]]

_log = Logger()


class Daemon(MultiService):
    """All parts of one consoled."""

    def __init__(self, config: Config, reactor: Any, read: Callable[[], Config] | None = None) -> None:
        """Make everything, and touch nothing yet.  `read` gives the configuration as it is then, for a reload.

        Raises `ValueError` that names the key of what cannot be made.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        txaio.config.loop = reactor  # type: ignore[attr-defined]  # autobahn's timers
        self._read = read or (lambda: config)
        self._reactor = reactor
        self._in_thread: InThread = partial(deferToThreadPool, reactor, reactor.getThreadPool())
        secrets = Fetcher(reactor, self._in_thread, os.environ)
        self._secrets = secrets
        self._file = config
        """The configuration without what the sources say."""
        self._keeper = self._make_keeper(config)
        self._config = config = whole(config, self._keeper)
        self._records = self._make_records(config)
        self._audit = Audit(self._records, time.time)
        self._reloads = Reloads(self._take_up, self._audit)
        around = Surroundings(reactor, secrets, Path(config.hub.state), self._audit.noted)
        self._hub = Hub(config.hub.max_clients)
        meters, tally = Meters(), Tally()
        parking = Parking(Path(config.hub.state) / "parked.json", self._in_thread)
        self._fleet = Fleet(self._hub, around, config.hub, config.transcript, tally, parking, meters.echo.observe)
        census = Census(self._hub, meters.departed, tally, lambda: self._fleet.archive, self._sources)
        self._pulse = Pulse(reactor.seconds, meters.lag.observe)
        self._plan = self._fleet.plan(config.consoles, self._file.names)
        self._machines = Machines(self._hub, (), None, self._fleet.found)
        tickets = Tickets(reactor, token_urlsafe, self._audit)
        self._standing = Standing(reactor, self._in_thread, secrets, tickets, self._machines)
        self._terms = Terms(config, self._standing)
        self._reception = Reception(
            *(self._terms, self._hub, self._machines, tickets, self._audit, reactor),
            *(self._trouble, self._unready, self.reload, self._sources, meters, census),
        )
        self._reception.listeners.setServiceParent(self)  # type: ignore[no-untyped-call]
        self._notifier = Notifier({})
        self._repeating: list[LoopingCall] = []
        self._opening: Deferred[None] | None = None
        self._stopping = False

    def consoles(self) -> Iterator[tuple[str, str, str]]:
        """Name, kind and address of each console of the configuration that it was made with."""
        for name, settings in self._plan.settings.items():
            backend = self._plan.backends.get(name)
            kind = settings.__struct_config__.tag
            yield name, str(kind), "not held" if backend is None else backend.address

    def _make_keeper(self, config: Config, before: Keeper | None = None) -> Keeper:
        around = Around(self._reactor, self._secrets, self._in_thread)
        return Keeper(config.source, config.making, Path(config.hub.state) / "sources", around, time.time, before)

    def _make_records(self, config: Config) -> Records:
        log = Logger(namespace="consoled.audit")
        return Records(config.audit, log, self._reactor, time.time, self._reactor.callFromThread)

    def _trouble(self) -> str | None:
        """What is wrong with the daemon, for the health page."""
        parts = (self._fleet, self._records, self._reception, self._keeper)
        return "; ".join(part.trouble for part in parts if part.trouble) or None

    def _sources(self) -> list[SourceState]:
        return self._keeper.states

    # ------------------------------------------------------------------------------------------- start

    def privilegedStartService(self) -> None:
        self._on_signal(signal.SIGHUP, self._reloads.hang_up)
        try:
            super().privilegedStartService()  # type: ignore[no-untyped-call]
        except OSError as error:
            _log.critical("consoled cannot start: {why}", why=error)
            sys.exit(1)

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._notifier = Notifier(os.environ)
        self._reactor.installNameResolver(Names(self._reactor.callFromThread))
        self._budget()
        for warning in warnings(self._config):
            _log.warn("{warning}", warning=warning)
        self._secrets.renew(self._terms.vault)
        self._reception.start()
        self._repeat(LOOK, self._reception.look)
        self._on_signal(signal.SIGUSR1, self._reopen)
        self._on_signal(signal.SIGUSR2, self._hub.dial_now)
        self._opening = Deferred.fromCoroutine(self._open()).addErrback(self._broken)

    async def _open(self) -> None:
        await self._records.check()
        await self._take_up_machines()
        with unhurried():
            await self._fleet.open(self._plan)
            gc.collect()  # each dial that has failed meanwhile has left some
        config = self._config
        _log.info(
            "consoled {version} holds {count} consoles and listens at {listen}",
            version=__version__,
            count=len(self._hub),
            listen=", ".join((*config.http.listen, *(config.tls.listen if config.tls else ()))),
        )
        self._keeper.start(self._reloads.sources_changed)
        self._repeat(REST, self._hub.rest)
        self._repeat(BEAT, self._pulse.beat)
        self._repeat(SWEEP, self._machines.sweep)
        self._notifier.ready()
        if self._notifier.watchdog:
            self._repeat(self._notifier.watchdog / 2, self._notifier.alive)
        self._reloads.begin(self._notifier)

    def _take_up_machines(self) -> Deferred[None]:
        terms, cloudapi = self._terms, self._config.cloudapi
        linger = cloudapi.linger if cloudapi else 0.0
        return Deferred.fromCoroutine(self._machines.renew(terms.by_machine, terms.triton, linger))

    def _unready(self) -> str | None:
        """Why clients should not come; None: they may."""
        archive = self._fleet.archive
        return str(NotOpen()) if archive is None else archive.unready

    def _budget(self) -> None:
        raise_limit(len(self._plan.settings), self._config.hub.max_clients)

    def _reopen(self) -> None:
        """logrotate has moved the files."""
        self._fleet.reopen()
        self._records.reopen()

    def _repeat(self, seconds: float, call: Callable[[], object]) -> None:
        repeating = LoopingCall(call)
        repeating.clock = self._reactor
        self._repeating.append(repeating)
        repeating.start(seconds)

    def _on_signal(self, number: int, call: Any) -> None:
        signal.signal(number, lambda *_: self._reactor.callFromThread(call))

    def _broken(self, failure: Failure) -> None:
        if self._stopping:
            return
        _log.critical("consoled cannot start: {why}", why=failure.getErrorMessage())
        # twistd has no status for a service that fails after its start; without one systemd would take it for success.
        atexit.register(os._exit, 1)
        self._reactor.stop()

    # ------------------------------------------------------------------------------------------- reload

    def reload(self, by: User | None = None, confirm: tuple[str, ...] = ()) -> Deferred[Changes]:
        """Read the configuration again, and take up what is different; see `core.changes.Reload`."""
        return self._reloads.ask(by, confirm)

    async def _take_up(self, wish: Wish) -> Changes:
        """One reload; see `reloads.TakeUp`.  What can go wrong does so before anything is changed."""
        before, records = self._config, self._records
        try:
            file, restart, keeper = await self._ask(before, wish)
            config = whole(file, keeper)
            terms = Terms(config, self._standing, self._terms)
            plan = await self._fleet.plan_in_turns(config.consoles, file.names)
            made = self._reception.new_listeners(config)
            if config.audit != before.audit:
                records = self._make_records(config)
            await records.check()
            await self._reception.open(config, made)
        except (ConfigError, OSError, ValueError) as error:
            if records is not self._records:
                await records.close()
            raise NotReloaded(str(error)) from None

        # From here on in one turn of the reactor, so that nobody is let in by half of it.
        self._config, self._terms, self._plan = config, terms, plan
        self._file = file
        self._take_up_keeper(keeper)
        self._secrets.renew(terms.vault)
        old, self._records = self._records, records
        self._audit.renew(records)
        leaving = self._reception.renew(terms, made)
        forgetting = self._take_up_machines()
        self._reception.ask_everybody()

        if old is not records:
            Deferred.fromCoroutine(old.close())
        for warning in set(warnings(config)) - set(warnings(before)):
            _log.warn("{warning}", warning=warning)
        await forgetting
        await self._fleet.apply(plan, config.hub, config.transcript)
        self._budget()
        await leaving
        return Changes(
            added=plan.added,
            changed=plan.changed,
            removed=plan.removed,
            reconnected=plan.reconnected,
            settings=tables(config, before),
            restart=restart,
            held_back=tuple(state.name for state in keeper.states if state.held),
        )

    async def _ask(self, before: Config, wish: Wish) -> tuple[Config, tuple[str, ...], Keeper]:
        """The file and its sources, asked again if that is wished; and the keys that take a restart."""
        if not wish.anew:
            return self._file, (), self._keeper
        file, restart = settled(await self._in_thread(self._read), before)
        keeper: Keeper = await self._in_thread(self._make_keeper, file, self._keeper)
        for name in wish.confirm:
            keeper.confirm(name)
        await keeper.ask()
        return file, restart, keeper

    def _take_up_keeper(self, keeper: Keeper) -> None:
        if keeper is not self._keeper:
            self._keeper.stop()
            self._keeper = keeper
            keeper.start(self._reloads.sources_changed)

    # ------------------------------------------------------------------------------------------- stop

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        """Everything in its order, each with a limit: ten seconds in all."""
        self._stopping = True
        self._notifier.stopping()
        self._keeper.stop()
        for repeating in self._repeating:
            repeating.stop()
        if self._opening is not None:
            self._opening.cancel()
        self._reloads.stop()
        await super().stopService()  # type: ignore[no-untyped-call]
        closing = self._hub.close()
        await self._reception.close()
        await closing
        await self._fleet.close()
        await self._write_up()

    async def _write_up(self) -> None:
        """Let the audit and the records of input reach the disk."""
        closing = [Deferred.fromCoroutine(self._records.close()), *self._fleet.write_up()]
        try:
            await DeferredList(closing).addTimeout(LAST_WORDS, self._reactor)
        except TimeoutError:
            _log.error("the audit, or a record of input, could not be written to its end")


def whole(file: Config, keeper: Keeper) -> Config:
    """What the `file` says, complete with what its sources do."""
    config, complaints = complete(file, keeper.offers)
    for complaint in complaints[:SAID]:
        _log.warn("{complaint}", complaint=complaint)
    if len(complaints) > SAID:
        _log.warn("{count} more names of sources are left out, as others have them", count=len(complaints) - SAID)
    return config
