"""The login: SSH's authentication protocol (RFC 4252, RFC 4256), with the keys first and then the password.

`ssh_transport` starts it once the server's key is accepted and everything is encrypted; it ends with the next service
or with `LoginRefused`.  Conch's own client is not used: it signs with SHA-1 for RSA, and asks again for ever what was
refused.  Here each key is shown once and the password is sent once, since BMCs lock accounts.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.service import SSHService
from twisted.conch.ssh.userauth import (
    MSG_USERAUTH_BANNER,
    MSG_USERAUTH_FAILURE,
    MSG_USERAUTH_INFO_REQUEST,
    MSG_USERAUTH_INFO_RESPONSE,
    MSG_USERAUTH_REQUEST,
    MSG_USERAUTH_SUCCESS,
)
from twisted.logger import Logger, LogPublisher

from consoled.backends.ssh_hosts import fingerprint, kind_of
from consoled.backends.ssh_identities import Identity, signature_algorithms
from consoled.core.seams import Refused

EMPTY_ROUNDS = 3
"""Questions without a question in it that are answered: PAM likes to send one at the end."""

QUIET = Logger(namespace="consoled.backends.ssh", observer=LogPublisher())
"""Where conch's own log lines go: nowhere.  There are a dozen for each connection, some quote what the peer sent, and
whatever matters in them becomes the reason of a failed dial or a lost line."""


class LoginRefused(Refused):
    """The server knows the user not, or not with these credentials."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What we can show."""

    user: str
    password: str | None = field(default=None, repr=False)
    identities: tuple[Identity, ...] = field(default=(), repr=False)
    sha1: bool = False
    """Whether an RSA key may sign with SHA-1."""


def said(text: bytes) -> str:
    """What a peer says, made fit for a log: one line of at most 200 printable characters."""
    return "".join(one if one.isprintable() else " " for one in text[:800].decode("utf-8", "replace"))[:200].strip()


class Login(SSHService):
    """One login."""

    name = b"ssh-userauth"
    transport: Any

    def __init__(self, credentials: Credentials, then: SSHService, fail: Callable[[Exception], None]) -> None:
        """`then` is the service to start afterwards; `fail` ends the connection."""
        self._user = credentials.user
        self._keys = list(credentials.identities)
        self._password = credentials.password
        self._sha1 = credentials.sha1
        self._then = then
        self._fail = fail
        self._ways: list[str] | None = None
        """The signature algorithms that the first of the keys can still try."""
        self._method = b"none"
        self._rounds = 0
        self._tried: list[str] = []
        self._over = False

    # The transport calls these.

    def serviceStarted(self) -> None:
        self._ask(b"none")  # tells which methods there are

    def serviceStopped(self) -> None:
        self._over = True
        self._keys, self._password = [], None

    def packetReceived(self, messageNum: int, packet: bytes) -> None:
        if messageNum == MSG_USERAUTH_SUCCESS:
            self.transport.setService(self._then)
        elif messageNum == MSG_USERAUTH_FAILURE:
            methods, rest = getNS(packet)
            self._go_on(methods.split(b","), partly=rest[:1] not in (b"", b"\0"))
        elif messageNum == MSG_USERAUTH_INFO_REQUEST and self._method == b"keyboard-interactive":
            self._answer(packet)
        elif messageNum == MSG_USERAUTH_INFO_REQUEST and self._method == b"password":
            self._refused("the server wants a new password: this one has expired")
        elif messageNum != MSG_USERAUTH_BANNER:
            self.transport.sendUnimplemented()

    def hung_up(self, why: str) -> Exception | None:
        """The connection ended during the login: what to make of it, if anything was refused before."""
        if not self._tried or self._over:
            return None
        return LoginRefused(f"login as {self._user!r} refused: {why}, after {', '.join(self._tried)}")

    # One method after the other.

    def _go_on(self, methods: list[bytes], partly: bool) -> None:
        """The last request was refused, or was not enough (`partly`): the server takes `methods` now."""
        if partly:
            self._tried.append("(accepted, but more is wanted)")
            if self._method == b"publickey":
                self._keys.pop(0)
                self._ways = None
        if b"publickey" in methods:
            while self._keys:
                if self._ways is None:
                    blob = self._keys[0].blob
                    self._ways = signature_algorithms(blob, self._accepted(), self._sha1)
                    useless = "" if self._ways else " (which can sign in no way that the server takes)"
                    self._tried.append(f"{kind_of(blob)} {fingerprint(blob)}{useless}")
                if self._ways:
                    self._sign(self._keys[0], self._ways.pop(0))
                    return
                self._keys.pop(0)
                self._ways = None
        # The same password by two methods would be two strikes against the account.
        if self._password is not None and b"password" in methods:
            password, self._password = self._password, None
            self._tried.append("password")
            self._ask(b"password", b"\0" + NS(password))
        elif self._password is not None and b"keyboard-interactive" in methods:
            self._tried.append("keyboard-interactive")
            self._ask(b"keyboard-interactive", NS(b"") + NS(b""))
        else:
            takes = said(b", ".join(methods)) or "nothing"
            self._refused(f"the server takes {takes}; tried: {', '.join(self._tried) or 'nothing that we have'}")

    def _accepted(self) -> list[str] | None:
        algorithms = self.transport.peerExtensions.get(b"server-sig-algs")
        return algorithms.decode("ascii", "replace").split(",") if algorithms is not None else None

    def _ask(self, method: bytes, more: bytes = b"") -> None:
        self._method = method
        self.transport.sendPacket(MSG_USERAUTH_REQUEST, self._header(method) + more)

    def _header(self, method: bytes) -> bytes:
        return NS(self._user) + NS(self._then.name) + NS(method)

    def _refused(self, why: str) -> None:
        self._fail(LoginRefused(f"login as {self._user!r} refused: {why}"))

    # Public keys (RFC 4252, section 7): signed at once, without asking first whether the key would do.

    def _sign(self, identity: Identity, algorithm: str) -> None:
        more = b"\1" + NS(algorithm) + NS(identity.blob)
        message = NS(self.transport.sessionID) + bytes([MSG_USERAUTH_REQUEST]) + self._header(b"publickey") + more

        def signed(signature: bytes) -> None:
            self._ask(b"publickey", more + NS(signature))

        def failed(_: object) -> None:
            self._tried.append("(which could not sign)")
            self._ask(b"none")

        identity.sign(message, algorithm).addCallbacks(signed, failed)

    # Questions (RFC 4256): one that asks for the password is answered, once.

    def _answer(self, packet: bytes) -> None:
        *_, rest = getNS(packet, 3)
        (count,) = struct.unpack(">L", rest[:4])
        if count == 0 and self._rounds < EMPTY_ROUNDS:
            self._rounds += 1
            self.transport.sendPacket(MSG_USERAUTH_INFO_RESPONSE, struct.pack(">L", 0))
            return
        prompt, echo = getNS(rest[4:])
        password, self._password = self._password, None
        if count != 1 or echo[:1] != b"\0" or password is None or not re.search(rb"(?i)pass", prompt):
            self._refused(f"the server asks {said(prompt)!r}, to which we have no answer")
            return
        self.transport.sendPacket(MSG_USERAUTH_INFO_RESPONSE, struct.pack(">L", 1) + NS(password))
