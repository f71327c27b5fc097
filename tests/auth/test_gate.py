"""The gate: who gets in, what each role may do, and that every doubt is a no."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

import pytest
from twisted.cred.checkers import AllowAnonymousAccess, ICredentialsChecker
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger, capturedLogs, eventAsText
from zope.interface import implementer
from zope.interface.verify import verifyObject

from consoled.auth.audit import Audit, Record, to_log
from consoled.auth.credentials import IBearerToken
from consoled.auth.gate import Gate, IUser
from consoled.auth.roles import ROLES
from consoled.auth.tenants import Tenants, TenantTable
from consoled.auth.tokens import TokensFile
from consoled.core import access
from consoled.core.access import CannotKnow, Forbidden, Knock, Unauthenticated, User, Verb

CANARY = "canary-4711"
TOKENS = f"""
[[token]]
name = "alice"
sha256 = "{sha256(CANARY.encode()).hexdigest()}"
role = "operator"
tenants = ["blue"]
"""
TENANTS = TenantTable({"blue": "x[1-4]", "green": "x[5-8]"})


class Site:
    """A gate with its audit log."""

    def __init__(self, *checkers: ICredentialsChecker, tenants: Tenants = TENANTS) -> None:
        self.records: list[Record] = []
        self.gate: access.Gate = Gate(checkers, ROLES, tenants, Audit(self.records.append, lambda: 0.0))

    def login(self, *authorization: bytes) -> User:
        return now(self.gate.login(Knock("192.0.2.7:1", authorization)))

    def authorise(self, user: User, verb: Verb, *tenant: bytes) -> access.Scope:
        return now(self.gate.authorise(user, verb, tenant))


def now(deferred: Deferred[Any]) -> Any:
    """What a Deferred has fired with already."""
    results: list[Any] = []
    failures: list[Any] = []
    deferred.addCallbacks(results.append, failures.append)
    for failure in failures:
        failure.raiseException()
    [result] = results
    return result


@implementer(ICredentialsChecker)
class Slow:
    """A checker that has yet to answer."""

    credentialInterfaces = (IBearerToken,)

    def __init__(self) -> None:
        self.answer: Deferred[User] = Deferred()

    def requestAvatarId(self, credentials: Any) -> Any:
        return self.answer


@pytest.fixture
def site(tmp_path: Path) -> Site:
    path = tmp_path / "tokens.toml"
    path.write_text(TOKENS)
    return Site(TokensFile(path, ROLES, Clock()))


def somebody(role: str, *tenants: str) -> User:
    return User("somebody", role, frozenset(tenants) or None, "test", "192.0.2.7:1")


# --------------------------------------------------------------------------------------------------------- who


def test_a_known_token_is_its_user(site: Site) -> None:
    user = site.login(b"Bearer " + CANARY.encode())
    assert user == User("alice", "operator", frozenset({"blue"}), "tokens", "192.0.2.7:1")
    assert verifyObject(IUser, user)
    assert [record["action"] for record in site.records] == ["accepted"]


def test_C_AUTH_7_strangers_all_look_alike(site: Site) -> None:
    answers = set()
    whys = set()
    for authorization in (
        [],
        [b"Bearer wrong"],
        [b"Bearer"],
        [b"Basic abc"],
        [b"Bearer a", b"Bearer b"],
        [b"a" * 9000],
    ):
        with pytest.raises(Unauthenticated) as caught:
            site.login(*authorization)
        answers.add((type(caught.value), str(caught.value), caught.value.args))
        whys.add(caught.value.why)
    assert len(answers) == 1
    assert len(whys) == 5
    assert {record["action"] for record in site.records} == {"refused"}


def test_a_site_with_no_checker_lets_nobody_in() -> None:
    for authorization in ([], [b"Bearer x"]):
        with pytest.raises(Unauthenticated):
            Site().login(*authorization)


@pytest.mark.parametrize("authorization", [[], [b"Bearer whatever"], [b"junk", b"junk"]])
def test_an_open_door_makes_everybody_an_admin(authorization: list[bytes]) -> None:
    user = Site(AllowAnonymousAccess()).login(*authorization)
    assert (user.name, user.role, user.tenants, user.origin) == ("anonymous", "admin", None, "192.0.2.7:1")


def test_an_open_door_beside_a_shut_one_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="anonymous"):
        Site(Slow(), AllowAnonymousAccess())


def test_a_slow_checker_holds_up_one_login_only() -> None:
    slow = Slow()
    site = Site(slow)
    users: list[User] = []
    site.gate.login(Knock("a:1", (b"Bearer x",))).addCallback(users.append)
    assert users == []
    slow.answer.callback(User("alice", "viewer", None, "slow"))
    assert users == [User("alice", "viewer", None, "slow", "a:1")]


def test_the_callers_time_limit_ends_as_cannot_know() -> None:
    clock = Clock()
    slow = Slow()
    failures: list[Any] = []
    Site(slow).gate.login(Knock("a:1", (b"Bearer x",))).addTimeout(3, clock).addErrback(failures.append)
    clock.advance(3)
    assert failures[0].check(CannotKnow)
    assert slow.answer.called


@pytest.mark.parametrize("answer", [RuntimeError("oops"), KeyError("x")])
def test_an_accident_in_a_checker_is_no_way_in(answer: Exception) -> None:
    slow = Slow()
    slow.answer.errback(answer)
    site = Site(slow)
    with capturedLogs() as events, pytest.raises(CannotKnow):
        site.login(b"Bearer x")
    assert [event["log_failure"].value for event in events] == [answer]
    assert site.records[0]["why"] == f"an accident: {type(answer).__name__}"


@pytest.mark.parametrize("answer", [None, (), b"alice", "admin", 1])
def test_a_checker_that_answers_nonsense_is_no_way_in(answer: Any) -> None:
    slow = Slow()
    slow.answer.callback(answer)
    with capturedLogs(), pytest.raises(CannotKnow):
        Site(slow).login(b"Bearer x")


def test_the_token_shows_nowhere(site: Site) -> None:
    wrong = f"Bearer {CANARY}-wrong".encode()
    knock = Knock("a:1", (wrong,))
    seen = [repr(knock), str(knock)]
    broken = Slow()
    broken.answer.errback(RuntimeError("oops"))
    with capturedLogs() as events:
        for gate in (site.gate, Gate([broken], ROLES, TENANTS, Audit(to_log(Logger()), lambda: 0.0))):
            for headers in ([wrong], [wrong, wrong], [wrong + b" !"], [b"Bearer " + CANARY.encode()]):
                outcome: list[Any] = []
                gate.login(Knock("a:1", tuple(headers))).addBoth(outcome.append)
                seen.append(repr(outcome))
                if hasattr(outcome[0], "getTraceback"):
                    seen += [outcome[0].getTraceback(), repr(outcome[0].value), outcome[0].value.why]
    seen += [eventAsText(event) + repr(event) for event in events]
    seen.append(repr(site.records))
    assert len(seen) > 20
    assert [text for text in seen if CANARY in text] == []


# -------------------------------------------------------------------------------------------------------- what

# The table of the issue, spelled out: not computed from the one that it checks.
MATRIX = {
    "viewer": "yes yes no  no  no  no  no  no",
    "operator": "yes yes yes yes yes no  no  no",
    "admin": "yes yes yes yes yes yes yes yes",
    "unheard-of": "no  no  no  no  no  no  no  no",
}
VERBS: Sequence[Verb] = ("list", "tail", "interact", "take", "break", "broadcast", "kick", "admin")


def test_the_matrix_has_every_verb_and_every_role() -> None:
    assert set(VERBS) == set(get_args(Verb))
    assert set(MATRIX) == set(ROLES) | {"unheard-of"}


@pytest.mark.parametrize(
    ("role", "verb", "answer"),
    [(role, verb, word) for role, words in MATRIX.items() for verb, word in zip(VERBS, words.split(), strict=True)],
)
def test_matrix(role: str, verb: Verb, answer: str) -> None:
    site = Site()
    user = somebody(role)
    if answer == "yes":
        scope = site.authorise(user, verb)
        assert scope.admits(verb, "x1")
        scope.require(verb, "x1")
        assert site.records == []
        return
    with pytest.raises(Forbidden) as caught:
        site.authorise(user, verb)
    assert str(caught.value) == f"User does not have permission to {verb}"
    assert [(record["action"], record["verb"]) for record in site.records] == [("refused", verb)]
    if role in ROLES:  # the same answer to a session that asks later
        scope = site.authorise(user, "tail")
        assert not scope.admits(verb, "x1")
        with pytest.raises(Forbidden) as again:
            scope.require(verb, "x1")
        assert str(again.value) == str(caught.value)


def test_C_TENANT_1_a_node_of_the_tenant_is_admitted() -> None:
    for verb in ("tail", "interact"):
        Site().authorise(somebody("operator", "blue"), verb, b"blue").require(verb, "x4")


@pytest.mark.parametrize("role", ["operator", "admin"])
@pytest.mark.parametrize("verb", ["tail", "interact"])
def test_C_TENANT_2_a_node_of_another_is_refused_also_to_an_admin_who_names_a_tenant(role: str, verb: Verb) -> None:
    site = Site()
    for user, tenant in ((somebody(role, "blue"), b""), (somebody(role, "blue"), b"blue"), (somebody(role), b"blue")):
        scope = site.authorise(user, verb, tenant)
        assert not scope.admits(verb, "x5")
        with pytest.raises(Forbidden) as caught:
            scope.require(verb, "x5")
        assert str(caught.value) == "User does not have permission to access x5"
    assert [(record["action"], record["console"]) for record in site.records] == [("refused", "x5")] * 3


def test_the_role_comes_before_the_tenant() -> None:
    with pytest.raises(Forbidden, match="permission to interact"):
        Site().authorise(somebody("viewer"), "interact", b"no such", b"thing")


def test_a_bad_tenant_header_is_refused_before_any_console_is_named() -> None:
    site = Site()
    for tenant in ([b"violet"], [b"Blue"], [b"blue", b"blue"], [b"\x1b[2J!"]):
        with pytest.raises(Forbidden):
            site.authorise(somebody("admin"), "tail", *tenant)
    assert [record["why"] for record in site.records] == [
        "unknown tenant violet",
        "malformed tenant name Blue",
        "several tenant headers",
        r"malformed tenant name \x1b[2J!",
    ]


def test_an_open_site_has_tenants_too() -> None:
    site = Site(AllowAnonymousAccess())
    user = site.login()
    assert site.authorise(user, "tail").admits("tail", "x5")
    assert not site.authorise(user, "tail", b"blue").admits("tail", "x5")


class Service:
    """A tenant service that has yet to answer."""

    def __init__(self) -> None:
        self.answer: Deferred[frozenset[str]] = Deferred()

    def nodes(self, tenant: str) -> Deferred[frozenset[str]]:
        return self.answer


def test_C_TENANT_4_a_tenant_service_that_fails_is_no_way_in() -> None:
    for error in (CannotKnow("refused", retry_after=7), OSError("connection refused")):
        service = Service()
        service.answer.errback(error)
        site = Site(tenants=service)
        with capturedLogs(), pytest.raises(CannotKnow) as caught:
            site.authorise(somebody("admin"), "tail", b"blue")
        assert "refused" not in str(caught.value)
        assert len(site.records) == 1


def test_C_TENANT_5_a_tenant_service_that_hangs_is_cut_off() -> None:
    clock, service, failures = Clock(), Service(), list[Any]()
    asked = Site(tenants=service).gate.authorise(somebody("admin"), "tail", [b"blue"])
    asked.addTimeout(3, clock).addErrback(failures.append)
    clock.advance(3)
    assert failures[0].check(CannotKnow)
    assert service.answer.called
