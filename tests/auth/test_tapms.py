"""CSM's tenant service: its answers, its failures, and that no doubt is ever a yes (contract, 1.5)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, eventAsText
from twisted.web.server import Site

from consoled.auth.tapms import LIMIT, PAUSE, REMEMBERED, TapmsSettings, TenantService
from consoled.auth.tenants import FirstTenants, Holding, TenantTable, UnknownTenant
from consoled.core.access import CannotKnow
from consoled.core.secret import Secret, SecretUnavailable
from consoled.fetch import Fetcher, Unreachable
from consoled.units import units
from tests.auth.tapms import Page, Tapms, tenant

CANARY = "canary-4711"
URL = "http://cray-tapms"


class Secrets:
    """The service's own token."""

    def __init__(self) -> None:
        self.value: Any = CANARY
        self.fresh: list[bool] = []

    def fetch(self, secret: Secret, fresh: bool = False) -> Deferred[Any]:
        self.fresh.append(fresh)
        if isinstance(self.value, Deferred):
            return self.value
        return fail(SecretUnavailable(f"{secret}: gone")) if self.value is None else succeed(self.value)


class Story:
    """A service, a clock, and us."""

    def __init__(self, url: str = URL, **settings: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.tapms = Tapms(blue="x1,x2;x3", green="x4")
        self.secrets = Secrets()
        settings.setdefault("unsafe_plaintext", True)
        self.service = TenantService(TapmsSettings(url=url, **settings), self.tapms, self.secrets, self.clock)

    def ask(self, tenant: str = "blue") -> Any:
        """What it says: the nodes, or the error; None if it has said nothing yet."""
        said: list[Any] = []
        self.service.nodes(tenant).addCallbacks(said.append, lambda failure: said.append(failure.value))
        return said[0] if said else None

    def names(self, tenant: str = "blue") -> str | None:
        said = self.ask(tenant)
        return " ".join(sorted(said.nodes)) if isinstance(said, Holding) else None


@pytest.fixture
def story() -> Iterator[Story]:
    with capturedLogs() as events:
        story = Story()
        yield story
        assert not story.clock.getDelayedCalls()
    assert not [event for event in events if "log_failure" in event]


def test_C_TENANT_1_what_has_been_observed_counts_and_not_what_is_wished_for(story: Story) -> None:
    assert story.ask() == Holding(frozenset({"x1", "x2", "x3"}), 10.0)
    assert story.ask("green") == Holding(frozenset({"x4"}), 10.0)
    assert story.tapms.asked == [f"{URL}/v1alpha3/tenants/blue", f"{URL}/v1alpha3/tenants/green"]
    assert story.tapms.headers == [{}, {}]


@pytest.mark.parametrize(
    "status", [{}, {"tenantresources": None}, {"tenantresources": []}, {"tenantresources": [{"type": "compute"}]}, None]
)
def test_C_TENANT_2_lists_that_are_absent_are_empty(story: Story, status: Any) -> None:
    story.tapms.tenants["blue"]["status"] = status
    assert story.ask() == Holding(frozenset(), 10.0)


def test_C_TENANT_1_a_tenant_may_be_named_by_its_uuid(story: Story) -> None:
    blue = story.tapms.tenants["blue"]
    story.tapms.tenants[blue["status"]["uuid"]] = blue
    assert story.names(blue["status"]["uuid"]) == "x1 x2 x3"


def test_C_TENANT_3_an_unknown_tenant_is_an_answer(story: Story) -> None:
    assert isinstance(story.ask("violet"), UnknownTenant)
    story.tapms.error = Unreachable("down")
    story.clock.advance(59)
    assert isinstance(story.ask("violet"), UnknownTenant)


NO_ANSWERS = {
    "a bare word": (200, b"yes"),
    "HTML": (200, b"<html>login</html>"),
    "nothing": (200, b""),
    "not UTF-8": (200, b'{"status": {"tenantresources": [{"xnames": ["\xff"]}]}}'),
    "an array": (200, b"[]"),
    "null": (200, b"null"),
    "a string": (200, b'"Tenant not found."'),
    "another shape": (200, b'{"status": {"tenantresources": {"xnames": ["x1"]}}}'),
    "names that are none": (200, b'{"status": {"tenantresources": [{"xnames": [1]}]}}'),
    "deep": (200, b"[" * 100_000),
    "deep where nobody looks": (200, b'{"metadata": {"name": "blue", "annotations": ' + b"[" * 100_000),
    "another's": (200, json.dumps(tenant("green", "x4")).encode()),
    "nobody's": (200, b'{"status": {"tenantresources": [{"xnames": ["x4"]}]}}'),
    "500": (500, b'{"message": "etcd is down"}'),
    "503": (503, b""),
    "401": (401, b'{"message": "Unauthorized"}'),
    "403": (403, b"Unauthorized Request"),
    "302": (302, b""),
    "204": (204, b""),
    "unrouted": (404, b'{"message": "Page not found"}'),
    "a proxy's 404": (404, b"<html>404</html>"),
    "an empty 404": (404, b""),
}


@pytest.mark.parametrize("answer", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_C_TENANT_4_an_answer_that_is_none_is_no_yes(story: Story, answer: tuple[int, bytes]) -> None:
    story.tapms.answer = answer
    said = story.ask()
    assert isinstance(said, CannotKnow)
    assert said.retry_after > 0
    assert "cray-tapms" not in str(said)


@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["status", "tenantresources", "xnames", "spec"]), inner, max_size=3)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_C_TENANT_4_no_answer_of_any_shape_is_an_accident(body: bytes) -> None:
    for status in (200, 404, 500):
        story = Story()
        story.tapms.answer = status, body
        said = story.ask()
        assert isinstance(said, Holding | CannotKnow | UnknownTenant)
        assert status == 200 or not isinstance(said, Holding)


