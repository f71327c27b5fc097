"""The hub: finding consoles, the limit on clients, the end."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from consoled.core.faults import Fault, NotMonitored, NotOpen, TooManyClients, UnknownConsole
from consoled.core.hub import Hub
from tests.fakes import Desk, result


def held(*desks: Desk, off: tuple[str, ...] = (), max_clients: int = 10) -> Hub:
    hub = Hub(max_clients)
    hub.open({desk.console.name: desk.console for desk in desks}, off)
    return hub


def test_finding() -> None:
    one, two = Desk(name="x1"), Desk(name="x2")
    hub = Hub()
    assert not hub.is_open
    with pytest.raises(NotOpen):
        hub.find("x1")
    hub.open({"x1": one.console, "x2": two.console}, ["x3"])
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


def test_an_operator_says_now() -> None:
    one, two = Desk(name="x1"), Desk(name="x2")
    held(one, two).dial_now()
    assert one.link.asked == two.link.asked == ["open", "dial_now"]


def test_one_more_and_one_less_disturb_nobody() -> None:
    one, two = Desk(name="x1"), Desk(name="x2")
    hub = Hub()
    with pytest.raises(NotOpen):
        hub.add(two.console)
    hub.open({"x1": one.console})
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
