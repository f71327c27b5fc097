"""The audit file of a running daemon: its mode, logrotate's way with it, and a start without it."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.real.daemon import READY, RunningDaemon
from tests.real.talk import WebSocket

pytestmark = pytest.mark.real

CONFIG = '[[console]]\nname = "x1"\nkind = "demo"\nrole = "node"\n'


def actions(path: Path) -> list[str]:
    return [json.loads(line)["action"] for line in path.read_text().splitlines()] if path.exists() else []


async def holds(path: Path, wanted: list[str]) -> None:
    deadline = reactor.seconds() + READY
    while actions(path) != wanted:
        assert reactor.seconds() < deadline, actions(path)
        await deferLater(reactor, 0.02)


async def visit(daemon: RunningDaemon) -> None:
    seat = await WebSocket.open(daemon.ws("interact/x1"), {})
    await seat.until("opened")
    await seat.leave()


@pytest_twisted.ensureDeferred
async def test_the_file_is_kept_and_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "audit.log"
    daemon = RunningDaemon(reactor, tmp_path, f'[hub]\nstate = "state"\n[audit]\nfile = "{path}"\n{CONFIG}')
    try:
        await daemon.start()
        await visit(daemon)
        once = ["accepted", "attached", "detached"]
        await holds(path, once)
        assert path.stat().st_mode & 0o777 == 0o640
        moved = path.with_name("audit.log.1")
        path.rename(moved)
        daemon.signal(signal.SIGUSR1)
        # The first records after it may still be in the old file: the signal is heard in its own time.
        visits, deadline = 1, reactor.seconds() + READY
        while not actions(path):
            assert reactor.seconds() < deadline, daemon.log
            await visit(daemon)
            visits += 1
    finally:
        await daemon.stop()
    assert actions(moved) + actions(path) == once * visits
    assert '"action"' not in daemon.log


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_cannot_keep_it_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "audit.log").mkdir()
    daemon = RunningDaemon(reactor, tmp_path, f'[hub]\nstate = "state"\n[audit]\nfile = "audit.log"\n{CONFIG}')
    try:
        with pytest.raises(AssertionError, match=r"consoled cannot start: audit.file: .*Is a directory"):
            await daemon.start()
    finally:
        ended: Any = daemon.stop()
        await ended
