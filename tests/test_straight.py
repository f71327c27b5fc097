"""The fast path: whatever the kernel takes and whenever it fails, the same bytes arrive in the same order."""

from __future__ import annotations

import errno
from typing import Any, cast

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.interfaces import IPushProducer
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from consoled.straight import RECORD, Straight


class Kernel:
    """A socket.  It takes as many bytes at a time as `room` says, all of them if that is empty."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self.room: list[int | OSError] = []

    def send(self, data: Any) -> int:
        room = self.room.pop(0) if self.room else len(data)
        if isinstance(room, OSError):
            raise room
        self.taken += bytes(data[:room])
        return min(room, len(data))

    def setblocking(self, blocking: bool) -> None:
        assert not blocking

    def fileno(self) -> int:
        return 1000


FULL = BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


class Reactor(Clock):
    """Knows which transports want to write."""

    def __init__(self) -> None:
        super().__init__()
        self.writers: set[Any] = set()
        self.addWriter = self.writers.add
        self.removeWriter = self.writers.discard
        self.removeReader = lambda reader: None

    def turn(self, transport: Connection) -> Any:
        """One turn, in which the kernel has room for `transport`."""
        return transport.doWrite() if transport in self.writers else None


def connection(protocol: Protocol | None = None) -> tuple[Connection, Kernel, Reactor]:
    kernel, reactor = Kernel(), Reactor()
    transport = Connection(cast(Any, kernel), protocol or Protocol(), cast(Any, reactor))
    transport.connected = 1
    return transport, kernel, reactor


def test_what_the_kernel_takes_at_once_is_queued_nowhere() -> None:
    transport, kernel, reactor = connection()
    Straight(transport).write(b"hello")
    assert kernel.taken == b"hello"
    assert not reactor.writers


def test_the_rest_of_a_short_send_goes_through_the_transport_and_all_that_follows_behind_it() -> None:
    transport, kernel, reactor = connection()
    write = Straight(transport).write
    kernel.room = [3]
    write(b"hello ")
    write(b"world")
    transport.write(b", ")
    write(b"again")
    assert kernel.taken == b"hel"
    kernel.room = [4]
    reactor.turn(transport)
    write(b"!")
    assert kernel.taken == b"hello w"
    reactor.turn(transport)
    assert kernel.taken == b"hello world, again!"
    assert not reactor.writers
    write(b" straight")
    assert kernel.taken == b"hello world, again! straight"


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ECONNRESET, errno.EBADF])
def test_an_error_is_left_for_the_transport_to_meet(number: int) -> None:
    transport, kernel, reactor = connection()
    kernel.room = [OSError(number, "gone"), OSError(number, "gone")]
    Straight(transport).write(b"hello")
    assert not kernel.taken
    assert reactor.turn(transport) is CONNECTION_LOST


def test_nothing_is_queued_for_a_transport_that_is_gone() -> None:
    transport, kernel, reactor = connection()
    write = Straight(transport).write
    transport.connected = 0
    kernel.room = [OSError(errno.EBADF, "closed")]
    write(b"hello")
    assert not kernel.taken
    assert not reactor.writers


@implementer(IPushProducer)
class Pace:
    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


def test_the_transport_paces_its_producer_as_ever() -> None:
    transport, kernel, reactor = connection()
    pace = Pace()
    transport.registerProducer(pace, True)
    write = Straight(transport).write
    kernel.room = [1000]
    write(b"x" * 100_000)
    assert pace.told == ["pause"]
    reactor.turn(transport)
    assert pace.told == ["pause", "resume"]
    assert len(kernel.taken) == 100_000


@given(
    st.lists(st.one_of(st.binary(min_size=1), st.just(None)), max_size=20),
    st.lists(st.one_of(st.integers(0, 30), st.just(FULL)), max_size=20),
)
def test_any_kernel_gets_the_same_bytes(steps: list[bytes | None], room: list[int | OSError]) -> None:
    transport, kernel, reactor = connection()
    write = Straight(transport).write
    kernel.room = list(room)
    for step in steps:
        if step is None:
            reactor.turn(transport)
        else:
            write(step)
    while reactor.writers:
        reactor.turn(transport)
    assert kernel.taken == b"".join(step for step in steps if step is not None)


def test_what_waits_is_counted() -> None:
    transport, kernel, reactor = connection()
    way = Straight(transport)
    kernel.room = [3, 4]
    way.write(b"hello ")
    way.write(b"world")
    assert way.waiting == 8
    reactor.turn(transport)
    way.write(b"!")
    assert way.waiting == 5
    reactor.turn(transport)
    assert way.waiting == 0
    assert Straight(StringTransport()).waiting > 2**60


def test_wrappers_are_passed_by_and_other_transports_keep_their_own_way() -> None:
    other = StringTransport()
    Straight(other).write(b"hello")
    assert other.value() == b"hello"
    plain, kernel, _ = connection()
    wrapper = StringTransport()
    wrapper.beneath = plain  # type: ignore[attr-defined]
    Straight(wrapper).write(b"hello")
    assert kernel.taken == b"hello"
    upgraded, _, _ = connection()
    upgraded.TLS = True
    strange, _, _ = connection()
    del strange._tempDataLen
    for own in (upgraded, strange):
        written: list[bytes] = []
        own.write = written.append  # type: ignore[method-assign]
        Straight(own).write(b"hello")
        assert written == [b"hello"]


def test_it_says_when_bytes_have_to_wait() -> None:
    transport, kernel, _ = connection()
    queued: list[int] = []
    way = Straight(transport, lambda: queued.append(way.waiting))
    way.write(b"straight")
    assert queued == []
    kernel.room = [3, FULL]
    way.write(b"hello ")
    assert queued == [3]
    way.write(b"world")
    assert queued == [3, 8]
    strange = Straight(StringTransport(), lambda: queued.append(0))
    strange.write(b"hello")
    assert queued == [3, 8, 0], "nobody knows what waits there"


# ------------------------------------------------------------------------------------------------------ TLS


class Secured:
    """A TLS server over a connection of ours, and a client of OpenSSL's own that reads what the kernel has taken."""

    def __init__(self) -> None:
        issued = trustme.CA().issue_cert("localhost")
        certificate = load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        options = CertificateOptions(privateKey=cast(Any, key), certificate=cast(Any, certificate))
        self.reactor = Reactor()
        factory = TLSMemoryBIOFactory(options, False, Factory.forProtocol(Protocol), cast(Any, self.reactor))
        self.tls: Any = factory.buildProtocol(None)
        self.transport, self.kernel, reactor = connection(self.tls)
        self.transport.reactor = cast(Any, self.reactor)
        del reactor
        self.client = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
        self.client.set_connect_state()
        self.tls.makeConnection(self.transport)
        for _ in range(4):
            self.turn()
            try:
                self.client.do_handshake()
            except SSL.WantReadError:
                pass
            try:
                self.tls.dataReceived(self.client.bio_read(65536))
            except SSL.WantReadError:
                pass
        self.write = Straight(self.tls).write
        assert self.write != self.tls.write

    def turn(self) -> None:
        self.reactor.advance(0)
        while self.reactor.writers:
            self.reactor.turn(self.transport)
        self.deliver()

    def deliver(self) -> None:
        """What the kernel has taken arrives."""
        if self.kernel.taken:
            self.client.bio_write(bytes(self.kernel.taken))
            self.kernel.taken.clear()

    @property
    def read(self) -> bytes:
        """What the client can read by now."""
        self.deliver()
        data = b""
        while True:
            try:
                data += self.client.recv(65536)
            except SSL.WantReadError:
                return data


