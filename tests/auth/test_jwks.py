"""Where keys come from: when the provider is asked, how often, and what holds while it cannot be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Site

from consoled.auth.jwk import Key
from consoled.auth.jwks import AGAIN, LIMIT, RETRY, FetchedKeys, check_url, from_discovery, from_url
from consoled.auth.key_files import KeyFiles
from consoled.auth.watched import GRACE
from consoled.core.access import CannotKnow, Unauthenticated
from consoled.fetch import Fetcher, Unreachable
from tests.auth.keycloak import ISSUER, Keycloak, private_key, public_pem
from tests.fakes import result

REFRESH = 300.0
STALE = 3600.0


class Source:
    """The keys of a Keycloak, by the clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.keycloak = Keycloak()
        self.keys = FetchedKeys(self.keycloak.fetch, self.clock, refresh=REFRESH, stale=STALE, issuer=ISSUER)

    def started(self) -> Source:
        self.keys.start()
        return self

    def find(self, kid: str | None = "rsa-1") -> Key:
        return result(self.keys.find(kid, "RS256"))

    def knows(self, kid: str) -> bool:
        try:
            return self.find(kid).kid == kid
        except Unauthenticated:
            return False

    def later(self, seconds: float) -> None:
        """Without a question by itself in between."""
        assert seconds < REFRESH
        self.clock.advance(seconds)


@pytest.fixture
def source() -> Iterator[Source]:
    source = Source()
    yield source
    source.keys.stop()
    assert not source.clock.getDelayedCalls()


def hanging(source: Source) -> list[Deferred[Any]]:
    source.keycloak.hanging = []
    return source.keycloak.hanging


def answer(source: Source) -> None:
    """The question that hangs is answered as things are now."""
    waiting, source.keycloak.hanging = source.keycloak.hanging, None
    [question] = waiting or []
    source.keycloak.answer().chainDeferred(question)


# ------------------------------------------------------------------------------------------------- asking


def test_they_are_asked_for_at_the_start_and_then_are_known(source: Source) -> None:
    assert source.keycloak.asked == 0
    source.started()
    assert source.keycloak.asked == 1
    for _ in range(5):
        assert source.knows("rsa-1")
    assert source.keycloak.asked == 1
    assert source.keys.trouble is None


def test_they_are_asked_for_again_all_the_time(source: Source) -> None:
    source.started()
    for times in range(2, 5):
        source.clock.advance(REFRESH)
        assert source.keycloak.asked == times


def test_a_start_waits_for_nothing(source: Source) -> None:
    hanging(source)
    source.started()
    waiting = source.keys.find("rsa-1", "RS256")
    assert not waiting.called
    answer(source)
    assert result(waiting).kid == "rsa-1"


def test_a_new_key_is_found_at_once_and_the_old_one_is_withdrawn(source: Source) -> None:
    old = source.started().find()
    source.later(AGAIN)
    source.keycloak.rotate("rsa-2")
    assert source.keys.holds(old)
    assert source.knows("rsa-2")
    assert not source.keys.holds(old)
    assert not source.knows("rsa-1")


def test_an_old_key_goes_by_itself(source: Source) -> None:
    old = source.started().find()
    source.keycloak.rotate("rsa-2")
    source.clock.advance(REFRESH)
    assert not source.keys.holds(old)


def test_another_key_of_the_same_name_is_another_key(source: Source) -> None:
    old = source.started().find()
    source.keycloak.rotate("rsa-1", which=1)
    source.clock.advance(REFRESH)
    assert source.knows("rsa-1")
    assert not source.keys.holds(old)


def test_strangers_cannot_make_us_hammer_the_provider(source: Source) -> None:
    source.started()
    for at in range(100):
        source.later(1)
        assert not source.knows(f"nobody's-{at}")
    assert source.keycloak.asked == 1 + 100 // AGAIN
    with pytest.raises(Unauthenticated, match="Authentication") as caught:
        source.find("nobody's")
    assert caught.value.why == f'{ISSUER} has no key "nobody\'s" for RS256, or more than one'


