# mypy: disallow-untyped-calls=False
# (Much of conch has no annotations.)

"""SSH's transport layer (RFC 4253): conch's, with its failures turned into reasons.

It stands between `SshLine`, which hands it what comes from TCP, and the services: first the login, then the session.
It checks the server's key, notices a renewal of the keys, and lets nothing that a peer may send grow without bound.
"""

from __future__ import annotations

import re
import struct
from typing import Any, Protocol

from twisted.conch.ssh.common import getMP, getNS
from twisted.conch.ssh.service import SSHService
from twisted.conch.ssh.transport import (
    DISCONNECT_BY_APPLICATION,
    DISCONNECT_HOST_KEY_NOT_VERIFIABLE,
    MSG_DISCONNECT,
    SSHClientTransport,
)
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from consoled.backends.ssh_algorithms import Algorithms
from consoled.backends.ssh_hosts import HostCheck
from consoled.backends.ssh_login import QUIET, said
from consoled.core.seams import Refused

LONGEST_GREETING = 8192
"""Bytes that a server may say before its version."""
MOST_UNSENT = 1 << 20
"""Bytes that wait for a peer that asks, and does not read the answers."""
OVERHEAD = 64
"""Bytes that a packet takes beside its payload."""
SMALLEST_GROUP = 2048
SMALLEST_LEGACY_GROUP = 1024
LARGEST_GROUP = 8192
"""Bits of the prime that a server may choose (RFC 8270): a huge one would stop the daemon for minutes."""

_log = Logger()


class Ends(Protocol):
    """Who is told how the connection fares: the line."""

    stage: str
    dropped: bool
    """Whether it has been given up."""

    @property
    def full(self) -> bool:
        """Whether TCP takes no more for now."""

    def drop(self, error: Exception) -> None: ...

    def hung_up(self, why: str) -> None: ...


