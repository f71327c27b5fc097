"""An SSH server in memory, on conch's server side, and a `World` that carries the bytes between it and our side.

The server does what the test says: which logins it takes, what it answers to each request, and when it says nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from twisted.conch.error import ConchError
from twisted.conch.ssh.channel import SSHChannel
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.connection import SSHConnection
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.service import SSHService
from twisted.conch.ssh.transport import SSHServerTransport
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.testing import StringTransport
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure

from consoled.backends.settings import Surroundings
from consoled.backends.ssh import SshSettings
from consoled.core.secret import Secret, SecretUnavailable
from tests.backends.stream_fakes import Dial, Network, Wire

SILENT = Logger(observer=LogPublisher())


def key(kind: str, which: int = 0) -> Key:
    """A private key; `which` makes different ones."""
    return _made(kind, which)


@cache
def _made(kind: str, which: int) -> Key:
    if kind == "rsa":
        return Key(rsa.generate_private_key(65537, 2048))
    if kind == "ecdsa":
        return Key(ec.generate_private_key(ec.SECP256R1()))
    return Key(ed25519.Ed25519PrivateKey.generate())


class Auth(SSHService):
    """The server's side of the login."""

    name = b"ssh-userauth"
    _log = SILENT

    def packetReceived(self, messageNum: int, packet: bytes) -> None:
        server = self.transport.server
        if messageNum == 61:
            assert packet[:4] == struct.pack(">L", server.questions.pop(0)[1])
            if packet[4:]:
                server.answer = getNS(packet[4:])[0]
            if server.questions:
                self.ask()
            else:
                self.decide(b"keyboard-interactive", server.answer)
            return
        assert messageNum == 50
        user, service, method, rest = getNS(packet, 3)
        assert service == b"ssh-connection"
        server.user = user
        if method == b"none":
            server.asked.append(("none",))
            self.reply("none" in server.takes)
        elif method == b"password":
            self.decide(method, getNS(rest[1:])[0])
        elif method == b"keyboard-interactive":
            self.ask()
        else:
            algorithm, blob, rest = getNS(rest[1:], 2)
            signed = NS(self.transport.sessionID) + b"\x32" + packet[: -len(rest)]
            public = Key.fromString(blob)
            signature = getNS(rest)[0]
            assert getNS(signature)[0] == algorithm
            good = algorithm in server.sig_algs and public.verify(signature, signed)
            server.asked.append(("publickey", algorithm.decode(), good))
            self.reply(good and blob in server.keys, "publickey" in server.partial)

    def ask(self) -> None:
        text, _ = self.transport.server.questions[0]
        prompts = b"".join(NS(one) + bytes([echo]) for one, echo in text)
        self.transport.sendPacket(60, NS("") + NS("") + NS("") + struct.pack(">L", len(text)) + prompts)

    def decide(self, method: bytes, password: bytes) -> None:
        server = self.transport.server
        server.asked.append((method.decode(), password.decode()))
        if server.expired:
            self.transport.sendPacket(60, NS("change it") + NS(""))
            return
        self.reply(password.decode() in server.passwords)

    def reply(self, good: bool, partial: bool = False) -> None:
        server = self.transport.server
        if server.strikes and not good:
            server.strikes -= 1
            if server.strikes == 0:
                server.strikes_out(self.transport)
                return
        if good and not partial:
            self.transport.sendPacket(53, NS("welcome") + NS(""))
            self.transport.sendPacket(52, b"")
            self.transport.setService(ServerConnection())
            return
        if partial:
            server.partial.clear()
            server.methods.remove("publickey")
        self.transport.sendPacket(51, NS(",".join(server.methods)) + bytes([good]))