def test_all_logins_wait_for_one_answer(source: Source) -> None:
    source.started()
    source.later(AGAIN)
    source.keycloak.rotate("rsa-2")
    hanging(source)
    logins = [source.keys.find("rsa-2", "RS256") for _ in range(50)]
    assert source.keycloak.asked == 2
    assert source.keys.find("rsa-1", "RS256").called, "who needs nothing new does not wait"
    answer(source)
    assert {result(login).kid for login in logins} == {"rsa-2"}


def test_a_client_that_leaves_takes_nobody_with_it(source: Source) -> None:
    hanging(source)
    source.started()
    first, second, third = (source.keys.find("rsa-1", "RS256") for _ in range(3))
    for leaving in (first, third):
        leaving.cancel()
        with pytest.raises(CancelledError):
            result(leaving)
    assert not second.called
    answer(source)
    assert result(second).kid == "rsa-1"


def test_a_client_that_leaves_while_others_are_told(source: Source) -> None:
    hanging(source)
    source.started()
    first, second = (source.keys.find("rsa-1", "RS256") for _ in range(2))
    outcome: list[Any] = []
    second.addBoth(outcome.append)
    first.addCallback(lambda _: second.cancel())
    answer(source)
    assert len(outcome) == 1
    assert source.knows("rsa-1")


# ------------------------------------------------------------------------------------------------- outages


def test_no_key_and_nobody_to_ask_is_no_answer(source: Source) -> None:
    source.keycloak.down = "connection refused"
    with capturedLogs() as events:
        source.started()
        with pytest.raises(CannotKnow) as caught:
            source.find()
        assert caught.value.why == f"the keys of {ISSUER} cannot be had: connection refused"
        assert caught.value.retry_after == RETRY
        assert source.keys.trouble == caught.value.why
        assert source.keycloak.asked == 1, "they were asked for just now"
        for _ in range(3):
            source.clock.advance(RETRY)
        assert source.keycloak.asked == 4
        assert len([event for event in events if event["log_level"] == LogLevel.error]) == 1
    source.keycloak.down = None
    source.clock.advance(RETRY)
    assert source.knows("rsa-1")
    assert source.keys.trouble is None


