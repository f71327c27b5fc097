"""What a session does to others, as whoever keeps the audit is told."""

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from consoled.core.faults import LinkDown, NoReset
from tests.fakes import Desk, FakeOutlet


class Told:
    """Everything that was told of some sessions."""

    def __init__(self) -> None:
        self.of: list[tuple[Any, ...]] = []

    def __call__(self, outlet: FakeOutlet) -> FakeOutlet:
        who = outlet.attachment.client.user
        outlet.attachment.record = lambda action, **details: self.of.append((who, action, details))
        return outlet


@pytest.fixture
def told() -> Told:
    return Told()


def test_the_keyboard_is_taken_and_released(told: Told) -> None:
    desk = Desk()
    alice, bob, carol = (told(desk.sit_down(user)) for user in ("alice", "bob", "carol"))
    desk.console.keyboard.watch(carol.attachment)
    desk.console.keyboard.take(bob.attachment)
    desk.console.keyboard.take(bob.attachment)
    assert told.of == [
        ("alice", "lost", {"taker": "bob@10.0.0.1"}),
        ("bob", "took", {"losers": "alice@10.0.0.1"}),
    ]
    told.of.clear()
    desk.console.keyboard.take(alice.attachment)
    assert ("bob", "lost", {"taker": "alice@10.0.0.1"}) in told.of
    told.of.clear()
    desk.console.keyboard.join(alice.attachment)
    desk.console.keyboard.join(bob.attachment)
    assert told.of == [("alice", "released", {})]


def test_who_leaves_with_the_keyboard_releases_it(told: Told) -> None:
    desk = Desk()
    alice = told(desk.sit_down("alice"))
    desk.console.keyboard.take(alice.attachment)
    alice.attachment.leave()
    assert [action for _, action, _ in told.of] == ["took", "released"]


def test_a_break_that_was_sent(told: Told) -> None:
    desk = Desk()
    alice = told(desk.sit_down("alice"))
    desk.link.refusal = LinkDown("x1")
    with pytest.raises(LinkDown):
        alice.attachment.send_break()
    assert told.of == []
    desk.link.refusal = None
    alice.attachment.send_break()
    assert told.of == [("alice", "break", {})]


def test_a_reset_and_how_it_ended(told: Told) -> None:
    ends: list[Deferred[str]] = []

    def reset() -> Deferred[str]:
        ends.append(Deferred())
        return ends[-1]

    desk = Desk(reset=reset)
    alice = told(desk.sit_down("alice"))
    desk.console.reset(alice.attachment)
    with pytest.raises(NoReset):
        desk.console.reset(alice.attachment)
    assert told.of == [("alice", "reset", {})]
    ends[0].callback("ended with exit status 3: \x1b[2J")
    assert told.of[1:] == [("alice", "reset-ended", {"how": "ended with exit status 3: \x1b[2J"})]
    assert alice.notices[-1] == r"The reset command of console [x1] ended with exit status 3: \x1b[2J"
