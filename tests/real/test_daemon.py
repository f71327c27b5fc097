"""What the daemon promises its operator: to start, to stop, to survive, and to lose nothing."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.real import disk, free_port
from tests.real.outside import (
    SHUTDOWN,
    TERMINATED,
    Daemon,
    Node,
    Viewer,
    assert_begins,
    assert_marked,
    demo,
    eventually,
    numbered,
)

pytestmark = pytest.mark.real

MIB = numbered(0, 16384)
SMALL = 8192
"""A receive buffer that is soon full."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Makes daemons; those that were started are ended after the test."""
    made: list[Daemon] = []

    def make(config: str, home: str = "", **options: Any) -> Daemon:
        place = tmp_path / home
        place.mkdir(exist_ok=True)
        made.append(Daemon(place, config, **options))
        return made[-1]

    yield make
    with ExitStack() as ending:
        for one in made:
            ending.callback(one.end)


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    yield node
    node.close()


# ------------------------------------------------------------------------------------------------- stopping


def test_sigterm_closes_every_client_and_completes_every_transcript(daemon: Callable[..., Daemon], node: Node) -> None:
    """200 consoles; 51 clients at the head, in the middle of a long tail, stalled, at a keyboard; a node that stays."""
    one = daemon(
        demo("n[1-80]", "node", speed=1_000_000)
        + demo("c[1-80]", "chatter", interval="100ms")
        + demo("f[1-30]", "flood", rate="128 KiB")
        + demo("k[1-9]", "flaky", mean_uptime="2s")
        + node.toml("stays")
    ).start()
    node.accept().say(MIB * 8)
    history = Viewer(one, "stays", lines=1_000_000)
    history.up_to(8 << 20)
    heads = {f"f{n}": Viewer(one, f"f{n}", lines=1_000_000) for n in range(1, 11)}
    heads |= {f"n{n}": Viewer(one, f"n{n}", lines=1_000_000) for n in range(1, 6)}
    typing = [Viewer(one, f"n{n}", "interact") for n in range(1, 11)]
    middle = [Viewer(one, "stays", lines=100_000, buffer=SMALL) for _ in range(15)]
    stalled = [Viewer(one, "f11", buffer=SMALL) for _ in range(9)]
    readers = [history, *heads.values(), *typing, *middle, *stalled]
    for viewer in readers:
        viewer.until(b"\n")
    Viewer(one, "stays", lines=100_000, buffer=SMALL)  # never reads, and is not waited for

    one.signal(signal.SIGTERM)
    with ThreadPoolExecutor(len(readers)) as pool:
        list(pool.map(Viewer.rest, readers))
    assert one.wait() == TERMINATED

    assert not one.faults()
    for viewer in readers:
        assert viewer.closed == SHUTDOWN
    names = [f"{kind}{n}" for kind, count in (("n", 80), ("c", 80), ("f", 30), ("k", 9)) for n in range(1, count + 1)]
    streams = {name: one.stream(name) for name in [*names, "stays"]}
    for name, stream in streams.items():
        last = stream.rstrip(b"\r\n").rpartition(b"\n")[2]
        assert re.fullmatch(rb"<ConMan> Console \[%b\] log closed at .* UTC\." % name.encode(), last), last
    for name, viewer in heads.items():
        assert_begins(streams[name], viewer.seen)
    for viewer in (history, *middle):
        assert viewer.seen in streams["stays"]
    for viewer in stalled:
        assert viewer.seen in streams["f11"]


def test_sigterm_while_it_starts(daemon: Callable[..., Daemon]) -> None:
    one = daemon(demo("n[1-2000]", "chatter")).start(ready=False)
    eventually(lambda: "starting on" in one.log)
    assert one.terminate() == TERMINATED
    one.start()
    assert one.terminate() == TERMINATED
    assert not one.faults()
    assert b"log closed" in one.stream("n2000")


