"""The daemon on one page: `twistd consoled`.

Reads the configuration, makes every part and hands each the others it needs; nobody else imports everything.
`twisted.plugins.consoled_plugin` names it to twistd.
"""

from __future__ import annotations

import atexit
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import txaio
from twisted.application.service import MultiService
from twisted.application.strports import service as listener
from twisted.cred.checkers import AllowAnonymousAccess, ICredentialsChecker
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from consoled import __version__
from consoled.api.csm import Csm
from consoled.api.session import Sessions
from consoled.api.site import make_site
from consoled.api.upgrade import Road
from consoled.auth.audit import Audit, to_log
from consoled.auth.gate import Gate
from consoled.auth.roles import ROLES
from consoled.auth.tenants import TenantTable
from consoled.auth.tokens import TokensFile
from consoled.backends.chronicle import Chronicle
from consoled.backends.link import Link
from consoled.backends.names import Names
from consoled.backends.reset import ResetCommand
from consoled.backends.settings import Surroundings
from consoled.backends.turns import Turns
from consoled.config import AnyConsole, Config, ConfigError, load
from consoled.core.console import Console
from consoled.core.hub import Hub
from consoled.core.seams import Backend
from consoled.descriptors import Doorman, raise_limit
from consoled.secrets.fetcher import Fetcher
from consoled.secrets.vault import KeyValueStore
from consoled.systemd import Notifier
from consoled.transcript.archive import Archive

REST = 60.0
"""Seconds between two looks at which consoles are silent."""
GOODBYE = 2.0
"""Seconds for the clients to answer their close frames when the daemon stops."""

_log = Logger()


class Options(usage.Options):
    """`twistd consoled`'s own command line."""

    optParameters = [["config", "c", "/etc/consoled/consoled.toml", "The configuration file."]]
    optFlags = [
        ["check", None, "Check the configuration, say what is wrong with it, and exit."],
        ["list", None, "With --check: list the consoles that it makes."],
    ]

    daemon: Daemon

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"consoled {__version__}")  # noqa: T201
        sys.exit(0)

    def postOptions(self) -> None:
        from twisted.internet import reactor

        path = Path(self["config"]).absolute()
        try:
            config = load(path)
        except ConfigError as error:
            raise usage.UsageError(str(error)) from None
        try:
            self.daemon = Daemon(config, reactor)
        except ValueError as error:
            raise usage.UsageError(f"{path}: {error}") from None
        if self["check"]:
            for row in self.daemon.consoles() if self["list"] else ():
                print("\t".join(row))  # noqa: T201
            print(f"{self['config']}: {len(config.consoles)} consoles, and nothing wrong")  # noqa: T201
            sys.exit(0)


def makeService(options: Options) -> MultiService:
    """The service that `options` describe."""
    return options.daemon


