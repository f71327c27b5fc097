"""The stream of `/v1` from a real daemon, which dies and comes back while its client is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.real.outside import Daemon

LIMIT = 20.0
CONFIG = """
[[console]]
name = "n1"
kind = "demo"
role = "flood"
rate = "200 KiB"
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path, CONFIG)
    try:
        yield daemon.start()
    finally:
        daemon.end()


def stream(daemon: Daemon, offset: int) -> connect:
    url = f"ws://127.0.0.1:{daemon.port}/v1/consoles/n1/stream?offset={offset}"
    return connect(url, subprotocols=[Subprotocol("consoled.v1")], compression=None, open_timeout=LIMIT, max_size=None)


def test_who_comes_back_after_a_crash_has_every_byte_once(daemon: Daemon) -> None:
    got = b""
    for life in range(3):
        if life:
            daemon.start()
        goal, is_alive = len(got) + 100_000, True
        with suppress(ConnectionClosed), stream(daemon, len(got)) as client:
            assert client.subprotocol == "consoled.v1"
            while True:
                message = client.recv(LIMIT)
                if isinstance(message, bytes):
                    assert int.from_bytes(message[:8], "big") == len(got), "missed, or twice"
                    got += message[8:]
                if is_alive and len(got) >= goal:
                    is_alive = False
                    daemon.kill()
    kept = b"".join(path.read_bytes() for path in sorted(daemon.directory.glob("console.n1.*")))
    kept += (daemon.directory / "console.n1").read_bytes()
    assert kept.startswith(got)