def test_what_a_client_has_seen_survives_sigkill_and_offsets_go_on(daemon: Callable[..., Daemon]) -> None:
    nodes = {f"n{number}": Node() for number in range(5)}
    one = daemon("".join(node.toml(name) for name, node in nodes.items())).start()
    viewers = {name: Viewer(one, name, lines=1_000_000) for name in nodes}
    for node in nodes.values():
        node.accept()
    for part in range(8):
        for node in nodes.values():
            node.say(numbered(part * 16384, 16384))
        for viewer in viewers.values():
            viewer.until(b"line %012d" % (part * 16384 + 12345))
    one.kill()
    before = {name: one.stream(name) for name in nodes}
    for name, viewer in viewers.items():
        assert viewer.rest().closed is None
        assert_begins(before[name], viewer.seen)

    one.start()
    for node in nodes.values():
        node.accept().say(numbered(10**6, 100))
    viewers = {name: Viewer(one, name, lines=1_000_000) for name in nodes}
    for viewer in viewers.values():
        viewer.until(b"line %012d" % (10**6 + 99))
    whole = Viewer(one, "n0", lines=1_000_000, follow=False).rest()
    assert whole.closed == (1000, "end of the log")
    assert one.terminate() == TERMINATED
    assert not one.faults()
    assert_begins(one.stream("n0"), whole.seen)
    assert len(whole.seen) > len(before["n0"])
    for name, viewer in viewers.items():
        stream = one.stream(name)
        assert_begins(stream, before[name])
        assert_begins(stream, viewer.rest().seen)
        assert_marked(stream, one.marks(name))
        nodes[name].close()


def test_what_was_said_by_a_timer_survives_sigkill_too(daemon: Callable[..., Daemon]) -> None:
    """A demo's flood comes from timed calls, which the reactor handles at another time than sockets."""
    one = daemon(demo("n[1-5]", "flood", rate="2 MiB")).start()
    viewers = {f"n{number}": Viewer(one, f"n{number}", lines=1_000_000) for number in range(1, 6)}
    for viewer in viewers.values():
        viewer.until(b"%020d " % 10_000)
    one.kill()
    for name, viewer in viewers.items():
        assert_begins(one.stream(name), viewer.rest().seen)


# ------------------------------------------------------------------------------------------------- starting


def test_it_starts_whatever_is_absent(daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    nobody = free_port()
    one = daemon(
        f'[[console]]\nname = "tcp"\nkind = "tcp"\naddress = "127.0.0.1:{nobody}"\n'
        '[[console]]\nname = "host"\nkind = "tcp"\naddress = "nowhere.invalid:1"\n'
        f'[[console]]\nname = "tls"\nkind = "tcp"\naddress = "127.0.0.1:{nobody}"\ntls = {{}}\n'
        f'[[console]]\nname = "telnet"\nkind = "telnet"\naddress = "127.0.0.1:{nobody}"\n'
        f'[[console]]\nname = "unix"\nkind = "unix"\npath = "{tmp_path}/absent"\n'
        f'[[console]]\nname = "serial"\nkind = "serial"\ndevice = "{tmp_path}/ttyUSB0"\n'
        f'[[console]]\nname = "process"\nkind = "process"\ncommand = ["{tmp_path}/absent"]\n'
    ).start()
    eventually(lambda: one.health().get("links_waiting") == "7")
    Viewer(one, "process", "interact").until(b"currently disconnected")
    assert one.health()["status"] == "ok"
    assert one.terminate() == TERMINATED
    assert not one.faults()


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ("[[console]\n", "Expected"),
        ("[hub]\nrong = 1\n", "hub: .*`rong`"),
        ('[auth]\ntokens = "absent.toml"\n', "auth.tokens: /.*/absent.toml: No such file or directory"),
        (demo("n1", "flood", rate=1), "console n1: rate"),
    ],
)
def test_a_mistake_in_the_configuration_is_named_and_ends_it(
    daemon: Callable[..., Daemon], config: str, complaint: str
) -> None:
    """More of them are in `tests.test_tap`."""
    one = daemon(config)
    for arguments in (["--check"], []):
        assert re.search(f"{re.escape(str(one.config))}: {complaint}", one.refused(*arguments))
    assert not one.directory.exists()


def test_no_configuration_at_all(daemon: Callable[..., Daemon]) -> None:
    one = daemon("")
    one.config.unlink()
    for arguments in (["--check"], []):
        assert f"{one.config}: No such file" in one.refused(*arguments)


def test_a_port_in_use_is_named_and_ends_it(daemon: Callable[..., Daemon]) -> None:
    one = daemon(demo("n1", "chatter"))
    with socket.create_server(("127.0.0.1", one.port)):
        said = one.refused()
    assert f"127.0.0.1:{one.port}" in said
    assert "Address already in use" in said
    assert not one.directory.exists()