class Daemon(MultiService):
    """All parts of one consoled, and their order at start and stop."""

    def __init__(self, config: Config, reactor: Any) -> None:
        """Make everything, and touch nothing yet.  Raises `ValueError` that names the key of what cannot be made."""
        super().__init__()  # type: ignore[no-untyped-call]
        txaio.config.loop = reactor  # type: ignore[attr-defined]  # autobahn's timers
        self._config = config
        self._reactor = reactor
        self._turns = Turns(reactor, config.hub.max_dials, config.hub.max_dials_each_host)
        self._chronicle = Chronicle(reactor)
        around = Surroundings(reactor, self._secrets(), Path(config.hub.state))
        self._backends: dict[str, Backend] = {}
        for settings in config.consoles:
            with _naming(f"console {settings.name}"):
                if settings.enabled:
                    self._backends[settings.name] = settings.backend(around)
        self._archive: Archive | None = None
        self._opening: Deferred[None] | None = None
        self._hub = Hub(config.hub.max_clients)
        self._sessions = Sessions()
        self._audit = Audit(to_log(Logger(namespace="consoled.audit")), time.time)
        self._tokens: TokensFile | None = None
        self._notifier: Notifier | None = None
        self._repeating: list[LoopingCall] = []
        road = Road(self._sessions, reactor)
        gate = Gate(self._checkers(), ROLES, TenantTable(config.tenants), self._audit)
        self._csm = Csm(config.csm, self._hub, gate, self._audit, road, time.time, self._trouble)
        site = make_site([self._csm], reactor)
        for description in config.http.listen:
            with _naming(f"http.listen: {description}"):
                listener(description, Doorman(site)).setServiceParent(self)

    def consoles(self) -> Iterator[tuple[str, str, str]]:
        """Name, kind and address of each console."""
        for settings in self._config.consoles:
            backend = self._backends.get(settings.name)
            kind = settings.__struct_config__.tag
            yield settings.name, str(kind), "not held" if backend is None else backend.address

    def _checkers(self) -> list[ICredentialsChecker]:
        if self._config.auth is None:
            return [AllowAnonymousAccess()]
        with _naming("auth.tokens"):
            self._tokens = TokensFile(Path(self._config.auth.tokens), ROLES, self._reactor)
        return [self._tokens]

    def _secrets(self) -> Fetcher:
        in_thread = partial(deferToThreadPool, self._reactor, self._reactor.getThreadPool())
        vault = None
        if self._config.vault is not None:
            # Its own token is in no vault.
            token = Fetcher(self._reactor, in_thread, os.environ)
            with _naming("vault"):
                vault = KeyValueStore(self._config.vault, self._reactor, token, in_thread)
        return Fetcher(self._reactor, in_thread, os.environ, vault)

    def _trouble(self) -> str | None:
        """What is wrong with the daemon, for the health page."""
        troubles = [part.trouble for part in (self._archive, self._tokens) if part is not None and part.trouble]
        return "; ".join(troubles) or None

    # ------------------------------------------------------------------------------------------- start

    def privilegedStartService(self) -> None:
        try:
            super().privilegedStartService()  # type: ignore[no-untyped-call]
        except (CannotListenError, OverflowError) as error:
            _log.critical("consoled cannot start: {why}", why=error)
            sys.exit(1)

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._notifier = Notifier(os.environ)
        raise_limit(len(self._backends), self._config.hub.max_clients)
        self._reactor.installNameResolver(Names(self._reactor.callFromThread))
        if self._config.auth is None:
            _log.warn(
                "no [auth] is configured: whoever reaches {listen} may do everything",
                listen=", ".join(self._config.http.listen),
            )
        self._archive = archive = Archive.in_reactor(self._config.transcript, self._reactor)
        self._on_signal(signal.SIGUSR1, archive.reopen)
        self._on_signal(signal.SIGUSR2, self._hub.dial_now)
        self._opening = Deferred.fromCoroutine(self._open(archive)).addErrback(self._broken)

    async def _open(self, archive: Archive) -> None:
        await archive.start()
        held = [settings for settings in self._config.consoles if settings.enabled]
        making = [Deferred.fromCoroutine(self._console(archive, settings)) for settings in held]
        consoles = [await console for console in making]
        off = [settings.name for settings in self._config.consoles if not settings.enabled]
        self._hub.open({console.name: console for console in consoles}, off)
        _log.info(
            "consoled {version} holds {count} consoles and listens at {listen}",
            version=__version__,
            count=len(self._hub),
            listen=", ".join(self._config.http.listen),
        )
        self._repeat(REST, self._hub.rest)
        if self._notifier is not None:
            self._notifier.ready()
            if self._notifier.watchdog:
                self._repeat(self._notifier.watchdog / 2, self._notifier.alive)

    async def _console(self, archive: Archive, settings: AnyConsole) -> Console:
        """One console, complete with its transcript and its link."""
        console: Console
        transcript = await archive.open(settings.name, lambda count: console.lost(count), lambda: console.written())
        console = Console(
            settings.name,
            transcript,
            self._reactor,
            time.time,
            tag=self._config.hub.tag,
            on_demand=settings.on_demand,
            linger=settings.linger,
            ring=self._config.hub.ring,
            reset=ResetCommand(settings.reset_command, self._reactor) if settings.reset_command else None,
        )
        backend = self._backends[settings.name]
        console.link = Link(
            settings, backend, console, self._reactor, time.time, random.random, self._turns, self._chronicle
        )
        return console

    def _repeat(self, seconds: float, call: Callable[[], None]) -> None:
        repeating = LoopingCall(call)
        repeating.clock = self._reactor
        self._repeating.append(repeating)
        repeating.start(seconds)

    def _on_signal(self, number: int, call: Any) -> None:
        signal.signal(number, lambda *_: self._reactor.callFromThread(call))

    def _broken(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return  # asked to stop before it was open
        _log.critical("consoled cannot start: {why}", why=failure.getErrorMessage())
        # twistd has no status for a service that fails after its start; without one systemd would take it for success.
        atexit.register(os._exit, 1)
        self._reactor.stop()

    # ------------------------------------------------------------------------------------------- stop

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        """Everything in its order, each with a limit: ten seconds in all."""
        if self._notifier is not None:
            self._notifier.stopping()
        for repeating in self._repeating:
            repeating.stop()
        await super().stopService()  # type: ignore[no-untyped-call]
        if self._opening is not None:
            self._opening.cancel()
        closing = self._hub.close()
        await self._goodbye()
        await closing
        self._chronicle.close()
        if self._archive is not None:
            await self._archive.close()

    async def _goodbye(self) -> None:
        """Let the clients read up to their close frame and answer it; drop whoever does not."""
        deadline = self._reactor.seconds() + GOODBYE
        while self._sessions.sessions and self._reactor.seconds() < deadline:
            await deferLater(self._reactor, 0.02)
        self._sessions.abort()


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """What cannot be made is a `ValueError` that begins with the `key` it comes from."""
    try:
        yield
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{key}: {error}") from None
