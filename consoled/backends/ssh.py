"""The kind `ssh`: a BMC or a terminal server that gives a console after an SSH login.

A dial fetches the secrets, reads the keys, connects, checks the server's key, logs in, and opens a session; it fires
when the shell, the command or the subsystem runs.  A login that is refused is tried once more, over a new connection,
if fetching the secrets afresh brings others.  Made by `tap` from `SshSettings`, dialled by the link.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from consoled.backends.address import Address
from consoled.backends.settings import ConsoleSettings, Surroundings
from consoled.backends.ssh_algorithms import AlgorithmSettings
from consoled.backends.ssh_hosts import HostCheck, HostKeyChanged, check_fingerprint, hosts_file
from consoled.backends.ssh_identities import Identity, KeyUnusable, connect_agent, read_key, read_key_file
from consoled.backends.ssh_line import Manner, SshLine
from consoled.backends.ssh_login import Credentials, LoginRefused
from consoled.backends.ssh_session import Request
from consoled.backends.tcp import endpoint
from consoled.core.seams import Backend, Line, LineOwner
from consoled.core.secret import Secret, SecretUnavailable
from consoled.units import FilePath

HOSTS = "known_hosts"
"""The file in the state directory with the keys that were trusted on first use."""

Cells = Annotated[int, msgspec.Meta(ge=1, le=65535)]
T = TypeVar("T")

_log = Logger()


class SshSettings(ConsoleSettings, frozen=True, kw_only=True, tag="ssh"):
    """A console behind an SSH server: a shell, unless a command or a subsystem is named."""

    address: str
    """`"host"` or `"host:port"`; the name is resolved at each dial, both address families are tried."""
    user: str = ""
    """Whom to log in as."""
    user_from: Secret | None = None
    """Where that name is kept beside the password; then `user` is not used."""
    password: Secret | None = None
    """Sent by the method `password`, or as the answer to a question for it (`keyboard-interactive`)."""
    key: Secret | None = None
    """A private key."""
    key_files: tuple[FilePath, ...] = ()
    """Files with a private key each, in OpenSSH's form or in PEM."""
    passphrase: Secret | None = None
    """For those private keys that are encrypted."""
    agent: bool = False
    """Use the keys of the ssh-agent that `SSH_AUTH_SOCK` names in the daemon's environment."""

    known_hosts: tuple[FilePath, ...] = ()
    """Files in which the server's key must be."""
    fingerprint: str | tuple[str, ...] = ()
    """`"SHA256:..."`: the server's key itself; then nothing else is asked."""
    trust_on_first_use: bool = False
    """Take the first key that a server shows for its own, keep it, and insist on it from then on."""

    command: str = ""
    """Run this rather than a shell."""
    subsystem: str = ""
    """Start this rather than a shell."""
    pty: bool | None = None
    """Whether to ask for a terminal at the far end; if nothing is said, for a shell only."""
    terminal: str = "vt100"
    """The terminal's type, `TERM` at the far end."""
    rows: Cells = 24
    """The terminal's height."""
    columns: Cells = 80
    """The terminal's width."""

    keepalive_request: bool = True
    """Probe the server by SSH requests.  False: by TCP only, for one that leaves such requests unanswered."""
    break_sequence: str = ""
    r"""What to send for a break instead of RFC 4335's request, a character for each byte: `"~B"`, `"\u001bB"`."""
    algorithms: AlgorithmSettings = AlgorithmSettings()
    """Which algorithms may be used."""

    def __post_init__(self) -> None:
        _at(self.address)
        if not (self.user or self.user_from):
            raise ValueError("user: is empty")
        if self.command and self.subsystem:
            raise ValueError('"command" and "subsystem" contradict one another')
        if any(character > "\xff" for character in self.break_sequence):
            raise ValueError("break_sequence: a character above \\u00ff is not a byte")
        if self.key is not None and self.key.literal and "PRIVATE KEY" not in self.key.literal:
            raise ValueError("key: a text is the key itself; name files in key_files")
        for one in self.fingerprints:
            check_fingerprint(one)
        if self.fingerprints and (self.known_hosts or self.trust_on_first_use):
            raise ValueError('"known_hosts" and "trust_on_first_use" are not asked with "fingerprint"')
        if not (self.fingerprints or self.known_hosts or self.trust_on_first_use):
            raise ValueError(
                'nothing says how to know the server: give its "fingerprint", "known_hosts" files, or '
                "trust_on_first_use = true"
            )

    @property
    def fingerprints(self) -> tuple[str, ...]:
        return (self.fingerprint,) if isinstance(self.fingerprint, str) else self.fingerprint

    def backend(self, around: Surroundings) -> Backend:
        return SshBackend(self, around)


