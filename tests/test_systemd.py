"""Talking to systemd over real datagram sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.logger import LogLevel, capturedLogs, eventAsText

from consoled.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The far end, and its name as systemd would write it into the environment."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@consoled-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far_end:
        far_end.bind(name.replace("@", "\0", 1) if request.param == "abstract" else name)
        far_end.settimeout(5)
        yield far_end, name


def test_what_is_said(systemd: tuple[socket.socket, str]) -> None:
    far_end, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for say, words in (
        (notifier.ready, b"READY=1"),
        (notifier.alive, b"WATCHDOG=1"),
        (notifier.stopping, b"STOPPING=1"),
    ):
        say()
        assert far_end.recv(100) == words


def test_no_child_inherits_what_was_meant_for_us() -> None:
    environment = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/root"}
    Notifier(environment)
    assert environment == {"HOME": "/root"}


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "30000000"}, 30),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({"WATCHDOG_USEC": "²"}, 0),
        ({"WATCHDOG_USEC": "-1"}, 0),
    ],
)
def test_the_watchdog(environment: dict[str, str], seconds: float) -> None:
    assert Notifier(dict(environment)).watchdog == seconds


def test_without_systemd_nothing_is_said() -> None:
    with capturedLogs() as logs:
        notifier = Notifier({})
        notifier.ready()
        notifier.alive()
        notifier.stopping()
    assert not logs


def test_a_systemd_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    with capturedLogs() as logs:
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
    [event] = logs
    assert event["log_level"] is LogLevel.warn
    assert "systemd was not told READY=1: [Errno 2]" in eventAsText(event)


def test_a_systemd_that_does_not_read_does_not_hold_us_up(systemd: tuple[socket.socket, str]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd[1]})
    with capturedLogs() as logs:
        while not logs:
            notifier.alive()
    assert "WATCHDOG=1" in eventAsText(logs[0])


def test_no_descriptor_is_left_open(systemd: tuple[socket.socket, str]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd[1]})
    before = sorted(Path("/proc/self/fd").iterdir())
    notifier.ready()
    assert sorted(Path("/proc/self/fd").iterdir()) == before
