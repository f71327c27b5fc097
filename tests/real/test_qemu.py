"""A whole machine: firmware, kernel and shell on the serial port of a QEMU, reached over telnet and a Unix socket."""

from __future__ import annotations

import gzip
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.real import Spawned, free_port, lack, need
from tests.real.daemon import RunningDaemon
from tests.real.talk import WebSocket

pytestmark = pytest.mark.real

FILES = {
    # `openssl passwd -1 -salt consoled secret`
    "etc/passwd": "root:$1$consoled$ycbLA9fTTi.tDkdq1vmpl/:0:0::/:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/inittab": (
        "::sysinit:/bin/mount -t devtmpfs dev /dev\n"
        "::sysinit:/bin/mount -t proc proc /proc\n"
        "::sysinit:/bin/hostname guest\n"
        "ttyS0::respawn:/bin/getty -L ttyS0 115200 vt100\n"
    ),
}
APPLETS = ("init", "sh", "mount", "hostname", "getty", "login", "cat")


def make_initramfs(directory: Path) -> Path:
    """A root file system of one program, with a login on the serial port."""
    busybox, cpio = need("busybox", "busybox-static"), need("cpio", "cpio")
    root = directory / "root"
    for name in ("bin", "dev", "etc", "proc"):
        (root / name).mkdir(parents=True)
    (root / "bin" / "busybox").write_bytes(Path(busybox).read_bytes())
    (root / "bin" / "busybox").chmod(0o755)
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    (root / "init").symlink_to("bin/init")
    for name, text in FILES.items():
        (root / name).write_text(text)
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    packed = subprocess.run(
        [cpio, "--create", "--format=newc", "--owner=0:0", "--quiet"],
        cwd=root, input=names.encode(), stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    initramfs = directory / "initramfs.gz"
    initramfs.write_bytes(gzip.compress(packed.stdout, 1))
    return initramfs


def find_kernel() -> Path:
    """A kernel of this machine; Debian's for virtual machines, which has what QEMU has, if it is there."""
    if platform.machine() != "x86_64":
        pytest.skip("the machine wants a kernel for x86-64")
    kernels = [path for path in Path("/boot").glob("vmlinuz-*") if os.access(path, os.R_OK)]
    if not kernels:
        lack("a readable kernel in /boot", "linux-image-cloud-amd64")
    return max(kernels, key=lambda path: ("-cloud-" in path.name, path.stat().st_mtime))


def qemu(directory: Path, serial: str) -> list[str]:
    """The command of a machine whose serial port is `serial`."""
    # Emulated in software, so that it is the same everywhere, also in a container without /dev/kvm.
    return [
        need("qemu-system-x86_64", "qemu-system-x86"),
        *("-accel", "tcg", "-machine", "pc,graphics=off", "-m", "192", "-display", "none", "-nodefaults"),
        *("-no-user-config", "-no-reboot", "-kernel", str(find_kernel())),
        *("-initrd", str(make_initramfs(directory))),
        *("-append", "console=ttyS0,115200 panic=-1 sysrq_always_enabled"),
        *("-serial", serial),
    ]


class Machine:
    """A QEMU whose serial port is `serial`.  It waits, switched on, for whoever connects to that."""

    def __init__(self, directory: Path, serial: str) -> None:
        self._output = directory / "qemu"
        self._argv = qemu(directory, f"{serial},server=on,wait=on")
        self._process: Spawned | None = None

    def switch_on(self) -> None:
        self._process = Spawned(self._argv, self._output)

    def switch_off(self) -> None:
        if self._process is not None:
            self._process.kill()


class Room:
    """A machine, and a consoled that holds its console."""

    def __init__(self, directory: Path, kind: str) -> None:
        port, path = free_port(), directory / "serial"
        self.kind = kind
        self.machine = Machine(directory, f"telnet:127.0.0.1:{port}" if kind == "telnet" else f"unix:{path}")
        where = f'address = "127.0.0.1:{port}"' if kind == "telnet" else f'path = "{path}"'
        self.daemon = RunningDaemon(
            reactor,
            directory,
            f'[[console]]\nname = "guest"\nkind = "{kind}"\n{where}\nretry_initial = "200ms"\nretry_max = "200ms"\n',
        )

    def end(self) -> None:
        try:
            self.machine.switch_off()
        finally:
            pytest_twisted.blockon(Deferred.fromCoroutine(self.daemon.stop()))


@pytest.fixture(params=["telnet", "unix"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path, request.param)
    yield room
    room.end()


@pytest_twisted.ensureDeferred
async def test_a_machine_boots_is_logged_into_crashes_and_comes_back(room: Room) -> None:
    daemon, machine = room.daemon, room.machine
    await daemon.start()
    client = await WebSocket.open(daemon.ws("interact/guest"))
    await client.until("is currently disconnected from")
    watcher = await WebSocket.open(daemon.ws("tail/guest"), {"Cray-Console-Follow": "True"})
    await watcher.until("log opened at")

    machine.switch_on()
    await client.until("Console [guest] connected to")
    await client.until("SeaBIOS (version ")
    await client.until("Linux version ")
    await client.until("Kernel command line: console=ttyS0,115200")
    await client.until("guest login: ")
    await log_in(client)

    client.type("&B")
    if room.kind == "telnet":
        await client.until("break sent by <anonymous@127.0.0.1>")
        client.press(b"h")
        await client.until("sysrq: HELP : ")
    else:
        await client.until("Console [guest] cannot send a break")

    machine.switch_off()
    await client.until("Console [guest] disconnected from")
    machine.switch_on()
    await client.until("Console [guest] connected to")
    await client.until("SeaBIOS (version ")
    await client.until("guest login: ")
    await log_in(client)

    await daemon.stop()
    await client.until("\nclosed 1001 ")
    await watcher.until("\nclosed 1001 ")
    transcript = daemon.transcript("guest").decode()
    seen = watcher.said.decode().partition("\nclosed 1001 ")[0]
    assert transcript.startswith(seen)
    for life in seen.split("Console [guest] disconnected from"):
        order = [life.index(text) for text in ("SeaBIOS (version ", "Linux version ", "guest login: ", "42-guest")]
        assert order == sorted(order)
    assert ("sysrq: HELP : " in seen) is (room.kind == "telnet")


async def log_in(client: WebSocket) -> None:
    """What a line-mode client does, and one command whose answer is in nothing that was typed."""
    client.type("root")
    await client.until("Password: ")
    client.type("secret")
    await client.until("# ")
    client.type("cat /proc/cmdline; echo $((6 * 7))-$(hostname)")
    await client.until("sysrq_always_enabled")
    await client.until("42-guest")