class ServerConnection(SSHConnection):
    _log = SILENT

    def getChannel(self, channelType: bytes, windowSize: int, maxPacket: int, data: bytes) -> Any:
        server = self.transport.server
        if server.full_up:
            raise ConchError("no more sessions", 4)
        server.channel = ServerChannel(
            server.window, remoteWindow=windowSize, remoteMaxPacket=maxPacket, conn=self, localMaxPacket=32768
        )
        server.channel.server = server
        if not server.packet:
            server.channel.localMaxPacket = 0
        return server.channel

    def gotGlobalRequest(self, requestType: bytes, data: bytes) -> int:
        self.transport.server.globals.append(requestType)
        return 0

    def adjustWindow(self, channel: Any, bytesToAdd: int) -> None:
        if self.transport.server.reads:
            super().adjustWindow(channel, bytesToAdd)


class ServerChannel(SSHChannel):
    name = b"session"
    _log = SILENT

    def requestReceived(self, requestType: bytes, data: bytes) -> Any:
        self.server.requests.append((requestType, data))
        if requestType in (b"shell", b"exec", b"subsystem"):
            for early in self.server.early:
                self.write(early)
        return self.server.grants(requestType)

    def dataReceived(self, data: bytes) -> None:
        self.server.typed += data

    def eofReceived(self) -> None:
        self.server.eof = True

    def closed(self) -> None:
        self.server.closed = True


class ServerTransport(SSHServerTransport):
    _log = SILENT

    def ssh_KEXINIT(self, packet: bytes) -> None:
        super().ssh_KEXINIT(packet)
        self.server.agreed = (self.kexAlg, self.keyAlg, self.nextEncryptions.inCipType, self.nextEncryptions.inMACType)

    def sendExtInfo(self, extensions: Any) -> None:
        if self.server.tells:
            super().sendExtInfo([(b"server-sig-algs", b",".join(self.server.sig_algs))])

    def receiveError(self, reasonCode: int, description: bytes) -> None:
        self.server.goodbye = reasonCode


class Server(SSHFactory):
    """What a test can say about the server, and what it saw."""

    _log = SILENT
    protocol = ServerTransport

    def __init__(self, *host_keys: Key) -> None:
        self.host_keys = list(host_keys or [key("ed25519")])
        self.methods = ["publickey", "password", "keyboard-interactive"]
        self.takes: set[str] = set()
        self.passwords = {"secret"}
        self.keys: set[bytes] = set()
        self.sig_algs = [b"ssh-ed25519", b"ecdsa-sha2-nistp256", b"rsa-sha2-512", b"rsa-sha2-256", b"ssh-rsa"]
        self.tells = True
        self.partial: set[str] = set()
        self.expired = False
        self.strikes = 0
        self.strikes_out: Callable[[Any], None] = lambda transport: transport.loseConnection()
        self.questions: list[tuple[list[tuple[bytes, bool]], int]] = []
        self.answer = b""
        self.grants: Callable[[bytes], Any] = lambda request: True
        self.early: list[bytes] = []
        self.full_up = False
        self.window = 1 << 20
        self.packet = 32768
        self.reads = True
        self.primes = None
        self.offers: dict[str, list[bytes]] = {}
        """What it supports, by the names of conch's attributes."""
        # What it saw.
        self.asked: list[tuple[Any, ...]] = []
        self.user = b""
        self.requests: list[tuple[bytes, bytes]] = []
        self.globals: list[bytes] = []
        self.typed = b""
        self.eof = self.closed = False
        self.goodbye: int | None = None
        self.agreed: tuple[bytes, ...] = ()
        self.channel: Any = None
        self.transport: Any = None

    def getPublicKeys(self) -> dict[bytes, Key]:
        return {one.sshType(): one.public() for one in self.host_keys}

    def getPrivateKeys(self) -> dict[bytes, Key]:
        return {one.sshType(): one for one in self.host_keys}

    def getService(self, transport: Any, service: bytes) -> Any:
        return Auth

    def accept(self) -> ServerTransport:
        self.publicKeys, self.privateKeys = self.getPublicKeys(), self.getPrivateKeys()
        self.transport = self.buildProtocol(None)
        self.transport.server = self
        vars(self.transport).update(self.offers)
        self.transport.makeConnection(StringTransport())
        return self.transport

    def says(self, data: bytes) -> None:
        self.channel.write(data)


