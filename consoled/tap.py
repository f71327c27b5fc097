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
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import txaio
from twisted.application.service import MultiService
from twisted.cred.checkers import AllowAnonymousAccess, ICredentialsChecker
from twisted.internet.defer import CancelledError, Deferred, DeferredList, TimeoutError
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import FileLogObserver, Logger, textFileLogObserver
from twisted.python import usage
from twisted.python.failure import Failure
from twisted.web.server import Site

from consoled import __version__, fetch
from consoled.api.admission import Admission
from consoled.api.cloudapi import CloudApi, CloudApiSettings
from consoled.api.csm import Csm
from consoled.api.doors import Door, Doors
from consoled.api.meters import Meters
from consoled.api.metrics import Metrics
from consoled.api.native import Native
from consoled.api.origin import Origins
from consoled.api.patience import Patience
from consoled.api.proxies import Proxies
from consoled.api.session import Sessions
from consoled.api.site import Face, make_site
from consoled.api.upgrade import Road
from consoled.api.vigil import Vigil
from consoled.auth.accounts import Accounts, AccountsFile, Logins
from consoled.auth.audit import Audit
from consoled.auth.certificates import Certificates
from consoled.auth.gate import Gate
from consoled.auth.jwt_settings import JwtSettings
from consoled.auth.jwt_tokens import JwtTokens, make_keys
from consoled.auth.mahi import Mahi
from consoled.auth.roles import make_roles
from consoled.auth.signed_requests import SignedRequests
from consoled.auth.sinks import Records
from consoled.auth.tapms import TenantService
from consoled.auth.tenants import FirstTenants, Tenants, TenantTable
from consoled.auth.tickets import Tickets
from consoled.auth.tokens import TokensFile
from consoled.backends.chronicle import Chronicle
from consoled.backends.link import Link
from consoled.backends.names import Names
from consoled.backends.reset import ResetCommand
from consoled.backends.settings import ConsoleSettings, Surroundings
from consoled.backends.sluice import sluice
from consoled.backends.triton import Find, TritonBackend
from consoled.backends.turns import Turns
from consoled.config import Config, ConfigError, load, missing, warnings
from consoled.core.console import Console
from consoled.core.faults import NotOpen
from consoled.core.hub import Hub
from consoled.core.seams import Backend
from consoled.core.secret import Secrets
from consoled.descriptors import Doorman, raise_limit
from consoled.listening.contexts import LOOK, Contexts
from consoled.listening.listeners import is_proxied, listener, secured
from consoled.machines import SWEEP, Machines
from consoled.printable import PlainStream
from consoled.secrets.fetcher import Fetcher
from consoled.secrets.vault import KeyValueStore
from consoled.systemd import Notifier
from consoled.transcript.archive import Archive
from consoled.transcript.input_file import InputFile
from consoled.triton import Triton

REST = 60.0
"""Seconds between two looks at which consoles are silent."""
LAST_WORDS = 1.0
"""Seconds for the audit to reach the disk when the daemon stops."""
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
        if self["check"]:
            for complaint in missing(config):
                raise usage.UsageError(f"{path}: {complaint}")
        try:
            self.daemon = Daemon(config, reactor)
        except ValueError as error:
            raise usage.UsageError(f"{path}: {error}") from None
        if self["check"]:
            for row in self.daemon.consoles() if self["list"] else ():
                print("\t".join(row))  # noqa: T201
            print(f"{self['config']}: {len(config.consoles)} consoles, and nothing wrong")  # noqa: T201
            sys.exit(0)
        self._log_plainly()

    def _log_plainly(self) -> None:
        """Have nothing in the log that a terminal would obey, where it is twistd's own on standard output."""
        twistd: Any = self.parent or {}
        to_stdout = twistd.get("logfile") == "-" or (twistd.get("nodaemon") and not twistd.get("logfile"))
        if to_stdout and not (twistd.get("logger") or twistd.get("syslog")):
            twistd["logger"] = f"{__name__}.plain_log"


