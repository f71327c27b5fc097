"""The gate: who gets in, what each role may do, and that every doubt is a no."""

from collections.abc import Sequence
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Any, get_args

import pytest
from twisted.cred.checkers import AllowAnonymousAccess, ICredentialsChecker
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import Logger, capturedLogs, eventAsText
from zope.interface import implementer
from zope.interface.verify import verifyObject

from consoled.auth.audit import Audit, Record
from consoled.auth.consoles import Consoles
from consoled.auth.credentials import IBearerToken, ICertificate, ITicket
from consoled.auth.gate import Gate, IUser
from consoled.auth.roles import ROLES, Role
from consoled.auth.sinks import to_log
from consoled.auth.tenants import Holding, Tenants, TenantTable
from consoled.auth.tokens import TokensFile
from consoled.core import access
from consoled.core.access import CannotKnow, Forbidden, Knock, Limits, Unauthenticated, User, Verb

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
        self.gate: access.Gate = Gate(checkers, ROLES, tenants, Audit(self.records.append, lambda: 0.0), lambda: 0.0)

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
    return User("somebody", (role,), frozenset(tenants) or None, "test", "192.0.2.7:1")


# --------------------------------------------------------------------------------------------------------- who


def test_a_known_token_is_its_user(site: Site) -> None:
    user = site.login(b"Bearer " + CANARY.encode())
    assert user == User("alice", ("operator",), frozenset({"blue"}), "tokens", "192.0.2.7:1")
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
    assert (user.name, user.roles, user.tenants, user.origin) == ("anonymous", ("admin",), None, "192.0.2.7:1")


def test_an_open_door_beside_a_shut_one_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="anonymous"):
        Site(Slow(), AllowAnonymousAccess())


def test_a_slow_checker_holds_up_one_login_only() -> None:
    slow = Slow()
    site = Site(slow)
    users: list[User] = []
    site.gate.login(Knock("a:1", (b"Bearer x",))).addCallback(users.append)
    assert users == []
    slow.answer.callback(User("alice", ("viewer",), None, "slow"))
    assert users == [User("alice", ("viewer",), None, "slow", "a:1")]


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
        for gate in (site.gate, Gate([broken], ROLES, TENANTS, Audit(to_log(Logger()), lambda: 0.0), lambda: 0.0)):
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
    "viewer": "yes yes no  no  no  no  no  no  no",
    "operator": "yes yes yes yes yes yes no  no  no",
    "admin": "yes yes yes yes yes yes yes yes yes",
    "unheard-of": "no  no  no  no  no  no  no  no  no",
}
VERBS: Sequence[Verb] = ("list", "tail", "interact", "take", "break", "reset", "broadcast", "kick", "admin")


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
    assert [(record["action"], record["machine"]) for record in site.records] == [("refused", "x5")] * 3


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
        self.answer: Deferred[Holding] = Deferred()

    def nodes(self, tenant: str) -> Deferred[Holding]:
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


# ------------------------------------------------------------------------------------------- what is shown


class Takes:
    """A checker of one sort of credentials, which notes what it was shown."""

    def __init__(self, interface: Any) -> None:
        self.credentialInterfaces = (interface,)
        self.shown: list[Any] = []

    def requestAvatarId(self, credentials: Any) -> Any:
        self.shown.append(credentials.value)
        return User("somebody", ("viewer",), None, self.credentialInterfaces[0].__name__)


@pytest.mark.parametrize(
    ("knock", "proof", "shown"),
    [
        (Knock("a:1", (b"Bearer x",)), "IBearerToken", b"x"),
        (Knock("a:1", (), b"der"), "ICertificate", b"der"),
        (Knock("a:1", (), None, b"ticket"), "ITicket", b"ticket"),
        (Knock("a:1", (b"Bearer x",), b"der"), "IBearerToken", b"x"),
        (Knock("a:1", (), b"der", b"ticket"), "ITicket", b"ticket"),
    ],
)
def test_of_what_is_shown_one_counts(knock: Knock, proof: str, shown: bytes) -> None:
    checkers = [Takes(interface) for interface in (IBearerToken, ICertificate, ITicket)]
    assert now(Site(*checkers).gate.login(knock)).proof == proof
    assert [checker.shown for checker in checkers if checker.shown] == [[shown]]


@pytest.mark.parametrize(
    "knock",
    [
        Knock("a:1", (b"Bearer wrong",), b"der"),
        Knock("a:1", (b"Basic x",), b"der"),
        Knock("a:1", (), b"der", b"wrong"),
        Knock("a:1", (b"Bearer right",), None, b"wrong"),
        Knock("a:1", (b"Bearer right",), None, b""),
    ],
)
def test_what_is_wrong_is_not_made_good_by_something_else(site: Site, knock: Knock) -> None:
    for gate in (site.gate, Site(Takes(ICertificate)).gate):
        with pytest.raises(Unauthenticated):
            now(gate.login(knock))


