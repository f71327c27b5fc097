"""Who may type: sharing, taking, watching, and who is told what."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from consoled.core.faults import KeyboardHeld, ReadOnly
from tests.fakes import Desk, FakeOutlet

AT = "at 11-21 23:45"


def typing(*clients: FakeOutlet) -> list[bool]:
    return [client.attachment.typing for client in clients]


def news(*clients: FakeOutlet) -> list[list[str]]:
    """What each was told since the last time."""
    told = [[text.removeprefix("Console [x1] ") for text in client.notices] for client in clients]
    for client in clients:
        client.told.clear()
    return told


def test_the_keyboard_is_shared_by_default() -> None:
    desk = Desk()
    alice, bob, carol = (desk.sit_down(name) for name in ("alice", "bob", "carol"))
    assert typing(alice, bob, carol) == [True, True, True]
    assert news(alice, bob, carol) == [
        [f"joined by <bob@10.0.0.1> {AT}", f"joined by <carol@10.0.0.1> {AT}"],
        ["joined with <alice@10.0.0.1>", f"joined by <carol@10.0.0.1> {AT}"],
        ["joined with <alice@10.0.0.1>", "joined with <bob@10.0.0.1>"],
    ]


def test_one_takes_it_and_gives_it_back_and_nobody_is_promoted() -> None:
    desk = Desk()
    alice, bob, carol = (desk.sit_down(name) for name in ("alice", "bob", "carol"))
    keyboard = desk.console.keyboard
    keyboard.watch(carol.attachment)
    news(alice, bob, carol)
    keyboard.take(alice.attachment)
    assert typing(alice, bob, carol) == [True, False, False]
    stolen = f"stolen by <alice@10.0.0.1> {AT}; you may only watch"
    assert news(alice, bob, carol) == [["stolen from <bob@10.0.0.1>"], [stolen], [stolen]]
    keyboard.take(alice.attachment)
    assert news(alice, bob, carol) == [[], [], []]
    with pytest.raises(KeyboardHeld, match=r"The keyboard is held by alice@10\.0\.0\.1"):
        keyboard.join(bob.attachment)
    assert typing(alice, bob, carol) == [True, False, False]
    keyboard.join(alice.attachment)
    assert typing(alice, bob, carol) == [True, False, False], "told, and not promoted"
    released = f"released by <alice@10.0.0.1> {AT}"
    assert news(alice, bob, carol) == [[], [released], [released]]
    keyboard.join(bob.attachment)
    joined = f"joined by <bob@10.0.0.1> {AT}"
    assert news(alice, bob, carol) == [[joined], [], [joined]]
    assert typing(alice, bob, carol) == [True, True, False]
    keyboard.join(bob.attachment)
    assert news(alice, bob, carol) == [[], [], []]


def test_it_is_taken_from_the_holder_and_all_who_watch_learn_of_it() -> None:
    desk = Desk()
    alice, bob, carol = (desk.sit_down(name) for name in ("alice", "bob", "carol"))
    desk.console.keyboard.take(alice.attachment)
    news(alice, bob, carol)
    desk.console.keyboard.take(bob.attachment)
    assert desk.console.keyboard.holder is bob.attachment
    assert typing(alice, bob, carol) == [False, True, False]
    stolen = f"stolen by <bob@10.0.0.1> {AT}; you may only watch"
    assert news(alice, bob, carol) == [[stolen], ["stolen from <alice@10.0.0.1>"], [stolen]]


def test_nobody_to_take_it_from() -> None:
    alice = (desk := Desk()).sit_down("alice")
    desk.console.keyboard.take(alice.attachment)
    assert news(alice) == [["is yours alone"]]


def test_who_comes_while_it_is_held_watches_and_is_told() -> None:
    desk = Desk()
    alice = desk.sit_down("alice")
    desk.console.keyboard.take(alice.attachment)
    bob = desk.sit_down("bob")
    assert typing(alice, bob) == [True, False]
    assert news(bob) == [["joined with <alice@10.0.0.1>", "is held by <alice@10.0.0.1>; you may only watch"]]


@pytest.mark.parametrize("way", ["watches", "leaves"])
def test_a_holder_that_stops_releases_it(way: str) -> None:
    desk = Desk()
    alice, bob = desk.sit_down("alice"), desk.sit_down("bob")
    desk.console.keyboard.take(alice.attachment)
    news(alice, bob)
    released = f"released by <alice@10.0.0.1> {AT}"
    if way == "leaves":
        alice.attachment.leave()
        assert news(alice, bob) == [[], [f"departed by <alice@10.0.0.1> {AT}", released]]
    else:
        desk.console.keyboard.watch(alice.attachment)
        assert news(alice, bob) == [[], [released]]
    assert typing(alice, bob) == [False, False]
    assert desk.console.keyboard.holder is None


def test_tails_have_no_part_in_it() -> None:
    desk = Desk()
    tail, alice = desk.attach(user="tail"), desk.sit_down("alice")
    for forbidden in (desk.console.keyboard.take, desk.console.keyboard.join):
        with pytest.raises(ReadOnly):
            forbidden(tail.attachment)
    desk.console.keyboard.watch(tail.attachment)
    tail.attachment.leave()
    assert typing(tail, alice) == [False, True]
    assert news(tail, alice) == [[], []]


def test_the_first_of_a_crowd_are_told_one_by_one_and_the_rest_together() -> None:
    desk = Desk()
    first = desk.sit_down("first")
    crowd = [desk.sit_down(f"user{number}") for number in range(40)]
    one_by_one = [f"joined by <user{number}@10.0.0.1> {AT}" for number in range(9)]
    assert news(first) == [one_by_one], "the first itself was one of ten"
    desk.clock.advance(0.5)
    late = desk.sit_down("late")
    assert news(first, late) == [
        [],
        ["joined with <first@10.0.0.1>, <user0@10.0.0.1>, <user1@10.0.0.1> and 38 others"],
    ]
    news(*crowd)
    desk.clock.advance(0.5)
    together = [f"joined by <user9@10.0.0.1>, <user10@10.0.0.1>, <user11@10.0.0.1> and 29 others {AT}"]
    assert news(first, crowd[0], crowd[39], late) == [together] * 4
    desk.sit_down("last")
    assert news(first) == [[f"joined by <last@10.0.0.1> {AT}"]]
    assert not desk.clock.getDelayedCalls()


def test_who_goes_in_a_crowd_is_told_of_before_who_comes() -> None:
    desk = Desk()
    alice = desk.sit_down("alice")
    clients = [desk.sit_down(f"user{number}") for number in range(11)]
    news(alice, *clients)
    clients[0].attachment.leave()
    clients[10].attachment.leave()
    assert news(alice) == [[]]
    desk.clock.advance(1)
    assert news(alice, clients[9]) == [
        [f"departed by <user10@10.0.0.1>, <user0@10.0.0.1> {AT}", f"joined by <user9@10.0.0.1> {AT}"],
        [f"departed by <user10@10.0.0.1>, <user0@10.0.0.1> {AT}"],
    ]


def test_a_crowd_that_has_gone_is_told_to_nobody() -> None:
    desk = Desk()
    for client in [desk.sit_down(f"user{number}") for number in range(30)]:
        client.attachment.leave()
    desk.clock.advance(2)
    alice = desk.sit_down("alice")
    desk.clock.advance(2)
    assert news(alice) == [[]]


def test_a_thousand_who_come_at_once_cost_each_a_few_lines() -> None:
    desk = Desk()
    clients = [desk.sit_down(f"user{number}") for number in range(1000)]
    desk.clock.advance(1)
    assert max(len(client.notices) for client in clients) <= 21


class Typists(RuleBasedStateMachine):
    """However they come, take, watch and go: who types has asked for it, and the rest has been told."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk()
        self.keyboard = self.desk.console.keyboard
        self.here: list[FakeOutlet] = []
        self.typing: set[FakeOutlet] = set()
        self.holder: FakeOutlet | None = None
        self.count = 0

    @precondition(lambda self: len(self.here) < 5)
    @rule()
    def sit_down(self) -> None:
        self.count += 1
        self.desk.clock.advance(1)  # they are no crowd
        outlet = self.desk.sit_down(f"user{self.count}")
        self.here.append(outlet)
        if self.holder is None:
            self.typing.add(outlet)

    @precondition(lambda self: self.here)
    @rule(data=st.data(), what=st.sampled_from(["take", "join", "watch", "leave"]))
    def act(self, data: Any, what: str) -> None:
        one = data.draw(st.sampled_from(self.here))
        for each in self.here:
            each.told.clear()
        held_by_other = self.holder not in (None, one)
        self.desk.clock.advance(1)
        if what == "leave":
            one.attachment.leave()
            self.here.remove(one)
            assert all("departed" in each.notices[0] for each in self.here)
        elif what == "join" and held_by_other:
            with pytest.raises(KeyboardHeld):
                self.keyboard.join(one.attachment)
        else:
            getattr(self.keyboard, what)(one.attachment)
        if what == "take":
            if self.holder is not one:
                assert all("stolen by" in each.notices[-1] for each in self.here if each is not one)
            self.typing, self.holder = {one}, one
        elif what == "join" and not held_by_other:
            self.typing.add(one)
        elif what in ("watch", "leave"):
            self.typing.discard(one)
        if self.holder is one and what != "take":
            self.holder = None
            assert all("released" in each.notices[-1] for each in self.here if each is not one)

    @invariant()
    def exactly_those_type_who_should(self) -> None:
        assert {one for one in self.here if one.attachment.typing} == self.typing
        assert self.keyboard.holder is (self.holder and self.holder.attachment)


Typists.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestTypists = Typists.TestCase