@dataclass(frozen=True, slots=True)
class _Secrets:
    """The secrets' values at one time."""

    user: str | None
    password: str | None = field(repr=False)
    key: str | None = field(repr=False)
    passphrase: str | None = field(repr=False)


class SshBackend:
    """Dials an SSH server."""

    def __init__(self, settings: SshSettings, around: Surroundings) -> None:
        self._settings = settings
        self._around = around
        self._at = _at(settings.address)
        self.address = f"<{self._at}>"
        self.host = self._at.host
        self._algorithms = settings.algorithms.chosen()
        self._host = HostCheck(
            self._at,
            settings.fingerprints,
            [hosts_file(Path(path)) for path in settings.known_hosts],
            hosts_file(around.state / HOSTS, ours=True) if settings.trust_on_first_use else None,
            lambda key: around.noted("key-accepted", console=settings.name, key=key, address=str(self._at)),
        )
        self._alarmed = ""
        kind, what = "shell", ""
        if settings.command:
            kind, what = "exec", settings.command
        elif settings.subsystem:
            kind, what = "subsystem", settings.subsystem
        pty = kind == "shell" if settings.pty is None else settings.pty
        self._request = Request(kind, what, settings.terminal if pty else "", settings.rows, settings.columns)
        sequence = settings.break_sequence.encode("latin-1")
        self._manner = Manner(settings.keepalive, settings.keepalive_request, sequence)

    def dial(self, owner: LineOwner) -> Deferred[Line]:
        return Deferred.fromCoroutine(self._dial(owner))

    async def _dial(self, owner: LineOwner) -> Line:
        secrets = await self._fetch(fresh=False)
        try:
            return await self._connect(owner, secrets)
        except LoginRefused as refusal:
            try:
                others = await self._fetch(fresh=True)
            except SecretUnavailable as error:
                raise LoginRefused(f"{refusal}; and fetching the secret afresh failed: {error}") from None
            if others == secrets:
                raise
        return await self._connect(owner, others)

    async def _fetch(self, fresh: bool) -> _Secrets:
        async def value(secret: Secret | None) -> str | None:
            return None if secret is None else str(await self._around.secrets.fetch(secret, fresh))

        settings = self._settings
        wanted = settings.user_from, settings.password, settings.key, settings.passphrase
        return _Secrets(*[await value(secret) for secret in wanted])

    async def _connect(self, owner: LineOwner, secrets: _Secrets) -> Line:
        settings, reactor = self._settings, self._around.reactor
        identities = await self._in_thread(lambda: self._read(secrets))
        agent = None
        try:
            if settings.agent:
                try:
                    agent = await connect_agent(reactor, _agent_socket())
                    identities += await agent.identities()
                except Exception as error:
                    raise ConnectionError(f"agent: {error}") from error
            sha1 = "ssh-rsa" in self._algorithms.hostkey
            credentials = Credentials(secrets.user or settings.user, secrets.password, tuple(identities), sha1)
            line = SshLine(
                settings.name,
                owner,
                credentials,
                self._host,
                self._algorithms,
                self._request,
                self._manner,
                reactor,
            )
            dialed = await line.dial(endpoint(reactor, self._at))
        except HostKeyChanged as error:
            self._alarm(str(error))
            raise
        finally:
            if agent is not None:
                agent.close()
        self._alarmed = ""
        return dialed

    def _read(self, secrets: _Secrets) -> list[Identity]:
        """Runs in a thread: files may be slow, and an encrypted key takes its time.  Raises `ConnectionError`."""
        self._host.refresh()
        try:
            identities: list[Identity] = [read_key_file(path, secrets.passphrase) for path in self._settings.key_files]
            if secrets.key is not None:
                identities.append(read_key(secrets.key.encode(), secrets.passphrase, f"key ({self._settings.key})"))
        except KeyUnusable as error:
            raise ConnectionError(str(error)) from None
        return identities

    def _in_thread(self, call: Callable[[], T]) -> Deferred[T]:
        reactor = self._around.reactor
        return deferToThreadPool(reactor, reactor.getThreadPool(), call)

    def _alarm(self, text: str) -> None:
        """Once for each new key, not at each dial."""
        if text != self._alarmed:
            self._alarmed = text
            _log.critical("console {name}: HOST KEY: {text}", name=self._settings.name, text=text)


def _at(text: str) -> Address:
    return Address.parse(f"{text}:22" if text.endswith("]") or ":" not in text else text)


def _agent_socket() -> str:
    path = os.environ.get("SSH_AUTH_SOCK")
    if not path:
        raise ConnectionError("SSH_AUTH_SOCK is not in the daemon's environment")
    return path