def test_a_second_daemon_on_the_same_directory_ends_and_harms_nothing(daemon: Callable[..., Daemon]) -> None:
    first = daemon(demo("n1", "flood")).start()
    said = daemon(demo("n1", "flood"), "second", directory=first.directory).refused()
    assert "another consoled" in said
    assert str(first.directory) in said
    viewer = Viewer(first, "n1", lines=1_000_000)
    viewer.up_to(1 << 16)
    assert first.terminate() == TERMINATED
    assert_begins(first.stream("n1"), viewer.rest().seen)
    assert not first.faults()


# ------------------------------------------------------------------------------------------------- the disk


def test_a_directory_that_cannot_be_made_is_reported_and_used_as_soon_as_it_can(
    daemon: Callable[..., Daemon], node: Node
) -> None:
    one = daemon(node.toml("n1"))
    one.directory.write_text("a file in the way")
    one.start(ready=False)
    node.accept().say(numbered(0, 100))
    viewer = Viewer(one, "n1", lines=1000)
    viewer.until(b"line %012d" % 99)
    assert str(one.directory) in one.health()["status"]
    one.directory.unlink()
    eventually(lambda: one.health()["status"] == "ok" and one.is_ready())
    node.say(numbered(100, 100))
    viewer.until(b"line %012d" % 199)
    assert one.terminate() == TERMINATED
    assert viewer.rest().seen.startswith(b"<ConMan> Console [n1] log opened")
    assert_begins(one.stream("n1"), viewer.seen)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    with disk.small_disk(tmp_path / "small", "4m") as refused:
        if refused:
            pytest.skip(refused)
        yield tmp_path / "small"


def test_a_full_disk_loses_bytes_and_says_exactly_which(
    daemon: Callable[..., Daemon], node: Node, small_disk: Path
) -> None:
    one = daemon(
        node.toml("n1") + demo("other", "chatter", interval="50ms"),
        directory=small_disk / "transcripts",
        transcript='max_size = "256 KiB"\nmax_unwritten = "128 KiB"',
    ).start()
    node.accept()
    viewer, other = Viewer(one, "n1", lines=1000), Viewer(one, "other")

    def say(first: int, count: int) -> None:
        """In pieces that arrive one by one."""
        for number in range(first, first + count, 256):
            node.say(numbered(number, 256))
            viewer.until(b"line %012d" % (number + 255))

    say(0, 8192)
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    say(8192, 16384)
    assert "No space left" in one.health()["status"]
    other.up_to(len(other.seen) + 1000)
    ballast.unlink()
    viewer.until(b"log lost ")
    eventually(lambda: one.health()["status"] == "ok")
    say(24576, 8192)
    assert one.terminate() == TERMINATED
    seen = bytes(viewer.rest().seen)

    # The client has seen the stream from its first byte on: its offsets are the stream's.
    holes, end = [], 0
    for start, part in one.segments("n1"):
        if start != end:
            holes.append((end, start))
        assert_begins(part, seen[start : start + len(part)])
        end = start + len(part)
    assert holes == one.lost("n1")
    told = [int(count) for count in re.findall(rb"log lost (\d+) bytes before this line", seen)]
    assert [stop - start for start, stop in holes] == told
    assert sum(told) > 512 * 1024
    for _, stop in holes:
        assert re.match(rb"(\r\n)?<ConMan> Console \[n1\] log lost", seen[stop : stop + 100])


# ---------------------------------------------------------------------------------------------- descriptors


def test_out_of_descriptors_it_goes_on(daemon: Callable[..., Daemon], node: Node) -> None:
    one = daemon(demo("d[1-9]", "chatter", interval="20ms") + node.toml("n1")).start(descriptors=(60, 140))
    assert "10000 clients beside 10 consoles need 10084 file descriptors, and the limit is 140" in one.log
    node.accept().say(MIB * 3)
    old = Viewer(one, "n1", "interact")
    behind = Viewer(one, "n1", lines=1_000_000, buffer=SMALL)
    held: list[Viewer] = []

    def one_more() -> bool:
        try:
            held.append(Viewer(one, f"d{len(held) % 9 + 1}"))
        except ConnectionError:
            return False
        return True

    while one_more():
        assert len(held) < 140
    # What is open goes on: the newest bytes, a keystroke, and old bytes from the files.
    node.say(numbered(10**6, 100))
    old.until(b"line %012d" % (10**6 + 99))
    old.type(b"hello")
    assert node.heard() == b"hello"
    behind.until(b"line %012d" % (10**6 + 99))
    for viewer in held[:10]:
        viewer.leave()
    eventually(one_more)
    assert re.search("error.*hardly any file descriptor is left", one.log)
    assert one.terminate() == TERMINATED
    assert_begins(one.stream("n1"), behind.rest().seen)


