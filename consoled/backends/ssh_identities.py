# mypy: disallow-untyped-calls=False
# (Much of conch has no annotations.)

"""Our side's keys: read from files and secrets, or left in an agent that signs for us.

`ssh` gathers the identities before it dials, `ssh_login` shows them to the server one after another.  A private key
never leaves this room: others see its public half, and ask for signatures.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key
from twisted.conch.ssh.agent import AGENT_SIGN_RESPONSE, AGENTC_SIGN_REQUEST, SSHAgentClient
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.keys import Key
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure

from consoled.backends.ssh_hosts import kind_of

MOST_FROM_AGENT = 1 << 20
"""Bytes of one answer of an agent, beyond which it is none."""

_FLAGS = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}
"""How an agent is asked for them: the flags of a signing request (OpenSSH's PROTOCOL.agent)."""

_parsing = Lock()


class Identity(Protocol):
    """A key that we can log in with."""

    @property
    def blob(self) -> bytes:
        """The public half (RFC 4253, section 6.6)."""

    def sign(self, data: bytes, algorithm: str) -> Deferred[bytes]:
        """`data`'s signature, complete with its type.  Fails with any exception."""


class KeyUnusable(Exception):
    """A private key cannot be read; the text says which one and why, and shows nothing of it."""


class OwnKey:
    """A private key in our memory."""

    def __init__(self, key: Key) -> None:
        self._key = key
        self.blob: bytes = key.blob()

    def sign(self, data: bytes, algorithm: str) -> Deferred[bytes]:
        return succeed(self._key.sign(data, algorithm.encode()))


def read_key(text: bytes, passphrase: str | None, source: str) -> OwnKey:
    """The private key in `text`, in OpenSSH's form or in PEM (PKCS#1, SEC1, PKCS#8).  Raises `KeyUnusable`.

    `source` names it for people.  `passphrase` only counts if the key is encrypted.  Takes some tenths of a second
    for an encrypted key: call it in a thread.  Keys are kept, so that a fleet with one key pays once.
    """
    try:
        with _parsing:
            return _parse(text.strip() + b"\n", passphrase.encode() if passphrase else None)
    except TypeError:  # cryptography's way to say so
        raise KeyUnusable(f"{source} is encrypted, and there is no passphrase for it") from None
    except (ValueError, UnsupportedAlgorithm, RuntimeError):  # whose texts may quote the key
        cause = " with this passphrase" if passphrase else ""
        raise KeyUnusable(f"{source} cannot be read as a private key{cause}") from None


def read_key_file(path: str, passphrase: str | None) -> OwnKey:
    """The private key in a file.  Raises `KeyUnusable`."""
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise KeyUnusable(f"{path}: {error.strerror}") from None
    return read_key(text, passphrase, path)


@lru_cache(maxsize=64)
def _parse(text: bytes, passphrase: bytes | None) -> OwnKey:
    load: Any = load_ssh_private_key if b"BEGIN OPENSSH PRIVATE KEY" in text else load_pem_private_key
    try:
        key = load(text, passphrase)
    except TypeError:
        key = load(text, None)  # a passphrase for a key that is not encrypted
    return OwnKey(Key(key))


# ------------------------------------------------------------------------------------------------------- the agent


class Agent(SSHAgentClient):
    """A connection to an ssh-agent."""

    transport: Any

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # conch would leave those who wait for an answer waiting.
        waiting, self.deferreds = self.deferreds, []
        for deferred in waiting:
            deferred.errback(ConnectError(string="the agent hung up"))

    def dataReceived(self, data: bytes) -> None:
        try:
            super().dataReceived(data)
        except Exception:
            self.close()
        if len(self.buf) > MOST_FROM_AGENT:
            self.close()

    def identities(self) -> Deferred[list[Identity]]:
        """The keys that it holds."""

        def wrapped(found: list[tuple[bytes, bytes]]) -> list[Identity]:
            return [AgentKey(self, blob) for blob, _ in found]

        answer: Deferred[Any] = self.requestIdentities()
        return answer.addCallback(wrapped)

    def sign(self, blob: bytes, data: bytes, flags: int) -> Deferred[bytes]:
        """A signature by `blob`'s private half.  conch's own `signData` can ask for no flags, hence for SHA-1 only."""

        def unpacked(answer: bytes) -> bytes:
            if answer[:1] != bytes([AGENT_SIGN_RESPONSE]):
                raise ValueError("the agent answered something else")
            return bytes(getNS(answer[1:])[0])

        answer: Deferred[Any] = self.sendRequest(AGENTC_SIGN_REQUEST, NS(blob) + NS(data) + struct.pack(">L", flags))
        return answer.addCallback(unpacked)

    def close(self) -> None:
        self.transport.abortConnection()


class AgentKey:
    """A private key in an agent's memory."""

    def __init__(self, agent: Agent, blob: bytes) -> None:
        self._agent = agent
        self.blob = blob

    def sign(self, data: bytes, algorithm: str) -> Deferred[bytes]:
        return self._agent.sign(self.blob, data, _FLAGS.get(algorithm, 0))


def connect_agent(reactor: Any, socket: str) -> Deferred[Agent]:
    """A connection to the agent at `socket` (a path)."""
    factory = Factory.forProtocol(Agent)
    factory.noisy = False
    connecting: Deferred[Any] = UNIXClientEndpoint(reactor, socket, timeout=None).connect(factory)
    return connecting


def signature_algorithms(blob: bytes, accepted: list[str] | None, sha1: bool) -> list[str]:
    """How the key `blob` may sign, best first (RFC 8332).

    `accepted` is what the server says it takes (`server-sig-algs`, RFC 8308), None if it says nothing; `sha1` allows
    RSA's first way of signing.
    """
    kind = kind_of(blob)
    if kind != "ssh-rsa":
        return [kind]
    possible = ["rsa-sha2-512", "rsa-sha2-256", *(["ssh-rsa"] if sha1 else [])]
    return possible if accepted is None else [one for one in possible if one in accepted]