def test_a_sort_of_credentials_that_nobody_takes(site: Site) -> None:
    for knock in (Knock("a:1", (), b"der"), Knock("a:1", (), None, b"ticket")):
        with pytest.raises(Unauthenticated):
            now(site.gate.login(knock))
    assert {record["checker"] for record in site.records} == {"Certificate", "Ticket"}


def test_several_checkers_take_tokens_in_their_order(tmp_path: Path) -> None:
    (path := tmp_path / "tokens.toml").write_text(TOKENS)
    tokens, other = TokensFile(path, ROLES, Clock()), Takes(IBearerToken)
    for order, proofs in (((tokens, other), ["tokens", "IBearerToken"]), ((other, tokens), ["IBearerToken"] * 2)):
        site = Site(*order)
        assert [site.login(b"Bearer " + token).proof for token in (CANARY.encode(), b"unknown")] == proofs


# ------------------------------------------------------------------------------------------------- and later


def expiring(expires: float, again: Any = None) -> User:
    return User("somebody", ("viewer",), None, "test", "a:1", expires=expires, again=again)


class Late(Site):
    """A gate at the time 1000."""

    def __init__(self, *checkers: ICredentialsChecker) -> None:
        super().__init__()
        self.time = 1000.0
        self.gate = Gate(checkers, ROLES, TENANTS, Audit(self.records.append, lambda: 0.0), lambda: self.time)


def test_a_proof_that_has_expired_is_none() -> None:
    for expires, good in ((999.0, False), (1000.0, False), (1000.5, True)):
        slow = Slow()
        slow.answer.callback(expiring(expires))
        site = Late(slow)
        if good:
            assert site.authorise(site.login(b"Bearer x"), "tail").holds == 0.5
        else:
            with pytest.raises(Unauthenticated):
                site.login(b"Bearer x")
            assert site.records[0]["why"] == "the credentials have expired"


def test_a_decision_that_nothing_limits_holds_for_ever() -> None:
    assert Late().authorise(somebody("viewer"), "tail").holds == float("inf")


def test_a_decision_holds_as_long_as_what_is_known_of_the_tenants() -> None:
    class Known:
        def nodes(self, tenant: str) -> Deferred[Holding]:
            return succeed(Holding(frozenset({"x1"}), {"blue": 10.0, "green": 5.0}[tenant]))

    site = Site(tenants=Known())
    assert site.authorise(somebody("viewer", "blue", "green"), "tail").holds == 5
    assert site.authorise(somebody("viewer", "blue", "green"), "tail", b"blue").holds == 10
    assert site.authorise(somebody("viewer"), "tail").holds == float("inf")
    user = User("somebody", ("viewer",), frozenset({"blue"}), "test", "a:1", expires=7.0)
    assert site.authorise(user, "tail").holds == 7


@pytest.mark.parametrize("late", [False, True])
def test_again_asks_the_checker_and_decides_anew(late: bool) -> None:
    known: list[Any] = [expiring(2000), expiring(2000), User("somebody", ("operator",), None, "test")]

    def again() -> Any:
        found = known.pop(0)
        return succeed(found) if late else found

    known[0:2] = [expiring(3000, again), expiring(4000, again)]
    site = Late()
    scope = site.authorise(expiring(2000, again), "tail", b"blue")
    for holds in (2000, 3000, float("inf")):
        scope = now(scope.again())
        assert scope.holds == holds
        assert scope.user.origin == "a:1"
        assert not scope.admits("tail", "x5"), "still for the tenant that was named"
    assert scope.admits("interact", "x1")
    assert site.records == [], "nobody knocked"


@pytest.mark.parametrize(
    ("found", "error", "why"),
    [
        (Unauthenticated("revoked"), Unauthenticated, "revoked"),
        (CannotKnow("no keys"), CannotKnow, "no keys"),
        (KeyError("oops"), CannotKnow, "an accident: KeyError"),
        (None, CannotKnow, "an accident: TypeError"),
        (User("mallory", ("admin",), None, "test"), Unauthenticated, "the credentials are now those of mallory"),
        (User("somebody", (), None, "test"), Forbidden, "no role of none has the verb tail"),
        (User("somebody", ("viewer",), None, "test", expires=1000.0), Unauthenticated, "the credentials have expired"),
        (User("somebody", ("viewer",), frozenset({"green"}), "test"), Forbidden, "not bound to tenant blue"),
    ],
)
def test_again_may_be_a_refusal(found: Any, error: type[Exception], why: str) -> None:
    def again() -> Any:
        if isinstance(found, Exception):
            raise found
        return found

    site = Late()
    scope = site.authorise(expiring(2000, again), "tail", b"blue")
    with capturedLogs(), pytest.raises(error):
        now(scope.again())
    [record] = site.records
    assert (record["action"], record["why"], record["verb"]) == ("refused", why, "tail")


