"""What a console over SSH costs: our links and OpenSSH's own client against the same sshd, in one run.

    python -m bench.ssh_links [--help]

sshd runs as a child on loopback, with keys and a configuration of this run, on another core if there is one.  Ours are
`SshBackend`s in this process, dialled one after the other; the peers are `ssh` processes, one for each console, as the
kind `process` would start them.  Memory is what each link adds, after a few that warm up; processor time is the
client's alone, for connecting, login and session included, and for each megabyte of a flood.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater, react

from consoled.backends.settings import Surroundings
from consoled.backends.ssh import SshSettings
from consoled.units import FilePath

WARM_UP = 20
"""Links before the first measurement: what is loaded and read once is no link's cost."""
PEERS = 20
"""`ssh` processes: they are alike, and each takes a while to start."""
FLOODS = 3
SETTLED = 1.0
"""Seconds between the last login and the look at the memory."""
LONGEST = 60.0
"""Seconds for each of the four parts; they take a few."""

CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
PidFile none
HostKey {place}/host
AuthorizedKeysFile {place}/key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
MaxStartups 500
LogLevel ERROR
"""


class Owner:
    """A `LineOwner` that counts."""

    def __init__(self) -> None:
        self.size = 0
        self.gone: Deferred[str] = Deferred()

    def received(self, data: bytes) -> bool:
        self.size += len(data)
        return True

    def lost(self, why: str) -> None:
        self.gone.callback(why)


# ------------------------------------------------------------------------------------------- the server


class Sshd:
    """One server, its keys, and how to reach it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.port = _free_port()
        for name in ("host", "key"):
            argv = [_program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(place / name)]
            subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
        (place / "config").write_text(CONFIG.format(port=self.port, place=place))
        public = " ".join((place / "host.pub").read_text().split()[:2])
        (place / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {public}\n")

    @contextmanager
    def running(self) -> Iterator[None]:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # it insists
        server = subprocess.Popen([_program("sshd"), "-D", "-f", str(self.place / "config")], stdin=subprocess.DEVNULL)
        try:
            if len(cores := sorted(os.sched_getaffinity(0))) > 1:
                os.sched_setaffinity(server.pid, cores[1:])
                os.sched_setaffinity(0, cores[:1])
            self._knock()
            yield
        finally:
            server.terminate()
            server.wait()

    def _knock(self) -> None:
        deadline = time.monotonic() + LONGEST
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.05)
        sys.exit("sshd does not listen")

    def backend(self, reactor: Any, command: str) -> Any:
        settings = SshSettings(
            name="bench",
            address=f"127.0.0.1:{self.port}",
            user=_user(),
            key_files=(FilePath(self.place / "key"),),
            known_hosts=(FilePath(self.place / "known_hosts"),),
            command=command,
        )
        no_secrets: Any = None
        return settings.backend(Surroundings(reactor, no_secrets, self.place))

    def client(self, command: str) -> list[str]:
        """OpenSSH's, with the algorithms that both can."""
        options = {
            "UserKnownHostsFile": self.place / "known_hosts",
            "IdentityFile": self.place / "key",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "Ciphers": "aes128-ctr",
            "MACs": "hmac-sha2-256",
            "KexAlgorithms": "curve25519-sha256",
        }
        argv = [_program("ssh"), "-F", "none", "-T", "-p", str(self.port)]
        for key, value in options.items():
            argv += ["-o", f"{key}={value}"]
        return [*argv, f"{_user()}@127.0.0.1", command]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def _program(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if path is None:
        sys.exit(f"{name} is missing: apt-get install openssh-{'server' if name == 'sshd' else 'client'}")
    return path


# ------------------------------------------------------------------------------------------- what it takes


def memory(pid: int | str = "self") -> int:
    """The bytes that are a process's own (USS)."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(int(size) for size in re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB", rollup, re.M))


def processor(who: int = resource.RUSAGE_SELF) -> float:
    """Seconds."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


async def our_links(reactor: Any, sshd: Sshd, count: int) -> dict[str, float]:
    """Dial `count` of them and hold them all."""
    backend = sshd.backend(reactor, "exec cat")
    lines = []

    async def dial(count: int) -> None:
        for _ in range(count):
            owner = Owner()
            lines.append((await backend.dial(owner), owner))

    await dial(WARM_UP)
    await deferLater(reactor, SETTLED)
    before, used = memory(), processor()
    await dial(count)
    used = processor() - used
    await deferLater(reactor, SETTLED)
    grown = memory() - before
    for line, _ in lines:
        line.close()
    for _, owner in lines:
        await owner.gone
    return {"memory": grown / count, "login": used / count}


async def our_flood(reactor: Any, sshd: Sshd, size: int) -> dict[str, float]:
    """One console that says `size` bytes as fast as it can; the best of a few."""
    backend = sshd.backend(reactor, f"exec head -c {size} /dev/zero")
    floods = []
    for _ in range(FLOODS):
        owner = Owner()
        began, used = time.monotonic(), processor()
        await backend.dial(owner)
        await owner.gone
        assert owner.size == size, f"{owner.size} of {size} bytes came"
        floods.append((time.monotonic() - began, processor() - used))
    return _best(floods, size)


def _best(floods: list[tuple[float, float]], size: int) -> dict[str, float]:
    return {"speed": size / min(spent for spent, _ in floods), "flood": min(used for _, used in floods) / size}


def their_links(sshd: Sshd, count: int) -> dict[str, float]:
    """As many processes, each once it has a session."""
    children = []
    try:
        for _ in range(count):
            child = subprocess.Popen(
                sshd.client("echo up; exec cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
            children.append(child)
            assert child.stdout is not None
            assert child.stdout.readline() == b"up\n"
        time.sleep(SETTLED)
        sizes = [memory(child.pid) for child in children]
        used = processor(resource.RUSAGE_CHILDREN)
    finally:
        for child in children:
            child.communicate(timeout=LONGEST)
    # A child's time counts once it has been waited for; its end is a few system calls.
    used = processor(resource.RUSAGE_CHILDREN) - used
    return {"memory": sum(sizes) / count, "login": used / count}


def their_flood(sshd: Sshd, size: int) -> dict[str, float]:
    """What it costs OpenSSH's client, which throws the bytes away; the best of a few."""
    argv = sshd.client(f"exec head -c {size} /dev/zero")
    floods = []
    for _ in range(FLOODS):
        began, used = time.monotonic(), processor(resource.RUSAGE_CHILDREN)
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=LONGEST)
        floods.append((time.monotonic() - began, processor(resource.RUSAGE_CHILDREN) - used))
    return _best(floods, size)


# ------------------------------------------------------------------------------------------- the table

ROWS = {
    "memory": ("memory of its own (USS), idle", 2**10, "KiB"),
    "login": ("processor time, dial to session", 1e-3, "ms"),
    "speed": ("a flood", 1e6, "MB/s"),
    "flood": ("processor time of a megabyte", 1e-9, "ms"),
}


def table(ours: dict[str, float], theirs: dict[str, float]) -> str:
    lines = [f"{'for each console':36}{'consoled':>14}{'ssh':>14}{'ratio':>10}"]
    for key, (what, unit, name) in ROWS.items():
        left, right = (f"{figures[key] / unit:.1f} {name}" for figures in (ours, theirs))
        lines.append(f"{what:36}{left:>14}{right:>14}{ours[key] / theirs[key]:>10.2g}")
    return "\n".join(lines)


async def measure(reactor: Any, links: int, size: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="consoled-bench-") as place:
        sshd = Sshd(Path(place))
        with sshd.running():
            ours = await _limited(reactor, our_links(reactor, sshd, links), "our logins")
            ours |= await _limited(reactor, our_flood(reactor, sshd, size), "our flood")
            theirs = their_links(sshd, PEERS) | their_flood(sshd, size)
    ratios = {key: ours[key] / theirs[key] for key in ROWS}
    return {"links": links, "bytes": size, "consoled": ours, "ssh": theirs, "ratios": ratios}


async def _limited(reactor: Any, part: Coroutine[Any, Any, dict[str, float]], what: str) -> dict[str, float]:
    try:
        return await Deferred.fromCoroutine(part).addTimeout(LONGEST, reactor)
    except TimeoutError:
        sys.exit(f"{what} takes longer than {LONGEST:g} s: the machine is busy, or --links too many")


def show(figures: dict[str, Any], file: str) -> None:
    print(table(figures["consoled"], figures["ssh"]))
    if file:
        Path(file).write_text(json.dumps(figures, indent=2) + "\n")
    else:
        print(json.dumps(figures))


async def main(reactor: Any, links: int, size: int, file: str) -> None:
    show(await measure(reactor, links, size), file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.ssh_links", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--links", type=int, default=100, help="how many idle links of ours (default: %(default)s)")
    parser.add_argument("--megabytes", type=int, default=300, help="how long the flood is (default: %(default)s)")
    parser.add_argument(
        "--json", default="", metavar="FILE", help="write the figures there rather than after the table"
    )
    options = parser.parse_args()
    if min(options.links, options.megabytes) < 1:
        parser.error("less than one link or megabyte cannot be measured")
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, options.links, options.megabytes * 10**6, options.json)))
