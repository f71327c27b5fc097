"""What operators do with the files: `tail -F` on a transcript while it is rotated, reopened and moved away."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater

from tests.real import need
from tests.real.daemon import RunningDaemon
from tests.real.talk import LIMIT, Program, WebSocket

pytestmark = pytest.mark.real

CONFIG = """
[defaults]
kind = "demo"
[[console]]
name = "chatty"
role = "flood"
rate = "64 KiB"
[[console]]
name = "echo"
role = "echo"
"""
LINES = 64 * 1024 // 64
"""The lines that the chatty console says in a second, and that a file of its transcript takes."""
FROM_THE_START = {"Cray-Console-Lines": "1000000", "Cray-Console-Follow": "True"}


class Desk:
    """A daemon, and an operator who has `tail -F` running on a transcript and a client open."""

    def __init__(self, directory: Path) -> None:
        self.daemon = RunningDaemon(reactor, directory, CONFIG, transcript='max_size = "64 KiB"')
        self.tail: Program
        """Started by `follow`."""

    async def follow(self, console: str) -> WebSocket:
        tail = need("tail", "coreutils")
        await self.daemon.start()
        await self.daemon.holds(2)
        # Not before: where there is no directory yet it polls once a second, and misses what comes and goes between.
        self.tail = Program([tail, "--lines=+1", "-F", str(self.daemon.transcripts / f"console.{console}")])
        return await WebSocket.open(self.daemon.ws(f"tail/{console}"), FROM_THE_START)

    async def leave(self, client: WebSocket) -> tuple[bytes, bytes]:
        """Stop the daemon; what `tail` and the client saw."""
        await self.daemon.stop()
        await client.until("\nclosed 1001 ")
        await self.tail.until(" log closed at ")
        await self.tail.until("UTC.\r\n")
        return bytes(self.tail.said), bytes(client.said.partition(b"\nclosed 1001 ")[0])

    async def end(self) -> None:
        try:
            await self.daemon.stop()
        finally:
            if hasattr(self, "tail"):
                await self.tail.leave()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    pytest_twisted.blockon(Deferred.fromCoroutine(desk.end()))


@pytest_twisted.ensureDeferred
async def test_a_chatty_console_is_rotated_and_reopened(desk: Desk) -> None:
    client = await desk.follow("chatty")
    for second in range(1, 4):
        await desk.tail.until(f"\n{second * LINES:020d} ")
        desk.daemon.signal(signal.SIGUSR1)
    await client.until(f"\n{3 * LINES:020d} ")
    by_tail, by_client = await desk.leave(client)
    assert desk.tail.errors.count(b"following new file") >= 3
    assert by_tail == desk.daemon.stream("chatty")
    assert by_tail.startswith(by_client)


@pytest_twisted.ensureDeferred
async def test_a_file_is_moved_away_as_logrotate_does(desk: Desk, tmp_path: Path) -> None:
    """The console is silent meanwhile: what is written to a file after the move, no `tail -F` sees."""
    client = await desk.follow("echo")
    typist = await WebSocket.open(desk.daemon.ws("interact/echo"))
    await typist.until("opened.")
    active, moved = desk.daemon.transcripts / "console.echo", tmp_path / "console.echo.1"
    typist.type("before")
    await desk.tail.until("before\n")
    active.rename(moved)
    desk.daemon.signal(signal.SIGUSR1)
    await exists(active)
    typist.type("after")
    await desk.tail.until("after\n")
    await client.until("after\n")
    by_tail, by_client = await desk.leave(client)
    assert by_tail == moved.read_bytes() + desk.daemon.transcript("echo")
    assert moved.read_bytes().endswith(b"before\n")
    assert by_tail.startswith(by_client)


@inlineCallbacks
def exists(path: Path) -> Any:
    """Fires when there is a file at `path`."""
    deadline = reactor.seconds() + LIMIT
    while not path.exists():
        assert reactor.seconds() < deadline, f"{path} does not come"
        yield deferLater(reactor, 0.02)
