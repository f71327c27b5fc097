"""Kind `ipmi`: the console behind a BMC's Serial-over-LAN (IPMI 2.0, section 15), by way of a program that speaks it.

A dial is a short climb: find the program, fetch the secrets, and try the cipher suites in their order until one is
accepted.  A refused login is tried once more if the secret has changed meanwhile, and a session that somebody else
holds is taken from him only if `steal` says so.  Dialled by the link; `docs/ipmi.md` is for operators.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import Annotated, Any, Literal

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from consoled.backends.address import Address
from consoled.backends.ipmi_line import IpmiLine
from consoled.backends.ipmi_program import PROGRAMS, LoginRefused, NoSuite, Program, Session
from consoled.backends.process import ProcessBackend, ProcessLine, ProcessSettings
from consoled.backends.settings import ConsoleSettings, Surroundings
from consoled.core.seams import HeldElsewhere, Line, LineOwner, Refused
from consoled.core.secret import Secret, Secrets, SecretUnavailable

PORT = 623
"""RMCP's UDP port (DSP0136)."""
SUITES = (1, 2, 3, 6, 7, 8, 11, 12, 15, 16, 17)
"""The cipher suites that can be asked for.  Not 0: it has no authentication."""
_ELSEWHERE = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where Debian puts ipmiconsole, which is not on everybody's PATH."""
_TO_THE_END = 'trap "" HUP INT TERM; exec "$@"'
"""A program that a signal ends leaves its session behind, and the BMC then refuses the next one for a minute.  Taking
its terminal away lets it sign off first; so it does that, too, when the daemon is killed.  SIGKILL remains."""
_WORKAROUND = re.compile(r"[a-z0-9]+")

_log = Logger()


class IpmiSettings(ConsoleSettings, frozen=True, kw_only=True, tag="ipmi"):
    """A BMC with Serial-over-LAN."""

    address: str
    """`"host"` or `"host:port"`; the port is 623 if none is given."""
    user: str = ""
    """The BMC's user; 1 to 16 bytes."""
    user_from: Secret | None = None
    """Where that name is kept beside the password; then `user` is not used."""
    password: Secret
    """The user's password."""
    k_g: Secret | None = None
    """The BMC's key, if it has one; text, or `0x` and hexadecimal digits."""
    cipher_suites: Annotated[tuple[int, ...], msgspec.Meta(min_length=1)] = (17, 3)
    """Tried in this order until the BMC accepts one, and never any other."""
    privilege: Literal["user", "operator", "admin"] = "admin"
    """What to ask for; many BMCs let no lower one have the console."""
    workarounds: tuple[str, ...] = ()
    """`ipmiconsole`'s workaround flags (its manual page lists them), or one of `ipmitool`'s OEM types."""
    program: Literal["auto", "ipmiconsole", "ipmitool"] = "auto"
    """`auto`: the first of the two that is installed."""
    steal: bool = False
    """End the session that somebody else holds."""

    def __post_init__(self) -> None:
        port = _address(self.address).port
        if self.program != "auto" and port > (highest := PROGRAMS[self.program].highest_port):
            raise ValueError(f"address: {self.program} cannot be told a port above {highest}")
        if self.user_from is None and not _is_user(self.user):
            raise ValueError("user: must have 1 to 16 bytes, and no NUL character")
        for suite in self.cipher_suites:
            if suite not in SUITES:
                raise ValueError(f"cipher_suites: {suite} is none of {', '.join(map(str, SUITES))}")
        for name in self.workarounds:
            if not _WORKAROUND.fullmatch(name):
                raise ValueError(f"workarounds: {name!r} is not a name of small letters and digits")
        if self.program == "ipmitool" and len(self.workarounds) > 1:
            raise ValueError("workarounds: ipmitool takes one")

    def backend(self, around: Surroundings) -> IpmiBackend:
        return IpmiBackend(self, around.reactor, around.secrets)


