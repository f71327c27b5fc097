"""One bounded request, one bounded answer: against real servers on loopback, with and without TLS."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from consoled.fetch import Fetcher, Unreachable

AUTHORITY = trustme.CA()
SERVER = AUTHORITY.issue_cert("localhost")
CERTIFICATE = load_pem_x509_certificate(SERVER.cert_chain_pems[0].bytes())
PRINT = CERTIFICATE.fingerprint(SHA256()).hex()


class Page(Resource):
    """Answers as it is told."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body: bytes | None = b'{"a":1}'
        self.begun = True
        """Whether an answer that does not end has a beginning."""
        self.heard: list[tuple[str, str | None, bytes]] = []
        self.asked: list[tuple[str | None, str | None]] = []
        """The cookie and the encodings that each had."""
        self.reached: Deferred[None] = Deferred()
        """Fires when a request is there."""
        self.gone: Deferred[None] = Deferred()
        """Fires when a client hangs up on a request that has no answer."""

    def render(self, request: Any) -> Any:
        self.heard.append((request.method.decode(), request.getHeader("authorization"), request.content.read()))
        self.asked.append((request.getHeader("cookie"), request.getHeader("accept-encoding")))
        request.setResponseCode(self.status)
        for name, value in self.headers.items():
            request.setHeader(name, value)
        if not self.reached.called:
            self.reached.callback(None)
        if self.body is None:
            request.notifyFinish().addErrback(lambda _: self.gone.callback(None))
            if self.begun:
                request.write(b"a little")
            return NOT_DONE_YET
        return self.body


@pytest.fixture
def page() -> Page:
    return Page()


def listening(endpoint: Any, factory: Any) -> Iterator[int]:
    port = pytest_twisted.blockon(endpoint.listen(factory))
    yield port.getHost().port
    pytest_twisted.blockon(port.stopListening())


@pytest.fixture
def plain(page: Page) -> Iterator[str]:
    for port in listening(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"), Site(page)):
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def secure(page: Page) -> Iterator[str]:
    key = load_pem_private_key(SERVER.private_key_pem.bytes(), None)
    options = CertificateOptions(privateKey=key, certificate=CERTIFICATE)
    for port in listening(SSL4ServerEndpoint(reactor, 0, options, interface="127.0.0.1"), Site(page)):
        yield f"https://localhost:{port}/"


@pytest.fixture
def ca(tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    path.write_bytes(AUTHORITY.cert_pem.bytes())
    return str(path)


@pytest_twisted.ensureDeferred
async def test_an_answer(plain: str, page: Page) -> None:
    fetcher = Fetcher(reactor)
    assert await fetcher.get(plain) == (200, b'{"a":1}')
    page.status = 503
    assert await fetcher.get(plain, {"Authorization": "Bearer x"}) == (503, b'{"a":1}')
    assert await fetcher.request("POST", plain, body=b"question") == (503, b'{"a":1}')
    assert page.heard == [("GET", None, b""), ("GET", "Bearer x", b""), ("POST", None, b"question")]


@pytest_twisted.ensureDeferred
async def test_who_leaves_before_there_is_a_connection(plain: str) -> None:
    answer = Fetcher(reactor).get(plain)
    answer.cancel()
    with pytest.raises(CancelledError):
        await answer


@pytest_twisted.ensureDeferred
async def test_a_redirect_is_an_answer(plain: str, page: Page) -> None:
    page.status, page.headers, page.body = 302, {"Location": plain}, b""
    assert await Fetcher(reactor).get(plain) == (302, b"")
    assert len(page.heard) == 1


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_too_long(plain: str, page: Page) -> None:
    page.body = b"x" * 1001
    assert len((await Fetcher(reactor, largest=1001).get(plain))[1]) == 1001
    with pytest.raises(Unreachable, match=rf"^{plain}: the answer is larger than 1000 bytes$"):
        await Fetcher(reactor, largest=1000).get(plain)


class Endless(Protocol):
    """Says one thing over and over, for as long as anybody listens."""

    def __init__(self, first: bytes, more: bytes) -> None:
        self.first = first
        self.resumeProducing = lambda: self.transport.write(more)
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(self.first)
        self.transport.registerProducer(self, False)

    def stopProducing(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(None)


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: " + b"x" * 8000 + b"\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_answer_whose_headers_do_not_end(first: bytes, more: bytes) -> None:
    server = Endless(first, more)
    factory = Factory.forProtocol(lambda: server)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    try:
        with pytest.raises(Unreachable, match="the answer has no end"):
            await Fetcher(reactor, limit=60, largest=1000).get(f"http://127.0.0.1:{port.getHost().port}/")
        await server.gone
    finally:
        await port.stopListening()


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "gzip, gzip"])
@pytest_twisted.ensureDeferred
async def test_a_compressed_answer_is_not_unpacked(plain: str, page: Page, encoding: str) -> None:
    page.headers["content-encoding"] = encoding
    page.body = gzip.compress(b"0" * 10_000_000)
    with pytest.raises(Unreachable, match=rf"^{plain}: the answer is compressed"):
        await Fetcher(reactor, largest=20_000_000).get(plain)


@pytest_twisted.ensureDeferred
async def test_nothing_is_remembered_of_an_answer(plain: str, page: Page) -> None:
    fetcher = Fetcher(reactor)
    page.headers["set-cookie"] = "a=b"
    await fetcher.get(plain)
    await fetcher.get(plain)
    assert page.asked == [(None, "identity")] * 2


@pytest.mark.parametrize("begun", [True, False])
@pytest_twisted.ensureDeferred
async def test_an_answer_that_does_not_end_is_hung_up_on(plain: str, page: Page, begun: bool) -> None:
    page.body, page.begun = None, begun
    with pytest.raises(Unreachable, match=rf"^{plain}: no answer within 0.5 s$"):
        await Fetcher(reactor, limit=0.5).get(plain)
    await page.gone


@pytest_twisted.ensureDeferred
async def test_a_server_that_says_nothing_and_one_that_hangs_up() -> None:
    for close, why in ((False, "no answer within"), (True, ".")):
        factory = Factory.forProtocol(Protocol)
        if close:
            factory.protocol = type(
                "Closing", (Protocol,), {"connectionMade": lambda self: self.transport.loseConnection()}
            )
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        with pytest.raises(Unreachable, match=why):
            await Fetcher(reactor, limit=0.5).get(f"http://127.0.0.1:{port.getHost().port}/")
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_nobody_listens() -> None:
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Protocol))
    url = f"http://127.0.0.1:{port.getHost().port}/"
    await port.stopListening()
    with pytest.raises(Unreachable, match="refused"):
        await Fetcher(reactor).get(url)


