"""A whole machine behind each kind of server, as a node stands behind its BMC: sshd, dropbear, ipmi_sim and ser2net.

The server has the serial port of a QEMU, the daemon the server's console.  The machine stands still before its first
instruction until somebody is at its serial port, so that the whole boot goes through the server.
"""

from __future__ import annotations

import getpass
import json
import os
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.real import Spawned, free_port, need
from tests.real.daemon import RunningDaemon
from tests.real.ssh import PASSWORD, USER
from tests.real.talk import LIMIT, Program, WebSocket
from tests.real.test_dropbear import Dropbear
from tests.real.test_ipmi import PASSWORD as BMC_PASSWORD
from tests.real.test_ipmi import Simulator
from tests.real.test_qemu import log_in, qemu
from tests.real.test_ser2net import start_ser2net
from tests.real.test_sshd import Sshd

pytestmark = pytest.mark.real


class Machine(Program):
    """A QEMU whose processor stands still until it is told to go.  It speaks QMP on its standard input and output."""

    def __init__(self, directory: Path, serial: str) -> None:
        super().__init__([*qemu(directory, serial), "-S", "-qmp", "stdio"])

    async def ready(self) -> None:
        """Fires when its serial port is there."""
        await self.until('{"QMP": ')
        await self._ask("qmp_capabilities")

    async def port(self) -> str:
        """What its serial port is: `pty:/dev/pts/1`; a socket without a peer is `disconnected:...`."""
        devices = await self._ask("query-chardev")
        return next(str(device["filename"]) for device in devices if device["label"] == "serial0")

    async def go(self) -> None:
        """Once somebody is at its serial port: an SSH session is up before its command has come so far."""
        deadline = reactor.seconds() + LIMIT
        while (port := await self.port()).startswith("disconnected:"):
            assert reactor.seconds() < deadline, f"nobody came to {port}"
            await deferLater(reactor, 0.05)
        await self._ask("cont")

    async def _ask(self, command: str) -> Any:
        self.type(json.dumps({"execute": command}))
        await self.until('{"return": ')
        return json.loads((await self.until("}\r\n")).removesuffix("}\r\n"))


class Server:
    """A way to a machine's serial port."""

    serial: str
    """The port, as QEMU is to make it."""
    console: str
    """How the daemon reaches it: the keys of its console."""
    process: Spawned | None = None

    async def start(self, machine: Machine) -> None:
        raise NotImplementedError

    def kill(self) -> None:
        """End it and what it has started, as a BMC's reset does.  Harmless when it does not run."""
        if self.process is not None:
            self.process.kill()
            self.process.end()
            self.process = None

    async def check(self, machine: Machine, client: WebSocket) -> None:
        """What only this one can do, from the guest's shell."""


class OpenSsh(Server):
    """A login by key, and a command without a terminal."""

    def __init__(self, directory: Path) -> None:
        self.serial = f"unix:{directory}/serial,server=on,wait=off"
        self._sshd = Sshd(directory)
        self.console = (
            f'kind = "ssh"\naddress = "127.0.0.1:{self._sshd.port}"\ntrust_on_first_use = true\n'
            f'user = "{getpass.getuser()}"\nkey_files = ["{self._sshd.key()}"]\n'
            f'command = "exec {need("socat", "socat")} - UNIX-CONNECT:{directory}/serial"\n'
        )

    async def start(self, machine: Machine) -> None:
        listening = self._sshd.start()
        self.process = self._sshd.spawned
        await listening


class OpenBmc(Server):
    """A login by password, and on a terminal the console's client, whatever is asked for."""

    def __init__(self, directory: Path) -> None:
        self.serial = f"unix:{directory}/serial,server=on,wait=off"
        client = f"exec {need('socat', 'socat')} -,raw,echo=0 UNIX-CONNECT:{directory}/serial"
        self._dropbear = Dropbear(directory, "ed25519", client)
        self.console = (
            f'kind = "ssh"\naddress = "127.0.0.1:{self._dropbear.port}"\ntrust_on_first_use = true\n'
            f'user = "{USER}"\npassword = {{ file = "{kept_secret(directory, PASSWORD.literal)}" }}\n'
        )

    async def start(self, machine: Machine) -> None:
        self._dropbear.start()
        self.process = self._dropbear.spawned


