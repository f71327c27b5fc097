"""The servers under test, each configured as its makers mean it, and the nodes that it holds.

A `Stand` is one server with its own nodes: console number i, `n00007`, is the node that listens at 127.1.0.7.
consoled and conserver reach it as a raw TCP port, ConMan as telnet, which is the only way it has over TCP (our nodes
negotiate nothing).  All write one log for each console; consoled cuts and keeps them as it does by default.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.machine import LOAD, PATIENCE, SERVER, Program, Tools, Trouble, free_port, memory, processor, until


def console(number: int) -> str:
    return f"n{number:05}"


def address(number: int) -> str:
    return f"127.1.{number // 256}.{number % 256}"


class Stand:
    """One server, its nodes, and where its clients come in."""

    name = ""
    kind = ""
    """How a client comes in: see `load/client.h`."""
    package = ""
    patience = 2 * PATIENCE
    """Seconds for all consoles to be connected."""

    def __init__(self, tools: Tools, place: Path, count: int, **options: Any) -> None:
        """Start the nodes and the server, and wait until it holds them all."""
        self.tools = tools
        self.place = place / f"{self.name}-{count}"
        self.count = count
        self.port = free_port()
        self.node_port = free_port()
        self.options = options
        self.logs = self.place / "logs"
        self.logs.mkdir(parents=True)
        self.nodes = tools.start("nodes", self.node_port, count)
        self._server: Program | None = None
        self.seconds = 0.0
        """How long it took from the start of the server to the last connection."""
        self.dialling = 0.0
        """And from the first."""
        try:
            self.nodes.answer()
            began = time.monotonic()
            self._server = Program(self.command(), SERVER, self.place / "server.log", cwd=self.place)
            until(f"{self.name} holds {count} consoles", self._holds_all, self.patience)
            mark = self.nodes.ask("mark")
            self.seconds, self.dialling = mark["last_up"] - began, mark["last_up"] - mark["first_up"]
            until(f"{self.name} listens", self._listens)
        except BaseException:
            self.stop()
            raise

    def command(self) -> list[str | Path]:
        """Write the configuration; the command that starts the server in the foreground."""
        raise NotImplementedError

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
        self.nodes.stop()
        shutil.rmtree(self.place, ignore_errors=True)

    @property
    def pid(self) -> int:
        assert self._server is not None
        return self._server.pid

    @property
    def alive(self) -> bool:
        return self._server is not None and self._server.process.poll() is None

    @property
    def processor(self) -> float:
        """Seconds used so far."""
        return processor(self.pid)

    @property
    def memory(self) -> int:
        """Bytes (PSS)."""
        return memory(self.pid)

    def _holds_all(self) -> bool:
        assert self._server is not None
        if self._server.process.poll() is not None:
            raise Trouble(f"{self.name} has ended: {self._server.complaint}")
        return bool(self.nodes.ask("mark")["up"] == self.count)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    # ------------------------------------------------------------------------------------------- logs

    def files(self, number: int) -> list[Path]:
        """The log of a console, in its order."""
        return [self.logs / f"{console(number)}.log"]

    def logged(self) -> int:
        """The bytes in all logs."""
        return sum(path.stat().st_size for path in self.logs.iterdir() if path.is_file())

    def forget(self) -> None:
        """Give the disk back; the server goes on writing.  Of use only while it is silent."""
        for number in range(self.count):
            for path in self.files(number):
                with path.open("r+b") as file:
                    file.truncate()

    # ------------------------------------------------------------------------------------------- clients

    def watchers(
        self,
        first: int,
        last: int,
        each: int = 1,
        *,
        window: int = 8,
        lines: int = 0,
        tls: bool = False,
        patience: float = PATIENCE,
    ) -> Program:
        """Clients that read, when all of them are in.  What they do next: `load/watchers.c`.

        `window` of them come in at once; ConMan has room for ten at its door, and others wait a second or more.
        """
        port, how = self._door(tls)
        way = ["tail", f"Cray-Console-Lines: {lines}\r\nCray-Console-Follow: true\r\n"]
        program = self.tools.start("watchers", self.kind, port, first, last, each, window, how, *self._path(*way))
        try:
            program.greeting = program.answer(patience)
        except Trouble as trouble:
            program.stop()
            raise Trouble(f"its {each * (last - first)} clients do not all get in: {trouble}") from None
        except BaseException:
            program.stop()
            raise
        return program

    def typist(self, number: int, count: int, interval: float = 0.002, *, tls: bool = False) -> dict[str, Any]:
        """How long `count` keys take to come back, in seconds."""
        port, how = self._door(tls)
        arguments = (self.kind, port, console(number), count, int(interval * 1e6), how, *self._path("interact", ""))
        with self.tools.start("typist", *arguments) as program:
            return program.answer(10 + count * (interval + 0.1))

    def _door(self, tls: bool) -> tuple[int, str]:
        if tls:
            raise Trouble(f"TLS is not set up for {self.name}")
        return self.port, "plain"

    def _path(self, verb: str, headers: str) -> tuple[str, str]:
        return "/", headers


LIMITS = """[limits]
waiting = 20000
waiting_each_address = 20000
connections_each_address = 20000
sessions_each_user = 20000"""
"""Its limits for strangers are by address and user, and all our clients are one."""


class Consoled(Stand):
    name = "consoled"
    kind = "ws"

    def command(self) -> list[str | Path]:
        lines = [
            f'[http]\nlisten = ["tcp:{self.port}:interface=127.0.0.1"]',
            LIMITS,
            f'[hub]\nstate = "{self.place}"',
            f'[transcript]\ndirectory = "{self.logs}"\n{self.options.get("transcript", "")}',
        ]
        if self.options.get("tls"):
            self.tls_port = free_port()
            key, chain = certificate(self.place)
            lines.append(f'[tls]\nlisten = ["tcp:{self.tls_port}:interface=127.0.0.1"]')
            lines.append(f'certificates = [{{ certificate = "{chain}", key = "{key}" }}]')
        for number in range(self.count):
            at = f"{address(number)}:{self.node_port}"
            lines.append(f'[[console]]\nname = "{console(number)}"\nkind = "tcp"\naddress = "{at}"')
        config = self.place / "consoled.toml"
        config.write_text("\n".join(lines) + "\n")
        twistd = Path(sys.executable).with_name("twistd")
        return [sys.executable, twistd, "--nodaemon", "--pidfile=", "consoled", "--config", config]

    def files(self, number: int) -> list[Path]:
        active = self.logs / f"console.{console(number)}"
        return [*sorted(self.logs.glob(f"{active.name}.{'[0-9]' * 20}")), active]

    def forget(self) -> None:
        """Its closed segments; the active files are small."""
        for path in self.logs.glob(f"console.*.{'[0-9]' * 20}"):
            path.unlink()

    def _door(self, tls: bool) -> tuple[int, str]:
        return (self.tls_port, "tls") if tls else (self.port, "plain")

    def _path(self, verb: str, headers: str) -> tuple[str, str]:
        return f"/console-operator/{verb}/", headers


class ConMan(Stand):
    name = kind = package = "conman"

    def command(self) -> list[str | Path]:
        lines = [
            f"SERVER port={self.port}\nSERVER loopback=on",
            f'SERVER logdir="{self.logs}"\nSERVER pidfile="{self.place}/pid"',
            'GLOBAL log="%N.log"',
        ]
        for number in range(self.count):
            lines.append(f'CONSOLE name="{console(number)}" dev="{address(number)}:{self.node_port}"')
        config = self.place / "conman.conf"
        config.write_text("\n".join(lines) + "\n")
        return [program("conmand", "conman"), "-F", "-c", config, "-p", str(self.port)]


class Conserver(Stand):
    name = kind = "conserver"
    package = "conserver-server"
    MEMBERS = 16
    """Consoles of one process: its default."""

    @property
    def patience(self) -> float:  # type: ignore[override]
        """It rests for 0.75 s after each fork."""
        return 2 * PATIENCE + self.count / self.MEMBERS

    def command(self) -> list[str | Path]:
        lines = [
            f"config * {{ primaryport {self.port}; sslrequired no; logfile {self.place}/conserver.log; }}",
            f'default * {{ rw *; master localhost; logfile {self.logs}/&.log; timestamp "";'
            f" type host; protocol raw; port {self.node_port}; }}",
            "access * { trusted 127.0.0.1; }",
        ]
        for number in range(self.count):
            lines.append(f"console {console(number)} {{ host {address(number)}; }}")
        config = self.place / "conserver.cf"
        config.write_text("\n".join(lines) + "\n")
        return [
            program("conserver", "conserver-server"),
            "-E",
            "-C",
            config,
            "-M",
            "127.0.0.1",
            "-m",
            str(self.MEMBERS),
        ]


class Relay(Stand):
    """The yardstick: no server, but what any could reach that reads so much at once.  One node only."""

    kind = "plain"

    def __init__(self, tools: Tools, place: Path, size: int) -> None:
        self.name = f"relay-{size // 1024}k"
        self._size = size
        super().__init__(tools, place, 1)

    def command(self) -> list[str | Path]:
        return [self.tools.place / "relay", address(0), str(self.node_port), str(self.port), str(self._size)]

    def logged(self) -> int:
        return 0

    def forget(self) -> None:
        """It writes nothing."""


SERVERS: dict[str, type[Stand]] = {kind.name: kind for kind in (Consoled, ConMan, Conserver)}


def program(name: str, package: str) -> str:
    path = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if path is None:
        raise Trouble(f"{name} is missing: apt-get install {package}")
    return path


def certificate(place: Path) -> tuple[Path, Path]:
    """A key and a certificate of this run."""
    key, chain = place / "key.pem", place / "chain.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-keyout", str(key), "-out", str(chain), "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run(argv, check=True, capture_output=True, timeout=PATIENCE)
    return key, chain


def versions() -> Iterator[tuple[str, str]]:
    """What is being compared."""
    import consoled

    yield "consoled", consoled.__version__
    for name in ("twisted", "autobahn", "pyopenssl"):
        from importlib.metadata import version

        yield name, version(name)
    for kind in SERVERS.values():
        if kind.package:
            argv = ["dpkg-query", "-W", "-f", "${Version}", kind.package]
            done = subprocess.run(argv, capture_output=True, text=True)
            yield kind.name, done.stdout or "not installed"


__all__ = ["LOAD", "SERVERS", "Relay", "Stand", "address", "console", "versions"]