@pytest.mark.parametrize("begun", [True, False])
@pytest_twisted.ensureDeferred
async def test_who_cancels_hangs_up(plain: str, page: Page, begun: bool) -> None:
    page.body, page.begun = None, begun
    asking = Fetcher(reactor, limit=60).get(plain)
    await page.reached
    asking.cancel()
    with pytest.raises(CancelledError):
        await asking
    await page.gone


# --------------------------------------------------------------------------------------------------------- TLS


@pytest_twisted.ensureDeferred
async def test_a_private_authority(secure: str, ca: str) -> None:
    assert (await Fetcher(reactor, ca=ca).get(secure))[0] == 200


@pytest_twisted.ensureDeferred
async def test_an_authority_that_is_not_known(secure: str, page: Page) -> None:
    with pytest.raises(Unreachable, match="certificate verify failed"):
        await Fetcher(reactor).get(secure)
    assert page.heard == []


@pytest_twisted.ensureDeferred
async def test_another_name(secure: str, ca: str, page: Page) -> None:
    with pytest.raises(Unreachable, match="bears another name"):
        await Fetcher(reactor, ca=ca).get(secure.replace("localhost", "127.0.0.1"))
    assert page.heard == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest_twisted.ensureDeferred
async def test_the_very_certificate(secure: str, host: str) -> None:
    with_colons = ":".join(PRINT[at : at + 2] for at in range(0, 64, 2)).upper()
    for fingerprint in (PRINT, with_colons):
        assert (await Fetcher(reactor, fingerprint=fingerprint).get(secure.replace("localhost", host)))[0] == 200


@pytest_twisted.ensureDeferred
async def test_not_the_very_certificate(secure: str, page: Page) -> None:
    with pytest.raises(Unreachable, match="not the pinned one"):
        await Fetcher(reactor, fingerprint=PRINT[::-1]).get(secure, {"Authorization": "Bearer canary"})
    assert page.heard == []


@pytest.mark.parametrize("fingerprint", ["00", "zz" * 32, PRINT + "00"])
def test_what_is_no_fingerprint(fingerprint: str) -> None:
    with pytest.raises(ValueError, match="is not a SHA-256"):
        Fetcher(reactor, fingerprint=fingerprint)


def test_files_that_are_no_authority(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        Fetcher(reactor, ca=str(tmp_path / "absent"))
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ValueError, match="no certificate in it"):
        Fetcher(reactor, ca=str(tmp_path / "empty"))