@pytest.fixture
def secured() -> Secured:
    return Secured()


@pytest.mark.parametrize("size", [1, RECORD, RECORD + 1, 300_000])
def test_tls_is_encrypted_and_sent_at_once(secured: Secured, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    secured.write(data[:size])
    assert secured.read == data[:size]
    assert not secured.reactor.writers
    assert not secured.reactor.getDelayedCalls()


def test_tls_what_twisted_has_gathered_goes_first(secured: Secured) -> None:
    secured.tls.write(b"gathered, ")
    secured.write(b"straight")
    assert secured.read == b""
    secured.turn()
    assert secured.read == b"gathered, straight"
    secured.write(b" again")
    assert secured.read == b" again"


def test_tls_the_rest_of_a_short_send_goes_through_the_transport(secured: Secured) -> None:
    secured.kernel.room = [5, FULL]
    secured.write(b"one ")
    secured.write(b"two ")
    secured.tls.write(b"three ")
    secured.write(b"four")
    assert secured.read == b""
    secured.turn()
    assert secured.read == b"one two three four"


def test_tls_a_broken_connection_is_left_for_the_transport_to_meet(secured: Secured) -> None:
    secured.kernel.room = [OSError(errno.EPIPE, "gone"), OSError(errno.EPIPE, "gone")]
    secured.write(b"hello")
    assert secured.reactor.turn(secured.transport) is CONNECTION_LOST


def test_tls_nothing_is_sent_behind_the_end(secured: Secured) -> None:
    secured.tls.loseConnection()
    secured.write(b"too late")
    secured.turn()
    with pytest.raises(SSL.ZeroReturnError):
        secured.client.recv(100)


def test_tls_over_a_wrapper_is_sent_at_once_too(secured: Secured) -> None:
    wrapper = StringTransport()
    wrapper.beneath = secured.transport  # type: ignore[attr-defined]
    secured.tls.transport = wrapper
    Straight(secured.tls).write(b"hello")
    assert secured.read == b"hello"


def test_tls_of_another_twisted_keeps_its_own_way(secured: Secured) -> None:
    del secured.tls._appSendBuffer
    written: list[bytes] = []
    secured.tls.write = written.append
    Straight(secured.tls).write(b"hello")
    assert written == [b"hello"]


def test_tls_says_when_bytes_have_to_wait(secured: Secured) -> None:
    queued: list[str] = []
    write = Straight(secured.tls, lambda: queued.append("queued")).write
    write(b"straight")
    assert queued == []
    secured.kernel.room = [5, FULL]
    write(b"one ")
    assert queued == ["queued"]
    secured.tls.write(b"gathered")
    write(b"two")
    assert queued == ["queued"] * 2
