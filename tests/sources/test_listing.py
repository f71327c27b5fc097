"""Lists of consoles out of programs and over HTTP, and every way not to get one."""

from __future__ import annotations

import gzip
import sys
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted.web.server import Site as TwistedSite

from consoled.core.secret import Secret, SecretUnavailable
from consoled.core.sources import SORTS
from consoled.sources import listing
from consoled.sources.keeper import make
from consoled.sources.listing import Around, Unusable, explained, parse
from consoled.sources.settings import CommandSource, CsmSource, HttpSource


class Secrets:
    """Knows one, and another when it is asked afresh."""

    def fetch(self, secret: Secret, fresh: bool = False) -> Deferred[str]:
        if secret.env:
            return fail(SecretUnavailable(f"{secret}: no such variable"))
        return succeed("c4n4ry-2" if fresh else "c4n4ry-1")


AROUND: Any = Around(reactor, Secrets(), execute)


def ask(settings: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(make(settings, AROUND).ask())


async def complaint(settings: Any) -> str:
    with pytest.raises(Unusable) as caught:
        await ask(settings)
    assert "c4n4ry" not in str(caught.value)
    return str(caught.value)


def program(text: str) -> CommandSource:
    return CommandSource(name="cmdb", command=(sys.executable, "-S", "-c", text), limit=60.0)


# ---------------------------------------------------------------------------------------------- programs


@pytest_twisted.ensureDeferred
async def test_a_program_prints_consoles():
    assert await ask(program("""print('[{"name": "n1", "retry_max": 5}]')""")) == [{"name": "n1", "retry_max": 5}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import sys; sys.exit('no database')", "ended with exit status 1: no database"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by signal 9"),
        ("import sys; print('[]'); sys.exit(3)", "ended with exit status 3"),
        ("", "the answer is not JSON"),
        ("print('consoles:')", "the answer is not JSON"),
        ("print('{}')", "the answer is not a list of consoles: Expected `array`, got `object`"),
        ("print('[1]')", "the answer is not a list of consoles: Expected `object`, got `int` - at `$[0]`"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_program_that_fails(text, said):
    assert (await complaint(program(text))).endswith(said)


@pytest_twisted.ensureDeferred
async def test_a_program_that_is_not_there():
    settings = CommandSource(name="cmdb", command=("/nowhere/cmdb",))
    assert "/nowhere/cmdb" in await complaint(settings)


# ---------------------------------------------------------------------------------------------- over HTTP


class Page(Resource):
    """Answers as it is told."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body: bytes | None = b'[{"name":"n1"}]'
        self.shown: list[str | None] = []

    def render(self, request: Any) -> Any:
        self.shown.append(request.getHeader("authorization"))
        request.setResponseCode(self.status)
        for name, value in self.headers.items():
            request.setHeader(name, value)
        return NOT_DONE_YET if self.body is None else self.body


@pytest.fixture
def page():
    page = Page()
    port = pytest_twisted.blockon(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(TwistedSite(page)))
    page.url = f"http://127.0.0.1:{port.getHost().port}/list"
    yield page
    pytest_twisted.blockon(port.stopListening())


def posted(page: Any, **more: Any) -> HttpSource:
    return HttpSource(name="cmdb", url=page.url, token=Secret(literal="x"), limit=60.0, **more)


@pytest_twisted.ensureDeferred
async def test_a_server_has_consoles(page):
    assert await ask(posted(page)) == [{"name": "n1"}]
    assert page.shown == ["Bearer c4n4ry-1"]


@pytest_twisted.ensureDeferred
async def test_a_token_that_is_refused_is_fetched_afresh(page):
    source = make(posted(page), AROUND)
    page.status = 401
    for _ in range(2):
        with pytest.raises(Unusable, match="status 401"):
            await Deferred.fromCoroutine(source.ask())
    page.status = 200
    await Deferred.fromCoroutine(source.ask())
    await Deferred.fromCoroutine(source.ask())
    assert page.shown == ["Bearer c4n4ry-1", "Bearer c4n4ry-2", "Bearer c4n4ry-2", "Bearer c4n4ry-1"]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, b"", ": status 500"),
        (302, b"[]", ": status 302"),
        (404, b"<html>", ": status 404"),
        (503, b'{"title":"Service \\u001b[2J", "detail":"no DB"}', ": status 503 (Service \\x1b[2J: no DB)"),
        (200, b"<html>", "the answer is not JSON"),
        (200, b"\xff", "the answer is not JSON"),
        (200, b'{"title":"x"}', "the answer is not a list of consoles: Expected `array`, got `object`"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_server_that_fails(page, status, body, said):
    page.status, page.body = status, body
    assert (await complaint(posted(page))).endswith(said)


@pytest.mark.parametrize("where", ["{url}", "http://localhost:{port}/list", "file:///etc/passwd", "//evil/list"])
@pytest_twisted.ensureDeferred
async def test_a_redirect_is_not_followed_with_the_token_or_without(page, where):
    port = page.url.partition("1:")[2].partition("/")[0]
    page.status, page.headers = 302, {"Location": where.format(url=page.url, port=port)}
    assert (await complaint(posted(page))).endswith(": status 302")
    assert len(page.shown) == 1


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_packed(page):
    page.headers, page.body = {"Content-Encoding": "gzip"}, gzip.compress(b"[" + b" " * 1_000_000 + b"]")
    assert "compressed" in await complaint(posted(page))


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_too_long(page, monkeypatch):
    monkeypatch.setattr(listing, "LARGEST", 1000)
    page.body = b"[" + b" " * 1000 + b"]"
    assert "the answer is larger than 1000 bytes" in await complaint(posted(page))


SHORT = {"limit": 0.2}


@pytest.mark.parametrize(
    ("status", "body", "more", "sort"),
    [
        (401, b"", {}, "refused"),
        (403, b"", {}, "refused"),
        (500, b"", {}, "status"),
        (302, b"", {}, "status"),
        (200, b"<html>", {}, "answer"),
        (200, None, SHORT, "timeout"),
        (200, b"[]", {"url": "http://127.0.0.1:1/list"}, "unreachable"),
        (200, b"[]", {"token": Secret(env="none")}, "secret"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_sort_of_failure_it_is(page, status, body, more, sort):
    page.status, page.body = status, body
    given = {"name": "cmdb", "url": page.url, "token": Secret(literal="x"), "limit": 60.0} | more
    with pytest.raises(Unusable) as caught:
        await ask(HttpSource(**given))
    assert caught.value.sort == sort
    assert sort in SORTS


@pytest_twisted.ensureDeferred
async def test_an_hsm_that_fails_says_why_in_its_own_words(page):
    page.status = 500
    page.body = b'{"type":"about:blank","title":"Internal Server Error","detail":"failed to query DB.","status":500}'
    hsm = page.url.removesuffix("/list")
    said = await complaint(CsmSource(name="csm", hsm=hsm, limit=60.0))
    assert said == f"{hsm}/State/Components?type=Node: status 500 (Internal Server Error: failed to query DB.)"


# ---------------------------------------------------------------------------------------------- texts


@settings(deadline=None)
@given(st.binary())
def test_whatever_is_in_an_answer(text):
    assert isinstance(explained(text), str)
    try:
        assert all(isinstance(entry, dict) for entry in parse(text))
    except Unusable as error:
        assert str(error).isprintable()


@pytest.mark.parametrize(
    "text", [b"[" + b"{}," * 3000 + b"{}]", b"[" + b"[[[]]]," * 900 + b"[]]", b'[{"a":[1' + b",1" * 3000]
)
def test_few_bytes_that_make_many_objects(text, monkeypatch):
    monkeypatch.setattr(listing, "MOST", 3000)
    with pytest.raises(Unusable, match="more than 3000 values"):
        parse(text)
    assert parse(b'[{"name":"a"},' * 1 + b'{"name":"b"}]')


def test_brackets_without_end():
    with pytest.raises(Unusable):
        parse(b"[" * 1_000_000)
    assert explained(b'{"title":' * 1_000_000) == ""