def test_old_keys_are_good_through_an_outage_and_not_for_ever(source: Source) -> None:
    old = source.started().find()
    source.keycloak.down = "connection refused"
    for _ in range(int(STALE // RETRY)):
        source.clock.advance(RETRY)
        assert source.knows("rsa-1")
    assert source.keys.trouble is not None
    source.clock.advance(1)
    with pytest.raises(CannotKnow):
        source.find()
    assert source.keys.holds(old), "who is in stays in: nobody has withdrawn it"
    source.keycloak.down = None
    source.clock.advance(RETRY)
    assert source.knows("rsa-1")


def test_an_unknown_key_in_an_outage_is_no_answer(source: Source) -> None:
    source.started()
    source.keycloak.down = "connection refused"
    source.later(AGAIN)
    for _ in range(3):
        with pytest.raises(CannotKnow):
            source.find("rsa-2")
        assert source.knows("rsa-1")
    assert source.keycloak.asked == 2


def test_a_provider_that_hangs_keeps_nobody_waiting(source: Source) -> None:
    hanging(source)
    source.started()
    login = source.keys.find("rsa-1", "RS256")
    source.later(LIMIT)
    with pytest.raises(CannotKnow, match="try again") as caught:
        result(login)
    assert "no answer within 3.5 s" in caught.value.why
    source.keycloak.hanging = None
    source.later(RETRY)
    assert source.knows("rsa-1")


@pytest.mark.parametrize("entries", [[], [{"kty": "oct", "k": "c2VjcmV0"}]])
def test_a_set_without_a_key_withdraws_nothing(source: Source, entries: list[Any]) -> None:
    old = source.started().find()
    source.keycloak.keys, source.keycloak.more = {}, entries
    source.clock.advance(REFRESH)
    assert source.keys.holds(old)
    assert source.knows("rsa-1")
    assert "no usable key" in str(source.keys.trouble)


def test_an_accident_is_an_outage_with_a_traceback(source: Source) -> None:
    hanging(source)
    source.started()
    login = source.keys.find("rsa-1", "RS256")
    with capturedLogs() as events:
        assert source.keycloak.hanging is not None
        source.keycloak.hanging[0].errback(Failure(RuntimeError("oops")))
        with pytest.raises(CannotKnow):
            result(login)
    assert [event["log_failure"].value.args for event in events if "log_failure" in event] == [("oops",)]


def test_a_clock_set_back_or_forth_does_not_lock_anybody_out(source: Source) -> None:
    source.started()
    source.clock.rightNow -= 5000
    assert source.knows("rsa-1"), "they are asked for at once"
    assert source.keycloak.asked == 2
    source.clock.rightNow += 1
    assert source.knows("rsa-1")


def test_the_end_in_the_middle_of_a_question(source: Source) -> None:
    hanging(source)
    source.started()
    login = source.keys.find("rsa-1", "RS256")
    source.keys.stop()
    with pytest.raises(CannotKnow):
        result(login)


# ---------------------------------------------------------------------------------------------------- files


class Files:
    """A directory of keys."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = Clock()
        self.write("a.pem", public_pem(private_key()))
        self.write("b.json", json.dumps({"keys": [Keycloak().more[0]]}).encode())

    def write(self, name: str, text: bytes) -> None:
        new = self.directory / "new"
        new.write_bytes(text)
        new.rename(self.directory / name)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_keys_in_files_are_watched(files: Files) -> None:
    files.write("b.json", json.dumps(Keycloak().jwks()).encode())
    keys = KeyFiles([str(files.directory / name) for name in ("a.pem", "b.json")], files.clock)
    assert result(keys.find("rsa-1", "RS256")).kid == "rsa-1"
    old = result(keys.find("whatever", "RS256"))
    assert old.kid is None
    assert keys.holds(old)
    files.write("a.pem", public_pem(private_key("RSA", 1)))
    files.clock.advance(1)
    assert not keys.holds(old)
    new = result(keys.find("whatever", "RS256"))
    assert new != old
    with capturedLogs():
        files.write("a.pem", b"half wr")
        files.clock.advance(1)
        assert keys.holds(new)
        assert "a.pem" in str(keys.trouble)
        (files.directory / "a.pem").unlink()
        files.clock.advance(1)
        with pytest.raises(Unauthenticated):
            result(keys.find("whatever", "RS256"))
        files.clock.advance(GRACE)
        assert not keys.holds(new)
    assert result(keys.find("rsa-1", "RS256")).kid == "rsa-1"


def test_files_that_are_bad_at_the_start(files: Files) -> None:
    with pytest.raises(ValueError, match=r"b\.json: .*not for signatures"):
        KeyFiles([str(files.directory / "b.json")], files.clock)
    with pytest.raises(OSError, match="absent"):
        KeyFiles([str(files.directory / "absent")], files.clock)


# ------------------------------------------------------------------------------------------- over the wire


@pytest.mark.parametrize(
    ("url", "unsafe"),
    [
        ("https://sso.example.com/certs", False),
        ("https://[2001:db8::1]:8443/certs?x=1", False),
        ("http://127.0.0.1:8080/certs", False),
        ("http://localhost/certs", False),
        ("http://[::1]/certs", False),
        ("http://keycloak:8080/certs", True),
    ],
)
def test_where_keys_may_be_asked_for(url: str, unsafe: bool) -> None:
    check_url(url, unsafe)


@pytest.mark.parametrize(
    "url",
    [
        "http://keycloak:8080/certs",
        "http://127.0.0.1.example.com/certs",
        "http://localhost@example.com/certs",
        "https://user:password@sso.example.com/certs",
        "https://sso.example.com/certs#keys",
        "https:///certs",
        "https://sso.example.com:port/",
        "https://[::1/",
        "https://sso.example.com/a b",
        "https://sso.example.com/\n",
        "https://ßso.example.com/",
        "file:///etc/passwd",
        "ftp://sso.example.com/",
        "//sso.example.com/certs",
        "sso.example.com",
        "",
    ],
)
def test_where_they_may_not(url: str) -> None:
    with pytest.raises(ValueError, match=r"is not a URL|must begin with https"):
        check_url(url, False)


class Realm(Resource):
    """Keycloak's pages of the realm, on loopback."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.keycloak = Keycloak()
        self.issuer = ""
        self.discovery: dict[str, Any] = {}
        self.status = 200
        self.body: bytes | None = None
        self.asked: list[str] = []

    def render_GET(self, request: Any) -> bytes:
        self.asked.append(request.path.decode())
        request.setResponseCode(self.status)
        if self.status == 302:
            request.setHeader("Location", f"{self.issuer}/elsewhere")
        if self.body is not None:
            return self.body
        if request.path.endswith(b"/.well-known/openid-configuration"):
            certs = f"{self.issuer}/protocol/openid-connect/certs"
            return json.dumps({"issuer": self.issuer, "jwks_uri": certs, **self.discovery}).encode()
        if request.path.endswith(b"/certs"):
            return json.dumps(self.keycloak.jwks()).encode()
        request.setResponseCode(404)
        return b'{"error":"RESTEASY003210: Could not find resource"}'


@pytest.fixture
def realm() -> Iterator[Realm]:
    realm = Realm()
    port = pytest_twisted.blockon(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Site(realm)))
    realm.issuer = f"http://127.0.0.1:{port.getHost().port}/keycloak/realms/shasta"
    yield realm
    pytest_twisted.blockon(port.stopListening())


@pytest_twisted.ensureDeferred
async def test_by_url(realm: Realm) -> None:
    fetch = from_url(Fetcher(reactor), f"{realm.issuer}/protocol/openid-connect/certs")
    assert [key.kid for key in await fetch()] == ["rsa-1"]


@pytest_twisted.ensureDeferred
async def test_by_discovery(realm: Realm) -> None:
    url = f"{realm.issuer}/.well-known/openid-configuration"
    fetch = from_discovery(Fetcher(reactor), url, [realm.issuer], False)
    assert [key.kid for key in await fetch()] == ["rsa-1"]
    path = "/keycloak/realms/shasta"
    assert realm.asked == [f"{path}/.well-known/openid-configuration", f"{path}/protocol/openid-connect/certs"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"issuer": "https://evil.example.com"}, "not the discovery document of http://127.0.0.1"),
        ({"issuer": None}, "not the discovery document"),
        ({"issuer": ["x"]}, "not the discovery document"),
        ({"jwks_uri": None}, "has no jwks_uri"),
        ({"jwks_uri": "http://evil.example.com/certs"}, "its jwks_uri: .* must begin with https"),
        ({"jwks_uri": "file:///etc/passwd"}, "its jwks_uri: .*is not a URL|must begin"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_discovery_document_that_leads_astray(realm: Realm, change: dict[str, Any], why: str) -> None:
    realm.discovery = change
    url = f"{realm.issuer}/.well-known/openid-configuration"
    with pytest.raises(Unreachable, match=why):
        await from_discovery(Fetcher(reactor), url, [realm.issuer], False)()


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (500, b"{}", "certs: status 500"),
        (302, b"", "certs: status 302"),
        (404, None, "certs: status 404"),
        (200, b"<html>", "certs: it is no JSON"),
        (200, b"", "certs: it is no JSON"),
        (200, b'{"keys":[]}', "certs: it has no usable key"),
        (200, b"[" * 200_000, "certs: it is no JSON"),
        (200, b"x" * (1 << 19), "certs: the answer is larger than 262144 bytes"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_no_set_of_keys(realm: Realm, status: int, body: bytes | None, why: str) -> None:
    realm.status, realm.body = status, body
    with pytest.raises(Unreachable, match=why):
        await from_url(Fetcher(reactor), f"{realm.issuer}/protocol/openid-connect/certs")()
    assert len(realm.asked) == 1, "no redirect is followed"
