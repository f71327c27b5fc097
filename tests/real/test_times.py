"""The question of the night, asked of a real daemon by its clock and by curl's way of writing."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.real.outside import Daemon, demo, eventually


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path, demo("n1", role="chatter"))
    yield daemon
    daemon.end()


def ask(daemon: Daemon, query: str) -> tuple[bytes, dict[str, str]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.port}/v1/consoles/n1/transcript?{query}") as answer:
        return answer.read(), {name.lower(): value for name, value in answer.headers.items()}


def test_by_time(daemon: Daemon) -> None:
    before = time.time()
    daemon.start()
    eventually(lambda: len(daemon.stream("n1")) > 500)
    body, headers = ask(daemon, f"from={before:.3f}")
    assert body.startswith(b"<ConMan> Console [n1] log opened")
    first = datetime.fromisoformat(headers["consoled-from"]).timestamp()
    last = datetime.fromisoformat(headers["consoled-to"]).timestamp()
    assert int(before * 1000) / 1000 <= first <= last <= time.time() + 1
    assert ask(daemon, f"to={before:.3f}")[0] == b""
    assert ask(daemon, f"from={quote(datetime.fromtimestamp(time.time() + 60, UTC).isoformat())}")[0] == b""


@pytest.mark.parametrize("kill", [False, True])
def test_after_a_restart(daemon: Daemon, kill: bool) -> None:
    before = time.time()
    daemon.start()
    eventually(lambda: len(daemon.stream("n1")) > 500)
    daemon.kill() if kill else daemon.terminate()
    old = daemon.stream("n1")
    between = time.time()
    daemon.start()
    eventually(lambda: len(daemon.stream("n1")) > len(old) + 500)
    if not kill:
        assert ask(daemon, f"from={before:.3f}&to={between:.3f}")[0] == old
        assert ask(daemon, f"from={between + 0.001:.3f}")[1]["consoled-offset"] == str(len(old))
        assert list((daemon.directory / ".times").iterdir())
    else:
        assert old in ask(daemon, f"from={before:.3f}&to={between:.3f}")[0], "a little too much rather than too little"
