"""A whole daemon in this process, on its reactor: what must be put back after it, and how one waits for it."""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import txaio
from twisted.internet import reactor
from twisted.internet.task import deferLater


@contextmanager
def put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What a daemon changes for the whole process is put back; gives systemd's end of `NOTIFY_SOCKET`."""
    monkeypatch.setattr(txaio.config, "loop", reactor)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)}
    name = f"consoled-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name}")
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        yield systemd
    for number, handler in handlers.items():
        signal.signal(number, handler)
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def told(systemd: socket.socket) -> bytes | None:
    """The next that systemd was told, if there is any."""
    try:
        return systemd.recv(200)
    except BlockingIOError:
        return None


async def eventually(look: Callable[[], Any], what: str = "it", limit: float = 10.0) -> Any:
    """What `look` returns once it is something, within `limit` seconds."""
    deadline = reactor.seconds() + limit
    while not (found := look()):
        assert reactor.seconds() < deadline, f"{what} did not come"
        await deferLater(reactor, 0.01)
    return found