class Ipmi(Server):
    """Serial over LAN."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        self.serial = f"telnet:127.0.0.1:{port},server=on,wait=off"
        self._simulator = Simulator(directory, f"telnet:127.0.0.1:{port}")
        need("ipmitool", "ipmitool")
        self.console = (
            f'kind = "ipmi"\naddress = "127.0.0.1:{self._simulator.port}"\nprogram = "ipmitool"\ncipher_suites = [3]\n'
            f'user = "op"\npassword = {{ file = "{kept_secret(directory, BMC_PASSWORD)}" }}\n'
        )

    async def start(self, machine: Machine) -> None:
        self.process = self._simulator.start()

    async def check(self, machine: Machine, client: WebSocket) -> None:
        client.type("&B")
        await client.until("break sent by <anonymous@127.0.0.1>")
        client.press(b"h")
        await client.until("sysrq: HELP : ")


class Ser2net(Server):
    """A telnet port through which the daemon sets the serial port (RFC 2217)."""

    serial = "pty"

    def __init__(self, directory: Path) -> None:
        self._directory, self._port = directory, free_port()
        need("ser2net", "ser2net")
        self.console = f'kind = "telnet"\naddress = "127.0.0.1:{self._port}"\nserial = {{ speed = 9600 }}\n'

    async def start(self, machine: Machine) -> None:
        accepter = f"telnet(rfc2217=true),tcp,127.0.0.1,{self._port}"
        self.process = start_ser2net(self._directory, accepter, await self._device(machine))

    async def check(self, machine: Machine, client: WebSocket) -> None:
        port = os.open(await self._device(machine), os.O_RDWR | os.O_NOCTTY)
        _, _, _, _, *speeds, _ = termios.tcgetattr(port)
        os.close(port)
        assert speeds == [termios.B9600, termios.B9600]

    async def _device(self, machine: Machine) -> str:
        return (await machine.port()).removeprefix("pty:")


def kept_secret(directory: Path, text: str) -> Path:
    """A file with it that nobody else can read."""
    path = directory / "password"
    path.touch(0o600)
    path.write_text(text)
    return path


class Room:
    """A machine, the server before it, and a consoled that holds the server's console."""

    def __init__(self, directory: Path, kind: type) -> None:
        self.server: Server = kind(directory)
        self.daemon = RunningDaemon(
            reactor,
            directory,
            f'[hub]\nstate = "{directory}/state"\n'
            f'[[console]]\nname = "guest"\nretry_initial = "200ms"\nretry_max = "200ms"\n{self.server.console}',
        )
        self.machine = Machine(directory, self.server.serial)

    async def end(self) -> None:
        try:
            await self.daemon.stop()
        finally:
            self.server.kill()
            await self.machine.leave()


@pytest.fixture(params=[OpenSsh, OpenBmc, Ipmi, Ser2net])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path, request.param)
    yield room
    pytest_twisted.blockon(Deferred.fromCoroutine(room.end()))


@pytest_twisted.ensureDeferred
async def test_a_machine_boots_is_logged_into_and_outlives_its_server(room: Room) -> None:
    daemon, server, machine = room.daemon, room.server, room.machine
    await daemon.start()
    client = await WebSocket.open(daemon.ws("interact/guest"))
    await client.until("is currently disconnected from")

    await machine.ready()
    await server.start(machine)
    await client.until("Console [guest] connected to")
    await machine.go()
    await client.until("guest login: ")
    await log_in(client)
    await client.until("# ")
    client.type("life=$((2 * 21))")
    await client.until("# ")
    await server.check(machine, client)
    client.type("echo kernel-$life > /dev/kmsg")
    await client.until("] kernel-42\r\n")

    server.kill()
    client.press(b"\r")  # with nothing to say it takes ipmitool forty seconds to see that nobody is there
    await client.until("Console [guest] disconnected from")
    await server.start(machine)
    await client.until("Console [guest] connected to")
    client.type("echo same-shell-$life")
    await client.until("same-shell-42\r\n")

    await daemon.stop()
    await client.until("\nclosed 1001 ")
    transcript = daemon.transcript("guest").decode()
    story = (
        ("Console [guest] connected to", 2),
        ("SeaBIOS (version ", 1),
        ("Linux version ", 1),
        ("Run /init as init process", 1),
        ("guest login: ", 1),
        ("42-guest", 1),
        ("] kernel-42\r\n", 1),
        ("Console [guest] disconnected from", 2),  # the second by its own end
        ("same-shell-42\r\n", 1),
    )
    assert [(text, transcript.count(text)) for text, _ in story] == list(story)
    order = [transcript.index(text) for text, _ in story]
    assert order == sorted(order)