@pytest.mark.parametrize("error", [Unreachable("connection refused"), OSError("no route"), RuntimeError(CANARY)])
def test_C_TENANT_4_what_goes_wrong_in_asking_is_no_yes(story: Story, error: Exception) -> None:
    story.tapms.error = error
    said = story.ask()
    assert isinstance(said, CannotKnow)
    assert CANARY not in said.why + str(story.service.trouble)


def test_C_TENANT_5_a_service_that_hangs_has_three_seconds(story: Story) -> None:
    story.tapms.waiting = []
    said: list[Any] = []
    story.service.nodes("blue").addErrback(lambda failure: said.append(failure.value))
    story.clock.advance(LIMIT - 0.1)
    assert not said
    story.clock.advance(0.1)
    assert isinstance(said[0], CannotKnow)
    assert story.service.trouble == "the tenant service cannot be asked: no answer within 3 s"
    assert story.tapms.waiting[0].called, "given up, so that the connection is closed"


def test_C_TENANT_5_however_the_one_who_asks_says_that_he_was_interrupted(story: Story) -> None:
    asking: Deferred[tuple[int, bytes]] = Deferred(lambda it: it.errback(Unreachable("CancelledError")))
    story.tapms.get = lambda url, headers: asking  # type: ignore[method-assign]
    said: list[Any] = []
    story.service.nodes("blue").addErrback(lambda failure: said.append(failure.value))
    story.clock.advance(LIMIT)
    assert said[0].why == "the tenant service cannot be asked: no answer within 3 s"


@pytest.mark.parametrize("name", ["Blue", "b", "../blue", "blue/green", "blue?x", "bl%75e", "blue\n", "bl ue", "blü"])
def test_C_TENANT_6_a_name_that_could_be_nobodys_is_not_asked_about(story: Story, name: str) -> None:
    assert isinstance(story.ask(name), UnknownTenant)
    assert story.tapms.asked == []


def test_C_TENANT_6_a_proper_name_is_one_segment(story: Story) -> None:
    story.ask("a.b-c")
    assert story.tapms.asked == [f"{URL}/v1alpha3/tenants/a.b-c"]


# ------------------------------------------------------------------------------------------------------ memory


def test_an_answer_is_believed_for_a_while(story: Story) -> None:
    assert story.names() == "x1 x2 x3"
    del story.tapms.tenants["blue"]
    story.clock.advance(9)
    assert story.ask() == Holding(frozenset({"x1", "x2", "x3"}), 1.0)
    story.clock.advance(1)
    assert isinstance(story.ask(), UnknownTenant)
    assert len(story.tapms.asked) == 2


def test_a_failure_is_bridged_by_what_was_said_before_and_no_longer(story: Story) -> None:
    story.ask()
    story.tapms.error = Unreachable("down")
    story.clock.advance(50)
    assert story.ask() == Holding(frozenset({"x1", "x2", "x3"}), 10.0)
    story.clock.advance(9.9)
    assert story.names() == "x1 x2 x3"
    story.clock.advance(0.1)
    assert isinstance(story.ask(), CannotKnow)
    story.clock.advance(PAUSE)
    assert isinstance(story.ask(), CannotKnow)
    story.tapms.error = None
    story.clock.advance(PAUSE)
    assert story.ask() == Holding(frozenset({"x1", "x2", "x3"}), 10.0)