def test_a_user_of_whom_nothing_more_is_known_expires_all_the_same() -> None:
    site = Late()
    scope = site.authorise(expiring(2000), "tail")
    assert now(scope.again()).holds == 1000
    site.time = 2000
    with pytest.raises(Unauthenticated):
        now(scope.again())


# ---------------------------------------------------------------------------------- roles of a site's own, limits


def with_roles(**roles: Role) -> Site:
    site = Site()
    site.gate = Gate([], roles, TENANTS, Audit(site.records.append, lambda: 0.0), lambda: 0.0)
    return site


def role(verbs: str, consoles: str = "@*", session: float = inf, idle: float = inf) -> Role:
    return Role(frozenset(verbs.split()), Consoles.parse(consoles, {}), Limits(session, idle))  # type: ignore[arg-type]


def holder(*roles: str) -> User:
    return User("somebody", roles, None, "test", "a:1")


def test_of_several_roles_any_will_do_but_not_a_verb_of_one_at_the_consoles_of_another() -> None:
    site = with_roles(see=role("list tail", "x[1-5]"), do=role("tail interact", "x[4-6]"))
    scope = site.authorise(holder("see", "do", "unheard-of"), "tail")
    assert [verb for verb in VERBS if scope.admits(verb, "x1")] == ["list", "tail"]
    assert [verb for verb in VERBS if scope.admits(verb, "x4")] == ["list", "tail", "interact"]
    assert [verb for verb in VERBS if scope.admits(verb, "x6")] == ["tail", "interact"]
    assert [verb for verb in VERBS if scope.admits(verb, "x7")] == []
    with pytest.raises(Forbidden, match="permission to access x1"):
        scope.require("interact", "x1")
    with pytest.raises(Forbidden, match="permission to break"):
        scope.require("break", "x1")
    assert [record["why"] for record in site.records] == [
        "no role has the verb interact there",
        "no role of see, do, unheard-of has the verb break",
    ]


def test_a_role_may_be_for_a_tenants_nodes_without_its_user_being_bound() -> None:
    site = with_roles(see=role("tail", "@tenant:blue!x2"), other=role("tail", "@*!@tenant:blue!@tenant:green"))
    assert [n for n in range(1, 10) if site.authorise(holder("see"), "tail").admits("tail", f"x{n}")] == [1, 3, 4]
    assert [n for n in range(1, 10) if site.authorise(holder("other"), "tail").admits("tail", f"x{n}")] == [9]


def test_a_tenant_that_cannot_be_asked_about_is_not_left_out_of_a_role() -> None:
    class Down:
        def nodes(self, tenant: str) -> Deferred[Holding]:
            return fail(CannotKnow("down"))

    site = with_roles()
    site.gate = Gate(
        [], {"rest": role("tail", "@*!@tenant:blue")}, Down(), Audit(site.records.append, lambda: 0.0), lambda: 0.0
    )
    with pytest.raises(CannotKnow):
        site.authorise(holder("rest"), "tail")


def test_the_most_generous_limits_of_the_roles_that_grant_the_verb_there() -> None:
    site = with_roles(a=role("tail", "@*", 10, 40), b=role("tail interact", "x1", 20, 30), c=role("interact", "x1", 5))
    scope = site.authorise(holder("a", "b", "c"), "tail")
    assert scope.limits("tail", "x1") == Limits(20, 40)
    assert scope.limits("tail", "x2") == Limits(10, 40)
    assert scope.limits("interact", "x1") == Limits(20, inf)
    assert scope.limits("interact", "x2") == Limits(0, inf), "not granted, not for a moment"


class First:
    """A proof that is good for one verb at one console."""

    def admits(self, verb: Verb, console: str) -> bool:
        return (verb, console) == ("tail", "x1")


def test_a_proof_may_be_for_less_than_its_roles() -> None:
    site = Site()
    user = User("somebody", ("admin",), None, "ticket", "a:1", narrowed=First())
    scope = site.authorise(user, "interact")
    assert [(verb, f"x{n}") for verb in VERBS for n in range(1, 9) if scope.admits(verb, f"x{n}")] == [("tail", "x1")]
    with pytest.raises(Forbidden, match="permission to access x1"):
        scope.require("interact", "x1")
    assert site.records[0]["why"] == "the ticket is not for that"


def test_C_TENANT_8_whoever_must_name_a_tenant_does_nothing_without() -> None:
    site = Site()
    user = User("somebody", ("admin",), frozenset({"blue"}), "jwt", "a:1", must_name_tenant=True)
    for headers in ([], [b""], [b" "]):
        with pytest.raises(Forbidden, match="act without a tenant"):
            site.authorise(user, "tail", *headers)
    with pytest.raises(Forbidden, match="act for this tenant"):
        site.authorise(user, "tail", b"green")
    assert site.authorise(user, "tail", b"blue").admits("tail", "x1")


def test_only_an_open_site_is_open(site: Site) -> None:
    assert Site(AllowAnonymousAccess()).gate.is_open
    assert not site.gate.is_open
    assert not Site().gate.is_open