def plain_log() -> FileLogObserver:
    """What twistd makes itself, with `PlainStream` in between."""
    stream: Any = PlainStream(sys.stdout)
    return textFileLogObserver(stream)


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
        self._records = Records(
            config.audit, Logger(namespace="consoled.audit"), reactor, time.time, reactor.callFromThread
        )
        self._audit = Audit(self._records, time.time)
        secrets = self._secrets()
        around = Surroundings(reactor, secrets, Path(config.hub.state), self._audit.noted)
        self._backends: dict[str, Backend] = {}
        for settings in config.consoles:
            with _naming(f"console {settings.name}"):
                if settings.enabled:
                    self._backends[settings.name] = settings.backend(around)
        self._archive: Archive | None = None
        self._opening: Deferred[None] | None = None
        self._hub = Hub(config.hub.max_clients)
        self._inputs: list[InputFile] = []
        self._sessions = Sessions()
        self._tokens: TokensFile | None = None
        self._jwt: JwtTokens | None = None
        self._notifier: Notifier | None = None
        self._repeating: list[LoopingCall] = []
        road = Road(self._sessions, reactor)
        vigil = Vigil(reactor, random.random)
        self._tapms: TenantService | None = None
        self._accounts: Accounts | None = None
        self._machines: Machines | None = None
        if config.cloudapi is not None:
            with _naming("cloudapi"):
                self._accounts, self._machines = self._triton(config.cloudapi)
        roles = make_roles(config.role, config.groups, None if config.tapms else config.tenants)
        with _naming("http.trusted_proxies"):
            doors = Doors(config.limits, Proxies(config.http.trusted_proxies))
        with _naming("http.origins"):
            origins = Origins(config.http.origins, is_open=config.auth is None)
        self._contexts = Contexts(config.tls, time.time) if config.tls is not None else None
        tickets = Tickets(reactor, token_urlsafe, self._audit)
        portal = Gate(self._checkers(roles, tickets), roles, self._tenants(secrets), self._audit, time.time)
        gate = Patience(portal, config.limits, reactor, os.urandom(32))
        meters = Meters()
        self._csm = Csm(config.csm, self._hub, gate, self._audit, road, vigil, time.time, self._trouble, meters)
        admission = Admission(self._hub, gate, config.csm.hide_forbidden)
        faces: list[Face] = [self._csm, Native(admission, road, tickets), Metrics(meters, admission, road)]
        if config.cloudapi is not None and self._machines is not None:
            logins = Logins(self._accounts)
            parts = (self._hub, self._machines, logins, gate, self._audit, road, vigil, reactor, time.time, meters)
            faces.append(CloudApi(config.cloudapi, *parts))
        self._listen(make_site(faces, reactor, doors=doors, origins=origins), doors)

    def consoles(self) -> Iterator[tuple[str, str, str]]:
        """Name, kind and address of each console."""
        for settings in self._config.consoles:
            backend = self._backends.get(settings.name)
            kind = settings.__struct_config__.tag
            yield settings.name, str(kind), "not held" if backend is None else backend.address

    def _listen(self, site: Site, doors: Doors) -> None:
        """Make the listeners of `site`, in clear and with TLS."""
        places: list[tuple[str, str, Any]] = [("http.listen", one, site) for one in self._config.http.listen]
        if self._config.tls is not None and self._contexts is not None:
            tls = secured(site, self._contexts, self._reactor)
            places += [("tls.listen", one, tls) for one in self._config.tls.listen]
        for key, description, factory in places:
            with _naming(f"{key}: {description}"):
                door = Door(doors, factory, is_tls=factory is not site, is_proxied=is_proxied(description))
                backlog = self._config.limits.backlog
                listener(description, Doorman(door), backlog, self._reactor).setServiceParent(self)

    def _checkers(self, roles: Collection[str], tickets: Tickets) -> list[ICredentialsChecker]:
        if self._config.auth is None:
            return [AllowAnonymousAccess()]
        checkers: list[ICredentialsChecker] = [tickets]
        if self._config.auth.tokens:
            with _naming("auth.tokens"):
                self._tokens = TokensFile(Path(self._config.auth.tokens), roles, self._reactor)
            checkers.append(self._tokens)
        if self._config.auth.jwt:
            self._jwt = self._jwt_tokens(self._config.auth.jwt, roles)
            checkers.append(self._jwt)
        if self._config.auth.certificate and self._contexts is not None:
            checkers.append(Certificates(self._config.auth.certificate, roles, self._contexts.is_revoked))
        if self._config.cloudapi is not None and self._accounts is not None and self._machines is not None:
            role = self._config.cloudapi.role
            if role not in roles:
                raise ValueError(f"cloudapi.role: there is no role {role!r}")
            checkers.append(SignedRequests(self._accounts, role, self._machines.tags))
        return checkers

    def _jwt_tokens(self, issuers: Sequence[JwtSettings], roles: Collection[str]) -> JwtTokens:
        keys = []
        for at, settings in enumerate(issuers):
            with _naming(f"auth.jwt[{at}]"):
                keys.append(make_keys(settings, self._reactor))
        return JwtTokens(list(zip(issuers, keys, strict=True)), roles, time.time)

    def _tenants(self, secrets: Secrets) -> Tenants:
        sources: list[Tenants] = [TenantTable(self._config.tenants)]
        if self._machines is not None:
            sources.append(self._machines)
        settings = self._config.tapms
        if settings is not None:
            with _naming("tapms"):
                http = fetch.Fetcher(self._reactor, ca=settings.ca, fingerprint=settings.fingerprint)
            self._tapms = TenantService(settings, http, secrets, self._reactor)
            sources.append(self._tapms)
        return FirstTenants(sources)

    def _triton(self, settings: CloudApiSettings) -> tuple[Accounts | None, Machines]:
        """The accounts and the machines of the CloudAPI face."""
        http = fetch.Fetcher(self._reactor, ca=settings.ca)
        accounts: Accounts | None = None
        if settings.mahi:
            accounts = Mahi(http, settings.mahi, self._reactor)
        elif settings.accounts:
            accounts = AccountsFile(Path(settings.accounts), self._reactor)
        triton = Triton(http, settings.vmapi, settings.cnapi) if settings.vmapi else None
        return accounts, Machines(self._hub, self._config.consoles, triton, self._found, settings.linger)

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
        accounts = self._accounts if isinstance(self._accounts, AccountsFile) else None
        parts = (
            *(self._archive, self._records, *self._inputs, self._tokens, self._jwt, self._tapms, self._contexts),
            accounts,
        )
        return "; ".join(part.trouble for part in parts if part is not None and part.trouble) or None

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
        if self._config.tapms is not None and not self._config.tapms.is_private:
            _log.warn(
                "tapms.unsafe_plaintext: whoever sits between here and {url} may give any node to any tenant",
                url=self._config.tapms.url,
            )
        for warning in warnings(self._config):
            _log.warn("{warning}", warning=warning)
        if self._jwt is not None:
            self._jwt.start()
        if self._contexts is not None:
            self._repeat(LOOK, self._contexts.look)
        self._archive = archive = Archive.in_reactor(self._config.transcript, self._reactor, sluice.turn)
        self._on_signal(signal.SIGUSR1, self._reopen)
        self._on_signal(signal.SIGUSR2, self._hub.dial_now)
        self._opening = Deferred.fromCoroutine(self._open(archive)).addErrback(self._broken)

    async def _open(self, archive: Archive) -> None:
        await self._records.check()
        await archive.start()
        held = [settings for settings in self._config.consoles if settings.enabled]
        making = [
            Deferred.fromCoroutine(self._console(archive, settings, self._backends[settings.name])) for settings in held
        ]
        consoles = [await console for console in making]
        off = [settings.name for settings in self._config.consoles if not settings.enabled]
        self._hub.open({console.name: console for console in consoles}, off)
        _log.info(
            "consoled {version} holds {count} consoles and listens at {listen}",
            version=__version__,
            count=len(self._hub),
            listen=", ".join((*self._config.http.listen, *(self._config.tls.listen if self._config.tls else ()))),
        )
        self._repeat(REST, self._hub.rest)
        if self._machines is not None:
            self._repeat(SWEEP, self._machines.sweep)
        if self._notifier is not None:
            self._notifier.ready()
            if self._notifier.watchdog:
                self._repeat(self._notifier.watchdog / 2, self._notifier.alive)

    def _found(self, settings: ConsoleSettings, find: Find) -> Deferred[tuple[Console, TritonBackend]]:
        """The console of a machine that is found at `find`."""
        archive = self._archive
        if archive is None:
            raise NotOpen
        backend = TritonBackend(settings, find, self._reactor)
        making = Deferred.fromCoroutine(self._console(archive, settings, backend))
        return making.addCallback(lambda console: (console, backend))

    async def _console(self, archive: Archive, settings: ConsoleSettings, backend: Backend) -> Console:
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
            input_record=self._input_record(settings),
        )
        console.link = Link(
            settings, backend, console, self._reactor, time.time, random.random, self._turns, self._chronicle
        )
        return console

    def _input_record(self, settings: ConsoleSettings) -> InputFile | None:
        if not settings.record_input:
            return None
        directory = self._config.transcript.directory
        self._inputs.append(InputFile(settings.name, directory, time.time, self._reactor.callFromThread))
        return self._inputs[-1]

    def _reopen(self) -> None:
        """logrotate has moved the files."""
        for part in (self._archive, self._records, *self._inputs):
            if part is not None:
                part.reopen()

    def _repeat(self, seconds: float, call: Callable[[], object]) -> None:
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
        if self._jwt is not None:
            self._jwt.stop()
        closing = self._hub.close()
        await self._goodbye()
        await closing
        self._chronicle.close()
        if self._archive is not None:
            await self._archive.close()
        await self._write_up()

    async def _write_up(self) -> None:
        """Let the audit and the records of input reach the disk."""
        closing = [Deferred.fromCoroutine(self._records.close()), *(one.close() for one in self._inputs)]
        try:
            await DeferredList(closing).addTimeout(LAST_WORDS, self._reactor)
        except TimeoutError:
            _log.error("the audit, or a record of input, could not be written to its end")

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