class IpmiBackend:
    """Dials a BMC."""

    def __init__(self, settings: IpmiSettings, reactor: Any, secrets: Secrets) -> None:
        self._settings = settings
        self._reactor = reactor
        self._secrets = secrets
        self._at = _address(settings.address)
        self.address = f"<{self._at}>"
        self.host = self._at.host

    def dial(self, owner: LineOwner) -> Deferred[Line]:
        return Deferred.fromCoroutine(self._dial(owner))

    async def _dial(self, owner: LineOwner) -> Line:
        program, path = _find(self._settings.program, self._at.port)
        login = await self._login(program, fresh=False)
        try:
            return await self._climb(owner, program, path, *login)
        except LoginRefused:
            try:
                newer = await self._login(program, fresh=True)
            except SecretUnavailable:
                newer = login
            if newer == login:
                raise
            return await self._climb(owner, program, path, *newer)

    async def _login(self, program: Program, fresh: bool) -> tuple[str, list[tuple[bytes, bytes]]]:
        """The user; the program's prompts, and what to answer."""
        user = self._settings.user
        if self._settings.user_from is not None:
            user = await self._secrets.fetch(self._settings.user_from, fresh)
            if not _is_user(user):
                raise Refused("the user's name has more than 16 bytes, or a NUL character in it")
        password: str = await self._secrets.fetch(self._settings.password, fresh)
        answers = [(program.password_prompt, _answer("password", password.encode()))]
        if self._settings.k_g is not None:
            k_g: str = await self._secrets.fetch(self._settings.k_g, fresh)
            _answer("k_g", k_g.encode())
            answers.append((program.k_g_prompt, program.k_g_answer(k_g.encode()) + b"\n"))
        return user, answers

    async def _climb(
        self, owner: LineOwner, program: Program, path: str, user: str, answers: list[tuple[bytes, bytes]]
    ) -> Line:
        """Try one suite after the other."""
        settings = self._settings
        for suite in settings.cipher_suites:
            session = Session(
                self._at,
                user,
                suite,
                settings.privilege,
                settings.workarounds,
                settings.steal,
                settings.k_g is not None,
                3 * settings.keepalive,
            )
            try:
                line = await self._take(owner, program, path, session, answers)
            except NoSuite as error:
                _log.debug("console {name}: suite {suite}: {why}", name=settings.name, suite=suite, why=error)
                last = error
                continue
            if suite != settings.cipher_suites[0]:
                _log.warn(
                    "console {name}: the BMC takes no better cipher suite than {suite}", name=settings.name, suite=suite
                )
            return line
        tried = ", ".join(map(str, settings.cipher_suites))
        raise ConnectionError(f"{last} (cipher suites tried: {tried})")

    async def _take(
        self, owner: LineOwner, program: Program, path: str, session: Session, answers: list[tuple[bytes, bytes]]
    ) -> Line:
        """Get the session, from somebody else if need be and allowed."""
        try:
            return await self._run(owner, program, [path, *program.activate(session)], answers)
        except HeldElsewhere:
            if not session.steal or program.deactivate is None:
                raise
        try:
            await self._run(owner, program, [path, *program.deactivate(session)], answers)
        except ConnectionError:
            pass  # it ends without a banner in any case: the next attempt shows whether it helped
        return await self._run(owner, program, [path, *program.activate(session)], answers)

    async def _run(
        self, owner: LineOwner, program: Program, command: list[str], answers: list[tuple[bytes, bytes]]
    ) -> Line:
        line = IpmiLine(owner, program, answers, self._reactor)
        process = ProcessSettings(
            name=self._settings.name,
            command=("/bin/sh", "-c", _TO_THE_END, "sh", *command),
            environment={"LC_ALL": "C"},
        )
        running = await ProcessBackend(process, self._reactor, self._reactor).dial(line)
        assert isinstance(running, ProcessLine)
        line.begin(running)
        return await line.up


def _address(text: str) -> Address:
    return Address.parse(text if ":" in text and not text.endswith("]") else f"{text}:{PORT}")


def _is_user(name: str) -> bool:
    return 0 < len(name.encode()) <= 16 and "\0" not in name


def _find(wanted: str, port: int) -> tuple[Program, str]:
    """The program and its path.  Raises `ConnectionError` that names the package."""
    programs = [
        program for program in PROGRAMS.values() if wanted in ("auto", program.name) and port <= program.highest_port
    ]
    for program in programs:
        path = shutil.which(program.name, path=f"{os.environ.get('PATH', os.defpath)}:{_ELSEWHERE}")
        if path:
            return program, path
    missing = " or ".join(f"{program.name} (package {program.package})" for program in programs)
    raise ConnectionError(f"not found on the PATH: {missing}")


def _answer(what: str, secret: bytes) -> bytes:
    if b"\n" in secret or b"\0" in secret:
        raise Refused(f"the {what} has a line end or a NUL character in it")
    return secret + b"\n"
