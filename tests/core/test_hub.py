"""The hub: finding consoles, the limit on clients, the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from consoled.core.faults import Fault, NotMonitored, NotOpen, TooManyClients, UnknownConsole
from consoled.core.hub import Hub
from consoled.core.seams import Encoding
from tests.fakes import Desk, FakeOutlet, result


def held(*desks: Desk, off: tuple[str, ...] = (), max_clients: int = 10) -> Hub:
    hub = Hub(max_clients)
    for desk in desks:
        hub.begin(desk.console)
    hub.open(off)
    return hub


def test_finding() -> None:
    one, two = Desk(name="x1"), Desk(name="x2")
    hub = Hub()
    hub.begin(one.console)
    assert one.link.asked == ["open"]
    assert not hub.is_open
    with pytest.raises(NotOpen):
        hub.find("x1")
    with pytest.raises(NotOpen):
        hub.admit()
    hub.begin(two.console)
    hub.open(["x3"])
    assert hub.is_open
    assert hub.find("x2") is two.console
    assert (len(hub), list(hub)) == (2, [one.console, two.console])
    assert one.link.asked == two.link.asked == ["open"]
    for name, fault, text in (
        ("x3", NotMonitored, "Node x3 is not currently being monitored"),
        ("x4", UnknownConsole, "x4 is not a valid node."),
    ):
        with pytest.raises(fault) as refused:
            hub.find(name)
        assert isinstance(refused.value, Fault)
        assert str(refused.value) == text


def test_the_limit_counts_clients_everywhere() -> None:
    one, two = Desk(name="x1"), Desk(name="x2")
    hub = held(one, two, max_clients=2)
    first = one.attach()
    hub.admit()
    two.attach()
    assert hub.clients == 2
    with pytest.raises(TooManyClients):
        hub.admit()
    first.attachment.leave()
    hub.admit()


def test_who_was_refused_or_has_left_already_does_not_count() -> None:
    desk = Desk()
    hub = held(desk)

    def broken() -> Encoding:
        raise RuntimeError

    with pytest.raises(ValueError, match="outside"):
        desk.attach(at=desk.console.head + 1)
    with pytest.raises(RuntimeError):
        desk.attach(broken)
    assert hub.clients == 0
    client = desk.attach(at=0, until=desk.console.head)
    assert client.told == [("finished",)]
    assert hub.clients == 0
    client.attachment.leave()
    assert hub.clients == 0


def test_clients_of_a_console_that_goes_count_no_more_whenever_they_leave() -> None:
    desk, other = Desk(name="x1"), Desk(name="x2")
    hub = held(desk, other, max_clients=2)
    late, stays = desk.attach(), other.attach()
    result(hub.remove("x1", "gone"))
    assert hub.clients == 1
    hub.admit()
    late.attachment.leave()
    assert hub.clients == 1
    hub.add(Desk(name="x1").console)
    stays.attachment.leave()
    assert hub.clients == 0
    other.attach()
    hub.close()
    assert hub.clients == 1, "who has not left yet is still here"


STEPS = st.sampled_from(["attach", "attach", "leave", "leave again", "remove", "add"])


@given(st.lists(st.tuples(STEPS, st.integers(0, 9)), max_size=40))
def test_the_count_is_what_one_would_count(steps: list[tuple[str, int]]) -> None:
    desks = [Desk(name=f"x{number}") for number in range(3)]
    hub = held(*desks)
    here: list[FakeOutlet] = []
    gone: list[FakeOutlet] = []
    for step, which in steps:
        desk, name = desks[which % 3], f"x{which % 3}"
        is_held = any(console is desk.console for console in hub)
        if step == "attach":  # also at a console that was removed: a handshake that was under way
            here.append(desk.attach(user=name, interactive=which > 5))
        elif step == "leave" and here:
            gone.append(here.pop(which % len(here)))
            gone[-1].attachment.leave()
        elif step == "leave again" and gone:
            gone[which % len(gone)].attachment.leave()
        elif step == "remove" and is_held:
            hub.remove(name, "gone")
        elif step == "add" and not is_held:
            desks[which % 3] = Desk(name=name)
            hub.add(desks[which % 3].console)
        assert hub.clients == sum(len(console.attachments) for console in hub)


def test_an_operator_says_now() -> None:
    one, two = Desk(name="x1"), Desk(name="x2")
    held(one, two).dial_now()
    assert one.link.asked == two.link.asked == ["open", "dial_now"]


def test_one_more_and_one_less_disturb_nobody() -> None:
    one, two = Desk(name="x1"), Desk(name="x2")
    hub = Hub()
    with pytest.raises(NotOpen):
        hub.add(two.console)
    hub.begin(one.console)
    hub.open()
    hub.add(two.console)
    assert hub.find("x2") is two.console
    assert two.link.asked == ["open"]
    stays, goes = one.attach(), two.attach()
    closed = hub.remove("x2", "The machine is gone")
    assert goes.told == [("ended", "The machine is gone", 1001)]
    assert result(closed) is None
    assert two.transcript.closed
    assert (stays.told, one.link.asked, len(hub)) == ([], ["open"], 1)
    with pytest.raises(UnknownConsole):
        hub.remove("x2", "again")


def test_the_end_comes_when_all_have_hung_up() -> None:
    one, two = Desk(name="x1"), Desk(name="x2")
    hub = held(one, two)
    clients = [one.attach(), one.sit_down("alice"), two.attach()]
    two.link.gone = Deferred()
    closed = hub.close()
    for client in clients:
        assert client.told[-1] == ("ended", "The console service is shutting down", 1001)
    assert not hub.is_open
    with pytest.raises(NotOpen):
        hub.find("x1")
    assert one.transcript.closed
    assert not closed.called
    two.link.gone.callback(None)
    assert result(closed) is None
    assert two.transcript.closed


def test_one_console_that_fails_does_not_cut_the_end_short() -> None:
    one, two = Desk(name="x1"), Desk(name="x2")
    hub = held(one, two)
    one.link.gone, two.link.gone = Deferred(), Deferred()
    closed = hub.close()
    with capturedLogs() as logs:
        one.link.gone.errback(OSError("no"))
    assert [event["name"] for event in logs] == ["x1"]
    assert not closed.called
    two.link.gone.callback(None)
    assert result(closed) is None
