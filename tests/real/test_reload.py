"""A reload as an operator meets it: a signal, a log, and consoles that go on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.outside import TERMINATED, Daemon, Node, Viewer, assert_begins, demo, eventually, numbered

pytestmark = pytest.mark.real


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    yield node
    node.close()


def add(one: Daemon, text: str) -> str:
    """Write `text` behind the configuration; returns what that was."""
    before = one.config.read_text()
    one.config.write_text(before + text)
    return before


def hang_up(one: Daemon, said: str, count: int = 1) -> None:
    """SIGHUP, and wait for the log to have `said` so for the `count`th time."""
    one.signal(signal.SIGHUP)
    eventually(lambda: one.log.count(said) >= count)


def test_sighup_takes_up_what_is_good_and_refuses_what_is_not(tmp_path: Path, node: Node) -> None:
    one = Daemon(tmp_path, node.toml("stays") + demo("goes", "flood", rate="1 MiB"))
    try:
        one.start()
        node.accept()
        viewer, goes = Viewer(one, "stays", lines=1000), Viewer(one, "goes")
        typist = Viewer(one, "stays", "interact")
        goes.up_to(1000)
        node.say(numbered(0, 100))

        good = add(one, demo("new[1-3]", "chatter"))
        hang_up(one, "reloaded: 3 added (new1, new2, new3)")
        Viewer(one, "new3", lines=10).until(b"log opened")
        node.say(numbered(100, 100))

        add(one, demo("new4", "singer"))
        hang_up(one, "not reloaded, and nothing has changed: ")
        assert f"{one.config}: console[3].role: " in one.log
        node.say(numbered(200, 100))

        one.config.write_text(good.replace(demo("goes", "flood", rate="1 MiB"), ""))
        hang_up(one, "reloaded: 4 removed (")
        assert goes.rest().closed == (1001, "The console was taken out of the configuration")
        node.say(numbered(300, 100))
        viewer.until(b"line %012d" % 399)
        typist.type(b"still here")
        assert node.heard() == b"still here"
        assert one.terminate() == TERMINATED
        assert_begins(one.stream("stays"), viewer.rest().seen)
        assert one.stream("stays").count(b" connected to") == 1
        assert b"log closed" in one.stream("goes")[-100:]
        assert "Traceback" not in one.log
    finally:
        one.end()


def test_sighup_while_it_starts(tmp_path: Path) -> None:
    one = Daemon(tmp_path, demo("n[1-2000]", "quiet"))
    try:
        one.start(ready=False)
        eventually(lambda: "starting on" in one.log)
        add(one, demo("late", "quiet"))
        hang_up(one, "reloaded: 1 added (late)")
        assert one.health()["consoles"] == "2001"
        assert one.terminate() == TERMINATED
        assert not one.faults()
    finally:
        one.end()


def test_many_in_a_row_lose_no_byte(tmp_path: Path, node: Node) -> None:
    """Others come and go while a node floods."""
    one = Daemon(tmp_path, node.toml("stays"))
    try:
        one.start()
        node.accept()
        viewer = Viewer(one, "stays", lines=1_000_000)
        bare = one.config.read_text()
        for turn in range(20):
            fresh = tmp_path / "fresh"  # a file that is being written may be read half
            fresh.write_text(bare + demo(f"other[{turn}-{turn + 30}]", "chatter"))
            fresh.replace(one.config)
            one.signal(signal.SIGHUP)
            node.say(numbered(turn * 4096, 4096))
            viewer.until(b"line %012d" % (turn * 4096 + 4095))
        eventually((one.directory / "console.other49").exists)
        assert one.terminate() == TERMINATED
        assert_begins(one.stream("stays"), viewer.rest().seen)
        assert one.stream("stays").count(b" connected to") == 1
        assert not one.faults()
    finally:
        one.end()