class SshTransport(SSHClientTransport):
    """One connection's transport layer."""

    transport: Any
    _log = QUIET

    def __init__(self, name: str, line: Ends, host: HostCheck, algorithms: Algorithms, first: SSHService) -> None:
        """`name` is the console's; `first` is the service to begin with."""
        self._name = name
        self._line = line
        self._host = host
        self._first = first
        self._greeting = b""
        self._host_key = b""
        self._secure = False
        self._renewing = False
        self._unsent = 0
        self.supportedKeyExchanges = _names(algorithms.kex)
        self.supportedPublicKeys = _names(host.preferred(algorithms.hostkey))
        self.supportedCiphers = _names(algorithms.cipher)
        self.supportedMACs = _names(algorithms.mac)
        self.supportedCompressions = [b"none"]

    @property
    def unsent(self) -> int:
        """Bytes that wait in memory, since TCP or a renewal of the keys holds them up."""
        return self._unsent if self._renewing or self._line.full else 0

    # The line calls these.

    def dataReceived(self, data: bytes) -> None:
        if not self.gotVersion:
            # conch stumbles over lines before the version (RFC 4253, section 4.2) that come in a segment of their own.
            self._greeting += data
            version = re.search(rb"(?:\A|\n)(SSH-[^\n]*\n)", self._greeting)
            if version is None:
                if len(self._greeting) > LONGEST_GREETING or not self._greeting.isascii():
                    self._line.drop(ConnectionError(f"no SSH server: it says {said(self._greeting)!r}"))
                return
            data, self._greeting = self._greeting[version.start(1) :], b""
        try:
            super().dataReceived(data)
        except Exception as error:  # whatever conch makes of garbage
            self._line.drop(ConnectionError(f"the server's packet makes no sense ({type(error).__name__})"))

    def say_goodbye(self) -> None:
        """Tell the peer that we go; the line then closes the connection."""
        self.sendPacket(MSG_DISCONNECT, struct.pack(">L", DISCONNECT_BY_APPLICATION) + bytes(8))

    # conch calls these.

    def dispatchMessage(self, messageNum: int, payload: bytes) -> None:
        if not self._line.dropped:  # the rest of a read may follow what made us drop it
            super().dispatchMessage(messageNum, payload)

    def sendPacket(self, messageType: int, payload: bytes) -> None:
        self._unsent = self.unsent + OVERHEAD + len(payload)
        if self._unsent > MOST_UNSENT:
            self._line.drop(ConnectionError("the server asks and does not read the answers"))
            return
        super().sendPacket(messageType, payload)

    def sendDisconnect(self, reason: int, desc: bytes) -> None:
        """conch has found something wrong with the peer."""
        text = said(desc)
        if reason == DISCONNECT_HOST_KEY_NOT_VERIFIABLE:  # with which conch sends what it stumbled over
            text = "the server's part of the key exchange makes no sense"
        self._line.drop(ConnectionError(text))

    def ssh_DISCONNECT(self, packet: bytes) -> None:
        text, _ = getNS(packet[4:])
        self._line.hung_up(f"the server hung up: {said(text) or 'no reason given'}")

    def receiveUnimplemented(self, seqnum: int) -> None:
        """Something of ours is unknown to the peer: whoever waits for an answer has a limit."""

    def sendKexInit(self) -> None:
        super().sendKexInit()
        self._renewing = self._secure

    def ssh_KEXINIT(self, packet: bytes) -> None:
        """The server's algorithms: say which kind has nothing in common, before conch only says that one has."""
        kex, hostkey, cipher_out, cipher_in, mac_out, mac_in, _ = getNS(packet[16:], 6)
        for key, what, ours, theirs in (
            ("kex", "key exchange", self.supportedKeyExchanges, kex),
            ("hostkey", "host key algorithm", self.supportedPublicKeys, hostkey),
            ("cipher", "cipher", self.supportedCiphers, cipher_out),
            ("cipher", "cipher", self.supportedCiphers, cipher_in),
            ("mac", "MAC", self.supportedMACs, mac_out),
            ("mac", "MAC", self.supportedMACs, mac_in),
        ):
            if not set(ours) & set(theirs.split(b",")):
                offer = said(theirs.replace(b",", b", "))
                self._line.drop(Refused(f'no {what} in common (see "algorithms.{key}"): the server has {offer}'))
                return
        super().ssh_KEXINIT(packet)

    def ssh_KEX_DH_GEX_GROUP(self, packet: bytes) -> None:
        """The server's group (RFC 4419), or, under the same number, the reply of every other key exchange."""
        if not self.kexAlg.startswith(b"diffie-hellman-group-exchange-"):
            self._signed_as_agreed(packet)
        else:
            least = SMALLEST_LEGACY_GROUP if self.kexAlg.endswith(b"-sha1") else SMALLEST_GROUP
            bits = getMP(packet)[0].bit_length()
            if not least <= bits <= LARGEST_GROUP:
                raise ValueError(bits)
        super().ssh_KEX_DH_GEX_GROUP(packet)

    def ssh_KEX_DH_GEX_REPLY(self, packet: bytes) -> None:
        self._signed_as_agreed(packet)
        super().ssh_KEX_DH_GEX_REPLY(packet)

    def _signed_as_agreed(self, packet: bytes) -> None:
        """conch would take any signature that fits the key: SHA-1 for RSA where SHA-2 was agreed on."""
        _, _, signature, _ = getNS(packet, 3)
        if getNS(signature)[0] != self.keyAlg:
            raise ValueError("another signature than agreed")

    def verifyHostKey(self, hostKey: bytes, fingerprint: bytes) -> Deferred[bool]:
        # Synchronous: conch mixes up the order of things when the answer comes late.
        try:
            if not self._secure:
                self._host.check(hostKey)
            elif hostKey != self._host_key:
                raise Refused("the server changed its host key in mid-connection")
        except Refused as error:
            self._line.drop(error)
            return fail(error)
        self._host_key = hostKey
        return succeed(True)

    def connectionSecure(self) -> None:
        """The keys are in use: the server has signed with its own.  conch says so again after each renewal."""
        self._renewing = False
        if self._secure:
            return
        self._secure = True
        try:
            if self._host.keep(self._host_key):
                _log.info("console {name}: host key of {at} trusted on first use", name=self._name, at=self._host.at)
        except OSError as error:
            path = self._host.store and self._host.store.path
            self._line.drop(ConnectionError(f"the new host key cannot be kept in {path}: {error.strerror}"))
        except Refused as error:
            self._line.drop(error)
        else:
            self._line.stage = "the login"
            self.requestService(self._first)


def _names(names: Any) -> list[bytes]:
    return [name.encode() for name in names]
