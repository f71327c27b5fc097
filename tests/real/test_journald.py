"""The daemon's log in a journald: a real one of our own where that can be had, and the daemon with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from twisted.logger import Logger, LogPublisher

from consoled.logbook import Logbook
from tests.real import lack, need
from tests.real.outside import Daemon, demo, eventually
from tests.test_journal import Journald

JOURNALD = Path("/lib/systemd/systemd-journald")


@pytest.fixture
def namespace() -> Iterator[str]:
    """A journald for this test alone (systemd-journald.service(8), journal namespaces)."""
    need("journalctl", "systemd")
    if not JOURNALD.exists():
        lack(str(JOURNALD), "systemd")
    if os.geteuid() != 0:
        pytest.skip("a journald of our own takes root")
    name = f"consoled{token_hex(4)}"
    Path("/run/systemd").mkdir(exist_ok=True)
    process = subprocess.Popen([str(JOURNALD), name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(Path(f"/run/systemd/journal.{name}/socket").exists)
        yield name
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        for place in ("/run/systemd/journal.", "/run/log/journal/*.", "/var/log/journal/*."):
            for path in Path("/").glob(f"{place.lstrip('/')}{name}"):
                for file in path.iterdir():
                    file.unlink()
                path.rmdir()


def records(namespace: str, *matches: str) -> list[dict[str, Any]]:
    """What `journalctl` finds."""
    command = ["journalctl", f"--namespace={namespace}", "--output=json", "--all", "--quiet", *matches]
    found = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
    return [json.loads(line) for line in found.splitlines()]


def test_journalctl_finds_a_console(namespace: str) -> None:
    spilled: list[str] = []
    book = Logbook(lambda text: not spilled.append(text), f"/run/systemd/journal.{namespace}/socket")  # type: ignore[func-returns-value]
    log = Logger(namespace=__name__, observer=LogPublisher(book))
    log.warn("console {name}: {why}", name="x1000c0", why="two\nlines")
    log.info("console {name}: {why}", name="x1000c1", why="another")
    log.info("{text}", text="x" * 500_000 + "\nand more")
    log.info("the last")
    eventually(lambda: len(records(namespace, "-t", "consoled")) == 4)
    book.close()
    assert not spilled
    [one] = records(namespace, "-t", "consoled", "CONSOLED_CONSOLE=x1000c0")
    assert (one["MESSAGE"], one["PRIORITY"]) == ("console x1000c0: two\nlines", "4")
    assert one["CODE_FUNC"] == "test_journalctl_finds_a_console"
    assert one["CONSOLED_WHY"] == "two\\nlines"
    assert len(records(namespace, "-t", "consoled", "-p", "warning")) == 1
    assert records(namespace, "-t", "consoled")[2]["MESSAGE"] == "x" * 500_000 + "\nand more"


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    journald = Journald(tmp_path / "socket")
    yield journald
    journald.end()


def point(daemon: Daemon, path: str) -> None:
    """Have it look for journald's socket at `path`: that of the machine is nothing for tests."""
    program = f"import consoled.logbook as l; l.Logbook.__init__.__defaults__ = ({path!r},); "
    daemon.command[:3] = [sys.executable, "-c", program + daemon.command[2]]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path, demo("n1", role="quiet") + '[[console]]\nname = "x1"\nkind = "unix"\npath = "absent"\n')
    yield daemon
    daemon.end()


def test_a_daemon_whose_standard_error_is_the_journal(tmp_path: Path, daemon: Daemon, journald: Journald) -> None:
    """As systemd starts it, but that the journal's socket is another."""
    point(daemon, journald.path)
    output = tmp_path / "output"
    output.touch()
    info = output.stat()
    daemon.start(JOURNAL_STREAM=f"{info.st_dev}:{info.st_ino}")
    found = [journald.read()]
    while "CONSOLED_CONSOLE" not in found[-1]:
        found.append(journald.read())
    assert (found[-1]["CONSOLED_CONSOLE"], found[-1]["SYSLOG_IDENTIFIER"]) == ("x1", "consoled")
    assert found[-1]["LOGGER"].startswith("consoled.backends")
    daemon.terminate()
    assert output.read_text() == "", "nothing is said twice"


def test_a_daemon_that_finds_no_journald_says_it_on_standard_error(tmp_path: Path, daemon: Daemon) -> None:
    point(daemon, str(tmp_path / "nobody"))
    daemon.config.write_text(daemon.config.read_text() + "[log]\njournal = true\n")
    daemon.start()
    daemon.terminate()
    assert "consoled" in daemon.log
    assert " holds 2 consoles" in daemon.log
