"""The daemon's parts put together in this process: its options, and what start and stop leave behind."""

import os
import socket
import threading
import time

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.testing import MemoryReactorClock
from twisted.python.usage import UsageError

from consoled import __version__
from consoled.config import load
from consoled.tap import Daemon, Options, go_steady, makeService
from tests.in_process import eventually, put_back, told

CONFIG = """
[http]
listen = ["tcp:0:interface=127.0.0.1"]
[transcript]
directory = "transcripts"
[[console]]
name = "n[1-20]"
kind = "demo"
role = "chatter"
[[console]]
name = "flaky"
kind = "demo"
role = "flaky"
failures = 1
[[console]]
name = "absent"
kind = "unix"
path = "absent"
[[console]]
name = "off"
kind = "demo"
enabled = false
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "consoled.toml"
    path.write_text(CONFIG)
    return path


def options(path, *more):
    options = Options()
    options.parseOptions(["--config", str(path), *more])
    return options


def test_the_service_is_the_daemon(path):
    assert isinstance(makeService(options(path)), Daemon)
    assert sorted(path.parent.iterdir()) == [path], "nothing is touched before the start"


def test_timers_go_by_a_clock_that_nobody_sets():
    alone = MemoryReactorClock()
    go_steady(alone)
    assert alone.seconds is time.monotonic
    # In a reactor that is used already, timers would go off at the wrong time.
    busy = MemoryReactorClock()
    busy.callLater(1, int)
    go_steady(busy)
    assert busy.seconds() == 0
    before = reactor.seconds
    go_steady(reactor)
    assert reactor.seconds == before


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        Options().parseOptions(["--version"])
    assert not ended.value.code
    assert capsys.readouterr().out == f"consoled {__version__}\n"


def test_check_says_that_all_is_well(path, capsys):
    with pytest.raises(SystemExit) as ended:
        options(path, "--check")
    assert not ended.value.code
    assert capsys.readouterr().out == f"{path}: 23 consoles, and nothing wrong\n"
    assert sorted(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('"flaky"\nfailures = 1', '"flaky"\nmean_uptime = 0', "console flaky: mean_uptime: "),
        ('role = "chatter"', 'role = "singer"', "console[0].role: "),
        ('"tcp:0:', '"gopher:0:', "http.listen: "),
        ("[http]", '[auth]\ntokens = "absent.toml"\n[http]', "auth.tokens: "),
        ("[http]", '[tenants]\nblue = "n["\n[http]', "tenants.blue: "),
        ("[http]", '[[role]]\nname = "r"\nverbs = ["fly"]\n[http]', "role[0].verbs[0]: "),
        ("[http]", '[[role]]\nname = "r"\nverbs = []\nconsoles = "@none"\n[http]', "role[0].consoles: there is"),
        ("[http]", '[[role]]\nname = "r"\nverbs = []\nconsoles = "@tenant:no"\n[http]', "role[0].consoles: there is"),
        ("[http]", '[tapms]\nurl = "http://tapms"\n[http]', "tapms.url: it must begin with https://"),
        ("[http]", '[tapms]\nurl = "https://tapms"\nca = "absent.pem"\n[http]', "tapms: "),
        ("[http]", "[hub]\nring = 1\n[http]", "hub: ring must be at least"),
        ("[http]", '[hub]\ntag = "two\\nlines"\n[http]', "hub.tag: "),
        ("[http]", "[http", ""),
    ],
)
@pytest.mark.parametrize("check", [(), ("--check",)])
def test_a_mistake_is_an_error_of_usage_that_names_file_and_key(path, old, new, text, check):
    assert old in CONFIG
    path.write_text(CONFIG.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        options(path, *check)
    assert str(caught.value).startswith(f"{path}: {text}")


# ------------------------------------------------------------------------------------------ its life


@pytest.fixture
def as_it_was(monkeypatch):
    with put_back(monkeypatch) as systemd:
        monkeypatch.setenv("WATCHDOG_USEC", "20000000")
        yield systemd


class Traces:
    """What a daemon must not leave behind."""

    def __init__(self):
        self._calls = set(reactor.getDelayedCalls())
        self._readers = set(reactor.getReaders())
        self._threads = set(threading.enumerate())

    async def are_gone(self):
        assert set(reactor.getDelayedCalls()) <= self._calls
        assert set(reactor.getReaders()) <= self._readers
        # Threads are not waited for, since the disk may hold them: they end by themselves.
        await eventually(lambda: set(threading.enumerate()) <= self._threads)


def started(path):
    daemon = Daemon(load(path), reactor)
    daemon.privilegedStartService()
    daemon.startService()
    return daemon


@pytest_twisted.ensureDeferred
async def test_start_and_stop_leave_nothing_behind_but_whole_transcripts(path, as_it_was):
    traces = Traces()
    daemon = started(path)
    assert await eventually(lambda: told(as_it_was)) == b"READY=1"
    assert await eventually(lambda: told(as_it_was)) == b"WATCHDOG=1"
    await daemon.stopService()
    assert told(as_it_was) == b"STOPPING=1"
    await traces.are_gone()
    files = sorted((path.parent / "transcripts").glob("console.*"))
    assert len(files) == 22
    for file in files:
        assert b"log closed" in file.read_bytes().splitlines()[-1]
    assert "NOTIFY_SOCKET" not in os.environ


@pytest_twisted.ensureDeferred
async def test_a_stop_before_it_is_open_leaves_nothing_behind(path, as_it_was):
    traces = Traces()
    daemon = started(path)
    await daemon.stopService()
    await traces.are_gone()
    assert told(as_it_was) == b"STOPPING=1"


def test_a_port_in_use_ends_it_before_anything_is_touched(path, as_it_was):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        path.write_text(CONFIG.replace("tcp:0:", f"tcp:{port}:"))
        daemon = Daemon(load(path), reactor)
        with pytest.raises(SystemExit) as ended:
            daemon.privilegedStartService()
    assert ended.value.code == 1
    assert sorted(path.parent.iterdir()) == [path]
