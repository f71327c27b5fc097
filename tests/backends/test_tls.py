"""TLS towards a node, over loopback: whose certificate is taken, and how it is said when it is not."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
import pytest_twisted
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, PublicFormat
from cryptography.hazmat.primitives.serialization import load_pem_private_key as load_key
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, CertificateOptions, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOFactory

from consoled.backends.tcp import TcpSettings
from consoled.backends.tls import TlsSettings
from consoled.backends.unix import UnixSettings
from tests.backends.stream_fakes import Dial
from tests.fakes import around

LIMIT = 10.0
EVERYTHING = bytes(range(256)) * 256


class Node(Protocol):
    """Greets, then echoes."""

    def connectionMade(self) -> None:
        self.factory.nodes.append(self)
        self.transport.write(b"login: ")

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def connectionLost(self, reason: object = None) -> None:
        self.factory.nodes.remove(self)
        if not self.factory.nodes:
            self.factory.empty.callback(None)
            self.factory.empty = Deferred()


class Place:
    """Two authorities, a server and its files."""

    def __init__(self, directory: Any) -> None:
        self.directory = directory
        self.ca, self.stranger = trustme.CA(), trustme.CA()
        self.certificate = self.ca.issue_cert("localhost", "127.0.0.1")
        self.mine = self.ca.issue_cert("consoled")
        self.ca_file = self.write("ca.pem", self.ca.cert_pem.bytes())
        self.stranger_file = self.write("stranger.pem", self.stranger.cert_pem.bytes())
        self.mine_file = self.write("mine.pem", self.mine.private_key_and_cert_chain_pem.bytes())
        self.factory = Factory.forProtocol(Node)
        self.factory.noisy = False
        self.factory.nodes, self.factory.empty = [], Deferred()
        self.ports: list[Any] = []

    def write(self, name: str, data: bytes) -> str:
        file = self.directory / name
        file.write_bytes(data)
        return str(file)

    @property
    def fingerprint(self) -> str:
        return x509.load_pem_x509_certificate(self.certificate.cert_chain_pems[0].bytes()).fingerprint(SHA256()).hex()

    def tls(self, clients: bool = False) -> TLSMemoryBIOFactory:
        own = x509.load_pem_x509_certificate(self.certificate.cert_chain_pems[0].bytes())
        key = load_key(self.certificate.private_key_pem.bytes(), None)
        trusted = trustRootFromCertificates([Certificate.loadPEM(self.ca.cert_pem.bytes())]) if clients else None
        options = CertificateOptions(certificate=own, privateKey=key, trustRoot=trusted)
        return TLSMemoryBIOFactory(options, False, self.factory)

    def listen(self, **more: Any) -> int:
        port = reactor.listenTCP(0, self.tls(**more), interface="127.0.0.1")
        self.ports.append(port)
        return port.getHost().port

    def dial(self, host: str = "localhost", port: int | None = None, **tls: Any) -> Dial:
        address = f"{host}:{port or self.listen()}"
        return Dial(TcpSettings(name="x1", address=address, tls=TlsSettings(**tls)).backend(around(reactor)))


@pytest.fixture
def place(tmp_path: Any) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place

    @pytest_twisted.inlineCallbacks
    def end() -> Any:
        for port in place.ports:
            yield port.stopListening()
        if place.factory.nodes:
            for node in list(place.factory.nodes):
                node.transport.abortConnection()
            yield place.factory.empty

    pytest_twisted.blockon(end())


def lost(attempt: Dial) -> Deferred[str]:
    gone: Deferred[str] = Deferred().addTimeout(LIMIT, reactor)
    attempt.owner.lost = gone.callback
    return gone


def output(attempt: Dial, length: int) -> Deferred[None]:
    enough: Deferred[None] = Deferred().addTimeout(LIMIT, reactor)
    received = attempt.owner.received

    def more(data: bytes) -> None:
        received(data)
        if len(attempt.owner.output) >= length and not enough.called:
            enough.callback(None)

    attempt.owner.received = more
    return enough


@pytest_twisted.inlineCallbacks
def check_echo(attempt: Dial) -> Any:
    said = b"login: " + EVERYTHING
    enough = output(attempt, len(said))
    yield attempt.deferred
    assert attempt.line.write(EVERYTHING)
    yield enough
    assert attempt.owner.output == said
    gone = lost(attempt)
    attempt.line.close()
    assert (yield gone)
    attempt.line.abort()
    assert attempt.line.write(b"x") is False


@pytest_twisted.inlineCallbacks
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_good_certificate(place: Place, host: str) -> Any:
    yield check_echo(place.dial(host, ca=place.ca_file))


@pytest_twisted.inlineCallbacks
def test_the_name_can_be_another_than_the_address(place: Place) -> Any:
    place.certificate = place.ca.issue_cert("bmc1.example.net")
    yield check_echo(place.dial(ca=place.ca_file, server_name="bmc1.example.net"))


@pytest_twisted.inlineCallbacks
@pytest.mark.parametrize("name", ["bmc1.example.net", "192.0.2.1"])
def test_a_wrong_name(place: Place, name: str) -> Any:
    attempt = place.dial(ca=place.ca_file, server_name=name)
    yield attempt.deferred
    assert attempt.error == "lost during the TLS handshake: the server's certificate bears another name"
    assert attempt.owner.told == []


@pytest_twisted.inlineCallbacks
@pytest.mark.parametrize("ca", ["stranger", "system"])
def test_a_wrong_authority(place: Place, ca: str) -> Any:
    attempt = place.dial(ca=place.stranger_file if ca == "stranger" else "")
    yield attempt.deferred
    assert "certificate verify failed (unknown authority, expired, or not yet valid)" in attempt.error
    assert attempt.owner.told == []


@pytest_twisted.inlineCallbacks
def test_the_pinned_certificate(place: Place) -> Any:
    place.certificate = place.stranger.issue_cert("whatever")
    pinned = ":".join(place.fingerprint[at : at + 2].upper() for at in range(0, 64, 2))
    yield check_echo(place.dial(fingerprint=pinned))


@pytest_twisted.inlineCallbacks
def test_not_the_pinned_certificate(place: Place) -> Any:
    attempt = place.dial(fingerprint="00" * 32)
    yield attempt.deferred
    assert attempt.error == f"the server's certificate is not the pinned one: its SHA-256 is {place.fingerprint}"
    yield place.factory.empty
    assert attempt.owner.told == []


@pytest_twisted.inlineCallbacks
def test_the_pinned_key_outlives_its_certificate(place: Place) -> Any:
    place.certificate = place.stranger.issue_cert("whatever")
    own = x509.load_pem_x509_certificate(place.certificate.cert_chain_pems[0].bytes())
    pin = sha256(own.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    yield check_echo(place.dial(public_key=pin))
    place.certificate = place.stranger.issue_cert("whatever")
    attempt = place.dial(public_key=pin)
    yield attempt.deferred
    assert attempt.error.startswith("the server's public key is not the pinned one: its SHA-256 is ")
    yield place.factory.empty
    assert attempt.owner.told == []


@pytest_twisted.inlineCallbacks
def test_any_certificate_if_told_so(place: Place) -> Any:
    place.certificate = place.stranger.issue_cert("whatever")
    yield check_echo(place.dial(unsafe_any_certificate=True))


@pytest_twisted.inlineCallbacks
@pytest.mark.parametrize("pinned", [False, True])
def test_our_own_certificate(place: Place, pinned: bool) -> Any:
    port = place.listen(clients=True)
    trust = {"fingerprint": place.fingerprint} if pinned else {"ca": place.ca_file}
    yield check_echo(place.dial(port=port, certificate=place.mine_file, **trust))


@pytest_twisted.inlineCallbacks
def test_without_our_own_certificate(place: Place) -> Any:
    attempt = place.dial(port=place.listen(clients=True), ca=place.ca_file)
    gone = lost(attempt)
    yield attempt.deferred
    # In TLS 1.3 the client has finished before the server says what it thinks of it.
    assert attempt.result is None or "certificate required" in (yield gone)
    gone.addErrback(lambda failure: None).cancel()


@pytest_twisted.inlineCallbacks
def test_files_are_read_at_each_dial(place: Place) -> Any:
    port = place.listen()
    settings = TcpSettings(name="x1", address=f"localhost:{port}", tls=TlsSettings(ca=place.stranger_file))
    backend = settings.backend(around(reactor))
    refused = Dial(backend)
    yield refused.deferred
    assert "verify failed" in refused.error
    place.write("stranger.pem", place.ca.cert_pem.bytes())
    yield check_echo(Dial(backend))


@pytest_twisted.inlineCallbacks
def test_a_server_without_tls(place: Place) -> Any:
    port = reactor.listenTCP(0, place.factory, interface="127.0.0.1")
    place.ports.append(port)
    attempt = place.dial(port=port.getHost().port, ca=place.ca_file)
    yield attempt.deferred
    assert attempt.error.startswith("lost during the TLS handshake: ")
    assert "\n" not in attempt.error


@pytest_twisted.inlineCallbacks
def test_cancelled_within_the_handshake(place: Place) -> Any:
    class Mute(Protocol):
        def dataReceived(self, data: bytes) -> None:
            hello.callback(None)

        def connectionLost(self, reason: object = None) -> None:
            gone.callback(None)

    hello: Deferred[None] = Deferred()
    gone: Deferred[None] = Deferred()
    port = reactor.listenTCP(0, Factory.forProtocol(Mute), interface="127.0.0.1")
    place.ports.append(port)
    attempt = place.dial(port=port.getHost().port, ca=place.ca_file)
    yield hello
    attempt.deferred.cancel()
    assert attempt.result.check(CancelledError)
    yield gone
    assert attempt.owner.told == []


@pytest_twisted.inlineCallbacks
def test_over_a_unix_socket_with_a_greeting(place: Place) -> Any:
    class Zone(Node):
        def connectionMade(self) -> None:
            self.factory.nodes.append(self)

        def dataReceived(self, data: bytes) -> None:
            self.transport.write(b"OK zone1 /dev/pts/1\nlogin: " if data == b"IDENT C 0\n" else data)

    place.factory.protocol = Zone
    path = str(place.directory / "sock")
    place.ports.append((yield UNIXServerEndpoint(reactor, path).listen(place.tls())))
    tls = TlsSettings(ca=place.ca_file, server_name="localhost")
    yield check_echo(Dial(UnixSettings(name="x1", path=path, zone_handshake=True, tls=tls).backend(around(reactor))))


def encrypted(place: Place) -> str:
    key = load_key(place.mine.private_key_pem.bytes(), None)
    return place.write(
        "key.pem", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: {"ca": "/no/such.pem"}, "No such file or directory: '/no/such.pem'"),
        (lambda p: {"ca": p.write("bad.pem", b"no certificate")}, "bad.pem: "),
        (lambda p: {"certificate": p.mine_file, "key": p.write("bad.pem", b"no key")}, "bad.pem: "),
        (lambda p: {"certificate": p.mine_file, "key": encrypted(p)}, "key.pem: "),
        (
            lambda p: {"certificate": p.mine_file, "key": p.write("k.pem", p.certificate.private_key_pem.bytes())},
            "k.pem: not the key of",
        ),
    ],
)
def test_bad_files_are_named(place: Place, make: Any, text: str) -> None:
    attempt = place.dial(port=1, **make(place))
    assert attempt.error.startswith("tls: ")
    assert text in attempt.error


@pytest.mark.parametrize(
    "table",
    [
        {"fingerprint": "abc"},
        {"fingerprint": "00" * 31},
        {"public_key": "abc"},
        {"public_key": "00" * 32, "fingerprint": "00" * 32},
        {"public_key": "00" * 32, "server_name": "x"},
        {"fingerprint": "00" * 32, "ca": "/ca.pem"},
        {"fingerprint": "00" * 32, "unsafe_any_certificate": True},
        {"unsafe_any_certificate": True, "server_name": "x"},
        {"key": "/key.pem"},
    ],
)
def test_contradictions(table: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match='"'):
        TlsSettings(**table)