# --------------------------------------------------------------------------------------------- slow clients


def test_a_client_that_does_not_read_costs_its_buffer_and_nothing_more(
    daemon: Callable[..., Daemon], node: Node
) -> None:
    one = daemon(node.toml("n1")).start()
    node.accept()
    live, stalled = Viewer(one, "n1", lines=100), Viewer(one, "n1", lines=100, buffer=SMALL)

    def flood(first: int, count: int) -> None:
        """Whole MiB; the other client gets each at once."""
        for part in range(first, first + count):
            node.say(numbered(part * 16384, 16384))
            live.until(b"line %012d" % (part * 16384 + 16383))

    flood(0, 8)
    stalled.until(b"line %012d" % (8 * 16384 - 1))
    before, most = one.memory(), 0
    for part in range(8, 108, 10):
        flood(part, 10)
        most = max(most, one.memory() - before)
    assert most < 4 << 20, f"{most} bytes for one stalled client"
    stalled.until(b"line %012d" % (108 * 16384 - 1))
    assert one.terminate() == TERMINATED
    assert_begins(one.stream("n1"), live.rest().seen)
    assert_begins(one.stream("n1"), stalled.rest().seen)
    assert not one.faults()


# -------------------------------------------------------------------------------------------------- systemd


def test_systemd_is_told_when_it_is_ready_that_it_lives_and_that_it_stops(
    daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    one = daemon(demo("n[1-50]", "chatter") + '[[console]]\nname = "env"\nkind = "process"\ncommand = ["env"]\n')
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        one.start(ready=False, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="400000")
        assert systemd.recv(100) == b"READY=1"
        assert one.is_ready()
        assert one.health()["consoles"] == "51"
        assert [systemd.recv(100) for _ in range(4)] == [b"WATCHDOG=1"] * 4
        child = Viewer(one, "env", lines=100)
        child.until(b"disconnected")
        assert b"PATH=" in child.seen
        assert not re.search(rb"NOTIFY|WATCHDOG", child.seen)
        one.signal(signal.SIGTERM)
        while (said := systemd.recv(100)) == b"WATCHDOG=1":
            pass
        assert said == b"STOPPING=1"
        assert one.wait() == TERMINATED
        systemd.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.recv(100)
    assert not one.faults()


# -------------------------------------------------------------------------------------------------- signals


def test_sigusr1_after_logrotate_has_moved_the_file_is_byte_exact(
    daemon: Callable[..., Daemon], node: Node, tmp_path: Path
) -> None:
    one = daemon(node.toml("n1") + demo("f1", "flood", rate="1 MiB")).start()
    node.accept()
    viewers = {name: Viewer(one, name, lines=1_000_000) for name in ("n1", "f1")}
    moved = dict.fromkeys(viewers, b"")
    for turn in range(5):
        node.say(numbered(turn * 1024, 1024))
        viewers["n1"].until(b"line %012d" % (turn * 1024 + 1023))
        for name in moved:
            (one.directory / f"console.{name}").rename(tmp_path / name)
        one.signal(signal.SIGUSR1)
        for name in moved:
            eventually((one.directory / f"console.{name}").exists)
            moved[name] += (tmp_path / name).read_bytes()
    one.signal(signal.SIGUSR1)  # with nothing moved
    node.say(b"the end\r\n")
    viewers["n1"].until(b"the end\r\n")
    assert one.terminate() == TERMINATED
    assert not one.faults()
    for name, viewer in viewers.items():
        stream = moved[name] + (one.directory / f"console.{name}").read_bytes()
        assert_begins(stream, viewer.rest().seen)
        assert b"log closed" in stream[-100:]


def test_sigusr2_dials_now(daemon: Callable[..., Daemon]) -> None:
    port = free_port()
    one = daemon(
        f'[defaults]\nretry_initial = "1h"\nretry_max = "1h"\n'
        f'[[console]]\nname = "n1"\nkind = "tcp"\naddress = "127.0.0.1:{port}"\n'
    ).start()
    eventually(lambda: one.health().get("links_waiting") == "1")
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(20)
        one.signal(signal.SIGUSR2)
        line, _ = listener.accept()
        eventually(lambda: one.health().get("links_up") == "1")
        line.close()
    assert one.terminate() == TERMINATED
