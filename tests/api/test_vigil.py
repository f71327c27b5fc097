"""An open session ends when the right to it ends: whole sessions over the real gate, and the vigil's own timer."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from consoled.api.vigil import EACH_TURN, PATIENCE, RECHECK, Vigil
from consoled.auth.gate import Gate
from consoled.auth.roles import ROLES, Role
from consoled.auth.tenants import Holding, TenantTable, UnknownTenant
from consoled.core.access import CannotKnow, Limits, Unauthenticated
from tests.api.conftest import failures
from tests.api.wire import Client
from tests.api.world import TENANTS, USERS, Anything, World, entry


def edit(world: World, **users: Any) -> None:
    """Change the tokens file: what `entry` takes, or None for a token that is taken back."""
    entries = [entry(name, *what) for name, what in {**USERS, **users}.items() if what is not None]
    new = world.directory / "tokens.new"
    new.write_text("\n".join(entries))
    new.rename(world.directory / "tokens.toml")


def pass_time(world: World, seconds: float, *clients: Client) -> None:
    """Let time pass; the clients read and answer pings meanwhile."""
    while seconds > 0:
        step = min(10.0, seconds)
        world.clock.advance(step)
        seconds -= step
        for client in clients:
            client.receive()


def ended(client: Client, code: int, reason: str) -> bool:
    client.receive()
    return (client.close_code, client.close_reason) == (code, reason)


REVOKED = (4401, "Your authentication has ended")


# ------------------------------------------------------------------------------------------------------- who


@pytest.mark.parametrize("verb", ["interact", "tail"])
def test_a_token_that_is_taken_back_ends_its_sessions_and_no_others(world: World, verb: str) -> None:
    def begin(user: str) -> Client:
        return world.interact("x1", user) if verb == "interact" else world.tail("x1", user=user, follow=True)

    oscar, olga = begin("oscar"), begin("olga")
    edit(world, oscar=None)
    pass_time(world, RECHECK - 0.1, oscar, olga)
    assert oscar.is_open
    pass_time(world, 0.1, oscar, olga)
    assert ended(oscar, *REVOKED)
    assert olga.is_open
    assert len(world.x1.clients) == 1
    refused = world.audited("refused")[-1]
    assert (refused["account"], refused["why"]) == ("oscar", "the token was taken back")
    assert world.audited("detached")[-1]["account"] == "oscar"
    olga.send(b"still here") if verb == "interact" else None
    pass_time(world, 300, olga)
    assert olga.is_open


def test_what_a_session_says_after_its_end_reaches_nobody(world: World) -> None:
    oscar = world.joined()
    edit(world, oscar=None)
    world.clock.advance(RECHECK)
    assert oscar.text().endswith(
        "<ConMan> Connection to console [x1] terminated by server (Your authentication has ended).\r\n"
    )
    oscar.socket.arrive(b"\x82\x84\x00\x00\x00\x00boom")
    world.x1.says(b"secret")
    assert "secret" not in oscar.text()
    assert world.x1.heard == b""


def test_a_token_that_expires_ends_its_session_to_the_second(world: World) -> None:
    edit(world, oscar=("operator", None, 100))
    world.clock.advance(1)
    oscar = world.interact("x1")
    pass_time(world, 98.9, oscar)
    assert oscar.is_open
    world.clock.advance(0.1)
    assert ended(oscar, *REVOKED)
    assert world.audited("refused")[-1]["why"] == "the credentials have expired"
    assert world.knock("/console-operator/interact/x1").refusal.status == 401


def test_a_token_that_is_given_more_time_meanwhile(world: World) -> None:
    edit(world, oscar=("operator", None, 100))
    world.clock.advance(1)
    oscar = world.interact("x1")
    edit(world, oscar=("operator", None, 200))
    pass_time(world, 198.9, oscar)
    assert oscar.is_open
    world.clock.advance(0.1)
    assert ended(oscar, *REVOKED)


def test_a_token_that_has_become_somebody_elses(world: World) -> None:
    oscar = world.interact("x1")
    text = (world.directory / "tokens.toml").read_text().replace('name = "oscar"', 'name = "mallory"')
    (world.directory / "tokens.new").write_text(text)
    (world.directory / "tokens.new").rename(world.directory / "tokens.toml")
    pass_time(world, RECHECK, oscar)
    assert ended(oscar, *REVOKED)


def test_a_tokens_file_that_is_gone_ends_every_session(world: World, log: list[LogEvent]) -> None:
    clients = [world.interact("x1", user) for user in ("oscar", "ada")]
    (world.directory / "tokens.toml").unlink()
    pass_time(world, 2 * RECHECK, *clients)
    for client in clients:
        assert ended(client, *REVOKED)
    assert "is gone" in failures(log)[0]
    log.clear()


def test_a_tokens_file_that_cannot_be_understood_ends_none(world: World, log: list[LogEvent]) -> None:
    oscar = world.interact("x1")
    (world.directory / "tokens.toml").write_text("[[token]\n")
    pass_time(world, 100, oscar)
    assert oscar.is_open
    log.clear()


# ------------------------------------------------------------------------------------------------------ what


def test_a_role_that_is_taken_away(world: World) -> None:
    typing, watching = world.interact("x1"), world.tail("x1", user="oscar", follow=True)
    edit(world, oscar=("viewer", None))
    pass_time(world, RECHECK, typing, watching)
    assert ended(typing, 4403, "User does not have permission to interact")
    assert watching.is_open


def test_a_role_that_is_given_counts_in_sessions_that_are_open(empty: World) -> None:
    roles = {**ROLES, "typist": Role(frozenset({"tail", "interact"}))}
    world = restart(empty, roles)
    edit(world, oscar=("typist", None))
    world.clock.advance(1)
    oscar = world.joined()
    oscar.send("&B")
    assert "permission to break" in oscar.news()
    edit(world, oscar=(["typist", "operator"], None))
    pass_time(world, RECHECK, oscar)
    oscar.send("&B")
    assert world.x1.link.asked[-1] == "break"


def test_a_tenant_that_a_token_loses(world: World) -> None:
    both = world.tail("x2", user="both", follow=True), world.tail("x1", user="both", follow=True)
    edit(world, both=("viewer", ["blue"]))
    pass_time(world, RECHECK, *both)
    assert ended(both[0], 4403, "User does not have permission to access x2")
    assert both[1].is_open


def test_the_tenant_that_a_session_named_is_asked_about_again(world: World) -> None:
    client = world.knock("/console-operator/tail/x1", "both", [("Cray-Tenant-Name", "blue"), FOLLOW])
    edit(world, both=("viewer", ["green"]))
    pass_time(world, RECHECK, client)
    assert ended(client, 4403, "User does not have permission to act for this tenant")


FOLLOW = ("Cray-Console-Follow", "True")


class Service:
    """A tenant service whose answers hold for ten seconds."""

    def __init__(self) -> None:
        self.owned = {tenant: frozenset(nodes.split(",")) for tenant, nodes in TENANTS.items()}
        self.doubt: Exception | None = None
        self.asked = 0

    def nodes(self, tenant: str) -> Deferred[Holding]:
        self.asked += 1
        if self.doubt is not None:
            return fail(self.doubt)
        if tenant not in self.owned:
            return fail(UnknownTenant(tenant))
        return succeed(Holding(self.owned[tenant], 10))


def restart(empty: World, roles: Any = ROLES, tenants: Any = None) -> World:
    """A world with other roles or tenants."""
    checker = type(empty.tokens)(empty.directory / "tokens.toml", roles, empty.clock)
    gate = Gate([checker], roles, tenants or TenantTable(TENANTS), empty.audit, empty.now)
    return empty.begin(gate=gate)


def test_a_tenant_that_loses_a_node_loses_its_sessions_to_it_as_soon_as_that_can_be_known(empty: World) -> None:
    world = restart(empty, tenants=(service := Service()))
    bob, oscar = world.interact("x1", "bob"), world.interact("x1")
    pass_time(world, 9.9, bob, oscar)
    service.owned["blue"] = frozenset({"x3"})
    assert bob.is_open
    world.clock.advance(0.1)
    assert ended(bob, 4403, "User does not have permission to access x1")
    assert oscar.is_open


def test_a_tenant_that_is_no_more(empty: World) -> None:
    world = restart(empty, tenants=(service := Service()))
    bob = world.interact("x1", "bob")
    del service.owned["blue"]
    pass_time(world, 10, bob)
    assert ended(bob, 4403, "User does not have permission to access x1")


@pytest.mark.parametrize("doubt", [CannotKnow("TAPMS is down"), OSError("canary-4711")])
def test_a_right_that_cannot_be_known_any_more(empty: World, log: list[LogEvent], doubt: Exception) -> None:
    world = restart(empty, tenants=(service := Service()))
    bob, oscar = world.interact("x1", "bob"), world.interact("x1")
    service.doubt = doubt
    pass_time(world, 10, bob, oscar)
    assert ended(bob, 1013, "Permission cannot be checked at present; try again later")
    assert oscar.is_open
    if not isinstance(doubt, CannotKnow):
        log.clear()


def test_a_right_that_nobody_answers_for(empty: World) -> None:
    scope = Slow()
    world = empty.begin(gate=Lenient(scope))  # type: ignore[arg-type]
    client = world.interact("x1")
    world.clock.advance(RECHECK)
    world.clock.advance(PATIENCE - 0.1)
    assert client.is_open
    world.clock.advance(0.1)
    assert ended(client, 1013, "Permission cannot be checked at present; try again later")
    assert scope.cancelled == 1


def test_a_client_that_leaves_while_it_is_asked_about(empty: World) -> None:
    scope = Slow()
    world = empty.begin(gate=Lenient(scope))  # type: ignore[arg-type]
    client = world.interact("x1")
    world.clock.advance(RECHECK)
    client.socket.hang_up()
    assert scope.cancelled == 1
    assert not world.clock.getDelayedCalls()


def test_an_accident_is_no_right(empty: World, log: list[LogEvent]) -> None:
    class Broken(Anything):
        def again(self) -> Deferred[Any]:
            return fail(ZeroDivisionError("the details"))

    world = empty.begin(gate=Lenient(Broken()))  # type: ignore[arg-type]
    client = world.interact("x1")
    world.clock.advance(RECHECK)
    assert ended(client, 1013, "Internal error")
    assert "ZeroDivisionError" in failures(log)[0]
    log.clear()


class Slow(Anything):
    """A scope that is never decided again."""

    def __init__(self) -> None:
        self.cancelled = 0

    def again(self) -> Deferred[Any]:
        def cancel(_: object) -> None:
            self.cancelled += 1

        return Deferred(cancel)


class Lenient:
    """A gate that gives everybody the same scope."""

    is_open = True

    def __init__(self, scope: Anything) -> None:
        self._scope = scope

    def login(self, knock: Any) -> Deferred[Any]:
        return succeed(self._scope.user)

    def authorise(self, user: Any, verb: Any, tenant: Any = ()) -> Deferred[Any]:
        return succeed(self._scope)


# -------------------------------------------------------------------------------------------------- for how long


def limited(empty: World, **roles: Limits) -> World:
    """A world in which those roles have limits."""
    return restart(empty, {**ROLES, **{name: Role(ROLES[name].verbs, limits=limits) for name, limits in roles.items()}})


def test_max_session(empty: World) -> None:
    world = limited(empty, operator=Limits(session=100), viewer=Limits(session=50))
    oscar, vera, ada = world.interact("x1"), world.tail("x1", follow=True), world.interact("x1", "ada")
    pass_time(world, 49.9, oscar, vera, ada)
    assert vera.is_open
    world.clock.advance(0.1)
    assert ended(vera, 4408, "The session has lasted for 50 s")
    for _ in range(5):
        oscar.send("busy")
        pass_time(world, 9.9, oscar, ada)
    assert oscar.is_open
    world.clock.advance(0.5)
    assert ended(oscar, 4408, "The session has lasted for 100 s")
    pass_time(world, 1000, ada)
    assert ada.is_open


def test_idle_timeout(empty: World) -> None:
    world = limited(empty, operator=Limits(idle=100), viewer=Limits(idle=100))
    oscar, olga, vera = world.interact("x1"), world.interact("x1", "olga"), world.tail("x1", follow=True)
    for message in ("line", b"keys", "&I", ""):
        pass_time(world, 99.9, oscar, olga, vera)
        oscar.send(message)
        world.x1.says(b"output is not input")
    world.clock.advance(0.1)
    assert ended(olga, 4408, "Nothing was typed for 100 s")
    pass_time(world, 99.8, oscar, vera)
    assert oscar.is_open
    world.clock.advance(0.1)
    assert ended(oscar, 4408, "Nothing was typed for 100 s")
    pass_time(world, 1000, vera)
    assert vera.is_open, "who only watches has nothing to say"


def test_of_several_roles_the_most_generous_counts_if_it_grants_the_verb(empty: World) -> None:
    world = limited(empty, operator=Limits(session=100), viewer=Limits())
    edit(world, oscar=(["viewer", "operator"], None))
    world.clock.advance(1)
    typing, watching = world.interact("x1"), world.tail("x1", user="oscar", follow=True)
    pass_time(world, 100, typing, watching)
    assert ended(typing, 4408, "The session has lasted for 100 s")
    assert watching.is_open


# -------------------------------------------------------------------------------------------------- the timer


class Counted(Anything):
    """A scope that counts how often it was decided again, and remembers when."""

    def __init__(self, clock: Clock, holds: float = float("inf")) -> None:
        self.clock = clock
        self.holds = holds
        self.times: list[float] = []

    def again(self) -> Deferred[Any]:
        self.times.append(self.clock.seconds())
        return succeed(self)


class Turns(Clock):
    """Counts its turns: each call is one."""

    turn = 0

    def callLater(self, when: float, what: Any, *args: Any, **kwargs: Any) -> Any:
        def call() -> None:
            self.turn += 1
            what(*args, **kwargs)

        return super().callLater(when, call)


def test_many_sessions_take_one_timer_and_many_turns() -> None:
    clock = Turns()
    vigil = Vigil(clock, lambda: 0.0)
    asked: list[int] = []

    class Noted(Anything):
        def again(self) -> Deferred[Any]:
            asked.append(clock.turn)
            return succeed(self)

    visits = [vigil.visit(Noted(), "tail", "x1") for _ in range(10 * EACH_TURN)]
    for visit in visits:
        visit.begin(lambda why, code: pytest.fail(why))
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(RECHECK)
    assert asked == [turn for turn in range(1, 11) for _ in range(EACH_TURN)]
    assert len(clock.getDelayedCalls()) == 1
    for visit in visits:
        visit.over()
        visit.over()
    assert not clock.getDelayedCalls()


def test_the_questions_are_spread() -> None:
    clock = Clock()
    randoms = iter([0.0, 0.25, 0.5, 0.75, 0.999] * 2)
    vigil = Vigil(clock, lambda: next(randoms))
    scopes = [Counted(clock) for _ in range(5)]
    for scope in scopes:
        vigil.visit(scope, "tail", "x1").begin(lambda why, code: None)
    clock.pump([0.5] * 60)
    times = sorted(time for scope in scopes for time in scope.times)
    assert len(set(times)) == 5
    assert 0.75 * RECHECK <= times[0] < times[-1] == RECHECK


def test_a_decision_that_hardly_holds_is_not_asked_for_all_the_time() -> None:
    clock = Clock()
    vigil = Vigil(clock, lambda: 0.0)
    scope = Counted(clock, holds=-5)
    vigil.visit(scope, "tail", "x1").begin(lambda why, code: None)
    clock.pump([0.1] * 101)
    assert 9 <= len(scope.times) <= 10


def test_who_has_gone_is_not_asked_about_and_costs_nothing() -> None:
    clock = Clock()
    vigil = Vigil(clock, lambda: 0.0)
    scopes = [Counted(clock) for _ in range(3)]
    gone, stays, last = [vigil.visit(scope, "tail", "x1") for scope in scopes]
    gone.begin(lambda why, code: None)
    stays.begin(lambda why, code: None)
    gone.over()
    gone.over()
    clock.pump([RECHECK] * 3)
    assert [len(scope.times) for scope in scopes] == [0, 3, 0]
    stays.over()
    assert not clock.getDelayedCalls()
    clock.advance(10)
    last.begin(lambda why, code: None)
    [timer] = clock.getDelayedCalls()
    assert timer.getTime() == clock.seconds(), "what was decided so long ago, and not what had been due before"
    last.over()
    again = vigil.visit(scopes[2], "tail", "x1")
    again.begin(lambda why, code: None)
    [timer] = clock.getDelayedCalls()
    assert timer.getTime() == clock.seconds() + RECHECK


def test_the_time_between_decision_and_opening_counts() -> None:
    clock = Clock()
    scope = Counted(clock, holds=3)
    visit = Vigil(clock, lambda: 0.0).visit(scope, "tail", "x1")
    clock.advance(3.5)
    visit.begin(lambda why, code: None)
    clock.advance(0)
    assert scope.times == [3.5]


def test_a_session_that_cannot_be_closed_is_not_forgotten_nor_are_the_others(log: list[LogEvent]) -> None:
    clock = Clock()
    vigil = Vigil(clock, lambda: 0.0)

    class Brief(Anything):
        def limits(self, verb: str, console: str) -> Limits:
            return Limits(session=5)

    told: list[str] = []

    def fail_to_end(why: str, code: int) -> None:
        told.append("broken")
        raise ZeroDivisionError

    vigil.visit(Brief(), "tail", "x1").begin(fail_to_end)
    other = vigil.visit(Brief(), "tail", "x2")

    def end(why: str, code: int) -> None:
        told.append("other")
        other.over()

    other.begin(end)
    clock.pump([1.0] * 7)
    assert told == ["broken", "other", "broken", "broken"]
    assert len(failures(log)) == 3
    log.clear()


def test_a_refusal_is_told_once() -> None:
    clock = Clock()
    vigil = Vigil(clock, lambda: 0.0)

    class Revoked(Anything):
        def again(self) -> Deferred[Any]:
            return fail(Unauthenticated("revoked"))

    told: list[tuple[str, int]] = []
    visit = vigil.visit(Revoked(), "tail", "x1")

    def end(why: str, code: int) -> None:
        told.append((why, code))
        visit.over()

    visit.begin(end)
    clock.pump([RECHECK] * 4)
    assert told == [("Your authentication has ended", 4401)]
    assert not clock.getDelayedCalls()
