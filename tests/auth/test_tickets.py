"""One-use tickets: for one user, one verb, one console, once, and not for long."""

from dataclasses import replace
from typing import Any

import pytest
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from consoled.auth.audit import Audit, Record
from consoled.auth.credentials import ITicket, Ticket
from consoled.auth.gate import Gate
from consoled.auth.roles import ROLES
from consoled.auth.tenants import TenantTable
from consoled.auth.tickets import ALL, EACH, LIFETIME, Tickets
from consoled.core.access import Forbidden, Knock, Scope, TooManyTickets, Unauthenticated, User, Verb
from tests.fakes import result

ALICE = User("alice", ("operator",), None, "tokens", "192.0.2.7:40112")
TENANTS = TenantTable({"blue": "x[1-4]", "green": "x[5-8]"})
OTHER_PLACE = "192.0.2.8:1"


class Office:
    """The tickets behind a gate of their own."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.records: list[Record] = []
        self.given = 0
        audit = Audit(self.records.append, self.clock.seconds)
        self.tickets = Tickets(self.clock, self._token, audit)
        self.gate = Gate([self.tickets], ROLES, TENANTS, audit, self.clock.seconds)

    def _token(self) -> str:
        self.given += 1
        return f"canary-{self.given}"

    def issue(self, user: User = ALICE, verb: Any = "interact", console: str = "x1", *tenant: bytes) -> bytes:
        return self.tickets.issue(user, verb, console, tenant).encode()

    def show(self, ticket: bytes, *authorization: bytes) -> User:
        return result(self.gate.login(Knock(OTHER_PLACE, authorization, ticket=ticket)))  # type: ignore[no-any-return]

    def scope(self, ticket: bytes, verb: Verb = "interact", *tenant: bytes) -> Scope:
        return result(self.gate.authorise(self.show(ticket), verb, tenant))  # type: ignore[no-any-return]

    def reason(self) -> Any:
        return self.records[-1]["why"]


@pytest.fixture
def office() -> Any:
    office = Office()
    yield office
    assert "canary" not in str(office.records)
    assert "canary" not in repr(office.tickets.__dict__)
    assert not office.clock.getDelayedCalls()


def test_it_is_a_checker(office: Office) -> None:
    verifyObject(ITicket, Ticket(b"x"))
    assert "secret" not in repr(Ticket(b"secret"))
    assert "secret" not in repr(Knock("x", ticket=b"secret"))


def test_it_vouches_for_its_user(office: Office) -> None:
    user = office.show(office.issue())
    assert (user.name, user.roles, user.tenants) == ("alice", ("operator",), None)
    assert user.origin == OTHER_PLACE, "where it is shown, not where it was issued"


def test_it_is_good_for_one_console_and_one_sort_of_session(office: Office) -> None:
    interact = office.scope(office.issue())
    assert {verb for verb in ROLES["admin"].verbs if interact.admits(verb, "x1")} == {
        "interact",
        "take",
        "break",
        "reset",
    } & ROLES["operator"].verbs
    assert not any(interact.admits(verb, "x2") for verb in ROLES["admin"].verbs)
    tail = office.scope(office.issue(verb="tail"), "tail")
    assert {verb for verb in ROLES["admin"].verbs if tail.admits(verb, "x1")} == {"tail"}
    with pytest.raises(Forbidden):
        tail.require("interact", "x1")
    assert tail.user.proof in office.reason()


def test_it_gives_no_verb_that_the_user_has_not(office: Office) -> None:
    viewer = replace(ALICE, roles=("viewer",))
    with pytest.raises(Forbidden):
        office.scope(office.issue(viewer, "interact"), "interact")


def test_it_is_good_once(office: Office) -> None:
    ticket = office.issue()
    office.show(ticket)
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            office.show(ticket)
        assert "is spent, expired or unknown" in str(office.reason())


def test_it_is_spent_by_whoever_shows_it_whatever_comes_of_it(office: Office) -> None:
    ticket = office.issue(verb="tail")
    with pytest.raises(Forbidden):
        office.scope(ticket).require("interact", "x1")
    with pytest.raises(Unauthenticated):
        office.scope(ticket, "tail")


def test_it_is_good_for_thirty_seconds(office: Office) -> None:
    assert LIFETIME == office.tickets.lifetime == 30
    early, late = office.issue(), office.issue()
    office.clock.advance(LIFETIME - 0.001)
    office.show(early)
    office.clock.advance(0.001)
    with pytest.raises(Unauthenticated):
        office.show(late)


@pytest.mark.parametrize("shown", [b"", b"canary", b"canary-10", b"canary-1\n", b"\xff\x00", b"x" * 100_000])
def test_any_other_text_is_none(office: Office, shown: bytes) -> None:
    office.issue()
    with pytest.raises(Unauthenticated):
        office.show(shown)
    office.show(b"canary-1")


def test_it_says_the_same_for_all_that_is_wrong(office: Office) -> None:
    spent = office.issue()
    office.show(spent)
    expired = office.issue()
    office.clock.advance(LIFETIME)
    said = set()
    for ticket in (spent, expired, b"nonsense"):
        with pytest.raises(Unauthenticated) as refused:
            office.show(ticket)
        said.add(str(refused.value))
    assert len(said) == 1


def test_with_a_token_it_is_refused(office: Office) -> None:
    with pytest.raises(Unauthenticated):
        office.show(office.issue(), b"Bearer abc")
    assert office.reason() == "a ticket together with an Authorization header"


# -------------------------------------------------------------------------------------------------- tenants


def test_the_tenant_that_was_chosen_stays_chosen(office: Office) -> None:
    both = replace(ALICE, tenants=frozenset({"blue", "green"}))
    for user in (both, ALICE):
        assert office.scope(office.issue(user, "interact", "x1", b"blue")).admits("interact", "x1")
        assert not office.scope(office.issue(user, "interact", "x5", b"blue")).admits("interact", "x5")
        with pytest.raises(Forbidden):
            office.scope(office.issue(user, "interact", "x1", b"blue"), "interact", b"green")
    assert office.scope(office.issue(both, "interact", "x5")).admits("interact", "x5")


def test_a_tenant_that_was_lost_meanwhile_is_no_way_in(office: Office) -> None:
    knows = Known(replace(ALICE, tenants=frozenset({"blue", "green"})))
    ticket = office.issue(knows.user, "interact", "x1", b"blue")
    knows.now = replace(knows.now, tenants=frozenset({"green"}))
    assert not office.scope(ticket).admits("interact", "x1")


# -------------------------------------------------------------------------------------- what is known by now


class Known:
    """A user whom its checker may know otherwise by now."""

    def __init__(self, user: User, later: bool = False) -> None:
        self.now = user
        self.error: Exception | None = None
        self.waiting: list[Deferred[User]] = []
        self._later = later

    @property
    def user(self) -> User:
        return replace(self.now, again=self._again)

    def _again(self) -> Any:
        if self.error is not None:
            raise self.error
        if self._later:
            self.waiting.append(Deferred())
            return self.waiting[-1]
        return self.user


def test_who_was_thrown_out_meanwhile_stays_out(office: Office) -> None:
    known = Known(ALICE)
    ticket = office.issue(known.user)
    known.error = Unauthenticated("revoked")
    with pytest.raises(Unauthenticated):
        office.show(ticket)
    assert office.reason() == "revoked"
    known.error = None
    with pytest.raises(Unauthenticated):
        office.show(ticket)


def test_a_session_by_ticket_is_asked_about_like_any_other(office: Office) -> None:
    known = Known(replace(ALICE, tenants=frozenset({"blue"})))
    scope = office.scope(office.issue(known.user, "tail", "x1", b"blue"), "tail")
    again = result(scope.again())
    assert again.admits("tail", "x1")
    assert not again.admits("interact", "x1"), "still narrow"
    known.now = replace(known.now, roles=())
    with pytest.raises(Forbidden):
        result(again.again())
    known.error = Unauthenticated("revoked")
    with pytest.raises(Unauthenticated):
        result(again.again())


def test_a_checker_that_takes_its_time_is_waited_for(office: Office) -> None:
    known = Known(ALICE, later=True)
    ticket = office.issue(known.user)
    showing = office.gate.login(Knock(OTHER_PLACE, ticket=ticket))
    assert not showing.called
    with pytest.raises(Unauthenticated):
        office.show(ticket)
    known.waiting[0].callback(ALICE)
    assert result(showing).name == "alice"


# --------------------------------------------------------------------------------------------------- bounds


def test_there_are_only_so_many_of_one_user(office: Office) -> None:
    tickets = [office.issue() for _ in range(EACH)]
    with pytest.raises(TooManyTickets):
        office.issue()
    office.issue(replace(ALICE, name="bob"))
    office.show(tickets[7])
    office.issue()
    with pytest.raises(TooManyTickets):
        office.issue()
    office.clock.advance(LIFETIME)
    office.issue()


def test_there_are_only_so_many_in_all(office: Office) -> None:
    for number in range(ALL):
        office.issue(replace(ALICE, name=f"user{number}"))
    with pytest.raises(TooManyTickets) as refused:
        office.issue(replace(ALICE, name="one more"))
    assert refused.value.retry_after == LIFETIME


def test_what_is_written_down(office: Office) -> None:
    office.show(office.issue(ALICE, "tail", "x1"))
    issued, used, accepted = office.records
    assert (issued["action"], issued["account"], issued["machine"], issued["verb"]) == (
        "ticket-issued",
        "alice",
        "x1",
        "tail",
    )
    assert issued["remoteAddress"] == "192.0.2.7"
    assert (used["action"], used["ticket"]) == ("ticket-used", issued["ticket"])
    assert (accepted["action"], accepted["remoteAddress"]) == ("accepted", "192.0.2.8")
    assert accepted["proof"] == f"ticket {issued['ticket']}"


def test_the_checker_itself(office: Office) -> None:
    refused: list[Any] = []
    office.tickets.requestAvatarId(Ticket(b"x")).addErrback(refused.append)
    assert refused[0].check(UnauthorizedLogin)
