"""The gathering, on a reactor of its own, over real sockets."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.tcp import Server
from twisted.python.failure import Failure

from consoled.backends import gathering
from consoled.backends.gathering import REST, give_back, is_gathered
from consoled.backends.line import READ
from consoled.backends.stream import MUCH, StreamLine

LIMIT = 10.0


class Node:
    """A peer, the line to it, and the owner of that."""

    def __init__(self, reactor: EPollReactor, pair: Callable[[], tuple[socket.socket, socket.socket]]) -> None:
        self.heard: list[bytes] = []
        self.why: list[str] = []
        self.is_watched = False
        self.then: Callable[[], object] = lambda: None
        ours, self.peer = pair()
        self.line = StreamLine(self)
        self.line.dial(self)
        self.transport = Server(ours, self.line, ("127.0.0.1", 1), None, 0, reactor)
        self.line.makeConnection(self.transport)

    def connect(self, factory: object) -> Deferred[object]:
        return Deferred()

    def received(self, data: bytes) -> bool:
        self.heard.append(data)
        self.then()
        return self.is_watched

    def lost(self, why: str) -> None:
        self.why.append(why)

    def says(self, data: bytes) -> None:
        """Comes back when the line could read it."""
        self.peer.sendall(data)
        assert select.select([self.transport.socket], [], [], LIMIT)[0]

    def resets(self) -> None:
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()
        poll = select.poll()
        poll.register(self.transport.socket, 0)
        assert poll.poll(1000 * LIMIT)


class Room:
    def __init__(self) -> None:
        self.now = 1.0
        self.reactor = EPollReactor()
        self.reactor.seconds = lambda: self.now
        self.nodes: list[Node] = []
        self.server = socket.create_server(("127.0.0.1", 0))

    def pair(self) -> tuple[socket.socket, socket.socket]:
        peer = socket.create_connection(self.server.getsockname(), LIMIT)
        return self.server.accept()[0], peer

    def node(self, pair: Callable[[], tuple[socket.socket, socket.socket]] | None = None) -> Node:
        self.nodes.append(node := Node(self.reactor, pair or self.pair))
        return node

    def gathered(self, count: int = 1) -> list[Node]:
        """Nodes that have said something that nobody saw; and the rest after that is over."""
        nodes = [self.node() for _ in range(count)]
        for node in nodes:
            node.says(b"hello")
        self.until(lambda: all(is_gathered(node.transport) for node in nodes))
        self.later()
        for node in nodes:
            node.heard.clear()
        return nodes

    def turn(self, count: int = 3) -> None:
        for _ in range(count):
            self.reactor.runUntilCurrent()
            self.reactor.doPoll(0)

    def later(self) -> None:
        self.turn()
        self.now += REST
        self.turn()

    def until(self, done: Callable[[], object]) -> None:
        end = time.monotonic() + LIMIT
        while not done():
            assert time.monotonic() < end, "it did not come"
            self.now += REST / 4
            self.reactor.runUntilCurrent()
            self.reactor.doPoll(0.01)

    def end(self) -> None:
        for node in self.nodes:
            node.peer.close()
            if node.transport.connected:
                node.transport.connectionLost(Failure(ConnectionDone()))
        self.server.close()
        self.reactor.waker.connectionLost(None)
        gathering._gathering.cache_clear()


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.end()


def test_what_nobody_sees_is_read_together_and_then_not_for_a_while(room: Room) -> None:
    [one, other] = room.gathered(2)
    one.says(b"a")
    room.turn()
    assert one.heard == [b"a"]
    one.says(b"b")
    other.says(b"c")
    one.says(b"d")
    room.turn()
    assert (one.heard, other.heard) == ([b"a"], [])
    room.later()
    assert (one.heard, other.heard) == ([b"a", b"bd"], [b"c"])


def test_what_somebody_sees_is_read_as_it_comes(room: Room) -> None:
    node = room.node()
    node.is_watched = True
    for data in (b"a", b"b", b"c"):
        node.says(data)
        room.turn()
    assert not is_gathered(node.transport)
    assert node.heard == [b"a", b"b", b"c"]


def test_a_newcomer_has_it_given_back_with_the_next_bytes_and_the_last_to_leave_taken_again(room: Room) -> None:
    [node] = room.gathered()
    node.is_watched = True
    node.says(b"a")
    room.turn()
    node.says(b"b")
    room.turn()
    assert node.heard == [b"a", b"b"]
    node.is_watched = False
    node.says(b"c")
    room.turn()
    assert is_gathered(node.transport)


def test_whoever_types_does_not_wait_for_the_echo(room: Room) -> None:
    [node] = room.gathered()
    node.says(b"a")
    room.turn()
    assert node.line.write(b"x")
    node.says(b"b")
    room.turn()
    assert node.heard == [b"a", b"b"]
    assert node.peer.recv(9) == b"x"


def test_a_flood_is_not_gathered(room: Room) -> None:
    [node] = room.gathered()
    node.peer.setblocking(False)

    def is_flooding() -> bool:
        try:
            node.peer.send(b"x" * READ)
        except BlockingIOError:
            pass
        room.later()
        return not is_gathered(node.transport)

    room.until(is_flooding)
    assert READ in map(len, node.heard)


def test_what_comes_fast_is_no_longer_gathered_before_it_is_a_flood(room: Room) -> None:
    [node, other] = room.gathered(2)
    other.says(b"x" * (MUCH // 2))
    room.until(lambda: sum(map(len, other.heard)) == MUCH // 2)
    assert is_gathered(other.transport)

    def is_taken_out() -> bool:
        node.says(b"x" * MUCH)
        room.later()
        return not is_gathered(node.transport)

    room.until(is_taken_out)
    assert max(map(len, node.heard)) < READ


def test_paused_while_data_waits(room: Room) -> None:
    [node, other] = room.gathered(2)
    node.transport.pauseProducing()
    node.transport.pauseProducing()
    node.says(b"a")
    other.says(b"b")
    room.later()
    assert (node.heard, other.heard) == ([], [b"b"])
    node.transport.resumeProducing()
    node.transport.resumeProducing()
    room.later()
    assert node.heard == [b"a"]


def test_paused_by_another_of_the_same_batch(room: Room) -> None:
    one, other = room.gathered(2)
    one.then = lambda: None if other.heard else other.transport.pauseProducing()
    other.then = lambda: None if one.heard else one.transport.pauseProducing()
    one.says(b"a")
    other.says(b"b")
    room.later()
    assert [one.heard, other.heard] in ([[b"a"], []], [[], [b"b"]])


def test_given_back_while_paused_it_stays_paused(room: Room) -> None:
    [node] = room.gathered()
    node.transport.pauseProducing()
    give_back(node.transport)
    give_back(node.transport)
    node.says(b"a")
    room.later()
    assert node.heard == []
    node.transport.resumeProducing()
    room.turn()
    assert node.heard == [b"a"]


def test_the_end_comes_after_all_that_was_said(room: Room) -> None:
    node, other = room.gathered(2)
    node.says(b"last words")
    node.peer.close()
    other.says(b"b")
    room.until(lambda: node.why)
    room.later()
    assert node.heard == [b"last words"]
    assert node.why == ["Connection was closed cleanly."]
    assert (other.heard, other.why) == ([b"b"], [])


def test_a_peer_that_resets_among_others_is_lost_alone(room: Room) -> None:
    nodes = room.gathered(3)
    for node in nodes:
        node.says(b"a")
    nodes[1].resets()
    room.until(lambda: nodes[1].why)
    room.later()
    assert nodes[1].why == ["Connection to the other side was lost in a non-clean fashion: Connection lost."]
    assert [nodes[0].heard, nodes[2].heard] == [[b"a"], [b"a"]]


def test_a_peer_that_resets_between_the_look_and_the_read(room: Room) -> None:
    one, other = nodes = room.gathered(2)
    reset: list[Node] = []

    def resets(node: Node) -> None:
        if not reset:
            reset.append(node)
            node.resets()

    one.then, other.then = (lambda: resets(other)), (lambda: resets(one))
    for node in nodes:
        node.says(b"a")
    room.until(lambda: one.why or other.why)
    room.later()
    assert [len(node.why) for node in nodes] == [node in reset for node in nodes]


def test_one_that_another_of_the_batch_has_dropped_is_not_heard_any_more(room: Room) -> None:
    one, other = nodes = room.gathered(2)
    one.then, other.then = other.line.abort, one.line.abort
    for node in nodes:
        node.says(b"a")
    room.until(lambda: one.why or other.why)
    room.later()
    assert len(one.heard + other.heard) == len(one.why + other.why) == 1


def test_a_number_that_another_has_taken_over_within_the_batch(room: Room) -> None:
    one, other = nodes = room.gathered(2)
    new: list[Node] = []

    def replace(node: Node) -> None:
        if not new:
            number = node.transport.fileno()
            node.transport.connectionLost(Failure(ConnectionDone()))

            def pair() -> tuple[socket.socket, socket.socket]:
                ours, peer = room.pair()
                if ours.fileno() == number:
                    return ours, peer
                if peer.fileno() == number:
                    return peer, ours
                os.dup2(ours.fileno(), number)
                ours.close()
                return socket.socket(fileno=number), peer

            new.append(room.node(pair))
            assert new[0].transport.fileno() == number
            gathering.gather(new[0].transport)

    one.then, other.then = (lambda: replace(other)), (lambda: replace(one))
    for node in nodes:
        node.says(b"a")
    room.until(lambda: one.why or other.why)
    room.later()
    assert new[0].heard == new[0].why == []
    new[0].says(b"n")
    room.later()
    assert new[0].heard == [b"n"]


def test_a_socket_closed_behind_its_back(room: Room) -> None:
    node, other = room.gathered(2)
    node.says(b"a")
    node.transport.socket.close()
    other.says(b"b")
    room.later()
    assert other.heard == [b"b"]
    node.transport.connectionLost(Failure(ConnectionDone()))
    assert node.why == ["Connection was closed cleanly."]


def test_a_line_that_fails_is_lost_alone(room: Room) -> None:
    node, other = room.gathered(2)
    node.then = lambda: 1 // 0
    node.says(b"a")
    other.says(b"b")
    room.later()
    assert len(node.why) == 1
    assert other.heard == [b"b"]


def test_what_has_something_to_write_is_the_reactors(room: Room) -> None:
    [node] = room.gathered()
    node.transport.write(b"x")
    assert not is_gathered(node.transport)
    gathering.gather(node.transport)
    assert not is_gathered(node.transport)
    room.turn()
    assert node.peer.recv(9) == b"x"
    gathering.gather(node.transport)
    assert is_gathered(node.transport)


def test_hung_up_in_good_order(room: Room) -> None:
    [node] = room.gathered()
    node.line.close()
    room.until(lambda: node.why)
    assert node.peer.recv(9) == b""
    assert node.why == ["Connection was closed cleanly."]


def test_a_round_is_in_parts_and_reads_each_once(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = room.gathered(4)
    monkeypatch.setattr(gathering, "BATCH", 2)
    for node in nodes:
        node.says(b"a")
    for wanted in (2, 4, 4):
        room.turn(1)
        assert sum(len(node.heard) for node in nodes) == wanted
        next(node for node in nodes if node.heard).says(b"again")
    room.later()
    assert all(b"".join(node.heard).startswith(b"a") for node in nodes)


def test_nothing_is_left_when_the_last_has_gone(room: Room) -> None:
    nodes = room.gathered(2)
    nodes[0].says(b"a")
    room.turn()
    assert room.reactor.getDelayedCalls()
    for node in nodes:
        node.transport.connectionLost(Failure(ConnectionDone()))
    assert not room.reactor.getDelayedCalls()
    assert room.reactor.getReaders() == [room.reactor.waker]


def test_when_the_reactor_ends_all_are_lost(room: Room) -> None:
    nodes = room.gathered(2)
    for reader in room.reactor.removeAll():
        reader.connectionLost(Failure(CONNECTION_LOST))
    assert [len(node.why) for node in nodes] == [1, 1]


def test_what_is_no_plain_connection_is_left_alone() -> None:
    gathering.gather(nothing := object())
    assert not is_gathered(nothing)
    give_back(nothing)
