"""Turns: the caps, the order, and nobody forgotten."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from consoled.backends.turns import YOUNG, Turns


class Fleet:
    """Links that dial, as the test says."""

    def __init__(self, young: int = 2, each_host: int = 100) -> None:
        self.young = young
        self.clock = Clock()
        self.turns = Turns(self.clock, young, each_host)
        self.dialing: dict[str, Deferred[str]] = {}
        self.asked: dict[str, Deferred[str]] = {}
        self.began: list[str] = []
        self.since: dict[str, float] = {}
        self.ended: dict[str, object] = {}

    def ask(self, name: str, host: str = "", again: bool = False) -> None:
        def attempt() -> Deferred[str]:
            self.began.append(name)
            self.since[name] = self.clock.seconds()
            self.dialing[name] = Deferred(lambda _: self.dialing.pop(name))
            return self.dialing[name]

        self.asked[name] = self.turns.run(host, again, attempt)
        self.asked[name].addBoth(lambda result: self.ended.__setitem__(name, result))

    def end(self, name: str) -> None:
        self.dialing.pop(name).callback("line")

    def is_idle(self) -> bool:
        turns = self.turns
        return not (turns._new or turns._again or turns._parked or turns._at) and turns._free == self.young


def test_so_many_at_once():
    fleet = Fleet(young=2)
    for name in "abcd":
        fleet.ask(name)
    assert fleet.began == ["a", "b"]
    fleet.end("b")
    assert fleet.ended == {"b": "line"}
    assert fleet.began == ["a", "b", "c"]


def test_an_attempt_that_takes_long_blocks_nobody():
    fleet = Fleet(young=2)
    for name in "abcd":
        fleet.ask(name)
    fleet.clock.advance(YOUNG)
    assert fleet.began == list("abcd")


def test_five_thousand_dead_delay_a_live_one_by_seconds():
    fleet = Fleet(young=128)
    for number in range(5000):
        fleet.ask(f"dead{number}")
    fleet.ask("live")
    fleet.clock.pump([YOUNG] * 40)
    assert "live" in fleet.began
    assert fleet.clock.seconds() < 5


def test_whoever_failed_stands_behind_whoever_is_new():
    fleet = Fleet(young=1)
    fleet.ask("a")
    fleet.ask("failed", again=True)
    fleet.ask("new")
    fleet.end("a")
    fleet.end("new")
    assert fleet.began == ["a", "new", "failed"]


def test_a_host_has_its_own_few_places():
    fleet = Fleet(young=10, each_host=2)
    for name in "abc":
        fleet.ask(name, host="ts1")
    fleet.ask("d", host="ts2")
    fleet.ask("e")
    assert fleet.began == ["a", "b", "d", "e"]
    fleet.end("a")
    assert fleet.began == ["a", "b", "d", "e", "c"]


def test_leaving_the_queue():
    fleet = Fleet(young=1, each_host=1)
    fleet.ask("a", host="ts1")
    for name in "bcd":
        fleet.ask(name, host="ts1")
    fleet.clock.advance(YOUNG)  # now the others are put aside, since the host has no place
    fleet.asked["b"].cancel()
    fleet.end("a")
    assert fleet.began == ["a", "c"]
    fleet.asked["d"].cancel()
    fleet.asked["c"].cancel()
    fleet.clock.advance(YOUNG)
    assert fleet.is_idle()


def test_whoever_leaves_after_being_called_to_a_free_place_leaves_it_to_the_next():
    fleet = Fleet(young=1, each_host=1)
    fleet.ask("a", host="ts1")
    fleet.clock.advance(YOUNG)
    fleet.ask("b", host="ts1")
    fleet.ask("c", host="ts1")
    fleet.ask("other")  # which is young now, so that b has to wait when a's place comes free
    fleet.end("a")
    fleet.asked["b"].cancel()
    fleet.end("other")
    assert fleet.began == ["a", "other", "c"]


def test_at_a_host_too_whoever_failed_stands_behind_whoever_is_new():
    fleet = Fleet(young=10, each_host=1)
    fleet.ask("a", host="ts1")
    fleet.ask("failed", host="ts1", again=True)
    fleet.ask("new", host="ts1")
    fleet.end("a")
    fleet.end("new")
    assert fleet.began == ["a", "new", "failed"]


def test_cancelling_an_attempt_frees_its_place():
    fleet = Fleet(young=1)
    fleet.ask("a")
    fleet.ask("b")
    fleet.asked["a"].cancel()
    assert fleet.began == ["a", "b"]


def test_an_attempt_that_raises():
    fleet = Fleet(young=1)
    fleet.turns.run("", False, lambda: 1 / 0).addErrback(lambda failure: failure.trap(ZeroDivisionError))
    assert fleet.is_idle()


@settings(max_examples=200)
@given(st.data())
def test_everybody_gets_a_turn_and_no_cap_is_broken(data):
    fleet = Fleet(young=data.draw(st.integers(1, 3)), each_host=data.draw(st.integers(1, 2)))
    hosts: dict[str, str] = {}
    for number in range(data.draw(st.integers(1, 30))):
        name = str(number)
        hosts[name] = data.draw(st.sampled_from(["", "ts1", "ts2"]))
        fleet.ask(name, hosts[name], data.draw(st.booleans()))
        match data.draw(st.sampled_from(["nothing", "time", "end", "cancel"])):
            case "time":
                fleet.clock.advance(YOUNG)
            case "end" if fleet.dialing:
                fleet.end(data.draw(st.sampled_from(sorted(fleet.dialing))))
            case "cancel" if living := sorted(fleet.asked.keys() - fleet.ended.keys()):
                fleet.asked[data.draw(st.sampled_from(living))].cancel()
        for host in ("ts1", "ts2"):
            assert sum(hosts[name] == host for name in fleet.dialing) <= fleet.turns._each_host
        assert sum(fleet.clock.seconds() < fleet.since[name] + YOUNG for name in fleet.dialing) <= fleet.young
    for _ in range(1000):
        if not fleet.dialing:
            break
        fleet.end(next(iter(fleet.dialing)))
        fleet.clock.advance(YOUNG)
    assert fleet.ended.keys() == fleet.asked.keys()
    assert fleet.is_idle()
    assert not fleet.clock.getDelayedCalls()