class Pool:
    """The reactor's threads; `held` keeps what is asked of them waiting."""

    def __init__(self) -> None:
        self.held: list[Callable[[], None]] | None = None

    def callInThreadWithCallback(self, done: Any, call: Any, *args: Any) -> None:
        def run() -> None:
            try:
                value = call(*args)
            except BaseException:
                done(False, Failure())
            else:
                done(True, value)

        if self.held is None:
            run()
        else:
            self.held.append(run)


class Vault:
    """The `Secrets` seam: each reference has a value that counts as cached, and one that is fresh."""

    def __init__(self) -> None:
        self.cached: dict[Secret, str] = {}
        self.fresh: dict[Secret, str] = {}
        self.asked: list[tuple[Secret, bool]] = []
        self.silent = False

    def fetch(self, secret: Secret, fresh: bool = False) -> Deferred[Any]:
        self.asked.append((secret, fresh))
        if self.silent:
            return Deferred()
        if fresh:
            if secret not in self.fresh:
                return fail(SecretUnavailable(f"{secret}: gone"))
            self.cached[secret] = self.fresh[secret]
        return succeed(self.cached[secret])


PASSWORD = Secret(env="BMC_PASSWORD")


class World:
    """A console's settings, the network, and the server at its other end."""

    def __init__(self, state: Path) -> None:
        self.net = Network()
        self.pool = Pool()
        self.net.reactor.getThreadPool = lambda: self.pool
        self.net.reactor.callFromThread = lambda call, *args: call(*args)
        self.vault = Vault()
        self.vault.cached[PASSWORD] = self.vault.fresh[PASSWORD] = "secret"
        self.state = state
        self.server = Server()
        self.wires: list[tuple[Wire, ServerTransport]] = []
        self.cut = 1 << 30
        """How many bytes arrive at a time."""

    def settings(self, **more: Any) -> SshSettings:
        chosen: dict[str, Any] = {"trust_on_first_use": True, "password": PASSWORD} | more
        return SshSettings(name="x1", address="bmc1", user="admin", **chosen)

    def backend(self, **more: Any) -> Any:
        return self.settings(**more).backend(Surroundings(self.net.reactor, self.vault, self.state))

    def dial(self, **more: Any) -> Dial:
        """Dial, and let both sides talk until they have nothing more to say."""
        attempt = Dial(self.backend(**more))
        self.run()
        return attempt

    def connect(self) -> tuple[Wire, ServerTransport]:
        """The server accepts the connection that is asked for."""
        pair = self.net.accept(), self.server.accept()
        self.wires.append(pair)
        return pair

    def run(self) -> None:
        while True:
            while len(self.wires) < len(self.net.calls):
                self.connect()
            if not any(list(map(self._carry, self.wires))):
                self.net.turn()
                if len(self.wires) == len(self.net.calls) and not any(list(map(self._carry, self.wires))):
                    return

    def _carry(self, pair: tuple[Wire, ServerTransport]) -> bool:
        wire, server = pair
        ours = wire.sent()
        if ours:
            server.dataReceived(ours)
        theirs = server.transport.value()
        server.transport.clear()
        for at in range(0, len(theirs), self.cut):
            if wire._protocol is not None and not wire.disconnecting:
                wire.says(theirs[at : at + self.cut])
        if server.transport.disconnecting and not wire.disconnecting:
            wire.hang_up()
            wire.disconnecting = True
            return True
        return bool(ours or theirs)


@contextmanager
def world(state: Path) -> Iterator[World]:
    one = World(state)
    yield one
    for wire, _ in one.wires:
        wire.socket.close()
