"""An installation from its package to its purge, inside a copy of this machine's file system that is thrown away.

Run by `test_deb` as root with Debian's own Python, in namespaces of its own (mounts, processes, network):
`installing.py PACKAGE DIRECTORY`.  There is no systemd in there: what it would do with the unit is done by hand.  It
prints what it does, and ends with status 0 or a traceback.
"""

import ctypes
import fcntl
import grp
import http.client
import os
import pwd
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

LIMIT = 60.0
"""Seconds for each thing that is waited for."""
UNIT = Path("/usr/lib/systemd/system/consoled.service")
PLACES = ("/etc", "/opt", "/usr", "/var")
"""Where a package may leave something."""
KEPT = re.compile(
    r"/var/(lib/(dpkg|systemd)|cache|log/dpkg\.log|tmp)\b|/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$"
)
"""What may be left: dpkg's own records, and the user."""


def mount(source: str, target: Path, kind: str, flags: int = 0, options: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    target.mkdir(exist_ok=True)
    if libc.mount(source.encode(), bytes(target), kind.encode(), flags, options.encode()):
        raise OSError(ctypes.get_errno(), f"mount {kind} at {target}")


def enter(package: Path, directory: Path) -> None:
    """Change into the copy: this machine's root, with whatever is written to it in memory."""
    private, recursive, bind = 1 << 18, 1 << 14, 1 << 12
    mount("none", Path("/"), "none", private | recursive)
    mount("none", directory, "tmpfs")
    for name in ("upper", "work"):
        (directory / name).mkdir()
    root = directory / "root"
    mount("overlay", root, "overlay", 0, f"lowerdir=/,upperdir={directory}/upper,workdir={directory}/work")
    (root / "package.deb").write_bytes(package.read_bytes())
    mount("proc", root / "proc", "proc")
    mount("/dev", root / "dev", "none", bind | recursive)
    for name in ("run", "tmp"):
        mount("none", root / name, "tmpfs", 0, "mode=1777" if name == "tmp" else "")
    os.chroot(root)
    os.chdir("/")
    with socket.socket() as loopback:  # up
        fcntl.ioctl(loopback, 0x8914, struct.pack("16sH14s", b"lo", 0x41, b""))


def run(*argv: str, status: int = 0) -> str:
    print("$", shlex.join(argv), flush=True)
    files = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(argv, text=True, timeout=LIMIT, **files)
    print(done.stdout, flush=True)
    assert done.returncode == status, f"{argv}: status {done.returncode}"
    return done.stdout


def lines(key: str) -> list[list[str]]:
    """What the unit says of `key`, line by line."""
    found = [line for line in UNIT.read_text().splitlines() if line.startswith(f"{key}=")]
    return [shlex.split(line.partition("=")[2]) for line in found]


def unit(key: str) -> list[str]:
    [line] = lines(key)
    return line


class Systemd:
    """What it would do with the unit: its user, its directory, a socket to hear from it on."""

    def __init__(self) -> None:
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.line.bind("/run/notify")
        self.line.settimeout(LIMIT)
        Path("/run/notify").chmod(0o666)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._as_user(unit("ExecStartPre")).wait(LIMIT)
        self.process = self._as_user(unit("ExecStart"))
        self.heard("READY=1")

    def heard(self, state: str) -> None:
        print("waiting for", state, flush=True)
        while state not in self.line.recv(4096).decode().splitlines():
            assert self.process is not None and self.process.poll() is None, "it has ended"

    def reload(self) -> bool:
        """False if a command of the unit's has failed: then systemd runs no further one."""
        assert self.process is not None
        for line in lines("ExecReload"):
            if self._as_user([word.replace("$MAINPID", str(self.process.pid)) for word in line]).wait(LIMIT):
                return False
        self.heard("READY=1")
        return True

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(LIMIT) in (0, -signal.SIGTERM)

    @staticmethod
    def _as_user(argv: list[str]) -> "subprocess.Popen[bytes]":
        user = pwd.getpwnam(*unit("User"))
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": user.pw_dir, "NOTIFY_SOCKET": "/run/notify"}
        return subprocess.Popen(
            argv, cwd=unit("WorkingDirectory")[0], env=environment, stdin=subprocess.DEVNULL,
            user=user.pw_uid, group=user.pw_gid, extra_groups=[], umask=0o027,
        )  # fmt: skip


def status(path: str) -> int:
    asking = http.client.HTTPConnection("127.0.0.1", 8080, timeout=LIMIT)
    asking.request("GET", f"/console-operator/{path}")
    return asking.getresponse().status


def files() -> set[str]:
    """Every file and directory where a package may leave something."""
    found = {str(one) for place in PLACES for one in Path(place).rglob("*")}
    return {one for one in found if not KEPT.match(one)}


def looks(path: str, mode: int, owner: str, group: str) -> None:
    stat = Path(path).stat()
    is_so = (stat.st_mode & 0o7777, pwd.getpwuid(stat.st_uid).pw_name, grp.getgrgid(stat.st_gid).gr_name)
    assert is_so == (mode, owner, group), f"{path}: {is_so}"


def main() -> None:
    enter(Path(sys.argv[1]), Path(sys.argv[2]))
    Path("/var/lib/man-db/auto-update").unlink(missing_ok=True)  # its index takes longer than all the rest
    before = files()
    install = ("dpkg", "--force-confold", "--install", "/package.deb")

    run(*install)
    looks("/etc/consoled/consoled.toml", 0o640, "root", "consoled")
    looks("/etc/consoled/tokens.toml", 0o640, "root", "consoled")
    looks("/var/log/consoled", 0o750, "consoled", "consoled")
    looks("/var/lib/consoled", 0o750, "consoled", "consoled")
    assert Path("/etc/systemd/system/multi-user.target.wants/consoled.service").is_symlink()
    assert "consoled" in run("consoled-import", "--version")
    run("dpkg", "--verify", "consoled")

    config = Path("/etc/consoled/consoled.toml")
    systemd = Systemd()
    systemd.start()
    assert systemd.process is not None
    uid = Path(f"/proc/{systemd.process.pid}/status").read_text().partition("Uid:")[2].split()[0]
    assert int(uid) == pwd.getpwnam("consoled").pw_uid
    assert status("liveness") in (200, 204)
    assert status("interact/n1") in (401, 426), "nobody can log in yet"

    with config.open("a") as file:
        file.write('[[console]]\nname = "n1"\nkind = "demo"\nrole = "chatter"\n')
    assert systemd.reload()
    transcript = Path("/var/log/consoled/console.n1")
    deadline = time.monotonic() + LIMIT
    while not transcript.exists():
        assert time.monotonic() < deadline, "the reload has added no console"
        time.sleep(0.05)
    looks(str(transcript), 0o640, "consoled", "consoled")

    good = config.read_text()
    config.write_text(good.replace('"chatter"', '"singer"'))
    assert not systemd.reload(), "systemctl itself says no"
    config.write_text(good)

    run(*install)  # an upgrade: what the administrator wrote stays
    assert 'name = "n1"' in config.read_text()
    systemd.stop()

    run("dpkg", "--remove", "consoled")
    assert config.exists() and transcript.exists()
    assert not Path("/opt/consoled").exists()
    assert not UNIT.exists()

    run(*install)
    run("dpkg", "--purge", "consoled")
    left = files() - before
    assert not left, f"left behind: {sorted(left)}"
    print("all is well")


if __name__ == "__main__":
    main()