def test_an_answer_that_came_late_is_as_old_as_its_question(story: Story) -> None:
    story.tapms.waiting = []
    said: list[Holding] = []
    story.service.nodes("blue").addCallback(said.append)
    story.clock.advance(2)
    story.tapms.waiting[0].callback(story.tapms.say("/v1alpha3/tenants/blue"))
    assert said[0].holds == 8.0


def test_without_memory_every_decision_is_asked_about() -> None:
    story = Story(cache=0, stale=0)
    assert [story.ask().holds for _ in range(3)] == [0, 0, 0]
    assert len(story.tapms.asked) == 3
    story.tapms.error = Unreachable("down")
    assert isinstance(story.ask(), CannotKnow)


def test_a_clock_that_is_set_back_believes_nothing_old(story: Story) -> None:
    story.ask()
    story.clock.rightNow -= 500
    del story.tapms.tenants["blue"]
    assert isinstance(story.ask(), UnknownTenant)


def test_all_who_want_to_know_share_one_question(story: Story) -> None:
    story.tapms.waiting = []
    said: list[Any] = []
    asking = [story.service.nodes("blue").addBoth(said.append) for _ in range(5)]
    other = story.service.nodes("green").addBoth(said.append)
    assert len(story.tapms.asked) == 2
    asking[0].cancel()
    asking[3].cancel()
    assert len(said) == 2
    story.tapms.waiting[0].callback(story.tapms.say("/v1alpha3/tenants/blue"))
    assert [one.nodes for one in said[2:]] == [frozenset({"x1", "x2", "x3"})] * 3
    other.cancel()
    story.clock.advance(LIMIT)
    assert story.names() == "x1 x2 x3"


def test_a_service_that_is_down_is_not_hammered(story: Story) -> None:
    story.tapms.error = Unreachable("down")
    for _ in range(20):
        assert isinstance(story.ask(), CannotKnow)
        story.clock.advance(PAUSE / 10)
    assert len(story.tapms.asked) <= 3


def test_only_so_many_tenants_are_remembered(story: Story) -> None:
    story.ask("blue")
    for number in range(REMEMBERED + 10):
        story.ask(f"tenant-{number}")
    assert len(story.service._known) <= REMEMBERED + 1
    story.ask("blue")
    assert story.tapms.asked[-1].endswith("/blue"), "forgotten, and asked about again"


# -------------------------------------------------------------------------------------------- token and trouble


def test_its_token_goes_to_it_and_nowhere_else() -> None:
    with capturedLogs() as events:
        story = Story("https://tapms", token=Secret(file="/token"))
        assert story.names() == "x1 x2 x3"
        assert story.tapms.headers == [{"Authorization": f"Bearer {CANARY}"}]
        for answer in NO_ANSWERS.values():
            story.clock.advance(100)
            story.tapms.answer = answer
            story.ask()
        seen = [eventAsText(event) + repr(event) for event in events]
    seen += [repr(vars(story.service)), str(story.service.trouble), repr(story.ask())]
    assert not [text for text in seen if CANARY in text]


def test_a_token_that_was_refused_is_fetched_anew() -> None:
    story = Story("https://tapms", token=Secret(file="/token"))
    for answer in ((200, b"{}"), (401, b""), (200, b"{}"), (403, b""), (500, b""), (200, b"{}")):
        story.tapms.answer = answer
        story.ask()
        story.clock.advance(100)
    assert story.secrets.fresh == [False, False, True, False, True, False]


def test_a_token_that_cannot_be_had_is_no_yes() -> None:
    story = Story("https://tapms", token=Secret(file="/token"))
    story.secrets.value = None
    assert isinstance(story.ask(), CannotKnow)
    assert story.tapms.asked == []
    story.secrets.value = Deferred()
    story.clock.advance(PAUSE)
    assert story.ask() is None
    story.clock.advance(LIMIT)
    assert not story.clock.getDelayedCalls()


