"""Names into addresses: what a silent name server must not hold up."""

from __future__ import annotations

import socket
from threading import Event, Thread, current_thread
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address

from consoled.backends.names import Names


class Receiver:
    """Whoever asked."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self.complete = 0

    def resolutionBegan(self, resolution: Any) -> None:
        self.name = resolution.name

    def addressResolved(self, address: Any) -> None:
        self.found.append(address)

    def resolutionComplete(self) -> None:
        self.complete += 1


class World:
    """Threads that go on when the test says so, and a table of names; what is not in it is not found."""

    def __init__(self, most: int = 4, **table: str) -> None:
        self.table = table
        self.threads: dict[str, Any] = {}
        self.names = Names(lambda call, *args: call(*args), self.getaddrinfo, self.in_thread, most)

    def getaddrinfo(self, name: str, port: int, family: int, kind: int, proto: int, flags: int) -> Any:
        if flags or name not in self.table:
            return socket.getaddrinfo(name, port, family, kind, proto, socket.AI_NUMERICHOST)
        return socket.getaddrinfo(self.table[name], port, family, kind, proto, flags)

    def in_thread(self, call: Any, question: Any) -> None:
        self.threads[question[0]] = lambda: call(question)

    def ask(self, name: str, port: int = 23, **more: Any) -> Receiver:
        receiver = Receiver()
        self.names.resolveHostName(receiver, name, port, **more)
        return receiver

    def answer(self, *names: str) -> None:
        for name in names:
            self.threads.pop(name)()


def test_a_name_is_asked_for_in_a_thread() -> None:
    world = World(bmc1="192.0.2.1")
    asked = world.ask("bmc1", 2001)
    assert asked.name == "bmc1"
    assert not asked.complete
    world.answer("bmc1")
    assert asked.found == [IPv4Address("TCP", "192.0.2.1", 2001)]
    assert asked.complete == 1


def test_what_is_not_found_is_an_answer_too() -> None:
    world = World()
    # Neither is a name that cannot be put into a question.
    for name in ("bmc1", "x" * 64, "\udc80"):
        asked = world.ask(name)
        world.answer(name)
        assert (asked.found, asked.complete) == ([], 1)


def test_a_numeric_address_waits_for_nobody() -> None:
    world = World(most=1)
    world.ask("bmc1")
    assert world.ask("192.0.2.7").found == [IPv4Address("TCP", "192.0.2.7", 23)]
    assert world.ask("2001:db8::7").found == [IPv6Address("TCP", "2001:db8::7", 23)]
    assert world.ask("192.0.2.7", transportSemantics="UDP").found == [IPv4Address("UDP", "192.0.2.7", 23)]
    assert set(world.threads) == {"bmc1"}


def test_the_family_is_heeded() -> None:
    world = World(bmc1="2001:db8::7")
    four, six = world.ask("bmc1", addressTypes=[IPv4Address]), None
    world.answer("bmc1")
    six = world.ask("bmc1", addressTypes=[IPv6Address])
    world.answer("bmc1")
    assert (four.found, six.found) == ([], [IPv6Address("TCP", "2001:db8::7", 23)])


def test_two_who_ask_the_same_share_the_answer() -> None:
    world = World(ts1="192.0.2.1")
    first, second = world.ask("ts1", 2001), world.ask("ts1", 2002)
    world.answer("ts1")
    assert not world.threads
    assert [asked.found for asked in (first, second)] == [
        [IPv4Address("TCP", "192.0.2.1", 2001)],
        [IPv4Address("TCP", "192.0.2.1", 2002)],
    ]
    world.ask("ts1")
    assert set(world.threads) == {"ts1"}, "asked anew at each dial"


def test_only_so_many_are_asked_for_at_once() -> None:
    world = World(most=2, a="192.0.2.1", c="192.0.2.3")
    world.ask("a")
    world.ask("b")
    third = world.ask("c")
    assert set(world.threads) == {"a", "b"}
    world.answer("b")
    assert set(world.threads) == {"a", "c"}
    world.answer("c")
    assert third.complete == 1


def test_names_that_were_not_found_stand_behind_the_others() -> None:
    world = World(most=4, good="192.0.2.1")
    dead = [f"dead{n}" for n in range(6)]
    for name in dead:
        world.ask(name)
    world.answer(*dead[:4])
    world.answer(*dead[4:])
    for name in dead:
        world.ask(name)
    assert set(world.threads) == set(dead[:3]), "the last quarter is not for them"
    good = world.ask("good")
    world.answer("good")
    assert good.complete == 1
    world.table["dead0"] = "192.0.2.2"
    world.answer("dead0")
    assert set(world.threads) == set(dead[1:4])
    world.ask("dead0")
    assert "dead0" in world.threads, "found once, it is a name like others"


def test_the_threads_do_not_keep_the_process() -> None:
    seen: list[Thread] = []
    told: list[Any] = []
    begun = Event()

    def getaddrinfo(name: str, port: int, family: int, kind: int, proto: int, flags: int) -> Any:
        if flags:
            raise socket.gaierror
        seen.append(current_thread())
        begun.set()
        return ()

    names = Names(lambda call, *args: told.append(args), getaddrinfo)
    names.resolveHostName(Receiver(), "bmc1")
    assert begun.wait(10)
    seen[0].join(10)
    assert told == [(("bmc1", 0, "TCP"), ())]
    assert seen[0].daemon
