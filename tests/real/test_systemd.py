"""The daemon under systemd's conventions, without systemd: sockets that are handed over, readiness, and the check."""

from __future__ import annotations

import grp
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.real import need
from tests.real.daemon import READY, RunningDaemon, _Process
from tests.real.outside import TERMINATED, Daemon, demo

UNITS = Path(__file__).parent.parent.parent / "etc" / "systemd"
CONSOLE = '[[console]]\nname = "n1"\nkind = "demo"\nrole = "quiet"\n'


class Activated(RunningDaemon):
    """A daemon that is handed its socket as file descriptor 3, as systemd.socket(5) does."""

    def __init__(self, directory: Path, listening: socket.socket, listen: str, notify: Path) -> None:
        super().__init__(reactor, directory, CONSOLE)
        self.config = directory / "consoled.toml"
        text = self.config.read_text()
        head, _, rest = text.partition("[transcript]")
        self.config.write_text(f'[http]\nlisten = ["{listen}"]\ninsecure = true\n[transcript]{rest}')
        assert "tcp:" in head
        self.port = listening.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._listening = listening
        self._notify = notify

    def _spawn(self) -> _Process:
        twistd = str(Path(sys.executable).with_name("twistd"))
        argv = [twistd, "--nodaemon", "--pidfile=", "consoled", "--config", str(self.config)]
        # The shell's process becomes the daemon's, so that LISTEN_PID is right.
        started = 'LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http exec "$@"'
        self._process = process = _Process()
        environment = dict(os.environ) | {"NOTIFY_SOCKET": str(self._notify)}
        with self._log.open("ab") as log, Path(os.devnull).open() as nothing:
            files = {0: nothing.fileno(), 1: log.fileno(), 2: log.fileno(), 3: self._listening.fileno()}
            reactor.spawnProcess(
                process, "/bin/sh", ["sh", "-c", started, "sh", *argv], env=environment, childFDs=files
            )
        self.pid = process.transport.pid
        return process


@pytest.fixture
def listening():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield listening


@pytest.fixture
def notified(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "notify"))
        line.settimeout(READY)
        yield line


@pytest.mark.parametrize("listen", ["systemd:domain=INET:index=0", "systemd:domain=INET:name=http"])
@pytest_twisted.ensureDeferred
async def test_a_socket_that_is_handed_over(tmp_path, listening, notified, listen):
    daemon = Activated(tmp_path, listening, listen, tmp_path / "notify")
    try:
        await daemon.start()
        assert notified.recv(4096) == b"READY=1"
        assert (await daemon.health())["consoles"] == "1"
        await daemon.stop()
        assert b"STOPPING=1" in notified.recv(4096)
        # Nobody is refused while it is away: who comes now is served by the next one.
        waiting = socket.create_connection(("127.0.0.1", daemon.port), timeout=READY)
        with waiting:
            waiting.sendall(b"GET /console-operator/liveness HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await daemon.start()
            answer: Deferred[bytes] = deferToThread(waiting.recv, 4096)
            assert (await answer).startswith(b"HTTP/1.1 204")
    finally:
        await daemon.kill()


@pytest_twisted.ensureDeferred
async def test_a_socket_that_is_not_handed_over(tmp_path, listening):
    """The check has nothing against it: systemd hands nothing to ExecStartPre.  The start says what is missing."""
    daemon = Activated(tmp_path, listening, "systemd:domain=INET:index=7", tmp_path / "nowhere")
    twistd = str(Path(sys.executable).with_name("twistd"))
    argv = [twistd, "consoled", "--config", str(daemon.config), "--check"]
    done = await deferToThread(subprocess.run, argv, capture_output=True, text=True, timeout=READY)
    assert "1 consoles, and nothing wrong" in done.stdout, done.stderr
    process = daemon._spawn()
    assert (await process.ended).exitCode == 1
    assert "systemd has handed over no such socket" in daemon.log


def test_the_watchdog_is_fed_while_the_reactor_turns(tmp_path, notified):
    daemon = Daemon(tmp_path, demo("n1", "quiet"))
    try:
        daemon.start(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000")
        while notified.recv(4096) != b"READY=1":
            pass
        assert {notified.recv(4096) for _ in range(3)} == {b"WATCHDOG=1"}
        daemon.signal(signal.SIGSTOP)
        notified.settimeout(1)
        with pytest.raises(TimeoutError):
            while True:  # what was sent before
                assert notified.recv(4096) == b"WATCHDOG=1"
        daemon.signal(signal.SIGCONT)
        notified.settimeout(READY)
        assert notified.recv(4096) == b"WATCHDOG=1"
        assert daemon.terminate() == TERMINATED
    finally:
        daemon.end()


@pytest.mark.parametrize("name", ["consoled.service", "consoled.socket"])
def test_systemd_understands_the_units(name, tmp_path):
    analyze = need("systemd-analyze", "systemd")
    for unit in UNITS.glob("consoled.s[eo]*"):
        text = unit.read_text().replace("/opt/consoled/bin/twistd", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        [analyze, "verify", "--man=no", tmp_path / name], capture_output=True, text=True, timeout=READY
    )
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "consoled" in line]
    assert complaints == []


def test_the_user_can_be_made(tmp_path):
    sysusers = need("systemd-sysusers", "systemd")
    (tmp_path / "etc").mkdir()
    argv = [sysusers, f"--root={tmp_path}", UNITS / "consoled.sysusers.conf"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=READY)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^consoled:.*:/var/lib/consoled:", (tmp_path / "etc" / "passwd").read_text(), re.MULTILINE)


def test_logrotate_moves_the_files_and_finds_none_of_them_again(tmp_path):
    logrotate = need("logrotate", "logrotate")
    logs = tmp_path / "log"
    logs.mkdir(mode=0o750)
    user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    text = (UNITS.parent / "consoled.logrotate").read_text().replace("/var/log/consoled", str(logs))
    text = text.replace("consoled consoled", f"{user} {group}").replace(
        "systemctl kill", f"echo >> {tmp_path}/told kill"
    )
    (tmp_path / "conf").write_text(text)
    (tmp_path / "conf").chmod(0o644)
    for day in range(3):
        for name in ("audit.log", "input.n1", "console.n1"):
            (logs / name).write_text(f"{day}\n")
        argv = [logrotate, "--force", "--state", tmp_path / "state", tmp_path / "conf"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=READY)
        assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (logs / "rotated").iterdir()) == sorted(
        f"{name}.{suffix}" for name in ("audit.log", "input.n1") for suffix in ("1", "2.gz", "3.gz")
    )
    assert sorted(path.name for path in logs.iterdir()) == ["console.n1", "rotated"]
    assert (tmp_path / "told").read_text().count("--signal=USR1") == 3