def test_trouble_is_said_once_and_when_it_is_over(story: Story) -> None:
    with capturedLogs() as events:
        story.ask()
        assert story.service.trouble is None
        story.tapms.answer = 500, b""
        for _ in range(3):
            story.clock.advance(20)
            story.ask()
        assert story.service.trouble == f"the tenant service cannot be asked: {URL}/v1alpha3/tenants/blue: status 500"
        story.tapms.answer = None
        story.clock.advance(20)
        story.ask()
        assert story.service.trouble is None
    assert [event["log_level"] for event in events] == [LogLevel.error, LogLevel.info]


# ---------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"url": "http://cray-tapms"}, "unsafe_plaintext = true"),
        ({"url": "http://127.0.0.1.example.com/"}, "unsafe_plaintext = true"),
        ({"url": "http://localhost@example.com/"}, r"\$\.url"),
        ({"url": "ftp://x"}, r"\$\.url"),
        ({"url": "https://x/?a=b"}, r"\$\.url"),
        ({"url": "https://user:secret@x/"}, r"\$\.url"),
        (
            {"url": "http://x", "unsafe_plaintext": True, "token": {"file": "t"}},
            "token: it is not sent over plain HTTP",
        ),
        ({"url": "https://x", "version": "../v1"}, r"\$\.version"),
        ({"url": "https://x", "stale": "5s"}, "stale: it must not be less than cache"),
        ({"url": "https://x", "ca": "ca.pem", "fingerprint": "ab"}, "not asked with"),
        ({"url": "https://x", "verify": False}, "verify"),
        ({}, "url"),
    ],
)
def test_a_mistake_is_named(settings: Any, complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=complaint):
        msgspec.convert(settings, TapmsSettings, dec_hook=units("/etc"))


@pytest.mark.parametrize(
    "url", ["https://gw/apis/tapms", "http://127.0.0.1:8080", "http://[::1]/x", "http://localhost"]
)
def test_what_is_private_needs_no_excuse(url: str) -> None:
    assert msgspec.convert({"url": url}, TapmsSettings).is_private
    assert not TapmsSettings(url="http://cray-tapms", unsafe_plaintext=True).is_private


# ----------------------------------------------------------------------------------------------- several sources


def test_the_first_source_that_has_heard_of_a_tenant_answers(story: Story) -> None:
    both = FirstTenants([TenantTable({"blue": "x7"}), story.service])
    said: list[Any] = []
    for name in ("blue", "green", "violet"):
        both.nodes(name).addBoth(said.append)
    assert said[0] == Holding(frozenset({"x7"}))
    assert said[1] == Holding(frozenset({"x4"}), 10.0)
    assert said[2].check(UnknownTenant)
    story.tapms.error = Unreachable("down")
    both.nodes("yellow").addBoth(said.append)
    assert said[3].check(CannotKnow)


# ---------------------------------------------------------------------------------------------- over a real socket


@pytest.fixture
def page() -> Page:
    return Page(Tapms(blue="x1,x2;x3"))


@pytest.fixture
def service(page: Page) -> Iterator[TenantService]:
    port = pytest_twisted.blockon(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Site(page)))
    settings = TapmsSettings(url=f"http://127.0.0.1:{port.getHost().port}/apis/tapms")
    yield TenantService(settings, Fetcher(reactor), Secrets(), reactor)
    pytest_twisted.blockon(port.stopListening())


@pytest_twisted.ensureDeferred
async def test_C_TENANT_1_over_a_socket(service: TenantService, page: Page) -> None:
    assert (await service.nodes("blue")).nodes == {"x1", "x2", "x3"}
    assert page._tapms.asked == ["/apis/tapms/v1alpha3/tenants/blue"]


@pytest_twisted.ensureDeferred
async def test_C_TENANT_3_over_a_socket(service: TenantService) -> None:
    with pytest.raises(UnknownTenant):
        await service.nodes("violet")


@pytest.mark.parametrize("wrong", ["at once", "in the middle", "redirect", "too large", "500"])
@pytest_twisted.ensureDeferred
async def test_C_TENANT_4_over_a_socket(service: TenantService, page: Page, wrong: str) -> None:
    match wrong:
        case "redirect":
            page.redirect = "/apis/tapms/v1alpha3/tenants/blue2"
            page._tapms.tenants["blue2"] = page._tapms.tenants["blue"]
        case "too large":
            page._tapms.answer = 200, b'{"status": {"tenantresources": []}}' + b" " * (1 << 20)
        case "500":
            page._tapms.answer = 500, b'{"message": "no"}'
        case _:
            page.drops = wrong
    with pytest.raises(CannotKnow):
        await service.nodes("blue")
    assert len(page._tapms.asked) == 1
